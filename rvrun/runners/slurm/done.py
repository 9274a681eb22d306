"""What is done, as the stamps in the run directory say; it must be on shared storage."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rvrun import paths
from rvrun.aws.storage import scheme
from rvrun.remote.upload import foreign_configs
from rvrun.rundir import files as rundir
from rvrun.rundir import stamps
from rvrun.rundir.fingerprints import read_text
from rvrun.rundir.freshness import StageStatus, plan_status
from rvrun.rundir.marks import Marks
from rvrun.runners.run import Run
from rvrun.runners.slurm.jobs import Job, Submission


def done_targets(run_dir: pathlib.Path, job: Job) -> set[int]:
    """Return the indices of the targets of a stage that have stamps.

    Those of the targets to run were removed when the run was submitted, so a stamp is proof, and no
    clocks are compared, which may differ between nodes.
    """
    stamps = run_dir / job.stamps
    if job.num_splits is None:
        return {0} if stamps.exists() else set()
    with contextlib.suppress(FileNotFoundError):
        return {int(name) for name in os.listdir(stamps) if name.isdecimal()}
    return set()


def missing_targets(run_dir: pathlib.Path, call: Submission) -> set[int]:
    """Return the indices of the targets of a submission that have no stamps."""
    targets = {index for task in call.tasks for index in call.job.targets(task)}
    return targets - done_targets(run_dir, call.job)


def stale_targets(run: Run) -> list[StageStatus]:
    """Return the status of each stage of a run whose files are written."""
    files = dict(_fingerprints(run.run_dir))
    return plan_status(run.plan, run.run_dir, files, force=run.force, forced=run.forced)


def _fingerprints(run_dir: pathlib.Path) -> Iterator[tuple[str, str]]:
    for folder in (paths.CONFIGS, paths.CODE, paths.INPUTS, paths.ITEMS):
        for path in sorted((run_dir / folder).rglob("*.*")):
            name = path.relative_to(run_dir).as_posix()
            if (text := read_text(run_dir, name)) is not None:
                yield name, text


def forget(run: Run, statuses: Iterable[StageStatus]) -> None:
    """Remove the stamps and marks of what is stale, and prepare the folders of all stamps.

    The tasks of an array start concurrently: none of them should have to remove anything that
    another may just have written.
    """
    for status in statuses:
        if status.lost:
            stamps.forget(run.run_dir, status.pipeline)
        stamps.prepare(run.run_dir, status.pipeline, status.stage)
        for index in status.stale:
            stamp = status.stage.target_stamp(status.pipeline, index)
            (run.run_dir / stamp).unlink(missing_ok=True)
        if status.items is not None:
            stale = [status.items.list.digests[position] for position in status.items.stale]
            Marks(str(run.run_dir), status.pipeline, status.stage.command).remove(stale)


def save_configs(run: Run) -> None:
    """Write the configs of other systems to their roots, if these are paths.

    The first target would do so, but it is one of many here, and a root without the file counts as
    removed.
    """
    for uri, text in foreign_configs(run.planned).items():
        if not scheme(uri):
            path = pathlib.Path(uri)
            rundir.write(run.workdir / path.parent, {path.name: text})


def tasks_of(jobs: Sequence[Job], statuses: Iterable[StageStatus]) -> Mapping[str, tuple[int, ...]]:
    """Return the tasks that have stale targets, by stage."""
    stale = {status.name: status.stale for status in statuses}
    return {job.stage: job.tasks(stale.get(job.stage, ())) for job in jobs}
