"""An explanation of `rvrun explain`, as text and as JSON."""

from __future__ import annotations

from typing import Any

from rvrun.cli.plan_table import name_keys
from rvrun.code.fingerprint import name_changes
from rvrun.pipelines.config_keys import MISSING, words_of_items, words_of_key
from rvrun.plan.diff_formats import format_value
from rvrun.rundir.accepted import describe_accepted
from rvrun.rundir.attempts import Attempt
from rvrun.rundir.explain import (
    Explanation,
    ItemsToRun,
    Needed,
    describe_end,
)
from rvrun.rundir.freshness import CODE_CHANGED, INPUT_CHANGED
from rvrun.rundir.times import NEVER, NOW
from rvrun.text import duration, local_time, memory, name_some


def print_explanation(explanation: Explanation, source: str) -> None:
    """Print whether the target would run and why, and then a fact per line.

    - `source`: where the plan comes from, in words.
    """
    name, total = explanation.name, explanation.total
    if explanation.reason:
        targets = f" ({explanation.stale:,} of {total:,} targets)" if total > 1 else ""
        reason = name_keys(explanation.reason, explanation.changes or {})
        if explanation.reason == CODE_CHANGED:
            reason = name_changes(explanation.reason, list(explanation.code_changes))
        if explanation.reason == INPUT_CHANGED:
            reason = name_changes(explanation.reason, list(explanation.input_changes))
        print(f"{name} would run{targets}: {reason}")
    else:
        print(f"{name} is up to date")
    for label, fact in (*_facts(explanation), ("plan", source)):
        print(f"  {label:9}  {fact}")


def _facts(explanation: Explanation) -> list[tuple[str, str]]:
    facts = [("done", _time(explanation.when))]
    if explanation.attempt is not None:
        facts.append(("last run", _attempt(explanation.attempt)))
    if explanation.peak_memory_kib is not None:
        facts.append(("memory", _memory(explanation)))
    for key, (old, new) in (explanation.changes or {}).items():
        values = words_of_items(old, new) or f"{_value(old)} → {_value(new)}"
        facts.append(("changed", f"{words_of_key(key)}: {values}"))
    if explanation.changes is None:
        facts.append(("changed", "unknown: the config from that time was not kept"))
    if explanation.items is not None:
        facts.append(("items", _items(explanation.items)))
    facts += [("changed", f"code: {way}") for way in explanation.code_changes]
    facts += [("changed", f"input: {file}") for file in explanation.input_changes]
    facts += [("needs", _needed(needed)) for needed in explanation.needs]
    keys = explanation.config_keys
    part = "the whole config" if keys is None else format_value(keys)
    when = explanation.config_time
    changed = "would change" if when == NOW else f"changed {_time(when)}"
    facts.append(("reads", f"{part} ({changed})"))
    if explanation.inputs:
        facts.append(("inputs", ", ".join(explanation.inputs)))
    if explanation.outputs:
        facts.append(("outputs", ", ".join(explanation.outputs)))
    if explanation.code_time is not None:
        facts.append(("code", _code(explanation)))
    if explanation.accepted is not None:
        facts.append(("accepted", describe_accepted(explanation.accepted)))
    facts.append(("needed by", ", ".join(explanation.waiting) or "nothing"))
    return facts


def _items(items: ItemsToRun) -> str:
    """Return `2 of 9 would run: boulder, denver`."""
    if not items.labels:
        return f"{items.total:,}, all up to date" if items.total else "none"
    return f"{len(items.labels):,} of {items.total:,} would run: {name_some(items.labels)}"


def _code(explanation: Explanation) -> str:
    when = explanation.code_time
    ignored = "; changes are ignored" if explanation.is_code_ignored else ""
    if when == NEVER:
        return f"unknown: there is no fingerprint of it yet{ignored}"
    changed = "would change" if when == NOW else f"changed {_time(when or 0)}"
    return f"{changed}{ignored}"


def _attempt(attempt: Attempt) -> str:
    """Return `exit 0 after 2.1 s (attempt 3)`."""
    number = f" (attempt {attempt.number})" if attempt.number > 1 else ""
    after = "" if attempt.ended is None else f" after {duration(attempt.ended - attempt.began)}"
    return f"{describe_end(attempt)}{after}{number}"


def _memory(explanation: Explanation) -> str:
    """Return `412 MiB at its peak, 390 MiB of them shared`."""
    peak, shared = explanation.peak_memory_kib or 0, explanation.shared_memory_kib
    of_them = f", {memory(min(shared, peak))} of them shared" if shared else ""
    return f"{memory(peak)} at its peak{of_them}"


def _needed(needed: Needed) -> str:
    if needed.when == NOW:
        return f"{needed.name}: would run first"
    return f"{needed.name}: done {_time(needed.when)}{', which is newer' if needed.newer else ''}"


def _value(value: Any) -> str:
    return "nothing" if value is MISSING else format_value(value)


def _time(when: int) -> str:
    if when == NEVER:
        return "never"
    return local_time(when / 1e9)


def explanation_to_dict(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation as JSON values."""
    changes, attempt = explanation.changes, explanation.attempt
    return {
        "name": explanation.name,
        "would_run": bool(explanation.reason),
        "reason": explanation.reason,
        "targets": {"would_run": explanation.stale, "all": explanation.total},
        "done_ns": None if explanation.when == NEVER else explanation.when,
        "tries": attempt and attempt.number,
        "exit_code": attempt and attempt.exit_code,
        "signal": attempt and attempt.signal,
        "running": bool(attempt and attempt.has_process),
        "peak_memory_kib": explanation.peak_memory_kib,
        "shared_memory_kib": explanation.shared_memory_kib,
        "code_changes": list(explanation.code_changes),
        "input_changes": list(explanation.input_changes),
        "inputs": list(explanation.inputs),
        "outputs": list(explanation.outputs),
        "accepted": explanation.accepted,
        "items": explanation.items
        and {"would_run": list(explanation.items.labels), "all": explanation.items.total},
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
