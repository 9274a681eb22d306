"""Retry a run: resume its executions where they failed or were stopped."""

from __future__ import annotations

from rvrun.remote.errors import NothingToRetry, StillRunning
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import Progress, State
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.sagemaker.calls import calls_of
from rvrun.runners.sagemaker.events import RETRIED, RETRY, interrupted_retries, next_number
from rvrun.runners.sagemaker.state import read_executions


def retry(ledger: Ledger, progress: Progress) -> int:
    """Resume the executions that failed or were stopped; return how many targets run again.

    What succeeded is not repeated. Raises `StillRunning`, `NothingToRetry` or `AwsError`.
    """
    calls = calls_of(ledger)
    executions = read_executions(ledger, account_of_run(ledger).reader("sagemaker"))
    interrupted = interrupted_retries(ledger)
    to_retry = [
        execution
        for execution in executions
        if execution.arn is not None
        and (execution.has_failed or execution.submission.name in interrupted)
    ]
    # An interrupted retry continues although the executions that it did resume are running.
    if not interrupted and not all(execution.is_over for execution in executions):
        raise StillRunning(ledger.handle)
    if not to_retry:
        raise NothingToRetry(ledger.handle)
    for done, execution in enumerate(to_retry, start=1):
        name = execution.submission.name
        # An interrupted call may have been carried out. With its number, and so with its token,
        # SageMaker recognizes it; with a new one it would refuse, or retry a second time.
        number = interrupted.get(name) or next_number(ledger, RETRY, name)
        request = {"PipelineExecutionArn": execution.arn, **execution.submission.parallelism}
        calls.call_once("RetryPipelineExecution", RETRY, name, request, number)
        ledger.note(RETRIED, pipeline=name, number=number)
        progress(done, len(to_retry))
    return sum(
        len(job.targets)
        for execution in to_retry
        for job in execution.submission.jobs
        if execution.state(job) is not State.SUCCEEDED
    )
