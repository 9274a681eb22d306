"""Run make on a rendered Makefile: start it, follow its targets, end it with all of them."""

from __future__ import annotations

import contextlib
import io
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
from typing import IO, NoReturn

from rvrun import paths
from rvrun.environment import EVENTS, LOGS, VERBOSITY
from rvrun.errors import RvrunError
from rvrun.render.quote import for_make
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.summary import Outcome, read_outcome, tail
from rvrun.runners.run import Reporter, Run
from rvrun.settings.files import IMPORTS
from rvrun.settings.schema import MachineSettings, key_of, variable
from rvrun.worker.processes import end_children, num_cpus

#: How long to wait for an event before checking whether make still runs, in seconds.
POLL_SECONDS = 0.2
#: How many lines of make's output are shown if it fails without a failed target.
NUM_LINES = 20
#: Variables of an outer make, whose job server and flags the run must not inherit.
OUTER_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES", "GNUMAKEFLAGS")


class NoMake(RvrunError):
    """make is not installed."""

    template = (
        "make is not on PATH; install it, for example with "
        "`apt-get install make` or `xcode-select --install`, or use `rvrun run inprocess`"
    )


class Interrupted(BaseException):
    """A signal asked the run to end. A BaseException, so that `except Exception` lets it pass."""


def run_make(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    """Run make until it ends or a signal arrives; then no process of the run is left.

    Raises `NoMake`.
    """
    make = shutil.which("make")
    if make is None:
        raise NoMake
    log_file = run.run_dir / paths.MAKE_LOG
    log_file.parent.mkdir(parents=True, exist_ok=True)
    since = time.time()
    interrupted, code = False, 0
    with _signals_interrupt(), log_file.open("wb") as log:
        try:
            reporter.begin(statuses)
            code = _run_to_end(make, run, log, reporter)
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
        trouble=_trouble(log_file, code),
    )


def _run_to_end(make: str, run: Run, log: IO[bytes], reporter: Reporter) -> int:
    """Run make, report its targets' events, and return its exit code.

    make gets a process group of its own: Ctrl-C at a terminal goes to the foreground group, so it
    reaches only this process, which then ends make and all targets in order.

    make and its shells pass the writing end of a pipe on to the targets, which write a line to it
    when they start and when they end.
    """
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as events:
        try:
            process = subprocess.Popen(
                _command(make, run),
                cwd=run.run_dir,
                env=_environment(writing, run),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                process_group=0,
            )
        finally:
            # Only if this copy is closed does the pipe end with the last process that holds it.
            os.close(writing)
        for line in _lines(events, process):
            _report(line, reporter)
        return process.wait()


def _command(make: str, run: Run) -> list[str]:
    jobs = run.settings.of(MachineSettings).jobs or num_cpus()
    flags = [*(["-k"] if run.keep_going else []), *(["-B"] if run.force else [])]
    return [make, f"-j{jobs}", *flags, "all"]


def _environment(events: int, run: Run) -> dict[str, str]:
    """Return the environment of make: this one, and the variables that targets read.

    - `events`: the file descriptor to which targets write their events.

    GPU settings are passed on because a target loads the settings itself, and cannot see the
    flags and the profile of this process.
    """
    environment = {name: value for name, value in os.environ.items() if name not in OUTER_MAKE}
    # -P keeps modules in the current directory from hiding those that rvrun imports.
    program = shlex.join([sys.executable, "-P", "-m", "rvrun"])
    # make expands variables from the environment too, hence `for_make`.
    environment |= {"RVRUN": for_make(program), EVENTS: str(events), LOGS: "1"}
    if run.settings.imports:
        environment[variable(IMPORTS)] = run.settings.imports
    if run.verbosity:
        environment[VERBOSITY] = str(run.verbosity)
    machine = run.settings.of(MachineSettings)
    for name, value in (
        ("gpus", ",".join(machine.gpus)),
        ("gpu_slots", machine.gpu_slots),
        ("gpu_locks", machine.gpu_locks),
    ):
        if value:
            environment[variable(key_of(MachineSettings, name))] = str(value)
    return environment


def _lines(events: io.FileIO, process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield lines of the pipe until all processes that hold it have ended, or make has.

    A process that a target leaves behind may hold the pipe for long, so the end of the pipe alone
    is not enough. An event missed at the end only affects the progress that is shown: the outcome
    is read from the records.
    """
    unfinished = b""
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
            *lines, unfinished = (unfinished + data).split(b"\n")
            yield from (line.decode() for line in lines)


def _report(line: str, reporter: Reporter) -> None:
    match line.split(" "):
        case ["start", target]:
            reporter.started(target)
        case ["end", target, code]:
            reporter.ended(target, int(code))


def _trouble(log_file: pathlib.Path, code: int) -> str:
    """Return the end of make's own output if it failed; empty if it succeeded."""
    if code == 0:
        return ""
    return "\n".join(tail(log_file, NUM_LINES)) or f"make exited with code {code}"


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
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
    """End make and all targets; a second signal in their grace period kills them immediately."""
    try:
        end_children()
    except Interrupted:
        end_children(grace=0)
