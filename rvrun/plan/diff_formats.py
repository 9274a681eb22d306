"""Print the differences between two plans: for people, programs, pull requests, GitHub Actions."""

from __future__ import annotations

import json
from typing import Any

from rvrun.pipelines.config_keys import MISSING, words_of_items, words_of_key
from rvrun.plan.diff import Change, ChangeKind, PlanDiff, Rerun, collapse
from rvrun.plan.diff_items import ADDED, REMOVED
from rvrun.text import count, name_some

SIGNS = {ChangeKind.ADDED: "+", ChangeKind.REMOVED: "-", ChangeKind.CHANGED: "~"}


def to_text(diff: PlanDiff) -> str:
    """Format for people: a line per change, then the stages that would run again.

    Empty if the plans are equal.
    """
    if diff.same:
        return ""
    changes = collapse(diff.changes)
    width = max(len(change.name) for change in changes)
    lines = [
        f"{SIGNS[change.kind]} {change.name:{width}}  {_change_text(change)}".rstrip()
        for change in changes
    ]
    if diff.reruns:
        width = max(len(rerun.name) for rerun in diff.reruns)
        lines.append("would run again:")
        lines += [f"  {rerun.name:{width}}  {_rerun_text(rerun)}" for rerun in diff.reruns]
    return "\n".join(lines) + "\n"


def to_json(diff: PlanDiff) -> str:
    """Format for programs, as an object with `same`, `changes` and `runs_again`."""
    document = {
        "same": diff.same,
        "changes": [_change_to_dict(change) for change in diff.changes],
        "runs_again": [
            {"name": rerun.name, "targets": rerun.num_targets, "reason": rerun.reason}
            for rerun in diff.reruns
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _change_to_dict(change: Change) -> dict[str, Any]:
    values: dict[str, Any] = {
        "kind": change.kind.value,
        "name": change.name,
        "what": change.detail,
    }
    if change.kind is ChangeKind.CHANGED:
        sides = {"old": change.old, "new": change.new}
        # Not null for a missing key: null may be its value.
        values |= {side: value for side, value in sides.items() if value is not MISSING}
    return values


def to_markdown(diff: PlanDiff) -> str:
    """Format as Markdown tables, for a comment on a pull request."""
    if diff.same:
        return "**rvrun plan**: no changes\n"
    head = f"**rvrun plan**: {count(len(diff.changes), 'change')}"
    if diff.reruns:
        targets = count(sum(rerun.num_targets for rerun in diff.reruns), "target")
        head += f", {count(len(diff.reruns), 'stage')} ({targets}) would run again"
    lines = [head, "", "| | where | what |", "| --- | --- | --- |"]
    lines += [
        f"| {SIGNS[change.kind]} | `{change.name}` | {_markdown_cell(_change_text(change))} |"
        for change in collapse(diff.changes)
    ]
    if diff.reruns:
        lines += ["", "| would run again | why |", "| --- | --- |"]
        lines += [
            f"| `{rerun.name}` | {_markdown_cell(_rerun_text(rerun))} |" for rerun in diff.reruns
        ]
    return "\n".join(lines) + "\n"


def _markdown_cell(text: str) -> str:
    """Escape what would end the cell or be read as markup."""
    for special in "\\`*_|<>[]":
        text = text.replace(special, f"\\{special}")
    return text.replace("\n", " ")


def to_github(diff: PlanDiff) -> str:
    """Format as annotations of GitHub Actions: a notice per change, a warning per rerun."""
    notices = [
        f"{SIGNS[change.kind]} {change.name}  {_change_text(change)}".rstrip()
        for change in collapse(diff.changes)
    ]
    warnings = [f"{rerun.name}: {_rerun_text(rerun)}" for rerun in diff.reruns]
    lines = [f"::notice title=plan changed::{command_data(text)}\n" for text in notices]
    lines += [f"::warning title=would run again::{command_data(text)}\n" for text in warnings]
    return "".join(lines)


def command_data(text: str) -> str:
    """Escape a message of a workflow command (GitHub's actions/toolkit, `escapeData`)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _change_text(change: Change) -> str:
    if change.kind is not ChangeKind.CHANGED or change.detail.startswith("code changed: "):
        return change.detail
    if change.detail in (ADDED, REMOVED):
        return f"{change.detail}: {name_some(change.new or change.old)}"
    kind, separator, key = change.detail.partition(": ")
    detail = f"{kind}{separator}{words_of_key(key)}"
    if change.old is MISSING:
        return f"{detail} added: {format_value(change.new)}"
    if change.new is MISSING:
        return f"{detail} removed: {format_value(change.old)}"
    if key and (items := words_of_items(change.old, change.new)):
        return f"{detail}: {items}"
    return f"{detail} {format_value(change.old)} → {format_value(change.new)}"


def _rerun_text(rerun: Rerun) -> str:
    targets = f"{count(rerun.num_targets, 'target')}, " if rerun.num_targets > 1 else ""
    return f"{targets}{rerun.reason}"


def format_value(value: Any) -> str:
    """Format a JSON value: strings without quotes, lists of strings with commas, others as JSON.

    Strings with line breaks are JSON, too: a change is one line. So is what cannot be seen.
    """
    if isinstance(value, str) and value and value.isprintable():
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ", ".join(map(format_value, value)) or "none"
    return json.dumps(value, ensure_ascii=False)
