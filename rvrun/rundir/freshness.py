"""Which targets are stale, and why: make's own rules, evaluated without running make.

A target is stale if its stamp is missing, or older than one of its fingerprints (its config, its
code, its inputs) or than the stamps of what it needs, or if an output of it is missing. A
fingerprint that would be written first, and what stale targets produce, count as new. All targets
of a pipeline are stale if its root was removed.
`item_status` has the rule for splits that share out items, and `item_inputs` that for what an item
reads.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Container, Iterator, Mapping

import attrs

from rvrun import paths
from rvrun.code.fingerprint import is_comparable
from rvrun.data import fingerprint as data
from rvrun.model import CodeMode, Need, NeedKind, Plan, Stage, Target
from rvrun.rundir.files import is_current
from rvrun.rundir.fingerprints import read_text
from rvrun.rundir.item_status import ItemStatus, Rendered, find_item_status, mtime
from rvrun.rundir.outputs import lost_outputs
from rvrun.rundir.roots import check_same_roots, is_lost
from rvrun.rundir.times import NEVER, NOW

NOT_DONE = "not done yet"
CONFIG_CHANGED = "config changed"
CODE_CHANGED = "code changed"
INPUT_CHANGED = "input changed"
OUTPUT_MISSING = "output missing"
#: How the reason begins that names a stage.
AFTER = "after "
#: An item of a stage that it needs as a whole was added or removed.
ITEMS_CHANGED = "items changed"
#: Reasons that name a fingerprint of the stage itself, rather than another stage.
FINGERPRINTS = (CONFIG_CHANGED, CODE_CHANGED, INPUT_CHANGED, ITEMS_CHANGED)
ROOT_REMOVED = "root removed"


@attrs.frozen(kw_only=True)
class StageStatus:
    """Which targets of a stage are stale.

    - `stale`: the indices of the stale targets, which would run.
    - `reason`: why the first of them is stale; empty if none is.
    - `done`: for each target, when it was done; NEVER if it was not.
    - `times`: like `done`, but NOW for stale targets.
    - `joined`: the time of the stamp that stands for all splits; NEVER without one.
    - `whole`: when all targets were done; NOW if one of them would run.
    - `items`: the status of its items; None if it declares none. `done` then has the oldest item
      of each split, and `times` the newest.
    - `changed`: when each of its fingerprints changed, by the reason that it gives; NOW if it would
      be written. Only those that make it stale.
    - `code`: when its code changed, also if that makes nothing stale; NEVER if that is unknown.
    - `absent`: the declared inputs that do not exist; without them, its targets fail.
    - `lost_outputs`: the first missing output of each unit that is done and lacks one.
    - `lost`: whether the pipeline's root was removed, so that all stamps count for nothing.
    """

    pipeline: str
    stage: Stage
    stale: tuple[int, ...]
    reason: str
    done: tuple[int, ...]
    times: tuple[int, ...]
    whole: int
    joined: int
    changed: Mapping[str, int]
    code: int = NEVER
    absent: tuple[str, ...] = ()
    lost_outputs: Mapping[int, str] = attrs.field(factory=dict)
    lost: bool = False
    items: ItemStatus | None = None

    @property
    def units(self) -> tuple[int, ...]:
        """When each unit that is done by itself was done: each item, or else each target."""
        return self.done if self.items is None else self.items.done

    def typical(self, split_ind: int | None = None) -> int | None:
        """Return the unit that stands for a target, or for the stage; None if there are no items.

        That is a stale one, else the oldest.
        """
        if self.items is not None:
            return self.items.typical(split_ind)
        if split_ind is not None:
            return split_ind
        return self.stale[0] if self.stale else self.done.index(min(self.done))

    def when(self, unit: int | None) -> int:
        """Return when a unit was done; without items, when the stage was."""
        return self.whole if unit is None else self.units[unit]

    def why_stale(self, unit: int | None, statuses: Statuses) -> str:
        """Return why a unit is stale; empty if none of the stage is.

        - `statuses`: of the stages before it.
        """
        if not self.stale:
            return ""
        return why_stale(
            self.stage,
            unit,
            self.when(unit),
            statuses,
            self.changes_of(unit),
            lost=self.lost,
            lost_output=None if unit is None else self.lost_outputs.get(unit),
        )

    def inputs_time(self, unit: int | None) -> int:
        """Return when the inputs of one item changed; NEVER if it has none or they did not."""
        inputs = None if self.items is None else self.items.inputs
        return NEVER if inputs is None or unit is None else inputs.times[unit]

    def changes_of(self, unit: int | None) -> Mapping[str, int]:
        """Return `changed` with what changed for one unit only: the inputs of an item."""
        own = self.inputs_time(unit)
        if own == NEVER:
            return self.changed
        return {**self.changed, INPUT_CHANGED: max(own, self.changed.get(INPUT_CHANGED, NEVER))}

    @property
    def name(self) -> str:
        """Return the stage's name, such as `tiny/chip`."""
        return f"{self.pipeline}/{self.stage.command}"

    @property
    def num_idle(self) -> int:
        """How many stale targets have no items, so that they leave no record."""
        return 0 if self.items is None else sum(not self.items.shares[i] for i in self.stale)

    @property
    def has_unknown_code(self) -> bool:
        """Whether targets were done, but nobody knows with which code."""
        is_done = max(self.done) > NEVER
        return is_done and self.code == NEVER and self.stage.code is not CodeMode.OFF

    @property
    def has_ignored_code(self) -> bool:
        """Whether the code of a target that is up to date changed since it was done."""
        ran = [then for then in self.times if NEVER < then < NOW]
        return self.stage.code is CodeMode.WARN and bool(ran) and self.code > min(ran)

    def targets(self) -> Iterator[Target]:
        """Yield the stale targets, in the order of their splits."""
        return (self.stage.target(self.pipeline, index) for index in self.stale)


#: The stages of one pipeline by command, as far as they have a status.
Statuses = Mapping[str, StageStatus]


def plan_status(
    plan: Plan,
    run_dir: pathlib.Path,
    files: Mapping[str, str],
    *,
    force: bool = False,
    forced: Container[str] = (),
) -> list[StageStatus]:
    """Return the status of each stage of `plan`, in its order.

    - `files`: the rendered files that would be written into `run_dir` first, by path.
    - `force`: consider every target stale, as `make -B` does. `forced`: those of these stages.

    Raises `OtherRoot` if the stamps in `run_dir` are for another root.
    """
    check_same_roots(run_dir, files)
    rendered = Rendered(run_dir, files)
    statuses: list[StageStatus] = []
    for pipeline in plan.pipelines:
        earlier: dict[str, StageStatus] = {}
        lost = is_lost(files.get(paths.config(pipeline.name), ""))
        # A stage comes after those that it needs, so their statuses are complete.
        for stage in pipeline.stages:
            is_void = force or lost or f"{pipeline.name}/{stage.command}" in forced
            config = _config_time(pipeline.name, stage, run_dir, files, is_void=is_void)
            code = _code_time(pipeline.name, stage, run_dir, files, is_void=is_void)
            changed = {CONFIG_CHANGED: config}
            if stage.code is CodeMode.RERUN:
                changed[CODE_CHANGED] = code
            if (inputs := stage.inputs_file(pipeline.name)) is not None:
                changed[INPUT_CHANGED] = _input_time(inputs, run_dir, files, is_void=is_void)
            if lists := [s.changed for n in stage.needs if (s := _list_of(n, earlier))]:
                changed[ITEMS_CHANGED] = max(lists)
            status = _stage_status(
                rendered, pipeline.name, stage, changed, earlier, lost=lost, is_void=is_void
            )
            absent = _absent_inputs(pipeline.name, stage, files, status.items)
            earlier[stage.command] = attrs.evolve(status, code=code, absent=absent)
        statuses += earlier.values()
    return statuses


def _config_time(
    pipeline: str, stage: Stage, run_dir: pathlib.Path, files: Mapping[str, str], *, is_void: bool
) -> int:
    path = stage.config_file(pipeline)
    # Without its config, which someone removed, it would be written, too.
    text = files.get(path)
    is_same = text is not None and not is_void and is_current(run_dir, path, text)
    return mtime(run_dir / path) if is_same else NOW


def _code_time(
    pipeline: str, stage: Stage, run_dir: pathlib.Path, files: Mapping[str, str], *, is_void: bool
) -> int:
    """When the code of a stage changed; NEVER if it has no fingerprint that can be compared.

    Targets that are done then stay up to date: nobody knows which code they ran with, and every
    run directory of an earlier version would run again.
    """
    path = stage.code_file(pipeline)
    if path is None:
        return NEVER
    old = read_text(run_dir, path)
    if old is None or not is_comparable(old):
        return NEVER
    text = files.get(path)
    is_same = not is_void and (text is None or is_current(run_dir, path, text))
    return mtime(run_dir / path) if is_same else NOW


def _input_time(
    path: str, run_dir: pathlib.Path, files: Mapping[str, str], *, is_void: bool
) -> int:
    """Return when the inputs of a stage changed, by their fingerprint at `path`.

    Without an earlier one, nobody knows what targets that are done have read. The times of the
    files then decide, as they do for make.
    """
    old = read_text(run_dir, path)
    text = files.get(path, old)
    if is_void or text is None or data.missing(text):
        return NOW
    if old is None or not data.is_comparable(old):
        newest = data.newest(text)
        return NOW if newest is None else newest
    return mtime(run_dir / path) if data.is_same(old, text) else NOW


def _absent_inputs(
    pipeline: str, stage: Stage, files: Mapping[str, str], items: ItemStatus | None
) -> tuple[str, ...]:
    path = stage.inputs_file(pipeline)
    of_all = data.missing(files.get(path, "")) if path else []
    of_items = items.inputs.absent if items is not None and items.inputs is not None else []
    return tuple(dict.fromkeys([*of_all, *of_items]))


def _list_of(need: Need, statuses: Statuses) -> ItemStatus | None:
    """The items of a stage that is needed as a whole, so that another list makes stale."""
    return statuses[need.command].items if need.kind is NeedKind.ALL else None


def need_time(need: Need, unit: int | None, statuses: Statuses) -> int:
    """Return when the needs of a unit were done; NOW if any of them would run.

    - `unit`: None for a split without items.
    """
    status = statuses[need.command]
    if need.kind is not NeedKind.ALIGNED or unit is None:
        return status.whole
    return status.times[unit] if status.items is None else status.items.times[unit]


def why_stale(
    stage: Stage,
    unit: int | None,
    done: int,
    statuses: Statuses,
    changed: Mapping[str, int],
    *,
    lost: bool,
    lost_output: str | None = None,
) -> str:
    """Return why a stale unit, last done at `done`, is stale: the first reason of several.

    - `changed`, `lost`: as in `StageStatus`. `lost_output`: an output of it that is missing.
    """
    if done == NEVER:
        return NOT_DONE
    if lost:
        return ROOT_REMOVED
    if lost_output is not None:
        return f"{OUTPUT_MISSING}: {lost_output}"
    newer = [need for need in stage.needs if need_time(need, unit, statuses) > done]
    own = next((reason for reason, time_ns in changed.items() if time_ns > done), "")
    # A stamp that `accept` kept valid has the time of what changed: nothing ran there.
    ran = [n for n in newer if need_time(n, unit, statuses) not in _kept_times(n, statuses)]
    for need in ran or ([] if own else newer):
        return f"{AFTER}{need.command}"
    return own or CONFIG_CHANGED


def _kept_times(need: Need, statuses: Statuses) -> set[int]:
    """The times that stamps of a needed stage have if its changes were accepted."""
    return {time_ns for time_ns in statuses[need.command].changed.values() if time_ns < NOW}


def _stage_status(
    rendered: Rendered,
    pipeline: str,
    stage: Stage,
    changed: Mapping[str, int],
    statuses: Statuses,
    *,
    lost: bool,
    is_void: bool,
) -> StageStatus:
    run_dir, items, own = rendered.run_dir, None, max(changed.values())
    done = _stamp_times(pipeline, stage, run_dir)
    limits = _newest_dependencies(stage, own, statuses)
    lost_by_unit: Mapping[int, str] = {}
    if stage.items is not None:
        limit = _limit_of_items(stage, own, statuses)
        items = find_item_status(rendered, pipeline, stage, limit, done)
        lost_by_unit = items.lost_outputs
        stale = _stale_shares(stage, items, statuses, is_void=is_void)
        done, times = items.times_of_shares(limits)
    else:
        lost_by_unit = lost_outputs(stage, done)
        limits = tuple(NOW if i in lost_by_unit else limit for i, limit in enumerate(limits))
        stale = tuple(index for index in range(stage.num_targets) if done[index] < limits[index])
        times = tuple(NOW if d < limit else d for d, limit in zip(done, limits, strict=True))
    whole, joined = times[0], NEVER
    if stage.num_splits is not None:
        # A join that is missing or older than a split gets the time of the newest split.
        joined = mtime(run_dir / stage.stamp(pipeline))
        whole = max(*times, joined)
    status = StageStatus(
        pipeline=pipeline,
        stage=stage,
        stale=stale,
        reason="",
        done=done,
        times=times,
        whole=whole,
        joined=joined,
        changed=changed,
        lost_outputs=lost_by_unit,
        lost=lost,
        items=items,
    )
    return attrs.evolve(status, reason=status.why_stale(status.typical(), statuses))


def _limit_of_items(stage: Stage, own: int, statuses: Statuses) -> Callable[[int], int]:
    """Return a function that returns the time of the newest thing that an item depends on.

    - `own`: when the newest of the stage's fingerprints changed.
    """
    needed = [statuses[need.command] for need in stage.needs if need.kind is NeedKind.ALIGNED]
    whole = max([own, *(statuses[n.command].whole for n in stage.needs if n.kind is NeedKind.ALL)])
    # Aligned stages have the same items in the same order.
    aligned = [status.items.times for status in needed if status.items is not None]
    if not aligned:
        return lambda position: whole
    return lambda position: max(whole, *(times[position] for times in aligned))


def _stale_shares(
    stage: Stage, items: ItemStatus, statuses: Statuses, *, is_void: bool
) -> tuple[int, ...]:
    """Return the splits that would run: with an item that would, or without items, but after one.

    A split without items does nothing, so another config does not make it stale. But make runs it
    after what it needs.
    """
    stale = {need: frozenset(statuses[need.command].stale) for need in stage.needs}

    def is_after(index: int) -> bool:
        return is_void or any(
            index in indices if need.kind is NeedKind.ALIGNED else indices
            for need, indices in stale.items()
        )

    return tuple(
        index
        for index, part in enumerate(items.shares)
        if (NOW in items.times[part.start : part.stop] if part else is_after(index))
    )


def _stamp_times(pipeline: str, stage: Stage, run_dir: pathlib.Path) -> tuple[int, ...]:
    """Return the time of each target's stamp, in the order of splits."""
    folder = stage.stamps_folder(pipeline)
    if folder is None:
        return (mtime(run_dir / stage.stamp(pipeline)),)
    try:
        # One scan instead of a `stat` by path for each of up to 100,000 splits.
        with os.scandir(run_dir / folder) as entries:
            times = {entry.name: int(entry.stat().st_mtime_ns) for entry in entries}
    except FileNotFoundError:
        return (NEVER,) * stage.num_targets
    return tuple(times.get(str(index), NEVER) for index in range(stage.num_targets))


def _newest_dependencies(stage: Stage, own: int, statuses: Statuses) -> tuple[int, ...]:
    """Return the time of each target's newest dependency; a target done before it is stale."""
    aligned = [statuses[n.command].times for n in stage.needs if n.kind is NeedKind.ALIGNED]
    wholes = [statuses[n.command].whole for n in stage.needs if n.kind is NeedKind.ALL]
    newest = (max([own, *wholes]),) * stage.num_targets
    return tuple(map(max, newest, *aligned)) if aligned else newest
