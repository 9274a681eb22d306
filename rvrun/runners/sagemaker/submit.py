"""Submit a run: create or update its pipelines, and start each of them once."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping

import attrs

from rvrun.aws.client import Account, AwsError, Refused
from rvrun.errors import RvrunError
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import SUBMITTED, Ledger, UnwritableLedger, run_name
from rvrun.remote.state import Progress
from rvrun.runners.aws_common import account_facts, account_of, upload_all
from rvrun.runners.run import Run
from rvrun.runners.sagemaker.calls import Calls, calls_of
from rvrun.runners.sagemaker.definition import Request
from rvrun.runners.sagemaker.events import (
    DEFINED,
    START,
    STARTED,
    is_cancelled,
    started_executions,
)
from rvrun.runners.sagemaker.files import Submission, read_submissions, read_uploads
from rvrun.runners.sagemaker.render import render
from rvrun.runners.sagemaker.role import find_arn, is_name
from rvrun.runners.sagemaker.settings import RUNNER, SagemakerSettings
from rvrun.runners.sagemaker.state import read_state
from rvrun.runners.submissions import unfinished

#: How SageMaker reports that a pipeline of that name exists: in the message, or by the code.
EXISTS, CONFLICT = "already exists", "ConflictException"
MAX_DISPLAY_NAME = 82


class NotStarted(RvrunError):
    """A run of which AWS refused to start a pipeline, or whose ledger cannot be written.

    - `run`: what users type for it. `started`: the ARNs of executions, by pipeline.
    """

    run: str
    started: Mapping[str, str]
    total: int
    problem: str

    def __str__(self) -> str:
        executions = "".join(f"\n  {name}  {arn}" for name, arn in self.started.items())
        return (
            f"{self.problem}\n{len(self.started)} of {self.total} pipelines of run {self.run} "
            f"were started{':' if executions else ''}{executions}\nrepeat the same command to "
            f"continue, or end what was started with `rvrun cancel {self.run}`"
        )


def submit(run: Run, progress: Progress) -> Ledger:
    """Start all of `run`, or continue an identical submission that was interrupted.

    Raises what `render` raises, `StillRunning`, `Interrupted`, `NotStarted` or `AwsError`.
    """
    account = account_of(run.settings)
    run = _with_role_arn(run, account)
    files = render(run)
    ledger = _find_interrupted(run.run_dir, files)
    if ledger is None:
        name = run_name(run.out, run.name)
        ledger = ledgers.create(run.run_dir, name, RUNNER, files, account_facts(account))
    # Before the pipelines: steps may start at once, and read what is uploaded.
    upload_all(run, read_uploads(ledger.round_folder(1)), account)
    submissions = read_submissions(ledger.round_folder(1))
    calls = calls_of(ledger)
    try:
        for done, submission in enumerate(submissions, start=1):
            start_once(submission, calls)
            progress(done, len(submissions))
        ledger.note(SUBMITTED)
    except (AwsError, UnwritableLedger) as error:
        started = started_executions(ledger)
        raise NotStarted(ledger.handle, started, len(submissions), str(error)) from error
    return ledger


def _with_role_arn(run: Run, account: Account) -> Run:
    """The run with the ARN of its role, if the settings contain only a name."""
    settings = run.settings.of(SagemakerSettings)
    if settings.role is None or not is_name(settings.role):
        return run
    arn = find_arn(settings.role, account.reader("iam"))
    runners = {**run.settings.runners, RUNNER: attrs.evolve(settings, role=arn)}
    return attrs.evolve(run, settings=attrs.evolve(run.settings, runners=runners))


def _find_interrupted(run_dir: pathlib.Path, files: Mapping[str, str]) -> Ledger | None:
    """The run to continue, if there is one; see `unfinished`."""
    if (last := ledgers.last(run_dir, RUNNER)) is None:
        return None
    return unfinished(
        last,
        files,
        cancelled=is_cancelled(last),
        submitted=last.has(SUBMITTED),
        read_state=lambda: read_state(last),
    )


def start_once(submission: Submission, calls: Calls) -> None:
    """Define and start a pipeline, unless the ledger says that it was started.

    Raises `AwsError`.
    """
    ledger, name = calls.ledger, submission.name
    if name in started_executions(ledger):
        return
    version = _define_once(submission, calls)
    request = {
        "PipelineName": name,
        "PipelineExecutionDisplayName": display_name(ledger.run_id),
        # The version that was just defined, even if someone else has updated the pipeline since.
        **({} if version is None else {"PipelineVersionId": version}),
        **submission.parallelism,
    }
    answer = calls.call_once("StartPipelineExecution", START, name, request)
    ledger.note(STARTED, pipeline=name, execution=answer["PipelineExecutionArn"])


def _define_once(submission: Submission, calls: Calls) -> int | None:
    """The version of the pipeline with this definition; None if SageMaker returned none.

    A version in the ledger is final: a second update would define another version, and the start
    would then be another request with the same token, which SageMaker refuses.
    """
    for event in calls.ledger.events(DEFINED):
        if event["pipeline"] == submission.name:
            noted: int | None = event["version"]
            return noted
    version = _create_or_update(submission, calls)
    calls.ledger.note(DEFINED, pipeline=submission.name, version=version)
    return version


def _create_or_update(submission: Submission, calls: Calls) -> int | None:
    token = calls.token("create", submission.name)
    try:
        # Created without looking first: another process may create it in between.
        calls.call("CreatePipeline", {**submission.request, "ClientRequestToken": token})
    except Refused as error:
        if EXISTS in error.message or error.code == CONFLICT:
            return _update(submission.request, calls)
        raise
    return _first_version(submission.name, calls)


def _first_version(pipeline: str, calls: Calls) -> int | None:
    """The version that CreatePipeline defined, which its answer does not contain: the oldest.

    Anyone may have updated the pipeline since, so the latest may be another one.
    """
    answer = calls.call(
        "ListPipelineVersions",
        {"PipelineName": pipeline, "SortOrder": "Ascending", "MaxResults": 1},
    )
    versions: list[int] = [
        summary["PipelineVersionId"] for summary in answer.get("PipelineVersionSummaries", ())
    ]
    return versions[0] if versions else None


def _update(request: Request, calls: Calls) -> int | None:
    update = {key: value for key, value in request.items() if key != "Tags"}
    answer = calls.call("UpdatePipeline", update)
    # UpdatePipeline does not accept tags.
    if tags := request.get("Tags"):
        calls.call("AddTags", {"ResourceArn": answer["PipelineArn"], "Tags": tags})
    version: int | None = answer.get("PipelineVersionId")
    return version


def display_name(run_id: str) -> str:
    """Return the run's id as the name of an execution, which allows no `_` and is shorter.

    The end is kept, because it distinguishes runs.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "-", run_id)
    return name[-MAX_DISPLAY_NAME:].strip("-")
