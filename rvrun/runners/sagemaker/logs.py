"""What the targets of a run on SageMaker printed, from CloudWatch Logs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from rvrun.aws.client import Client, Refused
from rvrun.errors import Problem, check_known
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import OVER, State
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.sagemaker.files import Job
from rvrun.runners.sagemaker.state import STATES, Execution, executions

#: Where SageMaker writes, by the kind of job: one stream an instance, whose name begins with the
#: job's and the host's.
GROUPS = {
    "ProcessingJob": "/aws/sagemaker/ProcessingJobs",
    "TrainingJob": "/aws/sagemaker/TrainingJobs",
}
POLL_SECONDS = 3.0


class NoLog(Problem):
    """A target that has no log, or not yet."""


@attrs.frozen
class Place:
    """Where a target runs: a job of an execution, and its instance there; None for all of them."""

    execution: Execution
    job: Job
    instance: int | None


def place_of(found: Sequence[Execution], target: str) -> Place:
    """Where `target` runs. Raises `NoLog`, or `UnknownName` for what is none.

    A stage whose splits are the instances of one step is taken as a target, too.
    """
    jobs = [(execution, job) for execution in found for job in execution.submission.jobs]
    for execution, job in jobs:
        if target in job.targets:
            index = job.targets.index(target)
            return Place(execution, job, index if len(job.targets) > 1 else None)
    of_stage = [(execution, job) for execution, job in jobs if job.stage == target]
    if len(of_stage) == 1:
        return Place(*of_stage[0], None)
    if of_stage:
        total = sum(len(job.targets) for _, job in of_stage)
        raise NoLog(
            f"{target} is split; name one target, such as {target}/0 or another of its "
            f"{total:,} splits"
        )
    stages = tuple(dict.fromkeys(job.stage for _, job in jobs))
    stage, _, last = target.rpartition("/")
    if last.isdigit() and stage in stages:
        raise NoLog(f"{stage} has no target {target}")
    check_known("stage", target, stages)
    raise AssertionError("unreachable: a known stage has jobs")


def read_log(
    place: Place,
    again: Callable[[], Execution],
    logs: Client,
    *,
    follow: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """The lines of the last try; with `follow` also those that come until it is over.

    `again` tells how the execution stands now. Lines of several instances begin with the host.
    """
    execution, job = place.execution, place.job
    streams = _Streams(logs=logs, place=place)
    while True:
        step = execution.steps.get(job.name)
        over = execution.is_over or (step is not None and STATES[step["StepStatus"]] in OVER)
        if step is not None:
            yield from streams.lines(step)
        if over or not follow:
            if not streams.tokens:
                raise NoLog(f"{place.job.stage} has no log: {_why(execution, job)}")
            return
        sleep(POLL_SECONDS)
        execution = again()


def _why(execution: Execution, job: Job) -> str:
    state = execution.state(job)
    reason = execution.steps.get(job.name, {}).get("FailureReason", "")
    if state is State.FAILED and not reason:
        return "it was not started, for something that it needs failed or was stopped"
    told = f"step `{job.name}` is {state}" + (f" ({reason})" if reason else "")
    return told if state in OVER else f"{told}; -f waits for it"


@attrs.define(kw_only=True)
class _Streams:
    """The log streams of a job's instances, and how far each was read."""

    logs: Client
    place: Place
    tokens: dict[str, str | None] = attrs.field(factory=dict)

    def lines(self, step: Any) -> Iterator[str]:
        """What is new in all of them."""
        for kind, group in GROUPS.items():
            arn = step.get("Metadata", {}).get(kind, {}).get("Arn")
            if arn is not None:
                names = sorted(self._names(group, arn.rpartition("/")[2]), key=_host_number)
                for name in names:
                    host = f"{_host(name)}: " if len(names) > 1 else ""
                    yield from (f"{host}{line}" for line in self._new(group, name))

    def _names(self, group: str, job_name: str) -> list[str]:
        """The streams of the instance asked for, or of all."""
        prefix = f"{job_name}/algo-"
        if self.place.instance is not None:
            prefix += f"{self.place.instance + 1}-"
        try:
            pages = self.logs.pages(
                "DescribeLogStreams", "nextToken", logGroupName=group, logStreamNamePrefix=prefix
            )
            return [each["logStreamName"] for page in pages for each in page["logStreams"]]
        except Refused as error:
            if error.code == "ResourceNotFoundException":
                return []
            raise

    def _new(self, group: str, stream: str) -> Iterator[str]:
        """The lines since the last look. At the end CloudWatch gives the same token again."""
        token = self.tokens.get(stream)
        while True:
            more = {} if token is None else {"nextToken": token}
            answer = self.logs.call(
                "GetLogEvents", logGroupName=group, logStreamName=stream, startFromHead=True, **more
            )
            yield from (event["message"] for event in answer["events"])
            before, token = token, answer["nextForwardToken"]
            self.tokens[stream] = token
            if token == before:
                return


def _host(stream: str) -> str:
    """`algo-1` of `job/algo-1-1700000000`."""
    return stream.rpartition("/")[2].rpartition("-")[0]


def _host_number(stream: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", stream.rpartition("/")[2])]


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a target's last attempt; with `follow` as they come, to its end."""
    account = account_of_run(ledger)
    sagemaker = account.reader("sagemaker")
    place = place_of(executions(ledger, sagemaker), target)
    name = place.execution.submission.name

    def again() -> Execution:
        return next(e for e in executions(ledger, sagemaker) if e.submission.name == name)

    return read_log(place, again, account.reader("logs"), follow=follow)
