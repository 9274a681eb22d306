"""What SageMaker says about each target of a run: the times of the step that runs it."""

from __future__ import annotations

from rvrun.remote.ledger import Ledger
from rvrun.remote.state import State, TargetReport, TargetReports
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.sagemaker.files import Job
from rvrun.runners.sagemaker.state import Execution, exit_code_in, read_executions

NOTES = (
    "SageMaker does not report how much memory targets used, or how often it attempted a step.",
    "Times are those of steps, with the time in which machines start.",
    "Splits that run on the instances of one step have the same times.",
)


def read_targets(ledger: Ledger) -> TargetReports:
    """Return what SageMaker reports of each target. Raises `AwsError`."""
    executions = read_executions(ledger, account_of_run(ledger).reader("sagemaker"))
    return TargetReports(
        targets=tuple(
            _report(execution, job, name)
            for execution in executions
            for job in execution.submission.jobs
            for name in job.targets
        ),
        notes=NOTES,
    )


def _report(execution: Execution, job: Job, name: str) -> TargetReport:
    state, step = execution.state(job), execution.steps.get(job.name)
    if step is None:
        return TargetReport(name=name, state=state)
    return TargetReport(
        name=name,
        state=state,
        began=step.began,
        ended=step.ended,
        exit_code=exit_code_in(step.reason) if state is State.FAILED else None,
        reason=step.reason,
    )
