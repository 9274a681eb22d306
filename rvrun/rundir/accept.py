"""Accept changes: keep stamps valid although config, code or inputs of their stages changed.

The stamps of a stage that is accepted get the time of what changed, and so do those of all stages
after it that are up to date, in the order of dependencies. Nothing else changes: a stage that is
stale for another reason stays stale.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from rvrun.errors import RvrunError
from rvrun.model import NeedKind
from rvrun.paths import DONE
from rvrun.rundir.freshness import FINGERPRINTS, NEVER, StageStatus
from rvrun.rundir.own_files import touch
from rvrun.text import count


class CannotAccept(RvrunError):
    """A stage whose changes cannot be accepted."""

    stage: str
    problem: str
    template = "the changes of {stage} cannot be accepted: {problem}"
    fix = "run it, or accept what it needs, too"


@attrs.frozen(kw_only=True)
class Acceptance:
    """What can be accepted.

    - `accepted`: the stages with changes that then do not matter.
    - `refused`: why the changes of other stages cannot be accepted, by name.
    - `valid`: for each stage, whether each of its targets is up to date then.
    """

    accepted: tuple[StageStatus, ...]
    refused: Mapping[str, str]
    valid: Mapping[str, tuple[bool, ...]]


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
        if status.name in wanted and not all(valid[status.name]):
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
    return any(NEVER < done < newest for done in status.done)


def _why_incomplete(status: StageStatus) -> str:
    if status.lost:
        return "its root was removed"
    if status.absent:
        return f"its input {status.absent[0]} does not exist"
    if status.lost_outputs:
        return f"its output {next(iter(status.lost_outputs.values()))} does not exist"
    missing = status.done.count(NEVER)
    if not missing:
        return ""
    if status.stage.num_splits is None:
        return "it was never done"
    return f"{missing:,} of {count(status.stage.num_targets, 'split')} were never done"


def _why_stale_still(
    status: StageStatus, statuses: Sequence[StageStatus], valid: Mapping[str, tuple[bool, ...]]
) -> str:
    """Why a stage would run although its own changes are accepted."""
    by_name = {s.name: s for s in statuses}
    for need in status.stage.needs:
        needed = by_name[f"{status.pipeline}/{need.command}"]
        if not all(valid[needed.name]):
            return f"it would run after {need.command}, which is stale"
    return "what it needs was done again since"


def _find_valid(
    statuses: Sequence[StageStatus], accepted: Collection[str]
) -> dict[str, tuple[bool, ...]]:
    """Which targets of each stage are up to date if the changes of `accepted` do not matter."""
    valid: dict[str, tuple[bool, ...]] = {}
    by_name = {status.name: status for status in statuses}
    for status in statuses:
        own = NEVER if status.name in accepted else max(status.changed.values())
        needs = [
            (need.kind, by_name[f"{status.pipeline}/{need.command}"]) for need in status.stage.needs
        ]
        valid[status.name] = tuple(
            done > NEVER
            and not (status.lost or status.absent or index in status.lost_outputs)
            and own <= done
            and all(_is_older(kind, needed, index, done, valid) for kind, needed in needs)
            for index, done in enumerate(status.done)
        )
    return valid


def _is_older(
    kind: NeedKind,
    needed: StageStatus,
    index: int,
    done: int,
    valid: Mapping[str, tuple[bool, ...]],
) -> bool:
    """Whether a need is up to date, and was done before `done`."""
    if kind is NeedKind.ALIGNED:
        return valid[needed.name][index] and needed.done[index] <= done
    return all(valid[needed.name]) and max(*needed.done, needed.joined) <= done


def renew(
    run_dir: pathlib.Path,
    statuses: Sequence[StageStatus],
    valid: Mapping[str, tuple[bool, ...]],
) -> None:
    """Give the stamps of valid targets the time of their newest prerequisite, if that is newer.

    Call it with the lock of the run directory, after the fingerprints were written. Stages come
    after those that they need; if this is interrupted, the rest is stale.
    """
    times: dict[str, list[int]] = {}
    wholes: dict[str, int] = {}
    for status in statuses:
        own = _newest_file(run_dir, status)
        limit = _limit(status, own, times, wholes)
        times[status.name] = [
            max(done, limit(index)) if is_valid else done
            for index, (done, is_valid) in enumerate(
                zip(status.done, valid[status.name], strict=True)
            )
        ]
        _touch_changed(run_dir, status, times[status.name])
        wholes[status.name] = max(*times[status.name], status.joined)
        is_whole = all(valid[status.name]) and status.joined != NEVER
        if status.stage.num_splits is not None and is_whole:
            stamp = run_dir / status.stage.stamp(status.pipeline)
            if wholes[status.name] > status.joined:
                touch(str(stamp), wholes[status.name])


def _newest_file(run_dir: pathlib.Path, status: StageStatus) -> int:
    """Return the time of the newest file that a stage depends on, its own inputs included."""
    fingerprints = status.stage.fingerprints(status.pipeline)
    times = [(run_dir / file).stat().st_mtime_ns for file in fingerprints]
    for path in status.stage.inputs:
        # Files on S3 have no time here, and make does not look at what globs match.
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_mtime_ns)
    return max(times)


def _limit(
    status: StageStatus, own: int, times: Mapping[str, list[int]], wholes: Mapping[str, int]
) -> Callable[[int], int]:
    """Return a function that returns the time of the newest prerequisite of a target."""
    names = [(need.kind, f"{status.pipeline}/{need.command}") for need in status.stage.needs]
    whole = max([own, *(wholes[name] for kind, name in names if kind is NeedKind.ALL)])
    aligned = [times[name] for kind, name in names if kind is NeedKind.ALIGNED]
    return lambda index: max([whole, *(splits[index] for splits in aligned)])


def _touch_changed(run_dir: pathlib.Path, status: StageStatus, times: Sequence[int]) -> None:
    for index, (before, after) in enumerate(zip(status.done, times, strict=True)):
        if after != before:
            target = status.stage.target(status.pipeline, index)
            touch(str(run_dir / DONE / target.path), after)
