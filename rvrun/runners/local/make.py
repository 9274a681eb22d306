"""Run make on a rendered Makefile: start it, follow its targets, end it with all of them."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import selectors
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import IO

from rvrun import paths
from rvrun.cpus import num_cpus
from rvrun.environment import EVENTS, LOCK, LOGS, VERBOSITY
from rvrun.errors import RvrunError
from rvrun.prctl import ending_with_parent
from rvrun.processes import (
    adopting_orphans,
    end_children,
    reap_orphans,
)
from rvrun.render.quote import for_make
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.own_files import open_own
from rvrun.rundir.summary import Outcome, read_outcome, tail
from rvrun.runners.local.killed import Watch
from rvrun.runners.local.signals import Signals
from rvrun.runners.run import Reporter, Run
from rvrun.settings.files import IMPORTS
from rvrun.settings.schema import MachineSettings, key_of, variable
from rvrun.signals import name_of
from rvrun.text import count
from rvrun.warm.protocol import BEAT_SECONDS
from rvrun.warm.supervisor import WarmWorker, is_possible, warm_worker

#: How long to wait for an event before checking whether make still runs, in seconds; also how often
#: running targets are looked at.
POLL_SECONDS = 0.2
#: Fewer targets than that start sooner than a process has imported for them and forked them.
WORTH_TARGETS = 3
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


def run_make(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    """Run make until it ends or a signal arrives; then no process of the run is left.

    Call it in the main thread. Raises `NoMake`, or `LinkInTheWay`.
    """
    make = shutil.which("make")
    if make is None:
        raise NoMake
    log_file = run.run_dir / paths.MAKE_LOG
    log_file.parent.mkdir(parents=True, exist_ok=True)
    since = time.time()
    descriptor = open_own(str(log_file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with Signals() as signals, adopting_orphans(), open(descriptor, "wb") as log:
        names = {target.name: target.path for status in statuses for target in status.targets()}
        watch = Watch(run.run_dir, names, log_file)
        events = _Events(reporter, signals, watch, is_verbose=bool(run.verbosity))
        code = _run_to_end(make, run, statuses, log, events)
        watch.record_killed()
        return read_outcome(
            run.run_dir,
            run.out,
            statuses,
            since=since,
            until=time.time(),
            signal=signals.first,
            was_stopped=signals.first is not None or code < 0,
            trouble=_trouble(log_file, code),
        )


def _run_to_end(
    make: str, run: Run, statuses: Sequence[StageStatus], log: IO[bytes], events: _Events
) -> int:
    """Run make, report its targets' events, and return its exit code; negative: its signal.

    make gets a process group of its own: Ctrl-C at a terminal goes to the foreground group, so it
    reaches only this process, which then ends make and all targets in order.

    make and its shells pass two files on to the targets: the writing end of a pipe, to which
    targets write a line when they start and when they end; and the lock of the run directory, so
    that it stays locked as long as any of them works, even if this process is killed.
    """
    reading, writing = os.pipe()
    files = (writing,) if run.lock is None else (writing, run.lock)
    is_over = False
    with open(reading, "rb", buffering=0) as pipe, contextlib.ExitStack() as stack:
        try:
            # Both before anything is shown, because that starts a thread, and only a process
            # without threads can safely run Python code between `fork` and `exec`.
            try:
                warm = stack.enter_context(_warm_worker(run, statuses, log, files, events))
                process = _start(make, run, log, files, warm)
            finally:
                # Only if this copy is closed does the pipe end with the last one that holds it.
                os.close(writing)
            events.begin(statuses)
            for line in _lines(pipe, process, warm, events):
                events.report(line)
            if warm is not None:
                warm.read()
            is_over = not events.signals.first and process.wait() >= 0
            if is_over:
                # What was killed last: make has ended since the last look.
                events.look()
        finally:
            # Whatever happened, also if make was killed, or an error was raised here.
            if not is_over:
                end_children(is_urgent=lambda: events.signals.count > 1)
            events.finish()
    return process.wait()


def _warm_worker(
    run: Run,
    statuses: Sequence[StageStatus],
    log: IO[bytes],
    files: Sequence[int],
    events: _Events,
) -> AbstractContextManager[WarmWorker | None]:
    """Start a warm worker, unless it is not wanted, not possible, or not worth it.

    - `files`: the descriptors that targets inherit.
    """
    machine = run.settings.of(MachineSettings)
    num_targets = sum(len(status.stale) for status in statuses)
    if not machine.warm:
        return contextlib.nullcontext()
    if not is_possible():
        why = "this system has no warm workers, only Linux has"
    elif num_targets < WORTH_TARGETS:
        why = f"a warm worker is not worth it for {count(num_targets, 'target')}"
    else:
        return warm_worker(
            events.noted_by_warm_worker,
            without=machine.import_after_fork,
            jobs=machine.jobs or num_cpus(),
            inherited=files,
            output=log.fileno(),
        )
    events.noted_by_warm_worker(f"targets start in fresh processes: {why}", is_harmless=True)
    return contextlib.nullcontext()


def _start(
    make: str, run: Run, log: IO[bytes], files: Sequence[int], warm: WarmWorker | None
) -> subprocess.Popen[bytes]:
    """Start make; `files` are the descriptors that targets inherit, that of the pipe first."""
    return subprocess.Popen(
        _command(make, run),
        cwd=run.run_dir,
        env=_environment(files[0], run) | (warm.variables if warm else {}),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=files,
        process_group=0,
        preexec_fn=ending_with_parent(),  # noqa: PLW1509 - no other thread runs yet
    )


class _Events:
    """What the targets report, on its way to the reporter and to those who watch them."""

    def __init__(
        self, reporter: Reporter, signals: Signals, watch: Watch, *, is_verbose: bool = False
    ) -> None:
        self.reporter = reporter
        self.is_verbose = is_verbose
        self.signals = signals
        self.watch = watch

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        self.signals.interrupting(self.reporter.begin, statuses)

    def finish(self) -> None:
        self.signals.interrupting(self.reporter.finish)

    def look(self) -> None:
        """Look at the running targets, and report those that were killed."""
        for target, code in self.watch.look():
            self.signals.interrupting(self.reporter.ended, target, code)

    def noted_by_warm_worker(self, text: str, is_harmless: bool) -> None:  # noqa: FBT001
        """Report why targets do not start as fast as they could, if that is worth a line."""
        if self.is_verbose or not is_harmless:
            self.signals.interrupting(self.reporter.noted, text)

    def report(self, line: str) -> None:
        """Report a line of the pipe."""
        match line.split(" "):
            case ["start", target, pid]:
                self.watch.started(target, int(pid))
                self.signals.interrupting(self.reporter.started, target)
            case ["end", target, code]:
                self.watch.ended(target)
                self.signals.interrupting(self.reporter.ended, target, int(code))
            case ["note", *words]:
                self.signals.interrupting(self.reporter.noted, " ".join(words))


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
    if run.lock is not None:
        environment[LOCK] = str(run.lock)
    machine = run.settings.of(MachineSettings)
    for name, value in (
        ("gpus", ",".join(machine.gpus)),
        ("gpu_slots", machine.gpu_slots),
        ("gpu_locks", machine.gpu_locks),
        ("vcpus", machine.vcpus),
        ("memory_mib", machine.memory_mib),
    ):
        if value:
            environment[variable(key_of(MachineSettings, name))] = str(value)
    return environment


def _lines(
    pipe: io.FileIO,
    process: subprocess.Popen[bytes],
    warm: WarmWorker | None,
    events: _Events,
) -> Iterator[str]:
    """Yield lines of the pipe until all processes that hold it have ended, or make has.

    Ends early when a signal arrives.

    The warm worker, or a process that a target leaves behind, may hold the pipe for long, so the
    end of the pipe alone is not enough.
    """
    unfinished = b""
    looked = beaten = 0.0
    with selectors.DefaultSelector() as selector, _ending(process) as ending:
        for file in (pipe.fileno(), events.signals.fileno(), *ending):
            selector.register(file, selectors.EVENT_READ)
        while not events.signals.first:
            # Asked before the pipe is looked at: what targets wrote is there then, and is read.
            has_ended = process.poll() is not None
            ready = [key.fd for key, _ in selector.select(0 if has_ended else POLL_SECONDS)]
            if time.monotonic() - looked >= POLL_SECONDS:
                looked = time.monotonic()
                events.look()
                reap_orphans(process.pid)
            if warm is not None and time.monotonic() - beaten >= BEAT_SECONDS:
                beaten = time.monotonic()
                warm.beat()
            if pipe.fileno() not in ready:
                if has_ended:
                    return
                continue
            data = pipe.read(65536)
            if not data:
                return
            *lines, unfinished = (unfinished + data).split(b"\n")
            yield from (line.decode() for line in lines)


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Return descriptors that are readable when a process has ended; none without pidfds."""
    if not hasattr(os, "pidfd_open"):
        yield []
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        yield [descriptor]
    finally:
        os.close(descriptor)


def _trouble(log_file: pathlib.Path, code: int) -> str:
    """Return the end of make's own output if it failed; empty if it succeeded."""
    if code == 0:
        return ""
    if code < 0:
        return f"make was killed by {name_of(-code)}; its targets were ended"
    return "\n".join(tail(log_file, NUM_LINES)) or f"make exited with code {code}"
