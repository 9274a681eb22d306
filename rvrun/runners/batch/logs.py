"""Read the log of a target from CloudWatch Logs."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence

import attrs

from rvrun.aws.client import NOT_FOUND, Client, Refused
from rvrun.errors import check_known
from rvrun.inputs import parse_integer
from rvrun.remote.errors import NoLog
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import OVER
from rvrun.runners.aws_common import account_of_run, read_log_page
from rvrun.runners.batch.api import JobDetail, describe_jobs
from rvrun.runners.batch.looks import Looks
from rvrun.runners.batch.specs import RUNNER
from rvrun.runners.batch.tracked import TrackedJob, state_of

#: The default log group (AWS Batch User Guide, "Using CloudWatch Logs").
GROUP = "/aws/batch/job"
#: Seconds between two looks for new lines.
POLL_SECONDS = 3.0


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a target's last attempt; with `follow` as they come, to its end.

    Raises `NoLog`, and `UnknownName` for an unknown stage.
    """
    account = account_of_run(ledger)
    batch = account.reader(RUNNER)
    job_id = find_job(Looks(ledger, batch).jobs().rounds, target)
    log = JobLog(
        batch=batch, logs=account.reader("logs"), job_id=job_id, target=target, follow=follow
    )
    return log.lines()


def find_job(rounds: Mapping[int, Sequence[TrackedJob]], target: str) -> str:
    """Return the id of the job, or child, that ran `target` last. Raises like `logs`."""
    stage, split = _parse(target)
    jobs = [job for jobs in rounds.values() for job in jobs if not job.spec.is_join]
    check_known("stage", stage, tuple(dict.fromkeys(job.spec.stage for job in jobs)))
    jobs = [job for job in jobs if job.spec.stage == stage]
    if split is None:
        splits = {split for job in jobs for split in job.spec.splits or ()}
        if len(splits) > 1:
            raise NoLog(
                f"{stage} is split; specify one of its {len(splits):,} targets, such as "
                f"{stage}/{min(splits)}"
            )
        return _id_of(jobs[-1], 0, target)
    # A retry runs only some splits, so the last job of the stage may be another split's.
    for job in reversed(jobs):
        if job.spec.splits is not None and split in job.spec.splits:
            return _id_of(job, job.spec.splits.index(split), target)
    raise NoLog(f"{stage} has no target {target}")


def _parse(target: str) -> tuple[str, int | None]:
    """The stage and split of a target: `tiny/chip`, 3 for `tiny/chip/3`."""
    stage, _, last = target.rpartition("/")
    split = parse_integer(last)
    return (target, None) if split is None or "/" not in stage else (stage, split)


def _id_of(job: TrackedJob, child: int, target: str) -> str:
    if job.id is None:
        raise NoLog(f"{target} was not submitted")
    return job.id if job.spec.size is None else f"{job.id}:{child}"


@attrs.frozen(kw_only=True)
class JobLog:
    """The log of a job or child: one stream of CloudWatch Logs per attempt."""

    batch: Client
    logs: Client
    job_id: str
    target: str
    follow: bool

    def lines(self) -> Iterator[str]:
        """Yield the lines of the last attempt; with `follow` also of later ones, to the job's end.

        Raises `NoLog` if there are none.
        """
        last_stream: str | None = None
        has_log = False
        while True:
            job = self._describe()
            stream = _last_stream(job)
            if stream is not None and stream != last_stream:
                last_stream = stream
                has_log |= yield from self._stream_lines(stream, job)
                if self.follow:
                    continue
            if _is_over(job) or not self.follow:
                if not has_log:
                    raise NoLog(f"{self.target} has no log{_why_no_log(job)}")
                return
            time.sleep(POLL_SECONDS)

    def _describe(self) -> JobDetail:
        """The job. For a child that does not exist yet, or never will, its array."""
        array_id, _, child = self.job_id.partition(":")
        ids = [self.job_id, array_id] if child else [self.job_id]
        details = {detail["jobId"]: detail for detail in describe_jobs(self.batch, ids)}
        if not details:
            raise NoLog(f"{self.target} has no log: AWS Batch no longer knows job {self.job_id}")
        return details.get(self.job_id) or details[array_id]

    def _stream_lines(self, stream: str, job: JobDetail) -> Generator[str, None, bool]:
        """Yield the lines of a stream; with `follow` until its attempt is over.

        Returns whether the stream exists: it is created with its first line.
        """
        options = job.get("container", {}).get("logConfiguration", {}).get("options", {})
        group = options.get("awslogs-group", GROUP)
        token: str | None = None
        is_over = False
        while True:
            lines, next_token = self._page(group, stream, token)
            yield from lines
            if next_token != token:
                token = next_token
                continue
            if is_over or not self.follow:
                return token is not None
            # Lines may have come between the last page and the end of the attempt, so after the end
            # there is one more look.
            job = self._describe()
            is_over = _is_over(job) or _last_stream(job) != stream
            if not is_over:
                time.sleep(POLL_SECONDS)

    def _page(self, group: str, stream: str, token: str | None) -> tuple[list[str], str | None]:
        """A page of lines and the token of the next; none of a stream that does not exist yet."""
        try:
            return read_log_page(self.logs, group, stream, token)
        except Refused as error:
            if error.code == NOT_FOUND:
                return [], token
            raise


def _is_over(job: JobDetail) -> bool:
    return state_of(job["status"]) in OVER


def _why_no_log(job: JobDetail) -> str:
    """The end of a message: ` yet: it is pending; use -f to wait for it`."""
    reason = f" ({job['statusReason']})" if job.get("statusReason") else ""
    status = job["status"].lower()
    if _is_over(job):
        return f": it {status} without printing anything{reason}"
    return f" yet: it is {status}{reason}; use -f to wait for it"


def _last_stream(job: JobDetail) -> str | None:
    """The stream of the job's last attempt that has one."""
    ended = [attempt.get("container", {}) for attempt in job.get("attempts", ())]
    streams = [container.get("logStreamName") for container in (*ended, job.get("container", {}))]
    return next((stream for stream in reversed(streams) if stream), None)
