"""Accept changes: keep stamps valid although config, code or inputs of their stages changed.

The stamps of a stage that is accepted, or the marks of its items, get the time of what changed, and
so do those of all stages after it that are up to date, in the order of dependencies. Nothing else
changes: a stage that is stale for another reason stays stale.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import attrs

from rvrun.errors import RvrunError
from rvrun.model import NeedKind, Stage
from rvrun.rundir.freshness import FINGERPRINTS, StageStatus
from rvrun.rundir.item_status import ItemStatus, spread
from rvrun.rundir.marks import Marks
from rvrun.rundir.own_files import touch
from rvrun.rundir.times import NEVER
from rvrun.text import count


class CannotAccept(RvrunError):
    """A stage whose changes cannot be accepted."""

    stage: str
    problem: str
    template = "the changes of {stage} cannot be accepted: {problem}"
    fix = "run it, or accept what it needs, too"


@attrs.frozen
class Validity:
    """Which parts of a stage are up to date if some changes do not matter.

    - `targets`: whether each target is. `units`: the same of each unit that is done by itself: an
      item, or else a target.
    """

    targets: tuple[bool, ...]
    units: tuple[bool, ...]


@attrs.frozen(kw_only=True)
class Acceptance:
    """What can be accepted.

    - `accepted`: the stages with changes that then do not matter.
    - `refused`: why the changes of other stages cannot be accepted, by name.
    - `valid`: what of each stage is up to date then.
    """

    accepted: tuple[StageStatus, ...]
    refused: Mapping[str, str]
    valid: Mapping[str, Validity]


def find_acceptable(statuses: Sequence[StageStatus], names: Collection[str] = ()) -> Acceptance:
    """Return what can be accepted of the stages called `names`, or of all if it is empty.

    - `statuses`: of a whole plan, in its order, before anything is written.

    Raises `CannotAccept` for a stage in `names` that cannot be accepted.
    """
    changed = [s for s in statuses if has_changed(s) and (not names or s.name in names)]
    refused = {s.name: reason for s in changed if (reason := _why_incomplete(s))}
    wanted = {s.name for s in changed} - refused.keys()
    valid = _find_valid(statuses, wanted)
    for status in changed:
        if status.name in wanted and not _is_acceptable(status, valid[status.name]):
            refused[status.name] = _why_stale_still(status, statuses, valid)
    for name in names:
        if name in refused:
            raise CannotAccept(name, refused[name])
    accepted = tuple(s for s in changed if s.name not in refused)
    valid = _find_valid(statuses, {s.name for s in accepted})
    return Acceptance(accepted=accepted, refused=refused, valid=valid)


def has_changed(status: StageStatus) -> bool:
    """Whether the config, code or inputs of a stage changed since one of its targets was done."""
    newest = max(status.changed[reason] for reason in FINGERPRINTS if reason in status.changed)
    return any(
        NEVER < done < max(newest, status.inputs_time(unit))
        for unit, done in enumerate(status.units)
    )


def _is_acceptable(status: StageStatus, valid: Validity) -> bool:
    """Whether all that was done is up to date then. Items that were not done still run."""
    return all(ok for ok, done in zip(valid.units, status.units, strict=True) if done > NEVER)


def _why_incomplete(status: StageStatus) -> str:
    if status.lost:
        return "its root was removed"
    if status.absent:
        return f"its input {status.absent[0]} does not exist"
    if status.lost_outputs:
        return f"its output {next(iter(status.lost_outputs.values()))} does not exist"
    missing = status.units.count(NEVER)
    if not missing or status.items is not None:
        return ""
    if status.stage.num_splits is None:
        return "it was never done"
    return f"{missing:,} of {count(status.stage.num_targets, 'split')} were never done"


def _why_stale_still(
    status: StageStatus, statuses: Sequence[StageStatus], valid: Mapping[str, Validity]
) -> str:
    """Why a stage would run although its own changes are accepted."""
    by_name = {s.name: s for s in statuses}
    for need in status.stage.needs:
        needed = by_name[f"{status.pipeline}/{need.command}"]
        if not all(valid[needed.name].targets):
            return f"it would run after {need.command}, which is stale"
    if status.items is not None and NEVER in status.units:
        number = status.units.count(NEVER)
        total = count(len(status.units), "item")
        return f"{number:,} of {total} were never done, and it does all items of a split together"
    return "what it needs was done again since"


def _find_valid(statuses: Sequence[StageStatus], accepted: Collection[str]) -> dict[str, Validity]:
    """What of each stage is up to date if the changes of `accepted` do not matter."""
    valid: dict[str, Validity] = {}
    by_name = {status.name: status for status in statuses}
    for status in statuses:
        own = max(status.changed.values())
        needs = [
            (need.kind, by_name[f"{status.pipeline}/{need.command}"]) for need in status.stage.needs
        ]
        units = tuple(
            done > NEVER
            and not (status.lost or status.absent or unit in status.lost_outputs)
            and (status.name in accepted or max(own, status.inputs_time(unit)) <= done)
            and all(_is_older(kind, needed, unit, done, valid) for kind, needed in needs)
            for unit, done in enumerate(status.units)
        )
        valid[status.name] = _validity(status, units, valid)
    return valid


def _validity(
    status: StageStatus, units: tuple[bool, ...], valid: Mapping[str, Validity]
) -> Validity:
    """Return which targets are up to date if these units are."""
    if status.items is None:
        return Validity(units, units)
    shares = status.items.shares
    units = tuple(spread(status.stage, shares, units))

    def is_unneeded(index: int) -> bool:
        """Whether a split without items is not run because of what it needs."""
        needed = ((n.kind, valid[f"{status.pipeline}/{n.command}"]) for n in status.stage.needs)
        return all(
            other.targets[index] if kind is NeedKind.ALIGNED else all(other.targets)
            for kind, other in needed
        )

    targets = tuple(
        all(units[part.start : part.stop]) if part else is_unneeded(index)
        for index, part in enumerate(shares)
    )
    return Validity(targets, units)


def _is_older(
    kind: NeedKind, needed: StageStatus, unit: int, done: int, valid: Mapping[str, Validity]
) -> bool:
    """Whether a need is up to date, and was done before `done`."""
    if kind is NeedKind.ALIGNED:
        return valid[needed.name].units[unit] and needed.units[unit] <= done
    return all(valid[needed.name].targets) and max([*needed.units, needed.joined]) <= done


def renew(
    run_dir: pathlib.Path, statuses: Sequence[StageStatus], valid: Mapping[str, Validity]
) -> None:
    """Give valid stamps and marks the time of their newest prerequisite, if that is newer.

    Call it with the lock of the run directory, after the fingerprints were written; then `settle`.
    Stages come after those that they need; if this is interrupted, the rest is stale.
    """
    times: dict[str, list[int]] = {}
    wholes: dict[str, int] = {}
    stages = {status.name: status.stage for status in statuses}
    for status in statuses:
        files = [*status.stage.fingerprints(status.pipeline), *_lists(status, stages)]
        own = _newest_file(run_dir, status, files)
        limit = _limit(status, own, times, wholes)
        units = times[status.name] = [
            max(done, limit(unit)) if is_valid else done
            for unit, (done, is_valid) in enumerate(
                zip(status.units, valid[status.name].units, strict=True)
            )
        ]
        _touch_changed(run_dir, status, units, valid[status.name].units)
        if status.items is not None:
            # Settled later, with the same times.
            least = limit(None) if all(valid[status.name].targets) else NEVER
            wholes[status.name] = max([*units, *status.items.stamps, status.joined, least])
            continue
        wholes[status.name] = max(*units, status.joined)
        is_whole = all(valid[status.name].targets) and status.joined != NEVER
        if status.stage.num_splits is not None and is_whole:
            stamp = run_dir / status.stage.stamp(status.pipeline)
            if wholes[status.name] > status.joined:
                touch(str(stamp), wholes[status.name])


def _newest_file(run_dir: pathlib.Path, status: StageStatus, files: Sequence[str]) -> int:
    """Return the time of the newest of some files in `run_dir`, and of a stage's inputs."""
    times = [(run_dir / file).stat().st_mtime_ns for file in files]
    for path in status.stage.inputs:
        # Files on S3 have no time here, and make does not look at what globs match.
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_mtime_ns)
    return max(times)


def _lists(status: StageStatus, stages: Mapping[str, Stage]) -> Iterator[str]:
    """Yield the lists of items of the stages that a stage needs as a whole."""
    for need in status.stage.needs:
        path = stages[f"{status.pipeline}/{need.command}"].items_file(status.pipeline)
        if need.kind is NeedKind.ALL and path is not None:
            yield path


def _limit(
    status: StageStatus, own: int, times: Mapping[str, list[int]], wholes: Mapping[str, int]
) -> Callable[[int | None], int]:
    """Return a function that returns the time of the newest prerequisite of a unit.

    Without a unit, of what all units have.
    """
    names = [(need.kind, f"{status.pipeline}/{need.command}") for need in status.stage.needs]
    whole = max([own, *(wholes[name] for kind, name in names if kind is NeedKind.ALL)])
    aligned = [times[name] for kind, name in names if kind is NeedKind.ALIGNED]
    return lambda unit: whole if unit is None else max([whole, *(units[unit] for units in aligned)])


def _touch_changed(
    run_dir: pathlib.Path, status: StageStatus, times: Sequence[int], is_valid: Sequence[bool]
) -> None:
    if status.items is not None:
        _mark_changed(run_dir, status, status.items, times, is_valid)
        return
    for unit, (before, after) in enumerate(zip(status.units, times, strict=True)):
        if after != before:
            touch(str(run_dir / status.stage.target_stamp(status.pipeline, unit)), after)


def _mark_changed(
    run_dir: pathlib.Path,
    status: StageStatus,
    items: ItemStatus,
    times: Sequence[int],
    is_valid: Sequence[bool],
) -> None:
    """Give the marks of items their times, and let those of valid ones say what they read."""
    marks, inputs = Marks(str(run_dir), status.pipeline, status.stage.command), items.inputs
    for unit, (before, after) in enumerate(zip(status.units, times, strict=True)):
        is_other = inputs is not None and is_valid[unit] and not inputs.is_recorded(unit)
        text = inputs.texts[unit] if inputs is not None and is_other else ""
        if after != before or text:
            marks.add(items.list.digests[unit], after, text)
