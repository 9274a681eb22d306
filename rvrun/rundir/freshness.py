"""What make would run in a run directory, and why: its own rules, followed without running it.

Reads the times of stamps and configs; a config that would be written anew counts as just changed.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping

import attrs

from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage, Target
from rvrun.rundir.files import is_current

#: Times are in ns since 1970; these are of a file that is not there, and of one to be written.
NEVER, NOW = -1, 1 << 63
NOT_DONE = "not done yet"
CONFIG_CHANGED = "config changed"


@attrs.frozen(kw_only=True)
class StageStatus:
    """What a stage still has to do.

    - `todo`: the indices, among its targets, of those that would run.
    - `reason`: why the first of them would; empty if none.
    - `done`: for each target when it was done, NEVER if it was not.
    - `limits`: for each target, the newest of what it depends on.
    - `config`: when the config that it depends on was changed; `whole`: when all of it was done,
      NOW where some of it will be.
    """

    pipeline: str
    stage: Stage
    todo: tuple[int, ...]
    reason: str
    done: tuple[int, ...]
    limits: tuple[int, ...]
    config: int
    whole: int

    @property
    def name(self) -> str:
        """`tiny/chip`."""
        return f"{self.pipeline}/{self.stage.command}"

    def targets(self) -> Iterator[Target]:
        """Those that would run."""
        return (self.stage.target(self.pipeline, index) for index in self.todo)


@attrs.frozen
class _Times:
    """When a stage was done, in ns: the whole of it, and each split; NOW for what will be."""

    whole: int
    splits: tuple[int, ...] = ()


def plan_status(
    plan: Plan, run_dir: pathlib.Path, files: Mapping[str, str], *, force: bool = False
) -> list[StageStatus]:
    """The status of each stage of `plan` in `run_dir`, once `files` were written there.

    With `force` all is to be done, as by `make -B`.
    """
    return [
        status
        for pipeline in plan.pipelines
        for status in _pipeline_status(pipeline, run_dir, files, force)
    ]


def _pipeline_status(
    pipeline: PlannedPipeline, run_dir: pathlib.Path, files: Mapping[str, str], force: bool
) -> list[StageStatus]:
    times: dict[str, _Times] = {}
    found = []
    for stage in pipeline.stages:
        config = stage.config_file(pipeline.name)
        changed = NOW if force else _config_time(run_dir, config, files)
        status, times[stage.command] = _stage_status(pipeline.name, stage, run_dir, changed, times)
        found.append(status)
    return found


def _stage_status(
    pipeline: str,
    stage: Stage,
    run_dir: pathlib.Path,
    config: int,
    times: Mapping[str, _Times],
) -> tuple[StageStatus, _Times]:
    stamps = _stamps(pipeline, stage, run_dir)
    done = tuple(stamps)
    limits = _limits(stage, config, times)
    pairs = enumerate(zip(done, limits, strict=True))
    todo = tuple(index for index, (then, limit) in pairs if then < limit)
    reason = _reason(stage, todo[0], stamps[todo[0]], times) if todo else ""
    for index in todo:
        stamps[index] = NOW
    own = _stage_times(pipeline, stage, run_dir, stamps)
    status = StageStatus(
        pipeline=pipeline,
        stage=stage,
        todo=todo,
        reason=reason,
        done=done,
        limits=tuple(limits),
        config=config,
        whole=own.whole,
    )
    return status, own


def _stage_times(pipeline: str, stage: Stage, run_dir: pathlib.Path, stamps: list[int]) -> _Times:
    if stage.num_splits is None:
        return _Times(stamps[0])
    join = _time(run_dir / stage.stamp(pipeline))
    whole = NOW if join == NEVER or max(stamps) > join else join
    return _Times(whole, tuple(stamps))


def _limits(stage: Stage, config: int, times: Mapping[str, _Times]) -> list[int]:
    """For each target, the newest of what it depends on: it is done if it is no older."""
    aligned = [times[n.command].splits for n in stage.needs if n.kind is NeedKind.ALIGNED]
    wholes = [times[n.command].whole for n in stage.needs if n.kind is NeedKind.ALL]
    newest = [max([config, *wholes])] * stage.num_targets
    return list(map(max, newest, *aligned)) if aligned else newest


def _reason(stage: Stage, index: int, done: int, times: Mapping[str, _Times]) -> str:
    """Why a target would run that is older than its limit."""
    if done == NEVER:
        return NOT_DONE
    for need in stage.needs:
        needed = times[need.command]
        newer = needed.splits[index] if need.kind is NeedKind.ALIGNED else needed.whole
        if newer > done:
            return f"after {need.command}"
    return CONFIG_CHANGED


def _config_time(run_dir: pathlib.Path, path: str, files: Mapping[str, str]) -> int:
    return _time(run_dir / path) if is_current(run_dir, path, files[path]) else NOW


def _stamps(pipeline: str, stage: Stage, run_dir: pathlib.Path) -> list[int]:
    """The time of each target's stamp, in the order of splits."""
    splits = stage.stamps_folder(pipeline)
    if splits is None:
        return [_time(run_dir / stage.stamp(pipeline))]
    try:
        with os.scandir(run_dir / splits) as entries:
            found = {entry.name: int(entry.stat().st_mtime_ns) for entry in entries}
    except FileNotFoundError:
        return [NEVER] * stage.num_targets
    return [found.get(str(index), NEVER) for index in range(stage.num_targets)]


def _time(path: pathlib.Path) -> int:
    """When `path` was last changed; NEVER where there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return NEVER
