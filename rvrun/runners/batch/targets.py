"""What AWS Batch says about each target of a run: a hundred jobs or children of arrays a call."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Iterable, Mapping, Sequence

from rvrun.aws.client import Client
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import OVER, State, TargetReport, TargetReports
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.batch.api import MAX_DESCRIBED, JobDetail, describe_jobs
from rvrun.runners.batch.inventory import THREADS
from rvrun.runners.batch.looks import Looks
from rvrun.runners.batch.specs import RUNNER
from rvrun.runners.batch.state import reason_of
from rvrun.runners.batch.tracked import TrackedJob, state_of

NOTES = (
    "AWS Batch does not report how much memory targets used.",
    "A target has the times of its last attempt, without the wait for a machine.",
)

#: A job, and which of the children of its array; 0 if it is none.
Place = tuple[TrackedJob, int]


def read_targets(ledger: Ledger) -> TargetReports:
    """Return what Batch reports of each target. Raises `AwsError`."""
    batch = account_of_run(ledger).reader(RUNNER)
    places = _latest(Looks(ledger, batch).jobs().rounds)
    details = _describe(batch, places.values())
    reports = (_report(name, place, details.get(_id_of(place))) for name, place in places.items())
    return TargetReports(targets=tuple(reports), notes=NOTES)


def _latest(rounds: Mapping[int, Sequence[TrackedJob]]) -> dict[str, Place]:
    """Return what ran each target last: a retry runs some of them again."""
    return {
        job.spec.target(child): (job, child)
        for number in sorted(rounds)
        for job in rounds[number]
        if not job.spec.is_join
        for child in range(job.spec.num_targets)
    }


def _id_of(place: Place) -> str:
    job, child = place
    return f"{job.id}:{child}" if job.spec.size is not None else str(job.id)


def _describe(batch: Client, places: Iterable[Place]) -> dict[str, JobDetail]:
    details: dict[str, JobDetail] = {}
    ids = []
    for place in places:
        job, _ = place
        if job.detail is None:
            continue
        if job.spec.size is None:
            details[job.detail["jobId"]] = job.detail
        elif job.has_children:
            ids.append(_id_of(place))
    parts = [ids[start : start + MAX_DESCRIBED] for start in range(0, len(ids), MAX_DESCRIBED)]
    with cf.ThreadPoolExecutor(THREADS) as pool:
        calls = pool.map(lambda some: describe_jobs(batch, some), parts)
        return details | {job["jobId"]: job for jobs in calls for job in jobs}


def _report(name: str, place: Place, detail: JobDetail | None) -> TargetReport:
    job, _ = place
    if detail is None:
        # A child that does not exist is in the state of its array.
        reason = "" if job.detail is None else reason_of(job.detail)
        return TargetReport(name=name, state=job.state, reason=reason)
    state = state_of(detail["status"])
    attempts = detail.get("attempts", ())
    # An attempt is listed when it has ended.
    is_listed = state in OVER and len(attempts) > 0
    times = attempts[-1] if is_listed else detail
    began, ended = times.get("startedAt"), times.get("stoppedAt") if state in OVER else None
    return TargetReport(
        name=name,
        state=state,
        attempt=max(len(attempts) + (not is_listed), 1),
        began=began / 1000 if began else None,
        ended=ended / 1000 if ended else None,
        exit_code=detail.get("container", {}).get("exitCode"),
        reason=reason_of(detail) if state is State.FAILED else "",
    )
