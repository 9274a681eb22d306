"""The state of a run: its executions and their steps, as SageMaker reports them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from rvrun.aws.client import Client, Refused
from rvrun.remote.ended import note_ended
from rvrun.remote.ledger import SUBMITTED, Ledger
from rvrun.remote.state import OVER, RemoteFailure, RunState, StageState, State, timestamp
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.sagemaker.events import is_cancelled, started_executions
from rvrun.runners.sagemaker.files import Job, Submission, read_submissions

#: The error code for something that does not exist.
NOT_FOUND = "ResourceNotFound"
#: Items per page, the maximum of the calls that list.
PAGE = 100
#: By the status of a step (Amazon SageMaker API Reference, PipelineExecutionStep).
STATES = {
    "Starting": State.RUNNABLE,
    "Executing": State.RUNNING,
    "Stopping": State.RUNNING,
    "Succeeded": State.SUCCEEDED,
    "Failed": State.FAILED,
    "Stopped": State.FAILED,
}
#: Statuses of an execution in which nothing runs any more.
STOPPED, SUCCEEDED = "Stopped", "Succeeded"
ENDED = (STOPPED, "Failed", SUCCEEDED, "CompletedWithFailures")
#: The jobs that a step's metadata names.
JOB_KINDS = ("ProcessingJob", "TrainingJob")
_EXIT_CODE = re.compile(r"exit code: (\d+)")


@attrs.frozen(kw_only=True)
class StartedStep:
    """A step that was started.

    - `status`, `reason`: in SageMaker's words; `reason` is empty unless the step failed.
    - `began`, `ended`: in seconds since 1970; None if that has not happened yet.
    - `job_kind`, `job_name`: of its latest job; empty before it has one.
    """

    status: str
    reason: str = ""
    began: float | None = None
    ended: float | None = None
    job_kind: str = ""
    job_name: str = ""

    @property
    def state(self) -> State:
        """Its state; a status that this version of rvrun does not know counts as waiting."""
        return STATES.get(self.status, State.PENDING)


@attrs.frozen(kw_only=True)
class Execution:
    """An execution of a pipeline.

    - `arn`: None if it was not started. `status`: None if not, or if SageMaker no longer knows it.
    - `steps`: those that were started, by name.
    """

    submission: Submission
    arn: str | None
    status: str | None = None
    steps: Mapping[str, StartedStep] = attrs.field(factory=dict)

    @property
    def is_gone(self) -> bool:
        return self.arn is not None and self.status is None

    @property
    def is_over(self) -> bool:
        return self.status in ENDED or self.is_gone

    @property
    def is_stopping(self) -> bool:
        return self.status == "Stopping"

    @property
    def has_failed(self) -> bool:
        return self.status in ENDED and self.status != SUCCEEDED

    def state(self, job: Job) -> State:
        """Return the state of all targets of one job."""
        step = self.steps.get(job.name)
        if step is not None and (step.state in OVER or self.status not in ENDED):
            return step.state
        if self.status in ENDED:
            # It was not started, because a step that it needs, or any step, failed or was stopped.
            # Or its status is one that this version does not know; then it ended with the others.
            failed = step is None or self.status != SUCCEEDED
            return State.FAILED if failed else State.SUCCEEDED
        return State.GONE if self.is_gone else State.PENDING


def read_executions(
    ledger: Ledger, sagemaker: Client, lost: Mapping[str, str] | None = None
) -> list[Execution]:
    """Ask for the executions of a run; also return those that were not started.

    - `lost`: the ARNs of executions that the ledger may lack, by pipeline.

    Raises `AwsError`.
    """
    arns = {**(lost or {}), **started_executions(ledger)}
    # What had not started when the run was cancelled never will.
    not_started = STOPPED if is_cancelled(ledger) else None
    return [
        _read_execution(submission, arns[submission.name], sagemaker)
        if submission.name in arns
        else Execution(submission=submission, arn=None, status=not_started)
        for submission in read_submissions(ledger.round_folder(1))
    ]


def _read_execution(submission: Submission, arn: str, sagemaker: Client) -> Execution:
    try:
        # Status before steps: if it ends in between, the steps are those of its end, while the
        # other order could show an ended execution with steps that still run.
        status = sagemaker.call("DescribePipelineExecution", PipelineExecutionArn=arn)
        pages = sagemaker.pages(
            "ListPipelineExecutionSteps", "NextToken", PipelineExecutionArn=arn, MaxResults=PAGE
        )
        steps = {
            step["StepName"]: _parse_step(step)
            for page in pages
            for step in page["PipelineExecutionSteps"]
            if "StepName" in step
        }
    except Refused as error:
        if error.code == NOT_FOUND:
            return Execution(submission=submission, arn=arn)
        raise
    return Execution(
        submission=submission, arn=arn, status=status["PipelineExecutionStatus"], steps=steps
    )


def _parse_step(step: Mapping[str, Any]) -> StartedStep:
    jobs = step.get("Metadata", {})
    kind = next((kind for kind in JOB_KINDS if "Arn" in jobs.get(kind, {})), "")
    began, ended = step.get("StartTime"), step.get("EndTime")
    return StartedStep(
        status=step.get("StepStatus", ""),
        reason=step.get("FailureReason", ""),
        began=began.timestamp() if began else None,
        ended=ended.timestamp() if ended else None,
        job_kind=kind,
        job_name=jobs[kind]["Arn"].rpartition("/")[2] if kind else "",
    )


def read_state(ledger: Ledger) -> RunState:
    """Ask for the state of a run. Raises `AwsError`."""
    executions = read_executions(ledger, account_of_run(ledger).reader("sagemaker"))
    stages = tuple(stage for execution in executions for stage in _stages(execution))
    began = timestamp(ledger.facts["began"])
    ended = None
    if all(execution.is_over for execution in executions):
        ended = max((stage.ended or began for stage in stages), default=began)
    state = RunState(
        run_id=ledger.run_id,
        runner=ledger.runner,
        stages=stages,
        began=began,
        ended=ended,
        submitted=ledger.has(SUBMITTED),
        cancelled=is_cancelled(ledger)
        or any(execution.status == STOPPED for execution in executions),
        failure=_first_failure(executions),
    )
    if state.is_over:
        # For `rvrun list`, which does not ask SageMaker.
        note_ended(ledger, state)
    return state


def _stages(execution: Execution) -> Iterator[StageState]:
    by_stage: dict[str, list[Job]] = {}
    for job in execution.submission.jobs:
        by_stage.setdefault(job.stage, []).append(job)
    for name, jobs in by_stage.items():
        counts: Counter[State] = Counter()
        for job in jobs:
            counts[execution.state(job)] += len(job.targets)
        steps = [step for job in jobs if (step := execution.steps.get(job.name))]
        yield StageState(
            name=name,
            counts={state: counts[state] for state in State if state in counts},
            began=min((step.began for step in steps if step.began is not None), default=None),
            ended=max((step.ended for step in steps if step.ended is not None), default=None),
        )


def _first_failure(executions: Iterable[Execution]) -> RemoteFailure | None:
    """The failure of the step that failed first; one that was stopped did not fail itself."""
    failed = [
        (step.ended or 0, job.name, job, step)
        for execution in executions
        for job in execution.submission.jobs
        if (step := execution.steps.get(job.name)) and step.status == "Failed"
    ]
    if not failed:
        return None
    *_, job, step = min(failed, key=lambda failure: failure[:2])
    return RemoteFailure(
        target=job.targets[0] if len(job.targets) == 1 else job.stage,
        reason=step.reason,
        exit_code=exit_code_in(step.reason),
    )


def exit_code_in(reason: str) -> int | None:
    """Return the exit code that SageMaker's reason for a failure names; None if it names none."""
    code = _EXIT_CODE.search(reason)
    return int(code[1]) if code else None
