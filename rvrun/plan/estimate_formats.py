"""Print estimates: for people, programs and pull requests. Pure."""

from __future__ import annotations

from typing import Any

from rvrun.plan.estimate import HOUR, Estimate, StageEstimate
from rvrun.text import count, duration, enumerate_names

HEADINGS = ("stage", "targets", "in sequence", "cost", "based on")


def headline(estimate: Estimate, sign: str = "") -> str:
    """Return the estimate in one line.

    - `sign`: what stands before the numbers, such as `+` for those of a change.
    """
    if not estimate.stages:
        return "nothing would run"
    parts = []
    if estimate.makespan is not None:
        at = "" if estimate.jobs is None else f" at -j{estimate.jobs}"
        p90 = duration(estimate.makespan_p90 or 0.0)
        parts.append(f"{sign}{duration(estimate.makespan)}{at} (p90 {p90})")
    if estimate.gpu_seconds:
        hours = estimate.gpu_seconds / HOUR
        parts.insert(0, f"{sign}{hours:,.1f} GPU h" if hours >= 1 else f"{sign}{hours:.2g} GPU h")
    if estimate.cost is not None:
        p90 = money(estimate.cost_p90 or 0.0, estimate.currency)
        parts.append(f"≈ {money(estimate.cost, estimate.currency)} (p90 {p90})")
    line = ", ".join(parts)
    notes = [line] if line else []
    if estimate.without_data:
        notes.append(f"no data: {enumerate_names(estimate.without_data)}")
    if estimate.without_price:
        is_all = estimate.cost is None
        notes.append(f"no price{'' if is_all else f': {enumerate_names(estimate.without_price)}'}")
    return "; ".join(notes)


def rows(estimate: Estimate) -> list[tuple[str, ...]]:
    """Return a row for each stage, under `HEADINGS`."""
    return [
        (
            stage.name,
            f"{stage.targets:,}",
            "" if stage.seconds is None else duration(stage.seconds),
            "" if stage.cost is None else money(stage.cost, estimate.currency),
            _basis(stage),
        )
        for stage in estimate.stages
    ]


def _basis(stage: StageEstimate) -> str:
    if stage.seconds is None:
        return "no data"
    return f"{count(stage.samples, 'target')} in {stage.source}, per {stage.unit}"


def money(amount: float, currency: str) -> str:
    """Format an amount: `$0.42`, `$1,204`."""
    if 0 < amount < 0.01:
        return f"< {currency}0.01"
    return f"{currency}{amount:,.0f}" if amount >= 10 else f"{currency}{amount:.2f}"


def to_markdown(estimate: Estimate, sign: str = "") -> str:
    """Format as Markdown, for a comment on a pull request."""
    lines = [f"**Estimate**: {headline(estimate, sign)}"]
    if estimate.stages:
        table = rows(estimate)
        kept = [i for i in range(len(HEADINGS)) if any(row[i] for row in table)]
        lines += ["", f"| {' | '.join(HEADINGS[i] for i in kept)} |", f"|{' --- |' * len(kept)}"]
        for row in table:
            cells = [f"`{row[i]}`" if i == 0 else row[i].replace("|", "\\|") for i in kept]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def to_dict(estimate: Estimate) -> dict[str, Any]:
    """Return the estimate as JSON values; seconds are rounded to milliseconds."""
    return {
        "rvrun_estimate": 1,
        "jobs": estimate.jobs,
        "seconds": _rounded(estimate.makespan, 3),
        "seconds_p90": _rounded(estimate.makespan_p90, 3),
        "gpu_hours": _rounded(estimate.gpu_seconds / HOUR, 6) if estimate.makespan else None,
        "currency": estimate.currency,
        "cost": _rounded(estimate.cost, 4),
        "cost_p90": _rounded(estimate.cost_p90, 4),
        "critical_path": list(estimate.critical_path),
        "without_data": list(estimate.without_data),
        "without_price": list(estimate.without_price),
        "stages": [
            {
                "name": stage.name,
                "targets": stage.targets,
                "seconds": _rounded(stage.seconds, 3),
                "gpu_hours": _rounded(stage.gpu_seconds / HOUR, 6) if stage.seconds else None,
                "cost": _rounded(stage.cost, 4),
                "samples": stage.samples,
                "unit": stage.unit or None,
                "source": stage.source or None,
            }
            for stage in estimate.stages
        ],
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
