"""Run make on a rendered Makefile: its processes, its events, its end."""

from __future__ import annotations

import contextlib
import os
import pathlib
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from rvrun import paths
from rvrun.environment import EVENTS, LOGS, VERBOSITY
from rvrun.errors import RvrunError
from rvrun.render.quote import for_make
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.summary import Outcome, read_outcome, tail
from rvrun.runners.run import Reporter, Run
from rvrun.settings.schema import MachineSettings, key_of, variable
from rvrun.worker.processes import num_cpus

#: Seconds to wait for an event before checking that make still runs.
POLL_SECONDS = 0.2


class NoMake(RvrunError):
    """make is not installed."""

    def __str__(self) -> str:
        return (
            "make is not on PATH; install it, for example with "
            "`apt-get install make` or `xcode-select --install`, or use `rvrun run inprocess`"
        )


class Interrupted(BaseException):
    """A signal asked the run to end."""


def run_make(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    """Run make until it ends or a signal comes; afterwards no process of the run is left."""
    make = shutil.which("make")
    if make is None:
        raise NoMake
    since = time.time()
    interrupted, code = False, 0
    with _signals_raise(), _log(run.run_dir) as log:
        try:
            reporter.begin(statuses)
            code = _start_make(make, run, log, reporter)
        except Interrupted:
            interrupted = True
            _end_all()
        finally:
            reporter.finish()
    return read_outcome(
        run.run_dir,
        run.out,
        statuses,
        since=since,
        until=time.time(),
        interrupted=interrupted,
        trouble=_trouble(run.run_dir, code),
    )


def _trouble(run_dir: pathlib.Path, code: int) -> str:
    if code == 0:
        return ""
    return "\n".join(tail(run_dir / paths.MAKE_LOG, 20)) or f"make ended with {code}"


def _command(make: str, run: Run) -> list[str]:
    jobs = run.settings.of(MachineSettings).jobs or num_cpus()
    flags = [*(["-k"] if run.keep_going else []), *(["-B"] if run.force else [])]
    return [make, f"-j{jobs}", *flags, "all"]


@contextlib.contextmanager
def _log(run_dir: pathlib.Path) -> Iterator[Any]:
    path = run_dir / paths.MAKE_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as log:
        yield log


def _start_make(make: str, run: Run, log: Any, reporter: Reporter) -> int:
    """Run make in a process group of its own, so that Ctrl-C at a terminal reaches only us.

    make and its shells pass the pipe's writing end on to the targets, which report on it when they
    start and end. The pipe ends when the last of them does.
    """
    reading, writing = os.pipe()
    environment = _environment(writing, run)
    with open(reading, "rb", buffering=0) as events:
        try:
            process = subprocess.Popen(
                _command(make, run),
                cwd=run.run_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                process_group=0,
            )
        finally:
            os.close(writing)
        for line in _lines(events, process):
            _report(line, reporter)
        return process.wait()


def _environment(events: int, run: Run) -> dict[str, str]:
    """This process's environment, without an outer make's variables, with those of targets.

    Targets read the GPU settings themselves, which may come from a flag or a profile here.
    """
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES", "GNUMAKEFLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    # -P keeps the current directory from hiding what rvrun itself imports.
    program = shlex.join([sys.executable, "-P", "-m", "rvrun"])
    own = {"RVRUN": for_make(program), EVENTS: str(events), LOGS: "1"}
    if run.verbosity:
        own[VERBOSITY] = str(run.verbosity)
    machine = run.settings.of(MachineSettings)
    for name, value in (
        ("gpus", ",".join(machine.gpus)),
        ("gpu_slots", machine.gpu_slots),
        ("gpu_locks", machine.gpu_locks),
    ):
        if value:
            own[variable(key_of(MachineSettings, name))] = str(value)
    return {**environment, **own}


def _lines(events: Any, process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield the lines on the pipe until all its writers have ended, or make has."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(events, selectors.EVENT_READ)
        while True:
            if not selector.select(POLL_SECONDS):
                if process.poll() is None:
                    continue
                return
            data = events.read(65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode() for line in lines)


def _report(line: str, reporter: Reporter) -> None:
    match line.split(" "):
        case ["start", target]:
            reporter.started(target)
        case ["end", target, code]:
            reporter.ended(target, int(code))


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise `Interrupted`."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise Interrupted


def _end_all() -> None:
    """End all children; a second signal during their grace period kills them."""
    from rvrun.worker.processes import end_children

    try:
        end_children()
    except Interrupted:
        end_children(grace=0)
