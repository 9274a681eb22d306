"""Runs any command with a warm worker for the Makefiles below it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from rvrun.errors import RvrunError
from rvrun.prctl import end_with
from rvrun.processes import adopting_orphans, end_children, reap_orphans
from rvrun.signals import GRACE_SECONDS, SIGNALLED
from rvrun.warm.protocol import BEAT_SECONDS
from rvrun.warm.supervisor import WarmWorker, warm_worker

#: Signals that ask this process to end. They are waited for, instead of handled.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class CannotRun(RvrunError):
    """A command that does not exist, or may not be run."""

    program: str
    problem: str
    template = "cannot run `{program}`: {problem}; name a program that is on PATH"
    fix = "name a program that is on PATH"


def run_command(
    command: Sequence[str], note: Callable[[str, bool], None], without: Sequence[str] = ()
) -> int:
    """Run a command beside a warm worker, which ends with it; return the command's exit code.

    A signal that ended the command gives 128 + its number. Call it in the main thread.

    - `note`, `without`: as in `warm_worker`.

    Raises `CannotRun`.
    """
    with adopting_orphans(), warm_worker(note, without=without) as worker:
        # nohup ignores SIGHUP, and shells SIGINT and SIGQUIT for jobs in the background. A signal
        # that is blocked would arrive nevertheless.
        ending = [s for s in ENDING if signal.getsignal(s) is not signal.SIG_IGN]
        awaited = (*ending, signal.SIGCHLD)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        try:
            process = _start(command, worker, before)
            received = _wait(process, worker, awaited)
            # Now, because the end of children loses the command's exit code.
            code = process.poll()
            if worker is not None:
                worker.read()
            if received or code is None or code < 0:
                end_children(is_urgent=lambda: signal.sigtimedwait(ending, 0) is not None)
        finally:
            # Those that are still pending have had their effect.
            while signal.sigtimedwait(awaited, 0):
                pass
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if code is None:
        return SIGNALLED + received
    return SIGNALLED - code if code < 0 else code


def _start(
    command: Sequence[str], worker: WarmWorker | None, mask: set[int | signal.Signals]
) -> subprocess.Popen[bytes]:
    """Start the command in this process's group, so that it can use the terminal."""
    parent = os.getpid()

    def prepare() -> None:
        end_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        return subprocess.Popen(
            command,
            env=os.environ | (worker.variables if worker else {}),
            preexec_fn=prepare,  # noqa: PLW1509 - no other thread runs
        )
    except OSError as error:
        raise CannotRun(command[0], error.strerror or str(error)) from None


def _wait(
    process: subprocess.Popen[bytes],
    worker: WarmWorker | None,
    awaited: Sequence[signal.Signals],
) -> int:
    """Wait until the command has ended, or too long after a signal that asked this process to end.

    Returns the number of that signal, or 0.

    The terminal sends its signals to the command, too, so these are not passed on. What does not
    end in time is killed by the caller.

    - `awaited`: the signals that are blocked.
    """
    deadline = float("inf")
    number = 0
    beaten = 0.0
    while process.poll() is None and time.monotonic() < deadline:
        if time.monotonic() - beaten >= BEAT_SECONDS:
            beaten = time.monotonic()
            if worker is not None:
                worker.beat()
        received = signal.sigtimedwait(awaited, BEAT_SECONDS)
        # After a stop (SIGSTOP) that was longer than the wait, Python returns no signal, but what
        # happens to be in memory (`sigtimedwait` in CPython's signalmodule.c).
        is_signal = received is not None and received.si_signo in awaited
        if received is None or not is_signal or received.si_signo == signal.SIGCHLD:
            reap_orphans(process.pid)
            continue
        # Above 0: sent by the kernel (sigaction(2)).
        is_from_terminal = received.si_code > 0
        if is_from_terminal and received.si_signo in (signal.SIGINT, signal.SIGQUIT):
            continue
        # The second signal ends the patience that the first one left.
        if deadline < float("inf"):
            break
        number = received.si_signo
        process.send_signal(number)
        deadline = time.monotonic() + GRACE_SECONDS
    return number
