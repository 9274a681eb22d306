"""Ending processes with all that they started. The only door to psutil."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

import psutil

#: How long processes have to end by themselves before they are killed, in seconds.
GRACE_SECONDS = 5.0
#: How long to go on killing what is started meanwhile, in seconds.
KILL_SECONDS = 5.0


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_children(grace: float = GRACE_SECONDS) -> None:
    """End every process that this one started, and those that they started.

    Each gets SIGTERM and `grace` seconds to end, then SIGKILL. They are all found before the
    first is told, for those that outlive their parent can no longer be found by it.
    """
    children = _descendants()
    _signal(children, "terminate")
    _, alive = psutil.wait_procs(children, timeout=grace)
    deadline = time.monotonic() + KILL_SECONDS
    while alive and time.monotonic() < deadline:
        late = {*alive, *_descendants()}
        _signal(late, "kill")
        _, alive = psutil.wait_procs(late, timeout=0.5)


def _descendants() -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process().children(recursive=True)
    return []


def _signal(processes: Iterable[psutil.Process], how: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            getattr(process, how)()
