"""Make stamps agree with declared files where make itself cannot know better."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from rvrun.model import Plan
from rvrun.patterns import is_plain, seen_from
from rvrun.rundir import stamps
from rvrun.rundir.accept import Validity, renew
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.times import NOW


def declares_files(plan: Plan) -> bool:
    """Whether a stage of a plan declares inputs or outputs."""
    return any(stage.declared_inputs or stage.outputs for p in plan.pipelines for stage in p.stages)


def agree_with_files(run_dir: pathlib.Path, statuses: Sequence[StageStatus], workdir: str) -> None:
    """Let make see what `statuses` say about declared inputs and outputs.

    The stamps of targets that are up to date become as new as an input that was only touched. The
    stamps of targets whose output is missing are removed if make cannot look for that output, and
    so are the marks of such items.

    - `statuses`: of a whole plan, from before its fingerprints were written.
    - `workdir`: the directory where commands run, relative to `run_dir`.

    Call it with the lock of the run directory, after the fingerprints were written.
    """
    for status in statuses:
        unseen = [
            unit
            for unit, output in status.lost_outputs.items()
            if status.items is not None
            or not is_plain(seen_from(workdir, output), may_be_glob=True)
        ]
        stamps.remove(run_dir, status, unseen)
    renew(run_dir, statuses, {status.name: _validity(status) for status in statuses})


def _validity(status: StageStatus) -> Validity:
    """Return which targets and items of a stage are up to date."""
    stale = set(status.stale)
    targets = tuple(index not in stale for index in range(status.stage.num_targets))
    if status.items is None:
        return Validity(targets, targets)
    return Validity(targets, tuple(time < NOW for time in status.items.times))
