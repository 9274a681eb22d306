"""Count CPUs, and end processes with all of their descendants. The only module to import psutil."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

from rvrun.prctl import PR_SET_CHILD_SUBREAPER, system_call
from rvrun.signals import GRACE_SECONDS

#: How long to go on killing processes that are still being started, in seconds.
KILL_SECONDS = 5.0
#: How often to look whether processes have ended, in seconds.
POLL_SECONDS = 0.1


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
    alive = set(listed)
    deadline = time.monotonic() + grace
    while alive and time.monotonic() < deadline and not is_urgent():
        _, waiting = psutil.wait_procs(alive, timeout=POLL_SECONDS)
        alive = set(waiting)
    # A process may start another between the listing and its end, so list again until none is left.
    deadline = time.monotonic() + KILL_SECONDS
    remaining = alive.union(_descendants())
    while remaining and time.monotonic() < deadline:
        _signal(remaining, "kill")
        _, waiting = psutil.wait_procs(remaining, timeout=POLL_SECONDS)
        remaining = set(waiting).union(_descendants())


def end_tree(child: int, grace: float = GRACE_SECONDS) -> None:
    """End a child of this process with all of its descendants, as `end_children` does."""
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(child)
        listed = [top, *top.children(recursive=True)]
        _signal(listed, "terminate")
        _, alive = psutil.wait_procs(listed, timeout=grace)
        _signal(alive, "kill")
        psutil.wait_procs(alive, timeout=KILL_SECONDS)


def _descendants() -> list[psutil.Process]:
    """Return the processes below this one, each after its parent.

    A parent that gets a signal before its child does not take the child's end for a failure.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process().children(recursive=True)
    return []


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
    set_option = system_call()
    if set_option is None:
        yield
        return
    set_option(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        set_option(PR_SET_CHILD_SUBREAPER, 0)


def reap_orphans(child: int) -> None:
    """Remove adopted processes that have ended from the system's table of processes.

    - `child`: a child whose exit status belongs to someone else, and is not read here.
    """
    if system_call() is None:
        return
    with contextlib.suppress(ChildProcessError):
        # WNOWAIT only looks. If the child has ended, it may hide others, which end with this run.
        while (
            ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ) is not None and ended.si_pid != child:
            os.waitpid(ended.si_pid, 0)
