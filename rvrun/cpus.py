"""How many CPUs this process may use. Light: the worker of every target imports it."""

from __future__ import annotations

import os


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
