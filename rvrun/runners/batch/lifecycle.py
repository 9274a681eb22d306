"""The lifecycle of a run on AWS Batch: submit, read its state, cancel, retry."""

from __future__ import annotations

import concurrent.futures as cf
import json
import pathlib
from collections.abc import Iterator, Mapping

from rvrun.aws.client import Client, Pace
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import Forgotten, NothingToRetry, NotSubmitted, StillRunning
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger, run_name
from rvrun.remote.state import OVER, Progress, RunState, State
from rvrun.runners.aws_common import account_facts, account_of, account_of_run, upload_all
from rvrun.runners.batch.api import list_children, terminate_job
from rvrun.runners.batch.render import UPLOADS, render
from rvrun.runners.batch.retry import FailedJob, retry_files
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.spec_files import Spec, read_specs
from rvrun.runners.batch.specs import RUNNER
from rvrun.runners.batch.state import (
    CANCEL_REASON,
    TrackedJob,
    read_state,
    rounds_with,
    track_jobs,
)
from rvrun.runners.batch.submit import ACCEPTED, THREADS, Submitter, read_ids
from rvrun.runners.run import Run
from rvrun.runners.submissions import unfinished
from rvrun.settings.schema import Settings

#: Calls per second that end jobs. Batch documents no limit; this is the default of submitting.
CANCEL_RATE = 40


def submit(run: Run, progress: Progress) -> Ledger:
    """Submit all of `run`, or continue an identical submission that was interrupted.

    Raises `StillRunning`, `Interrupted`, `NotAllSubmitted`, and what `render` raises.
    """
    account = account_of(run.settings)
    files = render(run)
    ledger = _unfinished(run.run_dir, files)
    # A job may start as soon as it is submitted, so the files that it reads are uploaded first.
    upload_all(run, uploads_in(files), account)
    if ledger is None:
        name = run_name(run.out, run.name)
        ledger = ledgers.create(run.run_dir, name, RUNNER, files, account_facts(account))
    _submit_round(ledger, 1, run.settings.of(BatchSettings).submit_rate, progress)
    return ledger


def _unfinished(run_dir: pathlib.Path, files: Mapping[str, str]) -> Ledger | None:
    """The run whose submission was interrupted and must be continued, if there is one."""
    if (last := ledgers.last(run_dir, RUNNER)) is None:
        return None
    number = last.num_rounds
    return unfinished(
        last,
        files,
        cancelled=number in rounds_with(last, CANCELLED),
        submitted=number in rounds_with(last, SUBMITTED),
        read_state=lambda: state(last),
    )


def uploads_in(files: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of the files that jobs read, by URI.

    A URI contains a digest of the content, so uploading it again is harmless.
    """
    paths = json.loads(files[UPLOADS])
    return {uri: files[path].encode() for uri, path in paths.items()}


def _submit_round(ledger: Ledger, number: int, rate: float, progress: Progress) -> list[Spec]:
    specs = read_specs(ledger, number)
    submitter(ledger, rate).submit(specs, progress)
    return specs


def submitter(ledger: Ledger, rate: float) -> Submitter:
    """Return a `Submitter` of the jobs of a run, at most `rate` per second."""
    account = account_of_run(ledger)
    return Submitter(
        ledger=ledger,
        maker=account.maker(RUNNER),
        reader=account.reader(RUNNER),
        pace=Pace(rate),
    )


def state(ledger: Ledger) -> RunState:
    """Return the state of a run and its stages."""
    return read_state(ledger, account_of_run(ledger).reader(RUNNER))


def cancel(ledger: Ledger, progress: Progress) -> int:
    """End every job that waits or runs; return their number."""
    number = ledger.num_rounds
    batch = account_of_run(ledger).reader(RUNNER)
    # A job of an interrupted submission may run although the ledger does not have its id.
    find_lost(ledger, number, submitter(ledger, CANCEL_RATE))
    # From last to first: a job must not become ready because one that it depends on is ended.
    jobs = [job for job in reversed(track_jobs(ledger, batch)[number]) if _can_be_ended(job)]
    pace = Pace(CANCEL_RATE)

    def end(job: TrackedJob) -> None:
        pace.wait()
        assert job.id is not None
        terminate_job(batch, job.id, CANCEL_REASON)

    with cf.ThreadPoolExecutor(THREADS) as pool:
        for done, _ in enumerate(pool.map(end, jobs), start=1):
            progress(done, len(jobs))
    # Noted last: if this process dies before, the run counts as running and can be cancelled again.
    ledger.note(CANCELLED, round=number)
    return len(jobs)


def _can_be_ended(job: TrackedJob) -> bool:
    return job.detail is not None and job.state not in OVER


def find_lost(ledger: Ledger, number: int, submitter: Submitter) -> None:
    """Look for jobs of a round that have an intention but no id, and note the ids of those found.

    Dependencies need not be filled in: a job is recognized by its name and tags.
    """
    ids = read_ids(ledger, number)
    intended = submitter.intended(number)
    for spec in read_specs(ledger, number):
        if spec.key in intended and spec.key not in ids:
            id_ = submitter.find(spec.fill_in(ledger.run_id, {}))
            if id_ is not None:
                ledger.note(ACCEPTED, job=spec.key, round=number, id=id_)


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    """Submit failed targets and their dependents again; return their number.

    If an earlier retry was interrupted, continue it. Raises `StillRunning`, `NotSubmitted`,
    `NothingToRetry`, `Forgotten`, `NotAllSubmitted`.
    """
    number, rate = ledger.num_rounds, settings.of(BatchSettings).submit_rate
    if number not in rounds_with(ledger, SUBMITTED) | rounds_with(ledger, CANCELLED):
        if number == 1:
            raise NotSubmitted(ledger.handle)
    elif not state(ledger).is_over:
        raise StillRunning(ledger.handle)
    else:
        # The specs are on disk before anything is submitted, so that a retry can be continued.
        number = ledger.add_round(retry_files(_find_failed(ledger, number), number + 1))
    specs = _submit_round(ledger, number, rate, progress)
    return sum(spec.num_targets for spec in specs if not spec.is_join)


def _find_failed(ledger: Ledger, number: int) -> list[FailedJob]:
    """The jobs of a round that failed. Raises `Forgotten` or `NothingToRetry` if there are none."""
    batch = account_of_run(ledger).reader(RUNNER)
    jobs = track_jobs(ledger, batch)[number]
    failed = [failed_job for job in jobs for failed_job in _failed_splits(job, batch)]
    if failed:
        return failed
    is_forgotten = any(job.count(State.GONE) for job in jobs)
    raise Forgotten(ledger.handle) if is_forgotten else NothingToRetry(ledger.handle)


def _failed_splits(job: TrackedJob, batch: Client) -> Iterator[FailedJob]:
    """The job with its failed splits, if it has any."""
    if not job.count(State.FAILED):
        return
    splits = job.spec.splits
    if splits is not None and job.spec.size is not None and job.id is not None:
        # What succeeded is left out, rather than what failed taken: children of an array that
        # failed before it had any are not listed at all.
        done = _succeeded_children(job, batch)
        splits = [split for child, split in enumerate(splits) if child not in done]
    yield FailedJob(job.spec, None if splits is None else tuple(splits))


def _succeeded_children(job: TrackedJob, batch: Client) -> set[int]:
    if job.id is None or not job.count(State.SUCCEEDED):
        return set()
    return {
        child["arrayProperties"]["index"] for child in list_children(batch, job.id, "SUCCEEDED")
    }
