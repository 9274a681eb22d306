"""Explain why a target is stale or up to date, what changed, and which stages depend on it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.code.fingerprint import changes as code_differences
from rvrun.data import fingerprint as data
from rvrun.errors import RvrunError, check_known
from rvrun.inputs import CannotRead, parse_integer, read_object
from rvrun.model import CodeMode, NeedKind, Plan, PlannedPipeline, Stage, Target
from rvrun.patterns import is_per_item, output_path
from rvrun.pipelines.config_keys import changed_keys, look_up, narrow, part_of
from rvrun.rundir.accepted import last_accepted
from rvrun.rundir.attempts import Attempt, read_attempt
from rvrun.rundir.exits import describe_exit
from rvrun.rundir.files import version_at
from rvrun.rundir.fingerprints import read_text
from rvrun.rundir.freshness import (
    AFTER,
    CONFIG_CHANGED,
    INPUT_CHANGED,
    NOT_DONE,
    StageStatus,
    Statuses,
    need_time,
)
from rvrun.rundir.history import Session, read_sessions, was_stopped
from rvrun.rundir.times import NEVER
from rvrun.text import local_time, name_some

ITEMS_ARE_NEW = "items declared since it was done, so which of them are done is unknown"
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
class ItemsToRun:
    """The items of a target, or of a stage.

    - `total`: how many there are. `labels`: those of the items that would run.
    """

    total: int
    labels: tuple[str, ...]


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
    - `code_time`: when its code changed; NEVER if that is unknown, None if nobody looks.
    - `code_changes`: the ways to the definitions that changed since it was done.
    - `input_changes`: the input files that changed since it was done.
    - `inputs`, `outputs`: the files that it declares; the paths of outputs of that split, if it is
      one.
    - `is_code_ignored`: whether such changes make nothing stale.
    - `accepted`: what someone declared not to matter, the last time.
    - `items`: its items; None if the stage declares none.
    - `attempt`: its last attempt; None if there was none, and for a split stage as a whole.
    - `peak_memory_kib`: of its largest target; None if none was recorded. `shared_memory_kib`: of
      that target; see `Attempt`.
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
    code_time: int | None = None
    code_changes: tuple[str, ...] = ()
    input_changes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    is_code_ignored: bool = False
    accepted: Mapping[str, Any] | None = None
    items: ItemsToRun | None = None
    attempt: Attempt | None = None
    peak_memory_kib: int | None = None
    shared_memory_kib: int | None = None


def explain(
    plan: Plan,
    run_dir: pathlib.Path,
    statuses: Sequence[StageStatus],
    target: str,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    files: Mapping[str, str] | None = None,
) -> Explanation:
    """Explain `target`: `tiny/train`, `tiny/predict` (all its splits) or `tiny/predict/3`.

    - `configs`: the values that pipelines would run with, by name; None for those saved in
      `run_dir`.
    - `files`: the fingerprints that would be written, by path; None for those in `run_dir`.

    Raises `UnknownName` or `UnknownTarget`.
    """
    pipeline, stage, split_ind = find_target(plan, target)
    by_command = {s.stage.command: s for s in statuses if s.pipeline == pipeline.name}
    status = by_command[stage.command]
    unit = status.typical(split_ind)
    when = status.when(unit)
    is_stale = bool(status.stale) if split_ind is None else split_ind in status.stale
    changed = status.changed
    needs = _needed(status, unit, by_command)
    reason = _why(run_dir, status, split_ind, by_command, needs) if is_stale else ""
    is_whole_stage = split_ind is None and stage.num_splits is not None
    indices = range(stage.num_targets) if is_whole_stage else (split_ind or 0,)
    attempts = [_read_attempt(run_dir, stage.target(pipeline.name, i)) for i in indices]
    memory, shared_memory = _largest_memory(attempts)
    config = None if configs is None else configs.get(pipeline.name)
    return Explanation(
        name=target,
        reason=reason,
        stale=len(status.stale) if split_ind is None else int(is_stale),
        total=stage.num_targets if split_ind is None else 1,
        when=when,
        needs=needs,
        waiting=_dependents(pipeline, stage.command),
        config_keys=stage.config_keys,
        config_time=changed[CONFIG_CHANGED],
        code_time=None if stage.code is CodeMode.OFF else status.code,
        code_changes=tuple(code_changes(run_dir, status, when, files)),
        input_changes=tuple(input_changes(run_dir, status, split_ind, files)),
        inputs=stage.declared_inputs,
        outputs=_outputs(stage, split_ind),
        is_code_ignored=stage.code is CodeMode.WARN,
        accepted=last_accepted(run_dir, pipeline.name, stage.command),
        changes=config_changes(run_dir, status, when, config) if reason == CONFIG_CHANGED else {},
        items=_items_of(status, split_ind),
        attempt=None if is_whole_stage else attempts[0],
        peak_memory_kib=memory,
        shared_memory_kib=shared_memory,
    )


def _why(
    run_dir: pathlib.Path,
    status: StageStatus,
    split_ind: int | None,
    statuses: Statuses,
    needs: Sequence[Needed],
) -> str:
    """Return why a stale target, or a stage with one, is stale."""
    reason = status.why_stale(status.typical(split_ind), statuses)
    if reason == NOT_DONE:
        return why_not_done(run_dir, status, None if split_ind is None else [split_ind])
    if reason.startswith(AFTER):
        # Names the split of an aligned need, which is not the same for all targets of a stage.
        return f"{AFTER}{next(n.name for n in needs if n.newer).partition('/')[2]}"
    return reason


def _outputs(stage: Stage, split_ind: int | None) -> tuple[str, ...]:
    if split_ind is None:
        return stage.outputs
    return tuple(
        output if is_per_item(output) else output_path(output, split_ind, stage.num_splits)
        for output in stage.outputs
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


def _needed(status: StageStatus, unit: int | None, statuses: Statuses) -> tuple[Needed, ...]:
    needed = []
    split = unit
    if status.items is not None and unit is not None:
        split = next(index for index, part in enumerate(status.items.shares) if unit in part)
    for need in status.stage.needs:
        name = statuses[need.command].name
        when = need_time(need, unit, statuses)
        is_one = need.kind is NeedKind.ALIGNED and split is not None
        needed.append(
            Needed(
                name=f"{name}/{split}" if is_one else name,
                when=when,
                newer=when > status.when(unit),
            )
        )
    return tuple(needed)


def _items_of(status: StageStatus, split_ind: int | None) -> ItemsToRun | None:
    items = status.items
    if items is None:
        return None
    return ItemsToRun(total=len(items.share(split_ind)), labels=items.labels(split_ind))


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


def _read_attempt(run_dir: pathlib.Path, target: Target) -> Attempt | None:
    return read_attempt(str(run_dir / paths.record(target.path)))


def _largest_memory(attempts: Sequence[Attempt | None]) -> tuple[int | None, int | None]:
    """Return the highest peak memory of attempts, and the shared memory of the same one."""
    pairs = [(a.peak_memory_kib, a.shared_memory_kib) for a in attempts if a and a.peak_memory_kib]
    return max(pairs, key=lambda pair: pair[0] or 0, default=(None, None))


def why_not_done(
    run_dir: pathlib.Path, status: StageStatus, indices: Sequence[int] | None = None
) -> str:
    """Return why stale targets without a stamp have none, as far as the run directory shows.

    - `indices`: the targets to look at; None for all that are stale.
    """
    if failures := _failures(run_dir, status, indices):
        return _describe_failures(failures, read_sessions(run_dir))
    stage = status.stage
    if status.items is not None:
        return _why_items_are_not_done(run_dir, status, indices)
    if stage.num_splits is None:
        return NOT_DONE
    folders = _stamp_folders(run_dir, status)
    counts = sorted({name.partition("-")[0] for name in folders}, key=int)
    if counts and str(stage.num_splits) not in counts:
        return f"splits changed: {', '.join(counts)} → {stage.num_splits}"
    # Its folder would be found if it had stamps without items.
    return "was done by item, now by split" if counts and counts[0] not in folders else NOT_DONE


def _stamp_folders(run_dir: pathlib.Path, status: StageStatus) -> set[str]:
    """Return `4` or, with items, `4-DIGEST` for each folder with stamps of a stage's splits."""
    pattern = f"{status.stage.command}.*/"
    names = (path.suffix[1:] for path in (run_dir / paths.DONE / status.pipeline).glob(pattern))
    return {name for name in names if name.partition("-")[0].isdigit()}


def _why_items_are_not_done(
    run_dir: pathlib.Path, status: StageStatus, indices: Sequence[int] | None
) -> str:
    assert status.items is not None
    is_one = indices is not None and len(indices) == 1
    labels = status.items.labels(indices[0] if indices and is_one else None, never_done=True)
    if max(status.items.done, default=NEVER) > NEVER:
        return f"not done: {name_some(labels)}"
    done = run_dir / paths.DONE / status.pipeline
    is_new = any("-" not in path.name for path in done.glob(f"{status.stage.command}.[0-9]*/"))
    return ITEMS_ARE_NEW if is_new else NOT_DONE


def _failures(
    run_dir: pathlib.Path, status: StageStatus, indices: Sequence[int] | None
) -> list[tuple[Target, Attempt]]:
    """The targets whose last attempts were not successful, with these."""
    stale = status.stale if indices is None else indices
    targets = [status.stage.target(status.pipeline, index) for index in stale]
    attempts = ((target, _read_attempt(run_dir, target)) for target in targets)
    return [(target, a) for target, a in attempts if a and not a.has_succeeded]


def _describe_failures(
    failures: Sequence[tuple[Target, Attempt]], sessions: Sequence[Session]
) -> str:
    """Return `failed 2026-01-02 03:04:05 (exit 1)`, or `stopped` and when the run was interrupted.

    Of several, the first one that was not stopped.
    """
    target, first = min(failures, key=lambda failure: was_stopped(failure[1], sessions))
    if first.has_process:
        text = f"running since {local_time(first.began)}"
    elif was_stopped(first, sessions):
        text = f"stopped {local_time(first.ended or first.began)}, when the run was interrupted"
    else:
        text = f"failed {local_time(first.ended or first.began)} ({describe_end(first)})"
    if target.split_ind is not None:
        text = f"split {target.split_ind} {text}"
    return text + (f", {len(failures) - 1:,} more" if len(failures) > 1 else "")


def describe_end(attempt: Attempt) -> str:
    """Return how an attempt ended: `exit 1`, or that it was killed or still runs."""
    if attempt.has_process:
        return "it is running"
    return describe_exit(attempt.exit_code, attempt.signal)


def config_changes(
    run_dir: pathlib.Path,
    status: StageStatus,
    when: int,
    config: Mapping[str, Any] | None = None,
) -> Changes | None:
    """Return which config keys of a stage changed since `when`; None if that is unknown.

    - `config`: the values that it would run with; None for those saved in the run directory.
    """
    version = version_at(run_dir, paths.config(status.pipeline), when)
    old = None if version is None else read_values(version)
    if config is None:
        config = read_values(run_dir / paths.config(status.pipeline))
    if old is None or config is None:
        return None
    new = dict(config)
    keys = status.stage.config_keys
    if status.stage.items is not None:
        field = status.stage.items.field
        old, new = (dict(part_of(values, None, field)) for values in (old, new))
    changes = changed_keys(old, new) if keys is None else _changed_parts(old, new, keys)
    return changes or None


def code_changes(
    run_dir: pathlib.Path, status: StageStatus, when: int, files: Mapping[str, str] | None = None
) -> list[str]:
    """Return the ways to the definitions that changed since `when`, if that is known.

    - `files`: the fingerprints that would be written, by path; None for those in `run_dir`.
    """
    path = status.stage.code_file(status.pipeline)
    if path is None or not NEVER < when < status.code:
        return []
    version = version_at(run_dir, path, when)
    new = read_text(run_dir, path) if files is None else files.get(path)
    if version is None or new is None:
        return []
    return code_differences(version.read_text(encoding="utf-8", errors="replace"), new)


def input_changes(
    run_dir: pathlib.Path,
    status: StageStatus,
    split_ind: int | None = None,
    files: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the inputs that changed since a split or a stage was done, if that is known.

    - `files`: the fingerprints that would be written, by path; None for those in `run_dir`.
    """
    when = status.when(status.typical(split_ind))
    return [
        *_stage_input_changes(run_dir, status, when, files),
        *_item_input_changes(status, split_ind),
    ]


def _item_input_changes(status: StageStatus, split_ind: int | None) -> list[str]:
    """Return what changed of the files that single items read."""
    items = status.items
    if items is None or items.inputs is None:
        return []
    changes: dict[str, None] = {}
    for position in items.share(split_ind):
        done = items.done[position]
        if NEVER < done < items.inputs.times[position]:
            old, new = items.inputs.recorded[position], items.inputs.texts[position]
            changes |= dict.fromkeys(data.changes(old, new) if old else _newer(new, done))
    return list(changes)


def _stage_input_changes(
    run_dir: pathlib.Path, status: StageStatus, when: int, files: Mapping[str, str] | None
) -> list[str]:
    path = status.stage.inputs_file(status.pipeline)
    if path is None or not NEVER < when < status.changed.get(INPUT_CHANGED, NEVER):
        return []
    version = version_at(run_dir, path, when)
    new = read_text(run_dir, path) if files is None else files.get(path)
    if new is None:
        return []
    if version is not None:
        old = version.read_text(encoding="utf-8", errors="replace")
        # A file that changed and changed back differs only from what was written in between.
        return data.changes(old, new) or data.changes(read_text(run_dir, path) or old, new)
    # Before the first fingerprint, only the times of the files are known.
    return _newer(new, when)


def _newer(text: str, when: int) -> list[str]:
    newer = (name for name in data.paths_of(text) if _is_newer(name, when))
    return [*(f"{name} (missing)" for name in data.missing(text)), *newer]


def _is_newer(path: str, when: int) -> bool:
    try:
        return os.stat(path).st_mtime_ns > when
    except OSError:
        return False


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
