"""Supervise a target: end it after its time limit, and start it again if it failed.

Only targets with a limit have a supervisor. It is the process that make started, and forks the
process of each attempt, which is like a target without limits in every other way: it locks the
target, writes the record, and touches the stamp. The supervisor survives whatever kills an attempt.
"""

from __future__ import annotations

# The part of `signal` that is in C.
import _signal  # type: ignore[import-not-found]
import contextlib
import os
import sys
import time

from rvrun.errors import DONE, INTERRUPTED, INVALID
from rvrun.prctl import end_with, system_call
from rvrun.rundir.records import append, last_attempt, process_peak_kib
from rvrun.signals import GRACE_SECONDS, SIGNALLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rvrun.worker.limits import Limits

#: The exit code of a target that was ended after its time limit, as coreutils' `timeout` has it.
TIMED_OUT = 124
#: Signals that ask a target to end; make and the runners send them.
ENDING = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)
HANDLED = (*ENDING, _signal.SIGINT)
#: Exit codes after which another attempt would be pointless, or is not wanted: it succeeded, its
#: input is invalid, or someone ended it.
FINAL = (DONE, INVALID, INTERRUPTED, *(SIGNALLED + number for number in ENDING))
#: How often to look whether a process has ended where the system cannot tell, in seconds.
POLL_SECONDS = 0.05


class Attempt:
    """What the process of an attempt knows of its supervisor.

    - `is_last`: whether a failure is the target's.
    - `seconds`: its time limit; 0 for none. `is_late`: whether it was ended because of that.
    """

    def __init__(self, descriptor: int, seconds: int, *, is_last: bool) -> None:
        self._descriptor = descriptor
        self._seconds = seconds
        self._began = 0.0
        self.is_late = False
        self.is_last = is_last

    def begin(self) -> None:
        """Start the clock: all that the target has to wait for is there."""
        self._began = time.monotonic()
        os.write(self._descriptor, b"1")
        os.close(self._descriptor)

    def final_code(self, code: int) -> int:
        """Return the exit code of the attempt: `TIMED_OUT` if SIGTERM came after its time limit."""
        is_ended = code == SIGNALLED + _signal.SIGTERM
        is_over = self._began and time.monotonic() - self._began >= self._seconds > 0
        self.is_late = bool(is_ended and is_over)
        return TIMED_OUT if self.is_late else code

    def will_retry(self, code: int) -> bool:
        """Return whether another attempt follows an exit code."""
        return not self.is_last and code not in FINAL


def supervise(limits: Limits, record: str, name: str, report: Callable[[str], None]) -> Attempt:
    """Fork a process for each attempt; return in that of an attempt.

    The supervisor does not return: it exits as its last attempt did.

    - `record`: the path of the target's record, where the end of a killed attempt is noted.
    - `report`: shows events of the target called `name`.
    """
    supervisor = _Supervisor(limits, record)
    for number in range(1, limits.retries + 2):
        is_last = number == limits.retries + 1
        attempt = supervisor.start(is_last=is_last)
        if attempt is not None:
            return attempt
        code = supervisor.wait()
        if is_last or supervisor.was_ended or code in FINAL:
            if supervisor.was_killed:
                if code == TIMED_OUT:
                    report(f"note {name}: took longer than {limits.timeout_seconds} s; killed")
                report(f"end {name} {code}")
            os._exit(code)
        how = (
            f"took longer than {limits.timeout_seconds} s" if code == TIMED_OUT else f"exit {code}"
        )
        report(f"note {name}: attempt {number} of {limits.retries + 1} failed ({how}); retrying")
    raise AssertionError("the last attempt ends the loop")


class _Supervisor:
    """Waits for the process of an attempt.

    - `was_ended`: whether a signal asked this process to end. `was_killed`: whether a signal killed
      the last attempt.
    """

    def __init__(self, limits: Limits, record: str) -> None:
        self.limits = limits
        self.record = record
        self.pid = 0
        self.status: int | None = None
        self.was_ended = self.was_killed = False
        self.clock = -1
        #: The peak resident memory of the last attempt, in KiB on Linux.
        self.peak: int | None = None
        self.before = {
            number: handler
            for number in HANDLED
            if (handler := _signal.getsignal(number)) is not _signal.SIG_IGN
        }
        for number in self.before:
            _signal.signal(number, self.handle)

    def handle(self, signum: int, frame: object) -> None:
        """Pass a signal on, except for one that the terminal sends to all processes."""
        self.was_ended = True
        if self.pid and self.status is None and signum != _signal.SIGINT:
            os.kill(self.pid, signum)

    def start(self, *, is_last: bool) -> Attempt | None:
        """Fork; return the attempt in the new process, and None in this one."""
        self.clock, writing = os.pipe()
        supervisor = os.getpid()
        self.status = self.peak = None
        # A signal must not be handled as the supervisor does in a process that is not one.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, HANDLED)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                for number, handler in self.before.items():
                    _signal.signal(number, handler)
                if system_call() is not None:
                    end_with(supervisor)
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        if self.pid == 0:
            os.close(self.clock)
            return Attempt(writing, self.limits.timeout_seconds, is_last=is_last)
        os.close(writing)
        return None

    def wait(self) -> int:
        """Wait for the attempt, end it after its time limit, and return its exit code."""
        is_late = False
        # Nothing to read: it ended before its clock started.
        if os.read(self.clock, 1) and self.limits.timeout_seconds:
            is_late = not self._ended_within(self.limits.timeout_seconds)
        os.close(self.clock)
        if is_late:
            os.kill(self.pid, _signal.SIGTERM)
            # Twice: it needs the time itself to end what it has started.
            if not self._ended_within(2 * GRACE_SECONDS):
                self._kill()
        while self.status is None:
            self._ended_within(None)
        self.was_killed = os.WIFSIGNALED(self.status)
        if not self.was_killed:
            return os.WEXITSTATUS(self.status)
        number = os.WTERMSIG(self.status)
        self._record_killed(number, is_late=is_late)
        return TIMED_OUT if is_late else SIGNALLED + number

    def _ended_within(self, seconds: float | None) -> bool:
        """Wait until the attempt has ended, and return whether it has."""
        if seconds is None:
            _, self.status, usage = os.wait4(self.pid, 0)
            self.peak = usage.ru_maxrss
            return True
        deadline = time.monotonic() + seconds
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status, self.peak = status, usage.ru_maxrss
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._pause(left)

    def _pause(self, seconds: float) -> None:
        """Wait for the end of the attempt, or less if the system cannot wait for a process."""
        if not hasattr(os, "pidfd_open"):
            time.sleep(min(seconds, POLL_SECONDS))
            return
        import select

        descriptor = os.pidfd_open(self.pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(seconds * 1000)
        finally:
            os.close(descriptor)

    def _kill(self) -> None:
        """Kill the attempt and all that it has started."""
        from rvrun.processes import end_children

        os.kill(self.pid, _signal.SIGSTOP)
        self.peak = process_peak_kib(self.pid)
        with contextlib.suppress(ChildProcessError):
            end_children(0.0)
        if self.status is None:
            self.status = _signal.SIGKILL

    def _record_killed(self, number: int, *, is_late: bool) -> None:
        lines, end = last_attempt(self.record)
        if not lines or end is not None or lines[0].get("pid") != self.pid:
            return
        line = {
            "event": "killed",
            "attempt": lines[0]["attempt"],
            "time": round(time.time(), 3),
            "signal": number,
            "peak_memory_kib": self.peak if sys.platform.startswith("linux") else None,
        }
        if is_late:
            line["timeout_seconds"] = self.limits.timeout_seconds
        append(self.record, line)
