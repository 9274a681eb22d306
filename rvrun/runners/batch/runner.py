"""`batch`: AWS Batch. Specs rendered, submitted, looked at, ended and tried again."""

from __future__ import annotations

import concurrent.futures as cf
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rvrun.aws import storage
from rvrun.aws.client import Account, Client, Pace
from rvrun.finding import Finding
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger
from rvrun.remote.state import (
    OVER,
    Forgotten,
    NothingToRetry,
    NotSubmitted,
    RunState,
    State,
    StillGoing,
    Told,
)
from rvrun.remote.upload import check_roots, save, ship
from rvrun.runners.aws_common import ONCE, examined, notes, second_try, unfinished
from rvrun.runners.batch.check import check_definitions, check_queues
from rvrun.runners.batch.logs import job_of, read_log
from rvrun.runners.batch.retry import Failed, retry_files
from rvrun.runners.batch.specs import FOLDER, JOB_TAG, Source, render_specs
from rvrun.runners.batch.state import (
    CANCEL_REASON,
    Known,
    known_jobs,
    read_state,
    rounds_of,
    stage_of,
)
from rvrun.runners.batch.submit import (
    ACCEPTED,
    THREADS,
    Submitter,
    Ticket,
    is_spec,
    read_ids,
    read_tickets,
)
from rvrun.runners.protocol import Run
from rvrun.settings.schema import Settings, project_file

RUNNER = "batch"
OWNS = (FOLDER,)
TITLE = "AWS Batch"
UPLOADS = f"{FOLDER}/uploads.json"
#: Calls a second that end jobs; Batch gives them no limit of their own.
CANCEL_RATE = 40


def render(run: Run) -> dict[str, str]:
    """The specs, and what its jobs read: all that is needed to submit them."""
    check_roots(run.planned, TITLE)
    shipments = {each.name: ship(each, run.settings.batch.worker) for each in run.planned}
    source = Source(
        settings=run.settings.batch,
        shipments=shipments,
        names=tuple(
            f"{pipeline.name}/{command.name}"
            for pipeline in run.pipelines
            for command in pipeline.declared.commands
        ),
        settings_file=project_file(),
        run_name=run.run_name,
        templates=run.settings.templates,
        verbosity=run.verbosity,
    )
    files = render_specs(run.plan, source)
    paths: dict[str, str] = {}
    for shipment in shipments.values():
        for uri, text in shipment.files.items():
            paths[uri] = f"{FOLDER}/uploads/{uri.rpartition('/rvrun/')[2]}"
            files[paths[uri]] = text
    told = notes(run, shipments.values(), run.settings.batch.worker)
    files |= {f"{FOLDER}/{name}": text for name, text in told.items()}
    return {**files, UPLOADS: json.dumps(paths, indent=2, ensure_ascii=False) + "\n"}


def examine(run: Run) -> Iterator[Finding]:
    """Whether AWS would take the run: the account, its queues and definitions, the buckets."""

    def ask(account: Account) -> Iterator[Finding]:
        batch, requests = account.reader(RUNNER), list(_requests(render(run)))
        yield from check_queues(batch, requests)
        yield from check_definitions(batch, requests)

    return examined(run, RUNNER, run.settings.batch.worker, ask)


def _requests(files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    return (json.loads(text) for path, text in files.items() if is_spec(path))


def risks(files: Mapping[str, str]) -> Iterator[str]:
    """What Batch may try again, whatever the failure, though it should be tried once.

    Where it tries again after a reclaimed instance alone is no risk: what was killed wrote nothing.
    """
    if (text := files.get(f"{FOLDER}/{ONCE}")) is None:
        return
    once = json.loads(text)
    for request in _requests(files):
        stage = stage_of(request["tags"][JOB_TAG])
        strategy = request.get("retryStrategy", {})
        attempts = strategy.get("attempts", 1)
        if stage in once and attempts > 1 and "evaluateOnExit" not in strategy:
            yield (
                f"{second_try(stage, once[stage])}, and its jobs are tried up to {attempts} times; "
                'have rvrun in the image and set `batch.worker = "rvrun"`, or set `attempts = 1` '
                f'in [batch.commands."{stage}"]'
            )


def submit(run: Run, told: Told) -> Ledger:
    """Submit all of `run`; where one of the same was cut off, go on with that."""
    account = run.account
    files = render(run)
    ledger = _unfinished(run.run_dir, files)
    save(run.planned, account)
    upload(files, account)
    if ledger is None:
        ledger = ledgers.create(run.run_dir, run.run_name, RUNNER, account, files)
    _submit_round(ledger, 1, run.settings.batch.submit_rate, told)
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
        look=lambda: state(last),
    )


def upload(files: Mapping[str, str], account: Account) -> None:
    """Put what the jobs read where they read it. Twice does no harm: names tell the content."""
    uploads = json.loads(files[UPLOADS])
    storage.write_all({uri: files[path].encode() for uri, path in uploads.items()}, account)


def _submit_round(ledger: Ledger, number: int, rate: float, told: Told) -> None:
    tickets = read_tickets(ledger, number)
    done: list[str] = []

    def count(key: str) -> None:
        done.append(key)
        told(len(done), len(tickets))

    submitter(ledger, rate).submit(tickets, count)


def submitter(ledger: Ledger, rate: float) -> Submitter:
    """What submits the jobs of a run, at most so many a second."""
    account = ledger.account
    return Submitter(
        ledger=ledger,
        maker=account.maker(RUNNER),
        reader=account.reader(RUNNER),
        pace=Pace(rate),
    )


def state(ledger: Ledger) -> RunState:
    """How a run stands."""
    return read_state(ledger, ledger.account.reader(RUNNER))


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    """The lines of a target's last try; with `follow` as they come, until it ends."""
    batch = ledger.account.reader(RUNNER)
    job_id = job_of(known_jobs(ledger, batch), target)
    return read_log(batch, ledger.account.reader("logs"), job_id, target, follow=follow)


def cancel(ledger: Ledger, told: Told) -> int:
    """End all that waits or runs; how many jobs that were.

    The last ones first, so that none starts because one before it was ended. What was about to be
    submitted when the run was cut off is looked for first.
    """
    number = ledger.num_rounds
    batch = ledger.account.reader(RUNNER)
    find_lost(ledger, number, submitter(ledger, CANCEL_RATE))
    jobs = [job for job in reversed(known_jobs(ledger, batch)[number]) if _is_alive(job)]
    pace = Pace(CANCEL_RATE)

    def end(job: Known) -> None:
        pace.wait()
        batch.call("TerminateJob", jobId=job.id, reason=CANCEL_REASON)

    with cf.ThreadPoolExecutor(THREADS) as pool:
        for done, _ in enumerate(pool.map(end, jobs), start=1):
            told(done, len(jobs))
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


def retry(ledger: Ledger, settings: Settings, told: Told) -> int:
    """Submit again what failed and what hung on it; how many targets that are.

    Where an earlier retry was cut off, go on with that. Raises `StillGoing`, `NotSubmitted`,
    `NothingToRetry`, `Forgotten`.
    """
    number, rate = ledger.num_rounds, settings.batch.submit_rate
    if number not in rounds_of(ledger, SUBMITTED) | rounds_of(ledger, CANCELLED):
        if number == 1:
            raise NotSubmitted(ledger.handle)
        _submit_round(ledger, number, rate, told)
        return _num_targets(read_tickets(ledger, number))
    if not state(ledger).is_over:
        raise StillGoing(ledger.handle)
    batch = ledger.account.reader(RUNNER)
    jobs = known_jobs(ledger, batch)[number]
    failed = [each for job in jobs for each in _failed(job, batch)]
    if not failed:
        gone = any(job.counts.get(State.GONE) for job in jobs)
        raise Forgotten(ledger.handle) if gone else NothingToRetry(ledger.handle)
    number = ledger.add_round(retry_files(failed, number + 1))
    _submit_round(ledger, number, rate, told)
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
