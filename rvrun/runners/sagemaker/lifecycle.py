"""The life of a run on SageMaker: started, looked at, cancelled, retried."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping

import attrs

from rvrun.aws.client import Account, AwsError, Client, Refused
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import NothingToRetry, StillRunning
from rvrun.remote.ledger import CANCELLED, INTENDED, SUBMITTED, Ledger, run_name
from rvrun.remote.state import Progress, RunState, State
from rvrun.runners.aws_common import (
    account_facts,
    account_of,
    account_of_run,
    upload_all,
)
from rvrun.runners.run import Run
from rvrun.runners.sagemaker.files import (
    Submission,
    read_submissions,
    read_uploads,
)
from rvrun.runners.sagemaker.render import render
from rvrun.runners.sagemaker.role import find_arn, is_name
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.state import (
    RETRIED,
    Execution,
    executions,
    is_cancelled,
    read_state,
)
from rvrun.runners.sagemaker.submit import (
    MISSING,
    RETRY,
    STARTED,
    STOP,
    Submitter,
    display_name,
    failed_to_start,
    started,
)
from rvrun.runners.submissions import unfinished
from rvrun.settings.schema import Settings

RUNNER = "sagemaker"


def _with_role(run: Run, account: Account) -> Run:
    """The run with the ARN of its role, where the settings have no more than its name."""
    settings = run.settings.of(SagemakerSettings)
    if settings.role is None or not is_name(settings.role):
        return run
    found = attrs.evolve(settings, role=find_arn(settings.role, account.reader("iam")))
    return attrs.evolve(
        run, settings=attrs.evolve(run.settings, runners={**run.settings.runners, RUNNER: found})
    )


def submit(run: Run, progress: Progress) -> Ledger:
    """Start all of `run`; where one of the same was cut off, go on with that."""
    account = account_of(run.settings)
    run = _with_role(run, account)
    files = render(run)
    ledger = _unfinished(run.run_dir, files)
    if ledger is None:
        name = run_name(run.out, run.name)
        ledger = ledgers.create(run.run_dir, name, RUNNER, files, account_facts(account))
    # Steps may start as soon as the pipeline does, so what they read must be there before.
    upload_all(run, read_uploads(ledger.round_folder(1)), account)
    submissions = read_submissions(ledger.round_folder(1))
    submitter = _submitter(ledger)
    for done, submission in enumerate(submissions, start=1):
        try:
            submitter.submit(submission)
        except AwsError as error:
            raise failed_to_start(ledger, len(submissions), error) from error
        progress(done, len(submissions))
    ledger.note(SUBMITTED)
    return ledger


def _submitter(ledger: Ledger) -> Submitter:
    # It asks again by itself, and more patiently than botocore.
    return Submitter(ledger=ledger, sagemaker=account_of_run(ledger).maker(RUNNER))


def _unfinished(run_dir: pathlib.Path, files: Mapping[str, str]) -> Ledger | None:
    """The run that was cut off and is to go on, if there is one; see `unfinished`."""
    if (last := ledgers.last(run_dir, RUNNER)) is None:
        return None
    return unfinished(
        last,
        files,
        cancelled=is_cancelled(last),
        submitted=last.has(SUBMITTED),
        read_state=lambda: state(last),
    )


def state(ledger: Ledger) -> RunState:
    """How a run stands."""
    return read_state(ledger, account_of_run(ledger).reader(RUNNER))


def cancel(ledger: Ledger, progress: Progress) -> int:
    """Stop all executions that go on; how many jobs were to run or ran.

    What was about to be started when the run was cut off is looked for first.
    """
    submitter = _submitter(ledger)
    _find_lost(ledger)
    found = executions(ledger, account_of_run(ledger).reader(RUNNER))
    going = [each for each in found if each.arn is not None and not each.is_over]
    for done, execution in enumerate(going, start=1):
        _stop(execution, ledger, submitter)
        progress(done, len(going))
    ledger.note(CANCELLED)
    return sum(len(_unfinished_jobs(execution)) for execution in going)


def _stop(execution: Execution, ledger: Ledger, submitter: Submitter) -> None:
    """Stop an execution, unless it has just ended or is being stopped."""
    name, request = execution.submission.name, {"PipelineExecutionArn": execution.arn}
    try:
        number = _next_number(ledger, STOP, name)
        submitter.ask("StopPipelineExecution", STOP, name, request, number)
    except Refused:
        now = submitter.sagemaker.call("DescribePipelineExecution", **request)
        if now["PipelineExecutionStatus"] == "Executing":
            raise


def _unfinished_jobs(execution: Execution) -> list[str]:
    over = (State.SUCCEEDED, State.FAILED, State.GONE)
    return [job.name for job in execution.submission.jobs if execution.state(job) not in over]


def _find_lost(ledger: Ledger) -> None:
    """Note the executions that were started, though that was not noted: by the run's id."""
    known, name = started(ledger), display_name(ledger.run_id)
    intended = {event["pipeline"] for event in ledger.events(INTENDED)}
    for submission in read_submissions(ledger.round_folder(1)):
        if submission.name in intended and submission.name not in known:
            for summary in _summaries(submission, account_of_run(ledger).reader(RUNNER)):
                if summary.get("PipelineExecutionDisplayName") == name:
                    arn = summary["PipelineExecutionArn"]
                    ledger.note(STARTED, pipeline=submission.name, execution=arn)


def _summaries(submission: Submission, sagemaker: Client) -> Iterator[Mapping[str, str]]:
    try:
        for page in sagemaker.pages(
            "ListPipelineExecutions", "NextToken", PipelineName=submission.name, MaxResults=100
        ):
            yield from page["PipelineExecutionSummaries"]
    except AwsError as error:
        if error.code != MISSING:
            raise


def _next_number(ledger: Ledger, what: str, pipeline: str) -> int:
    """Which time this is, of a call that each time is meant anew."""
    asked = [(event["what"], event["pipeline"]) for event in ledger.events(INTENDED)]
    return 1 + asked.count((what, pipeline))


def retry(ledger: Ledger, settings: Settings, progress: Progress) -> int:
    """Go on with the executions that failed or were stopped; how many targets go again.

    What succeeded stays. Where an earlier retry was cut off, go on with that. Raises
    `StillRunning`, `NothingToRetry`.
    """
    submitter = _submitter(ledger)
    found = executions(ledger, account_of_run(ledger).reader(RUNNER))
    lost = _lost_retries(ledger)
    failed = [
        each
        for each in found
        if each.arn is not None and (each.has_failed or each.submission.name in lost)
    ]
    if not lost and not all(each.is_over for each in found):
        raise StillRunning(ledger.handle)
    if not failed:
        raise NothingToRetry(ledger.handle)
    again = sum(_num_again(execution) for execution in failed)
    for done, execution in enumerate(failed, start=1):
        name = execution.submission.name
        number = lost[name] if name in lost else _next_number(ledger, RETRY, name)
        asked = {"PipelineExecutionArn": execution.arn}
        submitter.ask("RetryPipelineExecution", RETRY, name, asked, number)
        ledger.note(RETRIED, pipeline=name, number=number)
        progress(done, len(failed))
    return again


def _lost_retries(ledger: Ledger) -> dict[str, int]:
    """The retries that were intended and not noted as done: their number, by pipeline."""
    done = {(event["pipeline"], event["number"]) for event in ledger.events(RETRIED)}
    return {
        event["pipeline"]: event["number"]
        for event in ledger.events(INTENDED)
        if event["what"] == RETRY and (event["pipeline"], event["number"]) not in done
    }


def _num_again(execution: Execution) -> int:
    return sum(
        len(job.targets)
        for job in execution.submission.jobs
        if execution.state(job) is not State.SUCCEEDED
    )
