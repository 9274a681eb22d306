"""Compare the jobs of a run that AWS Batch lists with those in its ledger.

SubmitJob takes no client token, so a call whose reply was lost may leave a job that the ledger does
not know, or a second one. Neither stays unnoticed: the names of all jobs of a run begin with its
id, and ListJobs filters by the beginning of a name, so one paged query per queue lists them all
(AWS Batch API Reference, ListJobs: `JOB_NAME` with a trailing `*`, in whatever state, case ignored,
100 jobs a page). Tags then prove which job is which.
"""

from __future__ import annotations

import collections
import concurrent.futures as cf
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from rvrun.aws.client import AwsError, Client, Refused
from rvrun.remote.ledger import INTENDED, Ledger
from rvrun.runners.batch.api import (
    MAX_DESCRIBED,
    JobDetail,
    JobSummary,
    describe_jobs,
    has_queue,
    list_jobs_named,
    terminate_job,
)
from rvrun.runners.batch.spec_files import JOB_TAG, RUN, RUN_TAG, Spec

#: The most calls that one look makes at the same time.
THREADS = 16
#: The event of the ledger that has the id of a submitted job.
ACCEPTED = "accepted"
#: The event of the ledger for a call without an answer.
UNANSWERED = "unanswered"
#: The reason that rvrun gives for ending a duplicate, by which it is recognized later.
DUPLICATE_REASON = "rvrun: submitted twice"
#: The code by which Batch says that a queue does not exist, but also many other things.
CLIENT_EXCEPTION = "ClientException"
#: The states of jobs that have ended.
ENDED_STATES = ("SUCCEEDED", "FAILED")


@attrs.frozen(kw_only=True)
class Duplicate:
    """A job that Batch accepted although `kept` does the same work."""

    key: str
    job: JobDetail
    kept: str


@attrs.frozen(kw_only=True)
class Inventory:
    """The jobs of some rounds of a run, as Batch knows them.

    - `ids`: of the job that counts, by round and key. `details`: by id.
    - `duplicates`: jobs that repeat the work of one that counts, and that no such job depends on.
    """

    ids: Mapping[int, Mapping[str, str]]
    details: Mapping[str, JobDetail]
    duplicates: Sequence[Duplicate]


def read_ids(ledger: Ledger, number: int) -> dict[str, str]:
    """Return the ids of the submitted jobs of a round, by key; the first of a key counts.

    An event that lacks a value was damaged, so its job is found by its name, as a lost one is.
    """
    ids: dict[str, str] = {}
    for event in ledger.intact_events(ACCEPTED):
        key, id_ = event.get("job"), event.get("id")
        if event.get("round") == number and isinstance(key, str) and isinstance(id_, str):
            ids.setdefault(key, id_)
    return ids


def is_certain(ledger: Ledger) -> bool:
    """Whether each call is known to have submitted the job that the ledger has, and no other.

    Not so after a lost reply, a process that died in a call, or the loss of lines of the ledger.
    """
    intended: collections.Counter[tuple[object, object]] = collections.Counter()
    accepted: set[tuple[object, object]] = set()
    for event in ledger.intact_events(INTENDED, ACCEPTED, UNANSWERED):
        job = (event.get("round"), event.get("job"))
        if event["event"] == UNANSWERED:
            return False
        if event["event"] == ACCEPTED:
            accepted.add(job)
        else:
            intended[job] += 1
    return intended == dict.fromkeys(accepted, 1)


def take_inventory(ledger: Ledger, batch: Client, specs: Mapping[int, Sequence[Spec]]) -> Inventory:
    """List and describe the jobs of the rounds in `specs`, and note those the ledger lacked."""
    in_ledger = {number: read_ids(ledger, number) for number in specs}
    known_ids = {id_ for ids in in_ledger.values() for id_ in ids.values()}
    with cf.ThreadPoolExecutor(THREADS) as pool:
        described = [pool.submit(describe_jobs, batch, some) for some in _chunks(known_ids)]
        listed = [
            pool.submit(_list, batch, queue, f"{prefix}*")
            for queue, prefix in queries(ledger.run_id, specs)
        ]
        new_ids = {job["jobId"] for future in listed for job in future.result()} - known_ids
        described += [pool.submit(describe_jobs, batch, some) for some in _chunks(new_ids)]
        details = {job["jobId"]: job for future in described for job in future.result()}
    ids: dict[int, Mapping[str, str]] = {}
    duplicates: list[Duplicate] = []
    for number, specs_of_round in specs.items():
        candidates = find_candidates(ledger.run_id, specs_of_round, details.values())
        ids[number], more = choose(specs_of_round, candidates, in_ledger[number])
        duplicates += more
        for key in ids[number].keys() - in_ledger[number].keys():
            # The ledger is only a copy of what Batch knows, so it may be read-only.
            ledger.note_if_possible(ACCEPTED, job=key, round=number, id=ids[number][key])
    return Inventory(ids=ids, details=details, duplicates=duplicates)


def _list(batch: Client, queue: str, name: str) -> list[JobSummary]:
    try:
        return list_jobs_named(batch, queue, name)
    except Refused as error:
        # No job can be in a queue that does not exist, or not any more.
        if error.code == CLIENT_EXCEPTION and not has_queue(batch, queue):
            return []
        raise


def _chunks(ids: Iterable[str]) -> list[list[str]]:
    ordered = sorted(ids)
    return [ordered[i : i + MAX_DESCRIBED] for i in range(0, len(ordered), MAX_DESCRIBED)]


def queries(run_id: str, specs: Mapping[int, Sequence[Spec]]) -> list[tuple[str, str]]:
    """Return the queues of a run's jobs, each with the beginning of their names there.

    A user's template may put something before the run's id; what follows it does not matter.
    """
    pairs = {
        (spec.request["jobQueue"], spec.request["jobName"].partition(RUN)[0] + run_id)
        for specs_of_round in specs.values()
        for spec in specs_of_round
    }
    return sorted(pairs)


def find_candidates(
    run_id: str, specs: Sequence[Spec], jobs: Iterable[JobDetail]
) -> dict[str, list[JobDetail]]:
    """Return the jobs of each spec, by key. A name alone proves nothing: others may use it too."""
    keys = {(spec.name(run_id), spec.key): spec.key for spec in specs}
    candidates: dict[str, list[JobDetail]] = {}
    for job in jobs:
        tags = job.get("tags", {})
        key = keys.get((job.get("jobName", ""), tags.get(JOB_TAG, "")))
        if key is not None and tags.get(RUN_TAG) == run_id:
            candidates.setdefault(key, []).append(job)
    return candidates


def choose(
    specs: Sequence[Spec],
    candidates: Mapping[str, Sequence[JobDetail]],
    in_ledger: Mapping[str, str],
) -> tuple[dict[str, str], list[Duplicate]]:
    """Decide which job of each spec counts; return their ids by key, and the duplicates.

    Every process must decide the same, and a job that counts must not lose what it depends on. So
    the specs are visited from last to first. Of several jobs, the one that counts is the one that
    a job that counts depends on, else the one in the ledger, else the oldest that rvrun did not end
    itself. A job that Batch does not know any more counts if it is in the ledger and no other is
    there.
    """
    ids: dict[str, str] = {}
    duplicates: list[Duplicate] = []
    needed: set[str] = set()
    for spec in reversed(specs):
        jobs = sorted(candidates.get(spec.key, ()), key=_rank)
        by_id = {job["jobId"]: job for job in jobs}
        wanted = [id_ for id_ in by_id if id_ in needed]
        own = in_ledger.get(spec.key)
        counts = next(iter([*wanted, *([own] if own in by_id else []), *by_id]), own)
        if counts is None:
            continue
        ids[spec.key] = counts
        kept = {counts, *wanted}
        needed |= {id_ for kept_id in kept if kept_id in by_id for id_ in _needs(by_id[kept_id])}
        duplicates += [
            Duplicate(key=spec.key, job=job, kept=counts)
            for id_, job in by_id.items()
            if id_ not in kept
        ]
    return {spec.key: ids[spec.key] for spec in specs if spec.key in ids}, duplicates[::-1]


def _rank(job: JobDetail) -> tuple[bool, bool, int, str]:
    """Sort the best job first. Ids break ties: two jobs may be created in one millisecond."""
    is_known_duplicate = job.get("statusReason") == DUPLICATE_REASON
    was_ended = is_known_duplicate or job.get("isTerminated", False)
    return is_known_duplicate, was_ended, job.get("createdAt", 0), job["jobId"]


def _needs(job: JobDetail) -> list[str]:
    return [need["jobId"] for need in job.get("dependsOn", ()) if "jobId" in need]


def end_duplicates(batch: Client, duplicates: Iterable[Duplicate]) -> list[str]:
    """End the duplicates that have not ended, and return a sentence about each duplicate."""
    duplicates = list(duplicates)
    with cf.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda duplicate: _end(batch, duplicate), duplicates))


def _end(batch: Client, duplicate: Duplicate) -> str:
    id_, status = duplicate.job["jobId"], duplicate.job["status"]
    text = f"{duplicate.key} was submitted twice; job {id_}, a duplicate of {duplicate.kept},"
    if duplicate.job.get("statusReason") == DUPLICATE_REASON:
        return f"{text} was ended"
    if status in ENDED_STATES:
        return f"{text} {status.lower()} before rvrun found it"
    try:
        terminate_job(batch, id_, DUPLICATE_REASON)
    except AwsError as error:
        return f"{text} could not be ended ({error}); end it in the console of AWS Batch"
    return f"{text} was ended"


#: Receives a sentence for the user.
Report = Callable[[str], None]
