"""How a run on SageMaker stands: executions described, their steps listed a hundred a call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from rvrun.aws.client import Client, Refused
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger
from rvrun.remote.state import RemoteFailure, RunState, StageState, State, timestamp
from rvrun.runners.sagemaker.files import Job, Submission, read_submissions
from rvrun.runners.sagemaker.submit import MISSING, started

#: Of an event in the ledger.
RETRIED = "retried"
PAGE = 100
#: What SageMaker calls the state of a step that was started.
STATES = {
    "Starting": State.RUNNABLE,
    "Executing": State.RUNNING,
    "Stopping": State.RUNNING,
    "Succeeded": State.SUCCEEDED,
    "Failed": State.FAILED,
    "Stopped": State.FAILED,
}
#: Of an execution of which nothing runs any more.
STOPPED = "Stopped"
ENDED = (STOPPED, "Failed", "Succeeded", "CompletedWithFailures")
_EXIT_CODE = re.compile(r"exit code: (\d+)")


@attrs.frozen(kw_only=True)
class Execution:
    """An execution of a pipeline as SageMaker tells of it.

    - `arn`: None where it was not started; `status`: None where it was, and is not known any more.
    - `steps`: what is told of each step that was started, by name.
    """

    submission: Submission
    arn: str | None
    status: str | None = None
    steps: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)

    @property
    def is_over(self) -> bool:
        return self.status in ENDED or (self.arn is not None and self.status is None)

    @property
    def has_failed(self) -> bool:
        return self.status in ENDED and self.status != "Succeeded"

    def state(self, job: Job) -> State:
        """Of the targets of one job."""
        told = self.steps.get(job.name)
        if told is not None:
            return STATES[told["StepStatus"]]
        if self.status in ENDED:
            # What hung on a failed step fails with it.
            return State.FAILED
        return State.GONE if self.arn is not None and self.status is None else State.PENDING


def executions(ledger: Ledger, sagemaker: Client) -> list[Execution]:
    """The executions of a run, also those that were not started."""
    arns = started(ledger)
    # One that was not started before the run was cancelled never will be.
    unstarted = STOPPED if is_cancelled(ledger) else None
    return [
        _execution(submission, arns[submission.name], sagemaker)
        if submission.name in arns
        else Execution(submission=submission, arn=None, status=unstarted)
        for submission in read_submissions(ledger.round_folder(1))
    ]


def _execution(submission: Submission, arn: str, sagemaker: Client) -> Execution:
    try:
        described = sagemaker.call("DescribePipelineExecution", PipelineExecutionArn=arn)
        steps = {
            step["StepName"]: step
            for page in sagemaker.pages(
                "ListPipelineExecutionSteps",
                "NextToken",
                PipelineExecutionArn=arn,
                MaxResults=PAGE,
            )
            for step in page["PipelineExecutionSteps"]
        }
    except Refused as error:
        if error.code == MISSING:
            return Execution(submission=submission, arn=arn)
        raise
    return Execution(
        submission=submission, arn=arn, status=described["PipelineExecutionStatus"], steps=steps
    )


def read_state(ledger: Ledger, sagemaker: Client) -> RunState:
    """How the run stands."""
    found = executions(ledger, sagemaker)
    stages = tuple(_stages(found))
    is_over = all(execution.is_over for execution in found)
    began = timestamp(ledger.facts["began"])
    return RunState(
        run_id=ledger.run_id,
        runner=ledger.runner,
        stages=stages,
        began=began,
        ended=max((stage.ended or began for stage in stages), default=began) if is_over else None,
        submitted=ledger.has(SUBMITTED),
        cancelled=is_cancelled(ledger),
        failure=_first_failure(found),
    )


def is_cancelled(ledger: Ledger) -> bool:
    """Whether it was, and not tried again since."""
    last = [event["event"] for event in ledger.events(CANCELLED, RETRIED)]
    return last[-1:] == [CANCELLED]


def _stages(found: Iterable[Execution]) -> Iterator[StageState]:
    for execution in found:
        by_stage: dict[str, list[Job]] = {}
        for job in execution.submission.jobs:
            by_stage.setdefault(job.stage, []).append(job)
        for name, jobs in by_stage.items():
            yield _stage(name, jobs, execution)


def _stage(name: str, jobs: Iterable[Job], execution: Execution) -> StageState:
    counts: dict[State, int] = {}
    told = []
    for job in jobs:
        state = execution.state(job)
        counts[state] = counts.get(state, 0) + len(job.targets)
        told.append(execution.steps.get(job.name, {}))
    starts, ends = (_times(told, key) for key in ("StartTime", "EndTime"))
    return StageState(
        name=name,
        counts={state: counts[state] for state in State if state in counts},
        began=min(starts, default=None),
        ended=max(ends, default=None),
    )


def _times(steps: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    moments: list[datetime] = [step[key] for step in steps if step.get(key)]
    return [each.timestamp() for each in moments]


def _first_failure(found: Iterable[Execution]) -> RemoteFailure | None:
    """That of the step that ended first of those that failed by themselves."""
    failed = [
        (step["EndTime"], job, step)
        for execution in found
        for job in execution.submission.jobs
        for step in [execution.steps.get(job.name)]
        if step and step["StepStatus"] == "Failed"
    ]
    if not failed:
        return None
    _, job, step = min(failed, key=lambda each: (each[0], each[1].name))
    reason = step.get("FailureReason", "")
    code = _EXIT_CODE.search(reason)
    target = job.targets[0] if len(job.targets) == 1 else job.stage
    return RemoteFailure(target=target, reason=reason, exit_code=int(code[1]) if code else None)
