"""An explanation of `rvrun explain`, as text and as JSON."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rvrun.cli.plan_table import name_keys
from rvrun.pipelines.config_keys import MISSING
from rvrun.plan.diff_formats import format_value
from rvrun.rundir.explain import Explanation, Needed
from rvrun.rundir.freshness import NEVER, NOW
from rvrun.signals import name_of


def print_explanation(explanation: Explanation) -> None:
    """Print whether the target would run and why, and then a fact per line."""
    name, total = explanation.name, explanation.total
    if explanation.reason:
        targets = f" ({explanation.stale:,} of {total:,} targets)" if total > 1 else ""
        reason = name_keys(explanation.reason, explanation.changes or ())
        print(f"{name} would run{targets}: {reason}")
    else:
        print(f"{name} is up to date")
    for label, fact in _facts(explanation):
        print(f"  {label:9}  {fact}")


def _facts(explanation: Explanation) -> list[tuple[str, str]]:
    facts = [("done", f"{_time(explanation.when)}{_attempts(explanation)}")]
    for key, (old, new) in (explanation.changes or {}).items():
        facts.append(("changed", f"{key}: {_value(old)} → {_value(new)}"))
    if explanation.changes is None:
        facts.append(("changed", "unknown: the config from that time was not kept"))
    facts += [("needs", _needed(needed)) for needed in explanation.needs]
    keys = explanation.config_keys
    part = "the whole config" if keys is None else format_value(keys)
    facts.append(("reads", f"{part} (changed {_time(explanation.config_time)})"))
    facts.append(("needed by", ", ".join(explanation.waiting) or "nothing"))
    return facts


def _attempts(explanation: Explanation) -> str:
    if not explanation.attempts:
        return ""
    how = _end(explanation)
    if explanation.attempts == 1:
        return f" ({how})"
    return f" ({explanation.attempts} attempts, the last one: {how})"


def _end(explanation: Explanation) -> str:
    """Say how the last attempt ended; it recorded no end itself if it runs, or was killed."""
    if explanation.is_running:
        return "it is running"
    if explanation.exit_code is not None:
        return f"exit {explanation.exit_code}"
    number = explanation.signal
    return f"it was killed by {name_of(number)}" if number else "it was killed"


def _needed(needed: Needed) -> str:
    if needed.when == NOW:
        return f"{needed.name}: would run first"
    return f"{needed.name}: done {_time(needed.when)}{', which is newer' if needed.newer else ''}"


def _value(value: Any) -> str:
    return "nothing" if value is MISSING else format_value(value)


def _time(when: int) -> str:
    if when == NEVER:
        return "never"
    return dt.datetime.fromtimestamp(when / 1e9).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006


def explanation_to_dict(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation as JSON values."""
    changes = explanation.changes
    return {
        "name": explanation.name,
        "would_run": bool(explanation.reason),
        "reason": explanation.reason,
        "targets": {"would_run": explanation.stale, "all": explanation.total},
        "done_ns": None if explanation.when == NEVER else explanation.when,
        "tries": explanation.attempts,
        "exit_code": explanation.exit_code,
        "signal": explanation.signal,
        "running": explanation.is_running,
        "changes": None if changes is None else {k: _pair(*pair) for k, pair in changes.items()},
        "needs": [
            {"name": needed.name, "newer": needed.newer, "would_run": needed.when == NOW}
            for needed in explanation.needs
        ],
        "reads": None if explanation.config_keys is None else list(explanation.config_keys),
        "waiting": list(explanation.waiting),
    }


def _pair(old: Any, new: Any) -> dict[str, Any]:
    values = {"old": old, "new": new}
    return {side: value for side, value in values.items() if value is not MISSING}
