"""What one process takes over from another, and how a process ended."""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from rvrun.signals import name_of
from rvrun.warm.protocol import Gone, read_client

#: The limits of a process that programs inherit (getrlimit(2)).
LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
#: The signals that programs are commonly started with ignored: by nohup, and by shells for jobs in
#: the background. Python itself ignores SIGPIPE and SIGXFSZ.
INHERITED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def describe_end(pid: int) -> str:
    """Wait for a child that has ended, or is about to, and say how it ended."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return "has ended"
    if os.WIFSIGNALED(status):
        return f"was killed by {name_of(os.WTERMSIG(status))}"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def take_over_from(pid: int) -> None:
    """Take over from process `pid` what a program that it starts would inherit.

    That is: the working directory, umask, ignored signals, limits, priority and CPUs. The streams
    and the environment are taken over elsewhere. Raises `Gone`.
    """
    status = read_client(pid, "status")
    try:
        os.chdir(f"/proc/{pid}/cwd")
        os.umask(int(_field(status, b"Umask"), 8))
        _take_signals(int(_field(status, b"SigIgn"), 16))
        _take_limits(pid)
    except (OSError, IndexError) as error:
        raise Gone(str(error)) from error


def _take_signals(ignored: int) -> None:
    """Ignore the signals of the mask `ignored`, and no others that a program would inherit."""
    for number in INHERITED:
        is_ignored = bool(ignored >> (number - 1) & 1)
        if is_ignored != (signal.getsignal(number) is signal.SIG_IGN):
            signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)


def _take_limits(pid: int) -> None:
    """Take over limits, priority and CPUs, as far as this process may."""
    for limit in LIMITS:
        theirs = resource.prlimit(pid, limit)
        if theirs != resource.getrlimit(limit):
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, theirs)
    priority = os.getpriority(os.PRIO_PROCESS, pid)
    if priority != os.getpriority(os.PRIO_PROCESS, 0):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, priority)
    cpus = os.sched_getaffinity(pid)
    if cpus != os.sched_getaffinity(0):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)


def _field(status: bytes, name: bytes) -> bytes:
    """Return a field of /proc/PID/status."""
    return status.split(b"\n" + name + b":\t", 1)[1].split(b"\n", 1)[0]
