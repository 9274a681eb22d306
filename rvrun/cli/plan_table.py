"""The table of stages, with what would run of each and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rvrun.cli.tables import Column, print_table
from rvrun.model import NeedKind, Stage
from rvrun.prepare import Prepared
from rvrun.rundir.freshness import CONFIG_CHANGED, StageStatus

COLUMNS = (
    Column("stage"),
    Column("splits", is_right=True),
    *map(Column, ("needs", "on", "would run", "why")),
)
#: How many changed keys are named in one line.
NUM_KEYS = 3


def print_plan(prepared: Prepared) -> None:
    """Print what each stage needs, what would run of it and why, and the number of targets."""
    statuses = prepared.statuses()
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
    return f"{len(status.stale):,} of {status.stage.num_splits:,}"


def find_reasons(prepared: Prepared, statuses: Sequence[StageStatus]) -> dict[str, str]:
    """Return why each stage would run, with the config keys that changed, by stage name."""
    configs = {pipeline.name: pipeline.document["config"] for pipeline in prepared.run.pipelines}
    reasons = {status.name: status.reason for status in statuses}
    for status in statuses:
        if status.reason == CONFIG_CHANGED:
            from rvrun.rundir.explain import config_changes

            config, first = configs[status.pipeline], status.stale[0]
            changes = config_changes(prepared.run.run_dir, status, first, config)
            reasons[status.name] = name_keys(status.reason, changes or ())
    return reasons


def name_keys(reason: str, keys: Iterable[str]) -> str:
    """Return `config changed: lr, depth`."""
    names = list(keys)
    if not names:
        return reason
    more = f" and {len(names) - NUM_KEYS} more" if len(names) > NUM_KEYS else ""
    return f"{reason}: {', '.join(names[:NUM_KEYS])}{more}"
