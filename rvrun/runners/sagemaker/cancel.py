"""Cancel a run: stop its executions, including those that a crash kept out of the ledger.

It must be possible to stop a run whose directory is read-only or full, so nothing here depends on
writing to the ledger.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from rvrun.aws.client import AwsError, Client, Refused
from rvrun.remote.ledger import CANCELLED, INTENDED, Ledger
from rvrun.remote.state import OVER, Progress
from rvrun.runners.aws_common import account_of_run
from rvrun.runners.sagemaker.calls import Calls, calls_of
from rvrun.runners.sagemaker.events import STARTED, started_executions
from rvrun.runners.sagemaker.files import Submission, read_submissions
from rvrun.runners.sagemaker.state import NOT_FOUND, PAGE, Execution, read_executions
from rvrun.runners.sagemaker.submit import display_name


def cancel(ledger: Ledger, progress: Progress) -> int:
    """Stop all executions that are not over; return how many jobs waited or ran.

    Those of an execution that is being stopped already do not count: an earlier cancel, or someone
    else, has ended them. Raises `AwsError`.
    """
    calls, sagemaker = calls_of(ledger), account_of_run(ledger).reader("sagemaker")
    lost = _find_lost_starts(ledger, sagemaker)
    unfinished = [
        execution
        for execution in read_executions(ledger, sagemaker, lost)
        if execution.arn is not None and not (execution.is_over or execution.is_stopping)
    ]
    for done, execution in enumerate(unfinished, start=1):
        _stop(execution, calls)
        progress(done, len(unfinished))
    # Noted last: if this is interrupted, the run is not taken for cancelled while some of it runs.
    # Where it cannot be noted, the status of the executions tells it.
    ledger.note_if_possible(CANCELLED)
    return sum(
        execution.state(job) not in OVER
        for execution in unfinished
        for job in execution.submission.jobs
    )


def _stop(execution: Execution, calls: Calls) -> None:
    request = {"PipelineExecutionArn": execution.arn}
    # Not derived from the run like other tokens: an execution may be stopped again after a retry,
    # and that must not be taken for a repetition if this call could not be noted.
    token = secrets.token_hex(32)
    try:
        calls.call("StopPipelineExecution", {**request, "ClientRequestToken": token})
    except Refused:
        # It may have ended, or someone may have stopped it, since its state was read. Then
        # SageMaker refuses to stop it, and nothing is left to do.
        now = calls.sagemaker.call("DescribePipelineExecution", **request)
        if now["PipelineExecutionStatus"] == "Executing":
            raise


def _find_lost_starts(ledger: Ledger, sagemaker: Client) -> dict[str, str]:
    """Return, by pipeline, executions that were started just before a crash, and note them.

    Their name is the run's id, so no other run's executions are mistaken for them.
    """
    lost: dict[str, str] = {}
    noted, name = started_executions(ledger), display_name(ledger.run_id)
    intended = {event["pipeline"] for event in ledger.events(INTENDED)}
    for submission in read_submissions(ledger.round_folder(1)):
        if submission.name in intended and submission.name not in noted:
            for execution in _list_executions(submission, sagemaker):
                if execution.get("PipelineExecutionDisplayName") == name:
                    arn = lost[submission.name] = execution["PipelineExecutionArn"]
                    ledger.note_if_possible(STARTED, pipeline=submission.name, execution=arn)
    return lost


def _list_executions(submission: Submission, sagemaker: Client) -> Iterator[Mapping[str, str]]:
    try:
        for page in sagemaker.pages(
            "ListPipelineExecutions", "NextToken", PipelineName=submission.name, MaxResults=PAGE
        ):
            yield from page["PipelineExecutionSummaries"]
    except AwsError as error:
        # The pipeline itself may not have been created.
        if error.code != NOT_FOUND:
            raise
