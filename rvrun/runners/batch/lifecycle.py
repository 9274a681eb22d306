"""The life of a run on AWS Batch: submitted, looked at, cancelled, retried."""

from __future__ import annotations

import concurrent.futures as cf
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from rvrun.aws.client import Client, Pace
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import Forgotten, NothingToRetry, NotSubmitted, StillRunning
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger, run_name
from rvrun.remote.state import OVER, Progress, RunState, State
from rvrun.runners.aws_common import (
    account_facts,
    account_of,
    account_of_run,
    upload_all,
)
from rvrun.runners.batch.render import UPLOADS, render
from rvrun.runners.batch.retry import Failed, retry_files
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.state import (
    CANCEL_REASON,
    Known,
    known_jobs,
    read_state,
    rounds_of,
)
from rvrun.runners.batch.submit import (
    ACCEPTED,
    THREADS,
    Submitter,
    Ticket,
    read_ids,
    read_tickets,
)
from rvrun.runners.run import Run
from rvrun.runners.submissions import unfinished
from rvrun.settings.schema import Settings

RUNNER = "batch"
#: Calls a second that end jobs; Batch gives them no limit of their own.
CANCEL_RATE = 40


def submit(run: Run, progress: Progress) -> Ledger:
    """Submit all of `run`; where one of the same was cut off, go on with that."""
    account = account_of(run.settings)
    files = render(run)
    ledger = _unfinished(run.run_dir, files)
    # Jobs may start as soon as they are submitted, so what they read must be there before.
    upload_all(run, uploads_in(files), account)
    if ledger is None:
        name = run_name(run.out, run.name)
        ledger = ledgers.create(run.run_dir, name, RUNNER, files, account_facts(account))
    _submit_round(ledger, 1, run.settings.of(BatchSettings).submit_rate, progress)
    return ledger


def _unfinished(run_dir: pathlib.Path, files: Mapping[str, str]) -> Ledger | None:
    """The run that was cut off and is to go on, if there is one; see `unfinished`."""
    if (last := ledgers.last(run_dir, RUNNER)) is None:
        return None
    number = last.num_rounds
    return unfinished(
        last,
        files,
        cancelled=number in rounds_of(last, CANCELLED),
        submitted=number in rounds_of(last, SUBMITTED),
        read_state=lambda: state(last),
    )


def uploads_in(files: Mapping[str, str]) -> dict[str, bytes]:
    """Return what the jobs read, by URI. Names depend on the content, so repeating is harmless."""
    paths = json.loads(files[UPLOADS])
    return {uri: files[path].encode() for uri, path in paths.items()}


def _submit_round(ledger: Ledger, number: int, rate: float, progress: Progress) -> None:
    tickets = read_tickets(ledger, number)
    done: list[str] = []

    def count(key: str) -> None:
        done.append(key)
        progress(len(done), len(tickets))

    submitter(ledger, rate).submit(tickets, count)


def submitter(ledger: Ledger, rate: float) -> Submitter:
    """What submits the jobs of a run, at most so many a second."""
    account = account_of_run(ledger)
    return Submitter(
        ledger=ledger,
        maker=account.maker(RUNNER),
        reader=account.reader(RUNNER),
        pace=Pace(rate),
    )


def state(ledger: Ledger) -> RunState:
    """How a run stands."""
    return read_state(ledger, account_of_run(ledger).reader(RUNNER))


def cancel(ledger: Ledger, progress: Progress) -> int:
    """End all that waits or runs; how many jobs that were.

    The last ones first, so that none starts because one before it was ended. What was about to be
    submitted when the run was cut off is looked for first.
    """
    number = ledger.num_rounds
    batch = account_of_run(ledger).reader(RUNNER)
    find_lost(ledger, number, submitter(ledger, CANCEL_RATE))
    jobs = [job for job in reversed(known_jobs(ledger, batch)[number]) if _is_alive(job)]
    pace = Pace(CANCEL_RATE)

    def end(job: Known) -> None:
        pace.wait()
        batch.call("TerminateJob", jobId=job.id, reason=CANCEL_REASON)

    with cf.ThreadPoolExecutor(THREADS) as pool:
        for done, _ in enumerate(pool.map(end, jobs), start=1):
            progress(done, len(jobs))
    ledger.note(CANCELLED, round=number)
    return len(jobs)


def find_lost(ledger: Ledger, number: int, by: Submitter) -> None:
    """Note the ids of jobs that were submitted, though that was not noted."""
    ids = read_ids(ledger, number)
    intended = by.intended(number)
    for ticket in read_tickets(ledger, number):
        if ticket.key in intended and ticket.key not in ids:
            request = ticket.filled(ledger.run_id, {})
            if (id_ := by.find(request)) is not None:
                ledger.note(ACCEPTED, job=ticket.key, round=number, id=id_)


def _is_alive(job: Known) -> bool:
    return job.id is not None and job.job is not None and job.state not in OVER


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    """Submit again what failed and what hung on it; how many targets that are.

    Where an earlier retry was cut off, go on with that. Raises `StillRunning`, `NotSubmitted`,
    `NothingToRetry`, `Forgotten`.
    """
    number, rate = ledger.num_rounds, settings.of(BatchSettings).submit_rate
    if number not in rounds_of(ledger, SUBMITTED) | rounds_of(ledger, CANCELLED):
        if number == 1:
            raise NotSubmitted(ledger.handle)
        _submit_round(ledger, number, rate, progress)
        return _num_targets(read_tickets(ledger, number))
    if not state(ledger).is_over:
        raise StillRunning(ledger.handle)
    batch = account_of_run(ledger).reader(RUNNER)
    jobs = known_jobs(ledger, batch)[number]
    failed = [each for job in jobs for each in _failed(job, batch)]
    if not failed:
        gone = any(job.counts.get(State.GONE) for job in jobs)
        raise Forgotten(ledger.handle) if gone else NothingToRetry(ledger.handle)
    number = ledger.add_round(retry_files(failed, number + 1))
    _submit_round(ledger, number, rate, progress)
    return _num_targets(read_tickets(ledger, number))


def _num_targets(tickets: Sequence[Ticket]) -> int:
    return sum(ticket.size or 1 for ticket in tickets if not ticket.is_join)


def _failed(job: Known, batch: Client) -> Iterator[Failed]:
    """The job with its failed splits, if it has any; also of what was cancelled unsubmitted."""
    if not job.counts.get(State.FAILED) and job.id is not None:
        return
    splits = job.splits
    if splits is None or job.ticket.size is None or job.id is None:
        yield Failed(job.ticket, None if splits is None else tuple(splits))
        return
    done = _succeeded(job.id, batch) if job.counts.get(State.SUCCEEDED) else set()
    yield Failed(job.ticket, tuple(s for child, s in enumerate(splits) if child not in done))


def _succeeded(job_id: str, batch: Client) -> set[int]:
    """The children of an array that need not go again; one never started is not listed at all."""
    pages = batch.pages("ListJobs", "nextToken", arrayJobId=job_id, jobStatus="SUCCEEDED")
    return {child["arrayProperties"]["index"] for page in pages for child in page["jobSummaryList"]}
