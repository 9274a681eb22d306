"""What one process takes over from another, and how a process ended."""

from __future__ import annotations

import contextlib
import os
import signal

from rvrun.signals import end_on_interrupt, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: Signals that Python itself ignores, and those that no process can ignore.
_FIXED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP)
#: The signals that a process may be started with ignored, such as by nohup, and by shells for jobs
#: in the background.
INHERITED = sorted(signal.valid_signals() - {*_FIXED})


def describe_end(pid: int) -> str:
    """Wait for a child that has ended, or is about to, and say how it ended."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return "has ended"
    if os.WIFSIGNALED(status):
        return f"was killed by {name_of(os.WTERMSIG(status))}"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def numbers_of(mask: int) -> list[int]:
    """Return the numbers of the signals in a mask of /proc/PID/status."""
    return [number for number in INHERITED if mask >> (number - 1) & 1]


def set_environ(variables: Mapping[str, str | None]) -> None:
    """Set variables of the environment, or remove those that are None."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def take_over_from(pid: int, conditions: Mapping[str, int]) -> None:
    """Take over from process `pid` what a program that it starts would inherit.

    - `conditions`: what this process has not got already; see `Conditions.differences`.

    A limit, a priority or CPUs that this process may not have do not keep the target from running.
    """
    if "umask" in conditions:
        os.umask(conditions["umask"])
    if "ignored" in conditions:
        _take_signals(conditions["ignored"])
    with contextlib.suppress(OSError, ValueError):
        if "priority" in conditions:
            os.setpriority(os.PRIO_PROCESS, 0, conditions["priority"])
    with contextlib.suppress(OSError):
        if "cpus" in conditions:
            os.sched_setaffinity(0, os.sched_getaffinity(pid))
    if "limits" in conditions:
        _take_limits(pid)


def _take_signals(ignored: int) -> None:
    """Ignore the signals of the mask `ignored`, and no others that a program would inherit."""
    numbers = numbers_of(ignored)
    for number in INHERITED:
        is_ignored = number in numbers
        if is_ignored != (signal.getsignal(number) is signal.SIG_IGN):
            signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        # As when Python starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        end_on_interrupt()


def _take_limits(pid: int) -> None:
    import resource

    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            limit = getattr(resource, name)
            with contextlib.suppress(OSError, ValueError):
                theirs = resource.prlimit(pid, limit)
                if theirs != resource.getrlimit(limit):
                    resource.setrlimit(limit, theirs)
