"""Count CPUs, and end processes with all of their descendants. The only module to import psutil."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

import psutil

#: How long processes may take to end after SIGTERM before they are killed, in seconds.
GRACE_SECONDS = 5.0
#: How long to go on killing processes that are still being started, in seconds.
KILL_SECONDS = 5.0


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_children(grace: float = GRACE_SECONDS) -> None:
    """End all descendants of this process: SIGTERM, `grace` seconds to end, then SIGKILL.

    All descendants are listed before the first one gets a signal. When a process ends, its children
    are adopted by another process and are no longer among the descendants of this one. A signal to
    a process group would not do either, because targets may start sessions of their own.
    """
    children = _descendants()
    _signal(children, "terminate")
    _, alive = psutil.wait_procs(children, timeout=grace)
    # A process may start another between the listing and its end, so list again until none is left.
    deadline = time.monotonic() + KILL_SECONDS
    while alive and time.monotonic() < deadline:
        remaining = {*alive, *_descendants()}
        _signal(remaining, "kill")
        _, alive = psutil.wait_procs(remaining, timeout=0.5)


def _descendants() -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process().children(recursive=True)
    return []


def _signal(processes: Iterable[psutil.Process], method: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            getattr(process, method)()
