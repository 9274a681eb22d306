"""Why a target would run or is up to date: what it waits for, what changed, what waits for it."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.errors import RvrunError, check_known
from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.pipelines.config_keys import changed_keys, look_up, narrow
from rvrun.rundir import files as rundir
from rvrun.rundir import records as record
from rvrun.rundir.freshness import CONFIG_CHANGED, NEVER, NOT_DONE, NOW, StageStatus

Changes = Mapping[str, tuple[Any, Any]]


class NoTarget(RvrunError):
    """A name that is no target of a plan."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"no target `{self.name}`: {self.problem}"


@attrs.frozen(kw_only=True)
class Needed:
    """What a target needs: `name` of a stage or split; `when` it was done; whether it is newer."""

    name: str
    when: int
    newer: bool


@attrs.frozen(kw_only=True)
class Explanation:
    """Why the target (or stage) `name` would run, or why not.

    - `reason`: empty where it is up to date. `todo` of `total` targets would run.
    - `when`: when it was done, in ns since 1970 (NEVER, or the oldest split's).
    - `config_keys`: what it depends on, None for the whole config; `changes`: what of it is
      another than it was when it was done, None where that is not known.
    - `tries`: how often it was started; `exit_code`: how the last of these ended, if it did.
    """

    name: str
    reason: str
    todo: int
    total: int
    when: int
    needs: tuple[Needed, ...]
    waiting: tuple[str, ...]
    config_keys: tuple[str, ...] | None
    config_time: int
    changes: Changes | None
    tries: int | None = None
    exit_code: int | None = None


def explain(
    plan: Plan, run_dir: pathlib.Path, statuses: Sequence[StageStatus], target: str
) -> Explanation:
    """Explain `target`: `tiny/train`, `tiny/predict` (all its splits) or `tiny/predict/3`.

    Raises `UnknownName` or `NoTarget`.
    """
    pipeline, stage, index = find_target(plan, target)
    by_name = {status.name: status for status in statuses}
    status = by_name[f"{pipeline.name}/{stage.command}"]
    shown = _first(status) if index is None else index
    reason = _reason(status, pipeline, by_name, shown)
    tries, code = (None, None)
    if index is not None or stage.num_splits is None:
        tries, code = _tries(run_dir, status, shown)
    return Explanation(
        name=target,
        reason=reason,
        todo=len(status.todo) if index is None else int(bool(reason)),
        total=stage.num_targets if index is None else 1,
        when=status.done[shown],
        needs=tuple(_needed(by_name, pipeline, status, shown)),
        waiting=_waiting(pipeline, stage.command),
        config_keys=stage.config_keys,
        config_time=status.config,
        changes=config_changes(run_dir, status, shown) if reason == CONFIG_CHANGED else {},
        tries=tries,
        exit_code=code,
    )


def find_target(plan: Plan, name: str) -> tuple[PlannedPipeline, Stage, int | None]:
    """The pipeline and stage that `name` names, and the split's index if it has one."""
    pipeline_name, _, rest = name.partition("/")
    command, _, split = rest.partition("/")
    check_known("pipeline", pipeline_name, tuple(p.name for p in plan.pipelines))
    pipeline = next(p for p in plan.pipelines if p.name == pipeline_name)
    if not command:
        raise NoTarget(name, f"name a command too, such as {name}/{pipeline.stages[0].command}")
    known = tuple(stage.command for stage in pipeline.stages)
    check_known("command", command, known, f"pipeline `{pipeline_name}`")
    stage = pipeline.stage(command)
    if not split:
        return pipeline, stage, None
    if stage.num_splits is None:
        raise NoTarget(name, f"`{command}` is not split")
    if not (split.isascii() and split.isdigit() and int(split) < stage.num_splits):
        raise NoTarget(name, f"`{command}` has splits 0 to {stage.num_splits - 1}")
    return pipeline, stage, int(split)


def _first(status: StageStatus) -> int:
    """The target that stands for all of a stage: the first that would run, else the oldest."""
    return status.todo[0] if status.todo else status.done.index(min(status.done))


def _reason(
    status: StageStatus, pipeline: PlannedPipeline, by_name: Mapping[str, StageStatus], index: int
) -> str:
    if status.done[index] >= status.limits[index]:
        return ""
    if status.done[index] == NEVER:
        return NOT_DONE
    newer = [each for each in _needed(by_name, pipeline, status, index) if each.newer]
    return f"after {newer[0].name.partition('/')[2]}" if newer else CONFIG_CHANGED


def _needed(
    by_name: Mapping[str, StageStatus],
    pipeline: PlannedPipeline,
    status: StageStatus,
    index: int,
) -> list[Needed]:
    found = []
    for need in status.stage.needs:
        other = by_name[f"{pipeline.name}/{need.command}"]
        aligned = need.kind is NeedKind.ALIGNED
        runs = index in other.todo if aligned else bool(other.todo)
        when = other.done[index] if aligned else other.whole
        found.append(
            Needed(
                name=f"{other.name}/{index}" if aligned else other.name,
                when=NOW if runs else when,
                newer=runs or when > status.done[index],
            )
        )
    return found


def _waiting(pipeline: PlannedPipeline, command: str) -> tuple[str, ...]:
    """All stages that need `command`, directly or through others."""
    waiting = {command}
    for stage in pipeline.stages:
        if any(need.command in waiting for need in stage.needs):
            waiting.add(stage.command)
    return tuple(
        f"{pipeline.name}/{stage.command}"
        for stage in pipeline.stages
        if stage.command in waiting and stage.command != command
    )


def _tries(run_dir: pathlib.Path, status: StageStatus, index: int) -> tuple[int, int | None]:
    target = status.stage.target(status.pipeline, index)
    lines = list(record.read(str(run_dir / paths.record(target.path))))
    starts = [line["attempt"] for line in lines if line["event"] == "start"]
    ends = {line["attempt"]: line["exit_code"] for line in lines if line["event"] == "end"}
    return len(starts), ends.get(starts[-1]) if starts else None


def config_changes(
    run_dir: pathlib.Path,
    status: StageStatus,
    index: int,
    config: Mapping[str, Any] | None = None,
) -> Changes | None:
    """The keys that changed, of those it depends on, since a target was done; None if not known.

    `config`: the values that it would run with; those in the run directory if not given.
    """
    then = rundir.config_version(run_dir, status.pipeline, status.done[index])
    if config is None:
        config = read_values(run_dir / paths.config(status.pipeline))
    if then is None or config is None:
        return None
    old, new = json.loads(then)["config"], dict(config)
    keys = status.stage.config_keys
    changes = changed_keys(old, new) if keys is None else _narrowed(old, new, keys)
    return changes or None


def _narrowed(old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]) -> Changes:
    """As `changed_keys` of the parts, but with each key's full name."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in narrow(new, keys):
        pair = [{key: look_up(side, key)} for side in (old, new)]
        found.update(changed_keys(*pair))
    return found


def read_values(path: pathlib.Path) -> Mapping[str, Any] | None:
    """The config values in the saved config at `path`; None where there are none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return values if isinstance(values, dict) else None
