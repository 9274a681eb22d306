"""The table of stages, with what would run of each and why."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rvrun.cli.tables import Column, print_table
from rvrun.code.fingerprint import name_changes
from rvrun.model import NeedKind, Stage
from rvrun.pipelines.config_keys import words_of_items, words_of_key
from rvrun.prepare import Prepared
from rvrun.rundir.freshness import (
    CODE_CHANGED,
    CONFIG_CHANGED,
    INPUT_CHANGED,
    NOT_DONE,
    StageStatus,
)
from rvrun.text import count

if TYPE_CHECKING:
    from rvrun.rundir.explain import Changes

COLUMNS = (
    Column("stage"),
    Column("splits", is_right=True),
    Column("needs", wraps=True, rank=1),
    Column("on", rank=2),
    Column("would run"),
    Column("why"),
)
#: How many changed keys are named in one line.
NUM_KEYS = 3
#: The reason with `--always-make`.
FORCED = "forced by -B"
#: The reason with `--force STAGE`.
FORCED_STAGE = "forced by --force"


def print_plan(prepared: Prepared, statuses: Sequence[StageStatus] | None = None) -> None:
    """Print what each stage needs, what would run of it and why, and the number of targets.

    - `statuses`: those of `prepared`, if they were found already.
    """
    statuses = prepared.statuses() if statuses is None else statuses
    reasons = find_reasons(prepared, statuses)
    print_table(COLUMNS, [_row(status, reasons[status.name]) for status in statuses])
    stale = sum(len(status.stale) for status in statuses)
    summary = f"{stale:,} would run" if stale else "all up to date"
    print(f"{prepared.run.plan.title}; {summary}")


def _row(status: StageStatus, reason: str) -> tuple[str, ...]:
    stage = status.stage
    splits = "" if stage.num_splits is None else f"{stage.num_splits:,}"
    device = "gpu" if stage.gpu else "cpu"
    return status.name, splits, _needs(stage), device, _work(status), reason


def _needs(stage: Stage) -> str:
    return ", ".join(
        need.command + (" (aligned)" if need.kind is NeedKind.ALIGNED else "")
        for need in stage.needs
    )


def _work(status: StageStatus) -> str:
    if not status.stale:
        return "up to date"
    if status.stage.num_splits is None:
        return "run"
    if status.items is not None:
        return f"{len(status.items.stale):,} of {count(len(status.items.list), 'item')}"
    return f"{len(status.stale):,} of {status.stage.num_splits:,}"


def find_reasons(prepared: Prepared, statuses: Sequence[StageStatus]) -> dict[str, str]:
    """Return why each stage would run, with changed config keys and failures, by stage name."""
    configs = {pipeline.name: pipeline.document["config"] for pipeline in prepared.run.pipelines}
    return {
        status.name: FORCED_STAGE
        if status.name in prepared.run.forced
        else _reason(prepared, status, configs[status.pipeline])
        for status in statuses
    }


def _reason(prepared: Prepared, status: StageStatus, config: Mapping[str, Any]) -> str:
    from rvrun.rundir import explain

    run_dir = prepared.run.run_dir
    if status.reason == NOT_DONE:
        return explain.why_not_done(run_dir, status)
    if status.reason and prepared.run.force:
        # Without stamps nothing is known to be done, so such a runner runs everything.
        keeps_stamps = prepared.runner.CAPABILITIES.keeps_stamps
        return FORCED if keeps_stamps else f"{prepared.runners[0]} runs everything"
    return _change(prepared, status, config)


def _change(prepared: Prepared, status: StageStatus, config: Mapping[str, Any]) -> str:
    """Return what changed since a stage was done, if that is why it would run."""
    from rvrun.rundir import explain

    run_dir = prepared.run.run_dir
    if status.reason == CONFIG_CHANGED:
        when = status.when(status.typical())
        changes = explain.config_changes(run_dir, status, when, config)
        return name_keys(status.reason, changes or {})
    if status.reason == INPUT_CHANGED:
        files = explain.input_changes(run_dir, status, files=prepared.files)
        return name_changes(status.reason, files)
    if status.reason == CODE_CHANGED or (not status.reason and status.has_ignored_code):
        when = status.when(status.typical())
        ways = explain.code_changes(run_dir, status, when, prepared.files)
        ignored = "" if status.reason else "ignored: "
        return name_changes(f"{ignored}{CODE_CHANGED}", ways)
    return status.reason


def name_keys(reason: str, changes: Changes) -> str:
    """Return `config changed: lr, tiles (1 added)`."""
    if not changes:
        return reason
    more = f" and {len(changes) - NUM_KEYS} more" if len(changes) > NUM_KEYS else ""
    first = itertools.islice(changes.items(), NUM_KEYS)
    names = [words_of_key(key) + _in_brackets(words_of_items(*pair)) for key, pair in first]
    return f"{reason}: {', '.join(names)}{more}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
