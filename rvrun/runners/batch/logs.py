"""What the target of a run on AWS Batch printed, from CloudWatch Logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from rvrun.aws.client import Client, Refused
from rvrun.errors import Problem, check_known
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import OVER
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.batch.state import STATES, Known, known_jobs
from rvrun.runners.batch.submit import describe

#: Where Batch writes, unless a job definition says otherwise (AWS Batch User Guide, "Using
#: CloudWatch Logs").
GROUP = "/aws/batch/job"
POLL_SECONDS = 3.0


class NoLog(Problem):
    """A target that has no log, or not yet."""


def job_of(rounds: Mapping[int, Sequence[Known]], target: str) -> str:
    """The id of the job, or of the child, that ran `target` last. Raises `NoLog`."""
    name, split = _parse(target)
    jobs = [job for jobs in rounds.values() for job in jobs if not job.is_join]
    check_known("stage", name, tuple(dict.fromkeys(job.stage for job in jobs)))
    of_stage = [job for job in jobs if job.stage == name]
    if split is None:
        splits = {split for job in of_stage for split in job.splits or ()}
        if len(splits) > 1:
            raise NoLog(
                f"{name} is split; name one target, such as {name}/{min(splits)} or another of "
                f"its {len(splits):,} splits"
            )
        return _child_id(of_stage[-1], None, target)
    for job in reversed(of_stage):
        if job.splits is not None and split in job.splits:
            return _child_id(job, job.splits.index(split), target)
    raise NoLog(f"{name} has no target {target}")


def _parse(target: str) -> tuple[str, int | None]:
    """`tiny/chip/3` → `tiny/chip`, 3."""
    stage, _, last = target.rpartition("/")
    if last.isascii() and last.isdigit() and "/" in stage:
        return stage, int(last)
    return target, None


def _child_id(job: Known, child: int | None, target: str) -> str:
    if job.id is None:
        raise NoLog(f"{target} was not submitted")
    return job.id if child is None or job.ticket.size is None else f"{job.id}:{child}"


def read_log(
    batch: Client,
    logs: Client,
    job_id: str,
    target: str,
    *,
    follow: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """The lines of a job's last try; with `follow` those of it and later ones until it ends."""
    seen: str | None = None
    has_log = False
    while True:
        job = _described(batch, job_id, target)
        over = STATES[job["status"]] in OVER
        stream = _stream(job)
        if stream is not None and stream != seen:
            seen = stream
            has_log |= yield from _follow(
                batch, logs, job_id, stream, job, follow=follow, sleep=sleep
            )
            if follow:
                continue
        if over or not follow:
            if not has_log:
                raise NoLog(f"{target} has no log: it {_why(job)}")
            return
        sleep(POLL_SECONDS)


def _why(job: Mapping[str, Any]) -> str:
    reason = f" ({job['statusReason']})" if job.get("statusReason") else ""
    state = str(job["status"]).lower()
    if STATES[job["status"]] in OVER:
        return f"{state} without having printed anything{reason}"
    return f"is {state}{reason}; -f waits for it"


def _described(batch: Client, job_id: str, target: str) -> dict[str, Any]:
    """A job as it is; of a child that is not there yet, or never will be, its array."""
    array, _, child = job_id.partition(":")
    found = {job["jobId"]: job for job in describe(batch, [job_id, array] if child else [job_id])}
    if not found:
        raise NoLog(f"{target}: Batch no longer knows job {job_id}")
    return found.get(job_id) or found[array]


def _stream(job: Mapping[str, Any]) -> str | None:
    """The stream of a job's last try that has one."""
    tries = [attempt.get("container", {}) for attempt in job.get("attempts", ())]
    streams = [each.get("logStreamName") for each in (*tries, job.get("container", {}))]
    return next((stream for stream in reversed(streams) if stream), None)


def _group(job: Mapping[str, Any]) -> str:
    configuration = job.get("container", {}).get("logConfiguration", {})
    return str(configuration.get("options", {}).get("awslogs-group", GROUP))


def _follow(
    batch: Client,
    logs: Client,
    job_id: str,
    stream: str,
    job: Mapping[str, Any],
    *,
    follow: bool,
    sleep: Callable[[float], None],
) -> Generator[str, None, bool]:
    """The lines of a stream: to its end, and with `follow` until its try is over.

    Gives whether there is such a stream: there is none before its first line. At the end of what is
    there CloudWatch gives the token again that it was given (CloudWatch Logs API Reference,
    GetLogEvents); a page may be empty before that.
    """
    token: str | None = None
    over = False
    while True:
        lines, next_token = _page(logs, _group(job), stream, token)
        yield from lines
        if next_token != token:
            token = next_token
            continue
        if over or not follow:
            return token is not None
        now = _described(batch, job_id, job_id)
        # What came between the last page and the end is still to be read.
        over = STATES[now["status"]] in OVER or _stream(now) != stream
        if not over:
            sleep(POLL_SECONDS)


def _page(logs: Client, group: str, stream: str, token: str | None) -> tuple[list[str], str | None]:
    more = {} if token is None else {"nextToken": token}
    try:
        answer = logs.call(
            "GetLogEvents", logGroupName=group, logStreamName=stream, startFromHead=True, **more
        )
    except Refused as error:
        if error.code == "ResourceNotFoundException":
            return [], token
        raise
    return [event["message"] for event in answer["events"]], answer["nextForwardToken"]


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a target's last attempt; with `follow` as they come, to its end."""
    account = account_of_run(ledger)
    batch = account.reader("batch")
    job_id = job_of(known_jobs(ledger, batch), target)
    return read_log(batch, account.reader("logs"), job_id, target, follow=follow)
