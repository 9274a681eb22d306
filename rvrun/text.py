"""Numbers and plans as short strings for people."""

from __future__ import annotations

from rvrun.model import Plan

MINUTE, HOUR = 60, 3600


def count(number: int, thing: str) -> str:
    """Format a number of things: `1 stage`, `2 stages`, `10,000 targets`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def title(plan: Plan) -> str:
    """Summarize a plan in one line: `tiny: 12 targets in 6 stages`."""
    names = ", ".join(pipeline.name for pipeline in plan.pipelines)
    return f"{names}: {count(plan.num_targets, 'target')} in {count(plan.num_stages, 'stage')}"


def duration(seconds: float) -> str:
    """Format a duration: `0.4 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
