"""`local`: a Makefile, and `make -j` on this machine."""

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
from rvrun.errors import RvrunError
from rvrun.render.quote import for_make
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.summary import Outcome, read_outcome, tail
from rvrun.runners.local.makefile import render_makefile
from rvrun.runners.protocol import Reporter, Run
from rvrun.settings.schema import variable
from rvrun.worker.target import EVENTS, LOGS, VERBOSITY

#: How long to wait for news before looking whether make is still there, in seconds.
POLL_SECONDS = 0.2


class NoMake(RvrunError):
    """There is no make on this machine."""

    def __str__(self) -> str:
        return (
            "make is not installed (not found on PATH); install it, for example with "
            "`apt-get install make` or `xcode-select --install`, or use `rvrun run inprocess`"
        )


class Interrupted(BaseException):
    """A signal asked the run to end."""


#: The Makefile and the stamps are at places that are known to all.
OWNS: tuple[str, ...] = ()


def render(run: Run) -> dict[str, str]:
    """The Makefile."""
    makefile = render_makefile(
        run.plan,
        out=run.out,
        workdir=run.workdir_from_run_dir,
        templates=run.settings.templates,
    )
    return {paths.MAKEFILE: makefile}


def run(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    """Run make until it ends or a signal comes; then no process of the run is left."""
    make = shutil.which("make")
    if make is None:
        raise NoMake
    since = time.time()
    interrupted, code = False, 0
    with _signals_raise(), _log(run.run_dir) as log:
        try:
            reporter.begin(statuses)
            code = _run_make(make, run, log, reporter)
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
    jobs = run.settings.local.jobs or num_cpus()
    flags = [*(["-k"] if run.keep_going else []), *(["-B"] if run.force else [])]
    return [make, f"-j{jobs}", *flags, "all"]


def num_cpus() -> int:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _log(run_dir: pathlib.Path) -> Iterator[Any]:
    path = run_dir / paths.MAKE_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as log:
        yield log


def _run_make(make: str, run: Run, log: Any, reporter: Reporter) -> int:
    """make in a process group of its own, so that Ctrl-C at a terminal is for this process.

    It and the shells between hand the pipe's writing end on to the targets, which tell on it when
    they start and end. The pipe ends with the last of them.
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
    """This one's, without what a make around us left in it, and with what targets are told.

    Among that are the settings that they read themselves, which may come from a flag or a profile.
    """
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES", "GNUMAKEFLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    # -P keeps the current directory from hiding what rvrun itself imports.
    program = shlex.join([sys.executable, "-P", "-m", "rvrun"])
    told = {"RVRUN": for_make(program), EVENTS: str(events), LOGS: "1"}
    if run.verbosity:
        told[VERBOSITY] = str(run.verbosity)
    local = run.settings.local
    for key, value in (
        ("local.gpus", ",".join(local.gpus)),
        ("local.gpu_slots", local.gpu_slots),
        ("local.gpu_locks", local.gpu_locks),
    ):
        if value:
            told[variable(key)] = str(value)
    return {**environment, **told}


def _lines(events: Any, process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines told on the pipe, until all its writers are gone or make is."""
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
    """Within, SIGINT, SIGTERM and SIGHUP raise `Interrupted`, once."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, _interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise Interrupted


def _end_all() -> None:
    """End all children; a second signal while they have time to end kills them."""
    from rvrun.worker.processes import end_children

    try:
        end_children()
    except Interrupted:
        end_children(grace=0)
