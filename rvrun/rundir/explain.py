"""Explain why a target is stale or up to date, what changed, and which stages depend on it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.errors import RvrunError, check_known
from rvrun.inputs import CannotRead, parse_integer, read_object
from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.pipelines.config_keys import changed_keys, look_up, narrow
from rvrun.rundir import records
from rvrun.rundir.files import config_version
from rvrun.rundir.freshness import (
    CONFIG_CHANGED,
    NOT_DONE,
    ROOT_REMOVED,
    StageStatus,
    Statuses,
    need_time,
    why_stale,
)
from rvrun.rundir.target_lock import is_locked

#: The old and the new value of each changed config key.
Changes = Mapping[str, tuple[Any, Any]]


class UnknownTarget(RvrunError):
    """A name that is not the name of a target in the plan."""

    name: str
    problem: str
    template = "unknown target `{name}`: {problem}"


@attrs.frozen(kw_only=True)
class Needed:
    """A stage or split that a target needs.

    - `when`: when it was done, in ns since 1970; NOW if it would run first.
    - `newer`: whether that makes the target stale.
    """

    name: str
    when: int
    newer: bool


@attrs.frozen(kw_only=True)
class Explanation:
    """Why a target, or a stage as a whole, is stale or up to date.

    - `reason`: why it is stale; empty if it is up to date.
    - `stale`, `total`: how many of its targets are stale, and how many it has.
    - `when`: when it was done, in ns since 1970; NEVER if it was not. For a split stage, when its
      first stale target was done, or else its oldest one.
    - `waiting`: the stages that depend on it, directly or through others.
    - `config_keys`: the config keys that it depends on; None for the whole config.
    - `config_time`: when these changed, in ns since 1970.
    - `changes`: the keys that changed since it was done; None if that is unknown.
    - `attempts`: how often it was started; None for a split stage as a whole.
    - `exit_code`: that of the last attempt; None if it recorded none.
    - `signal`: the number of the signal that killed the last attempt; None if that is unknown.
    - `is_running`: whether a process runs it now.
    """

    name: str
    reason: str
    stale: int
    total: int
    when: int
    needs: tuple[Needed, ...]
    waiting: tuple[str, ...]
    config_keys: tuple[str, ...] | None
    config_time: int
    changes: Changes | None
    attempts: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    is_running: bool = False


def explain(
    plan: Plan, run_dir: pathlib.Path, statuses: Sequence[StageStatus], target: str
) -> Explanation:
    """Explain `target`: `tiny/train`, `tiny/predict` (all its splits) or `tiny/predict/3`.

    Raises `UnknownName` or `UnknownTarget`.
    """
    pipeline, stage, split_ind = find_target(plan, target)
    by_command = {s.stage.command: s for s in statuses if s.pipeline == pipeline.name}
    status = by_command[stage.command]
    index = _representative(status) if split_ind is None else split_ind
    is_stale = index in status.stale
    done = status.done[index]
    reason = why_stale(stage, index, done, by_command, lost=status.lost) if is_stale else ""
    needs = _needed(status, index, by_command)
    if reason not in ("", NOT_DONE, CONFIG_CHANGED, ROOT_REMOVED):
        # Names the split of an aligned need, which is not the same for all targets of a stage.
        reason = f"after {next(n.name for n in needs if n.newer).partition('/')[2]}"
    is_whole_stage = split_ind is None and stage.num_splits is not None
    attempts = {} if is_whole_stage else _attempts(run_dir, status, index)
    return Explanation(
        name=target,
        reason=reason,
        stale=len(status.stale) if split_ind is None else int(is_stale),
        total=stage.num_targets if split_ind is None else 1,
        when=status.done[index],
        needs=needs,
        waiting=_dependents(pipeline, stage.command),
        config_keys=stage.config_keys,
        config_time=status.config,
        changes=config_changes(run_dir, status, index) if reason == CONFIG_CHANGED else {},
        **attempts,
    )


def find_target(plan: Plan, name: str) -> tuple[PlannedPipeline, Stage, int | None]:
    """Return the pipeline and the stage that `name` names, and the split index if it has one.

    Raises `UnknownName` or `UnknownTarget`.
    """
    pipeline_name, _, rest = name.partition("/")
    command, _, split = rest.partition("/")
    check_known("pipeline", pipeline_name, tuple(p.name for p in plan.pipelines))
    pipeline = next(p for p in plan.pipelines if p.name == pipeline_name)
    if not command:
        example = f"{name}/{pipeline.stages[0].command}"
        raise UnknownTarget(name, f"name a command too, such as {example}")
    commands = tuple(stage.command for stage in pipeline.stages)
    check_known("command", command, commands, f"pipeline `{pipeline_name}`")
    stage = pipeline.stage(command)
    if not split:
        return pipeline, stage, None
    if stage.num_splits is None:
        raise UnknownTarget(name, f"`{command}` is not split")
    index = parse_integer(split)
    if index is None or index >= stage.num_splits:
        raise UnknownTarget(name, f"`{command}` has splits 0 to {stage.num_splits - 1}")
    return pipeline, stage, index


def _representative(status: StageStatus) -> int:
    """Return the index that stands for a stage: its first stale target, or else its oldest."""
    return status.stale[0] if status.stale else status.done.index(min(status.done))


def _needed(status: StageStatus, index: int, statuses: Statuses) -> tuple[Needed, ...]:
    needed = []
    for need in status.stage.needs:
        name = statuses[need.command].name
        when = need_time(need, index, statuses)
        needed.append(
            Needed(
                name=f"{name}/{index}" if need.kind is NeedKind.ALIGNED else name,
                when=when,
                newer=when > status.done[index],
            )
        )
    return tuple(needed)


def _dependents(pipeline: PlannedPipeline, command: str) -> tuple[str, ...]:
    """Return the names of all stages that need `command`, directly or through others."""
    reached = {command}
    names = []
    # A stage comes after those that it needs, so one pass reaches all.
    for stage in pipeline.stages:
        if any(need.command in reached for need in stage.needs):
            reached.add(stage.command)
            names.append(f"{pipeline.name}/{stage.command}")
    return tuple(names)


def _attempts(run_dir: pathlib.Path, status: StageStatus, index: int) -> dict[str, Any]:
    """Return how often a target was started, and how its last attempt ended."""
    target = status.stage.target(status.pipeline, index)
    record = str(run_dir / paths.record(target.path))
    _, end = records.last_attempt(record)
    return {
        "attempts": sum(line["event"] == "start" for line in records.read_attempts(record)),
        "exit_code": end.get("exit_code") if end else None,
        "signal": end.get("signal") if end else None,
        "is_running": is_locked(record),
    }


def config_changes(
    run_dir: pathlib.Path,
    status: StageStatus,
    index: int,
    config: Mapping[str, Any] | None = None,
) -> Changes | None:
    """Return which config keys of a target changed since it was done; None if that is unknown.

    - `config`: the values that it would run with; None for those saved in the run directory.
    """
    version = config_version(run_dir, status.pipeline, status.done[index])
    old = None if version is None else read_values(version)
    if config is None:
        config = read_values(run_dir / paths.config(status.pipeline))
    if old is None or config is None:
        return None
    new = dict(config)
    keys = status.stage.config_keys
    changes = changed_keys(old, new) if keys is None else _changed_parts(old, new, keys)
    return changes or None


def _changed_parts(old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]) -> Changes:
    """Return the changes of the parts that `keys` select, by their full dotted keys."""
    changes: dict[str, tuple[Any, Any]] = {}
    for key in narrow(new, keys):
        before, after = ({key: look_up(values, key)} for values in (old, new))
        changes.update(changed_keys(before, after))
    return changes


def read_values(path: pathlib.Path) -> Mapping[str, Any] | None:
    """Read the config values of a saved config; None if it is missing or is not a saved config."""
    try:
        values = read_object(str(path)).get("config")
    except CannotRead:
        return None
    return values if isinstance(values, dict) else None
