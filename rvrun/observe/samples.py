"""How long the targets of a run took, as samples for estimates, wherever it ran."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

from rvrun import paths
from rvrun.observe.detached_snapshot import snapshot_of
from rvrun.observe.find import DetachedRun, find_run
from rvrun.observe.snapshot import Snapshot
from rvrun.plan.durations import Sample
from rvrun.remote.ledger import NoRun
from rvrun.rundir.durations import read_samples
from rvrun.rundir.item_status import shares_of
from rvrun.runners.registry import as_reporting


def samples_of(name: str, root: pathlib.Path) -> Iterator[tuple[str, Sample]]:
    """Yield the stage and the duration of each target that succeeded.

    - `name`: a run, as `find_run` accepts it, or a folder with records.

    Asks the service of a detached run that leaves no records. Raises `NoRun`, `NotAPlan`,
    `OtherPlan`, or what the service raises.
    """
    try:
        run = find_run(name, root)
    except NoRun:
        # Records alone, from another machine for example, are enough.
        if not pathlib.Path(name, paths.RECORDS).is_dir():
            raise
        return read_samples(pathlib.Path(name))
    if isinstance(run, DetachedRun) and (reporting := as_reporting(run.runner)) is not None:
        reports = reporting.targets(run.ledger)
        return _samples_in(snapshot_of(run.run_dir, reports.targets, run.state()))
    return read_samples(run.run_dir)


def _samples_in(snapshot: Snapshot) -> Iterator[tuple[str, Sample]]:
    for targets in snapshot.stages:
        stage = targets.stage
        # Without marks, a target does all items of its share.
        shares = None if stage.items is None else shares_of(stage)
        for index, one in enumerate(targets.targets):
            if one.attempt is None or one.attempt.seconds is None:
                continue
            items = None if shares is None else len(shares[index])
            yield (
                targets.name,
                Sample(seconds=one.attempt.seconds, splits=len(targets.targets), items=items),
            )
