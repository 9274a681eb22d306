"""Count CPUs, and end processes with all of their descendants. The only module to import psutil."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

#: How long processes may take to end after SIGTERM before they are killed, in seconds.
GRACE_SECONDS = 5.0
#: How long to go on killing processes that are still being started, in seconds.
KILL_SECONDS = 5.0
#: How often to look whether processes have ended, in seconds.
POLL_SECONDS = 0.1
#: Options of prctl(2).
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_children(
    grace: float = GRACE_SECONDS, is_urgent: Callable[[], bool] = lambda: False
) -> None:
    """End all descendants of this process: SIGTERM, `grace` seconds to end, then SIGKILL.

    All descendants are listed before the first one gets a signal, and the list is kept to the end.
    When a process ends, its children are adopted by another process; unless that is this one (see
    `adopting_orphans`), they are no longer among its descendants. A signal to a process group would
    not do either, because targets may start sessions of their own.

    - `is_urgent`: whether the grace period is over early.
    """
    listed = _descendants()
    _signal(listed, "terminate")
    alive = listed
    deadline = time.monotonic() + grace
    while alive and time.monotonic() < deadline and not is_urgent():
        _, waiting = psutil.wait_procs(alive, timeout=POLL_SECONDS)
        alive = set(waiting)
    # A process may start another between the listing and its end, so list again until none is left.
    deadline = time.monotonic() + KILL_SECONDS
    remaining = alive | _descendants()
    while remaining and time.monotonic() < deadline:
        _signal(remaining, "kill")
        _, waiting = psutil.wait_procs(remaining, timeout=POLL_SECONDS)
        remaining = set(waiting) | _descendants()


def _descendants() -> set[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return set(psutil.Process().children(recursive=True))
    return set()


def _signal(processes: Iterable[psutil.Process], method: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            getattr(process, method)()


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Become the parent of all descendants whose own parent ends, where the system can do that.

    Linux can (PR_SET_CHILD_SUBREAPER). Elsewhere init adopts them, and only a list of descendants
    that was made before their parent ended leads to them.
    """
    prctl = _prctl()
    if prctl is None:
        yield
        return
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


def reap_orphans(child: int) -> None:
    """Remove adopted processes that have ended from the system's table of processes.

    - `child`: a child whose exit status belongs to someone else, and is not read here.
    """
    if _prctl() is None:
        return
    with contextlib.suppress(ChildProcessError):
        # WNOWAIT only looks. If the child has ended, it may hide others, which end with this run.
        while (
            ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ) is not None and ended.si_pid != child:
            os.waitpid(ended.si_pid, 0)


def ending_with_parent() -> Callable[[], None] | None:
    """Return what a new process calls before `exec`, to get SIGTERM when this thread ends.

    The signal is tied to the thread that starts the process, not to the whole parent, so that must
    be the main thread. None where the system cannot do it (Linux can).
    """
    prctl = _prctl()
    if prctl is None:
        return None
    parent = os.getpid()

    def prepare() -> None:
        # The new process has this one's handlers until `exec`; they would swallow the signal.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have ended before that call, and then no signal comes.
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)

    return prepare


@functools.cache
def _prctl() -> Callable[[int, int], int] | None:
    """Return the system call prctl(2); None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    function: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return function
