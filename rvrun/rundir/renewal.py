"""Make stamps agree with declared files where make itself cannot know better."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from rvrun.model import Plan
from rvrun.patterns import is_plain, seen_from
from rvrun.rundir import stamps
from rvrun.rundir.accept import renew
from rvrun.rundir.freshness import StageStatus


def declares_files(plan: Plan) -> bool:
    """Whether a stage of a plan declares inputs or outputs."""
    return any(stage.inputs or stage.outputs for p in plan.pipelines for stage in p.stages)


def agree_with_files(run_dir: pathlib.Path, statuses: Sequence[StageStatus], workdir: str) -> None:
    """Let make see what `statuses` say about declared inputs and outputs.

    The stamps of targets that are up to date become as new as an input that was only touched. The
    stamps of targets whose output is missing are removed if make cannot look for that output.

    - `statuses`: of a whole plan, from before its fingerprints were written.
    - `workdir`: the directory where commands run, relative to `run_dir`.

    Call it with the lock of the run directory, after the fingerprints were written.
    """
    for status in statuses:
        unseen = (
            index
            for index, output in status.lost_outputs.items()
            if not is_plain(seen_from(workdir, output), may_be_glob=True)
        )
        stamps.remove(run_dir, status.pipeline, status.stage, unseen)
    valid = {
        status.name: tuple(
            index not in stale for stale in [set(status.stale)] for index in range(len(status.done))
        )
        for status in statuses
    }
    renew(run_dir, statuses, valid)
