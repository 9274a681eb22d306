"""The lifecycle of a run on Slurm: submit, read its state, cancel, retry."""

from __future__ import annotations

import os
import pathlib
import shlex
import sys
from collections.abc import Mapping

from rvrun import paths
from rvrun.errors import RvrunError
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import NothingToRetry, NotSubmitted, StillRunning
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger, run_name
from rvrun.remote.state import Progress, RunState
from rvrun.rundir.fingerprints import read_text
from rvrun.runners.run import Run
from rvrun.runners.slurm import commands
from rvrun.runners.slurm.check import check_cluster, check_count, require
from rvrun.runners.slurm.commands import Limits
from rvrun.runners.slurm.done import (
    forget,
    missing_targets,
    save_configs,
    stale_targets,
    tasks_of,
)
from rvrun.runners.slurm.jobs import jobs_from_json
from rvrun.runners.slurm.render import FOLDER, JOBS, OUTPUT, render
from rvrun.runners.slurm.rounds import facts, has_event, read_round, task_files
from rvrun.runners.slurm.settings import SlurmSettings
from rvrun.runners.slurm.state import failed_tasks, read_state
from rvrun.runners.slurm.submit import (
    Submitter,
    job_variables,
    listed_tasks,
)
from rvrun.runners.submissions import unfinished
from rvrun.settings.schema import Settings

RUNNER = FOLDER


class OtherPlan(RvrunError):
    """A retry in a run directory that was rendered for another plan since."""

    run: str
    out: str
    template = (
        "run {run} cannot be retried: the Makefile in {out}, by which its jobs run, has changed "
        "since; start a new run with `rvrun run`, which continues with what is not done"
    )
    fix = "start a new run with `rvrun run`"


def submit(run: Run, progress: Progress) -> Ledger | None:
    """Submit what is stale of `run`, or continue an identical submission that was interrupted.

    Returns None if everything is up to date. Raises `StillRunning`, `Interrupted`,
    `NotAllSubmitted`, `Refused`, and what `render` raises.
    """
    files = render(run)
    ledger = _unfinished(run.run_dir, files)
    is_new = ledger is None
    if ledger is None:
        limits = commands.limits()
        require(check_cluster(run, limits))
        ledger = _create(run, files, limits)
    if ledger is not None:
        (run.run_dir / OUTPUT).mkdir(parents=True, exist_ok=True)
        _submit_round(ledger, 1, run.settings, progress, is_new=is_new)
    return ledger


def _create(run: Run, files: Mapping[str, str], limits: Limits) -> Ledger | None:
    """Create the ledger of a new run with the tasks that have stale targets; None without any."""
    statuses = stale_targets(run)
    if not any(status.stale for status in statuses):
        return None
    settings = run.settings.of(SlurmSettings)
    tasks = tasks_of(jobs_from_json(files[JOBS]), statuses)
    require(check_count(sum(map(len, tasks.values())), limits))
    own = facts(
        tasks,
        size=settings.max_array_size or limits.max_array_size,
        workdir=os.path.relpath(run.workdir, run.run_dir),
        # Its number: the name may be missing on the nodes, and in containers.
        user=str(os.getuid()),
        # -P keeps modules in the current directory from hiding those that rvrun imports.
        program=shlex.join([sys.executable, "-P", "-m", "rvrun"]),
        variables=job_variables(run),
    )
    # Before any job is submitted. If this process dies here, the same targets stay stale.
    save_configs(run)
    forget(run, statuses)
    return ledgers.create(run.run_dir, run_name(run.out, run.name), RUNNER, files, own)


def _unfinished(run_dir: pathlib.Path, files: Mapping[str, str]) -> Ledger | None:
    """The run whose submission was interrupted and must be continued, if there is one."""
    if (last := ledgers.last(run_dir, RUNNER)) is None:
        return None
    number = last.num_rounds
    return unfinished(
        last,
        files,
        cancelled=has_event(last, CANCELLED, number),
        submitted=has_event(last, SUBMITTED, number),
        read_state=lambda: read_state(last),
    )


def _submit_round(
    ledger: Ledger, number: int, settings: Settings, progress: Progress, *, is_new: bool
) -> None:
    delay = settings.of(SlurmSettings).lookup_delay
    submitter = Submitter(round=read_round(ledger, number), lookup_delay=delay)
    submitter.submit(progress, is_new=is_new)


def state(ledger: Ledger) -> RunState:
    """Return the state of a run and its stages."""
    return read_state(ledger)


def cancel(ledger: Ledger, progress: Progress) -> int:
    """End every job that waits or runs; return their number."""
    round_ = read_round(ledger, ledger.num_rounds)
    # An sbatch that a killed process left behind has the lock: what it submits is ended, too.
    with ledger.exclusive():
        tasks = listed_tasks(round_)
        alive = sorted({task.job_id for task in tasks if not task.is_over})
        commands.cancel(alive)
        progress(len(alive), len(alive))
        # Noted last: if this process dies before, the run counts as running and can be cancelled.
        ledger.note_if_possible(CANCELLED, round=round_.number)
    return len(alive)


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    """Submit the tasks of failed targets and of their dependents again; return their targets.

    If an earlier retry was interrupted, continue it. Raises `StillRunning`, `NotSubmitted`,
    `NothingToRetry`, `OtherPlan`, `NotAllSubmitted`.
    """
    number, is_new = ledger.num_rounds, False
    is_complete = any(has_event(ledger, kind, number) for kind in (SUBMITTED, CANCELLED))
    if not is_complete and number == 1:
        raise NotSubmitted(ledger.handle)
    makefile = read_text(ledger.run_dir, paths.MAKEFILE)
    if makefile != read_text(ledger.round_folder(1), paths.MAKEFILE):
        raise OtherPlan(ledger.handle, os.path.relpath(ledger.run_dir))
    if is_complete:
        if not read_state(ledger).is_over:
            raise StillRunning(ledger.handle)
        if not (tasks := failed_tasks(ledger)):
            raise NothingToRetry(ledger.handle)
        number, is_new = ledger.add_round(task_files(tasks)), True
    calls = read_round(ledger, number).submissions
    # In a packed task, those that are done do not run again.
    num_targets = sum(len(missing_targets(ledger.run_dir, call)) for call in calls)
    _submit_round(ledger, number, settings, progress, is_new=is_new)
    return num_targets
