"""The lifecycle of a run on AWS Batch: submit, read its state, cancel, retry."""

from __future__ import annotations

import concurrent.futures as cf
import json
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence

from rvrun.aws.client import Client, Pace
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import Forgotten, NothingToRetry, NotSubmitted, StillRunning
from rvrun.remote.ledger import CANCELLED, RUN_FILE, SUBMITTED, DamagedRun, Ledger, run_name
from rvrun.remote.state import MAX_TIME, OVER, Progress, RunState, State
from rvrun.runners.aws_common import account_facts, account_of, account_of_run, upload_all
from rvrun.runners.batch.api import list_children, terminate_job
from rvrun.runners.batch.check import require_definitions
from rvrun.runners.batch.children import child_index
from rvrun.runners.batch.inventory import THREADS
from rvrun.runners.batch.looks import Looks
from rvrun.runners.batch.render import UPLOADS, render
from rvrun.runners.batch.retry import FailedJob, retry_files
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.spec_files import Spec, read_specs, requests_in
from rvrun.runners.batch.specs import RUNNER
from rvrun.runners.batch.state import read_state
from rvrun.runners.batch.submit import LISTING_DELAY, Submitter, report_on_stderr
from rvrun.runners.batch.tracked import (
    CANCEL_REASON,
    TrackedJob,
    is_cancelled,
    is_submitted,
    rounds_with,
)
from rvrun.runners.run import Run
from rvrun.runners.submissions import unfinished
from rvrun.settings.schema import Settings
from rvrun.text import quoted

#: Calls per second that end jobs. Batch documents no limit; this is the default of submitting.
CANCEL_RATE = 40


def submit(run: Run, progress: Progress) -> Ledger:
    """Submit all of `run`, or continue an identical submission that was interrupted.

    Raises `StillRunning`, `Interrupted`, `NotAllSubmitted`, and what `render` raises.
    """
    account = account_of(run.settings)
    files = render(run)
    ledger = _unfinished(run.run_dir, files)
    definitions = require_definitions(account.reader(RUNNER), list(requests_in(files)))
    # A job may start as soon as it is submitted, so the files that it reads are uploaded first.
    upload_all(run, uploads_in(files), account)
    is_new = ledger is None
    settings = run.settings.of(BatchSettings)
    if ledger is None:
        name = run_name(run.out, run.name)
        facts = {
            **account_facts(account),
            "listing_delay": settings.listing_delay,
            "definitions": definitions,
        }
        ledger = ledgers.create(run.run_dir, name, RUNNER, files, facts)
    _submit_round(ledger, 1, settings.submit_rate, progress, is_new=is_new)
    return ledger


def _unfinished(run_dir: pathlib.Path, files: Mapping[str, str]) -> Ledger | None:
    """The run whose submission was interrupted and must be continued, if there is one."""
    if (last := ledgers.last(run_dir, RUNNER)) is None:
        return None
    number, looks = last.num_rounds, looks_at(last)
    jobs: Sequence[TrackedJob] = ()
    if not is_noted(last, number):
        # The ledger may only have lost that it was submitted, and then the run goes on.
        jobs = looks.jobs().rounds[number]
    return unfinished(
        last,
        files,
        cancelled=is_cancelled(last, number, jobs),
        submitted=is_submitted(last, number, jobs),
        has_jobs=any(job.id is not None for job in jobs),
        read_state=looks.state,
    )


def uploads_in(files: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of the files that jobs read, by URI.

    A URI contains a digest of the content, so uploading it again is harmless.
    """
    paths = json.loads(files[UPLOADS])
    return {uri: files[path].encode() for uri, path in paths.items()}


def _submit_round(
    ledger: Ledger, number: int, rate: float, progress: Progress, *, is_new: bool
) -> list[Spec]:
    specs = read_specs(ledger, number)
    submitter(ledger, rate).submit(specs, progress, is_new=is_new)
    return specs


def submitter(ledger: Ledger, rate: float) -> Submitter:
    """Return a `Submitter` of the jobs of a run, at most `rate` per second."""
    account = account_of_run(ledger)
    return Submitter(
        ledger=ledger,
        maker=account.maker(RUNNER),
        reader=account.reader(RUNNER),
        pace=Pace(rate),
        listing_delay=listing_delay(ledger),
        definitions=definitions_of(ledger),
    )


def listing_delay(ledger: Ledger) -> float:
    """Return how many seconds after its submission a job of a run is expected to be listed.

    Raises `DamagedRun`.
    """
    delay = ledger.facts.get("listing_delay", LISTING_DELAY)
    if type(delay) not in (int, float) or not 0 <= delay < MAX_TIME:
        problem = f"`listing_delay` must be a number of at least 0, got {quoted(delay)}"
        raise DamagedRun(str(ledger.folder / RUN_FILE), problem)
    return float(delay)


def definitions_of(ledger: Ledger) -> dict[str, str]:
    """Return the revisions of the job definitions of a run by name. Raises `DamagedRun`."""
    revisions = ledger.facts.get("definitions", {})
    if isinstance(revisions, dict) and all(isinstance(name, str) for name in revisions.values()):
        return revisions
    problem = f"`definitions` must be an object of strings, got {quoted(revisions)}"
    raise DamagedRun(str(ledger.folder / RUN_FILE), problem)


def looks_at(ledger: Ledger) -> Looks:
    """Return a way to look at a run, in its account."""
    return Looks(ledger, account_of_run(ledger).reader(RUNNER))


def state(ledger: Ledger) -> RunState:
    """Return the state of a run and its stages."""
    return read_state(ledger, account_of_run(ledger).reader(RUNNER))


def cancel(ledger: Ledger, progress: Progress) -> int:
    """End every job that waits or runs; return their number."""
    looks, number = looks_at(ledger), ledger.num_rounds
    ended: set[str] = set()
    left = submitter(ledger, CANCEL_RATE).seconds_until_listed(number)
    while True:
        jobs = looks.jobs().rounds[number]
        ended |= _end_all([job for job in jobs if job.id not in ended], looks.batch, progress)
        # A job of an interrupted submission may run although Batch does not list it yet.
        if left <= 0 or is_submitted(ledger, number, jobs):
            break
        pause = min(left, listing_delay(ledger) / 6)
        report_on_stderr(f"waiting {left:.0f} s for jobs that AWS Batch may not list yet")
        time.sleep(pause)
        left -= pause
    # Noted last: if this process dies before, the run counts as running and can be cancelled again.
    # Where it cannot be noted, the reason of the jobs tells it.
    ledger.note_if_possible(CANCELLED, round=number)
    return len(ended)


def _end_all(jobs: Sequence[TrackedJob], batch: Client, progress: Progress) -> set[str]:
    """End the jobs that wait or run, and return their ids."""
    # From last to first: a job must not become ready because one that it depends on is ended.
    ids = [job.id for job in reversed(jobs) if _can_be_ended(job) and job.id is not None]
    pace = Pace(CANCEL_RATE)

    def end(id_: str) -> None:
        pace.wait()
        terminate_job(batch, id_, CANCEL_REASON)

    with cf.ThreadPoolExecutor(THREADS) as pool:
        for done, _ in enumerate(pool.map(end, ids), start=1):
            progress(done, len(ids))
    return set(ids)


def _can_be_ended(job: TrackedJob) -> bool:
    return job.detail is not None and job.state not in OVER


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    """Submit failed targets and their dependents again; return their number.

    If an earlier retry was interrupted, continue it. Raises `StillRunning`, `NotSubmitted`,
    `NothingToRetry`, `Forgotten`, `NotAllSubmitted`.
    """
    number, rate = ledger.num_rounds, settings.of(BatchSettings).submit_rate
    looks, is_new = looks_at(ledger), False
    if not _was_submitted(looks, number):
        if number == 1:
            raise NotSubmitted(ledger.handle)
    elif not looks.state().is_over:
        raise StillRunning(ledger.handle)
    else:
        # The specs are on disk before anything is submitted, so that a retry can be continued.
        number = ledger.add_round(retry_files(_find_failed(looks, number), number + 1))
        is_new = True
    specs = _submit_round(ledger, number, rate, progress, is_new=is_new)
    return sum(spec.num_targets for spec in specs if not spec.is_join)


def is_noted(ledger: Ledger, number: int) -> bool:
    """Whether the ledger says that a round was submitted or cancelled."""
    return number in rounds_with(ledger, SUBMITTED) | rounds_with(ledger, CANCELLED)


def _was_submitted(looks: Looks, number: int) -> bool:
    """Whether a round was submitted or cancelled, also if the ledger has lost that."""
    ledger = looks.ledger
    if is_noted(ledger, number):
        return True
    jobs = looks.jobs().rounds[number]
    return is_submitted(ledger, number, jobs) or is_cancelled(ledger, number, jobs)


def _find_failed(looks: Looks, number: int) -> list[FailedJob]:
    """The jobs of a round that failed. Raises `Forgotten` or `NothingToRetry` if there are none."""
    ledger, batch = looks.ledger, looks.batch
    jobs = looks.jobs().rounds[number]
    with cf.ThreadPoolExecutor(THREADS) as pool:
        lists = pool.map(lambda job: list(_failed_splits(job, batch)), jobs)
        failed = [failed_job for failed_jobs in lists for failed_job in failed_jobs]
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
        failed = _failed_children(job, batch)
        splits = [split for child, split in enumerate(splits) if child in failed]
    yield FailedJob(job.spec, None if splits is None else tuple(splits))


def _failed_children(job: TrackedJob, batch: Client) -> set[int]:
    """The indices of the failed children of an array that is over, from the shorter list."""
    size, num_failed = job.spec.num_targets, job.count(State.FAILED)
    if job.id is None or num_failed == size:
        return set(range(size))
    if num_failed < job.count(State.SUCCEEDED):
        failed = {child_index(child) for child in list_children(batch, job.id, "FAILED")}
        if len(failed) == num_failed:
            return failed
    # Children of an array that failed before it had any are not listed, so whatever has not
    # succeeded has failed.
    succeeded = {child_index(child) for child in list_children(batch, job.id, "SUCCEEDED")}
    return set(range(size)) - succeeded
