"""Numbers and plans as short strings for people."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rvrun.model import Plan

MINUTE, HOUR = 60, 3600


def count(number: int, thing: str) -> str:
    """Format a number of things: `1 stage`, `2 stages`, `10,000 targets`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def enumerate_names(names: Sequence[str]) -> str:
    """Join names: `a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def title(plan: Plan) -> str:
    """Summarize a plan in one line: `tiny: 12 targets in 6 stages`."""
    names = ", ".join(pipeline.name for pipeline in plan.pipelines)
    return f"{names}: {count(plan.num_targets, 'target')} in {count(plan.num_stages, 'stage')}"


def memory(kib: int) -> str:
    """Format an amount of memory: `53 MiB`, `2.7 GiB`."""
    mib = kib / 1024
    return f"{mib:,.0f} MiB" if mib < 1024 else f"{mib / 1024:,.1f} GiB"


def local_time(seconds: float) -> str:
    """Format a time in seconds since 1970 in the local time zone: `2026-01-02 03:04:05`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """Format a duration: `0.4 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
