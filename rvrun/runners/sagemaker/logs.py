"""The logs of targets, from CloudWatch Logs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from rvrun.aws.client import NOT_FOUND, Client, Refused
from rvrun.errors import check_known
from rvrun.remote.errors import NoLog
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import OVER, State
from rvrun.runners.aws_common import account_of_run, read_log_page
from rvrun.runners.sagemaker.files import Job
from rvrun.runners.sagemaker.state import Execution, StartedStep, read_executions

#: The log group by kind of job. Each instance has a stream, named JOB/HOST-TIME (Amazon SageMaker
#: Developer Guide, "CloudWatch Logs for Amazon SageMaker AI").
GROUPS = {
    "ProcessingJob": "/aws/sagemaker/ProcessingJobs",
    "TrainingJob": "/aws/sagemaker/TrainingJobs",
}
POLL_SECONDS = 3.0


@attrs.frozen
class LogSource:
    """What wrote a log: a job of an execution, and which of its instances, from 0; None for all."""

    execution: Execution
    job: Job
    instance: int | None


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a target's last attempt; with `follow` as they come, to its end.

    Raises `NoLog`, `UnknownName` or `AwsError`.
    """
    account = account_of_run(ledger)
    sagemaker = account.reader("sagemaker")
    source = find_source(read_executions(ledger, sagemaker), target)
    name = source.execution.submission.name

    def refresh() -> Execution:
        executions = read_executions(ledger, sagemaker)
        return next(execution for execution in executions if execution.submission.name == name)

    return read_log(source, refresh, account.reader("logs"), follow=follow)


def find_source(executions: Sequence[Execution], target: str) -> LogSource:
    """Find what writes the log of `target`: also of a stage, if a single job runs all of it.

    Raises `NoLog`, or `UnknownName` if there is no such target.
    """
    jobs = [(execution, job) for execution in executions for job in execution.submission.jobs]
    for execution, job in jobs:
        if target in job.targets:
            index = job.targets.index(target)
            return LogSource(execution, job, index if len(job.targets) > 1 else None)
    of_stage = [(execution, job) for execution, job in jobs if job.stage == target]
    if len(of_stage) == 1:
        return LogSource(*of_stage[0], None)
    if of_stage:
        total = sum(len(job.targets) for _, job in of_stage)
        raise NoLog(
            f"{target} is split; specify one target, such as {target}/0 or another of its "
            f"{total:,} splits"
        )
    stages = tuple(dict.fromkeys(job.stage for _, job in jobs))
    stage, _, last = target.rpartition("/")
    if last.isdigit() and stage in stages:
        raise NoLog(f"{stage} has no target {target}")
    check_known("stage", target, stages)
    raise AssertionError("unreachable: a known stage has jobs")


def read_log(
    source: LogSource,
    refresh: Callable[[], Execution],
    logs: Client,
    *,
    follow: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Yield the lines of a job's last attempt; with `follow` also new ones until it is over.

    - `refresh`: asks for the execution's current state.

    Lines of several instances begin with the host.
    """
    execution, job = source.execution, source.job
    reader = _LogReader(logs=logs, instance=source.instance)
    while True:
        step = execution.steps.get(job.name)
        # Decided before reading: what is written between the last read and the end is read too.
        over = execution.is_over or (step is not None and step.state in OVER)
        if step is not None:
            yield from reader.new_lines(step)
        if over or not follow:
            if not reader.tokens:
                raise NoLog(f"{job.stage} has no log: {_explain(execution, job)}")
            return
        sleep(POLL_SECONDS)
        execution = refresh()


def _explain(execution: Execution, job: Job) -> str:
    """Why a job has no log."""
    state, step = execution.state(job), execution.steps.get(job.name)
    reason = step.reason if step else ""
    if state is State.FAILED and not reason:
        return "it was not started, because another step failed or was stopped"
    text = f"step `{job.name}` is {state}" + (f" ({reason})" if reason else "")
    return text if state in OVER else f"{text}; use -f to wait for it"


@attrs.define(kw_only=True)
class _LogReader:
    """Reads the log streams of a job; `tokens` are the positions reached in each stream."""

    logs: Client
    instance: int | None
    tokens: dict[str, str | None] = attrs.field(factory=dict)

    def new_lines(self, step: StartedStep) -> Iterator[str]:
        """Yield the lines that were added to any stream since the last call."""
        if not step.job_name:
            return
        group = GROUPS[step.job_kind]
        streams = sorted(self._list_streams(group, step.job_name), key=_host_number)
        for stream in streams:
            prefix = f"{_host(stream)}: " if len(streams) > 1 else ""
            yield from (f"{prefix}{line}" for line in self._read_stream(group, stream))

    def _list_streams(self, group: str, job_name: str) -> list[str]:
        prefix = f"{job_name}/algo-"
        if self.instance is not None:
            prefix += f"{self.instance + 1}-"
        try:
            pages = self.logs.pages(
                "DescribeLogStreams", "nextToken", logGroupName=group, logStreamNamePrefix=prefix
            )
            return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except Refused as error:
            # The group does not exist before the first job of its kind has written a line.
            if error.code == NOT_FOUND:
                return []
            raise

    def _read_stream(self, group: str, stream: str) -> Iterator[str]:
        """Yield the lines since the last call, up to the end of what is there."""
        token = self.tokens.get(stream)
        while True:
            previous = token
            lines, token = read_log_page(self.logs, group, stream, previous)
            yield from lines
            self.tokens[stream] = token
            if token == previous:
                return


def _host(stream: str) -> str:
    """`algo-1` of `job/algo-1-1700000000`."""
    return stream.rpartition("/")[2].rpartition("-")[0]


def _host_number(stream: str) -> list[int]:
    """A sort key by which `algo-10` comes after `algo-2`."""
    return [int(number) for number in re.findall(r"\d+", stream.rpartition("/")[2])]
