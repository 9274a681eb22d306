"""Pipelines made or updated, and started, each once. Knows JSON and the ledger, nothing of plans.

Every call here may be repeated without harm: an update says all, and what makes or starts
something carries a token, which SageMaker knows again. So the token is in the ledger before the
call, and whoever goes on after a crash asks with the same one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import attrs

from rvrun.aws.client import AwsError, Client, Patience, Refused, Unanswered
from rvrun.errors import RvrunError
from rvrun.remote.ledger import INTENDED, Ledger
from rvrun.runners.sagemaker.files import Submission

#: Of events in the ledger.
DEFINED, STARTED = "defined", "started"
#: What is intended.
START, RETRY, STOP = "start", "retry", "stop"
#: How SageMaker says that there is no such thing, and that there is such a pipeline already.
MISSING, EXISTS, CONFLICT = "ResourceNotFound", "already exists", "ConflictException"
MAX_DISPLAY_NAME = 82


class NotStarted(RvrunError):
    """A run of which not every pipeline could be started; `run` is what to type for it."""

    def __init__(self, run: str, started: Mapping[str, str], total: int, problem: str) -> None:
        self.run = run
        self.started = dict(started)
        self.total = total
        self.problem = problem

    def __str__(self) -> str:
        listed = "".join(f"\n  {name}  {arn}" for name, arn in self.started.items())
        return (
            f"{self.problem}\n{len(self.started)} of {self.total} pipelines of run {self.run} "
            f"were started{':' if listed else ''}{listed}\ntype the same command again to go on, "
            f"or `rvrun cancel {self.run}` to stop them"
        )


def started(ledger: Ledger) -> dict[str, str]:
    """The ARNs of the executions that are known, by their pipelines' names."""
    return {event["pipeline"]: event["execution"] for event in ledger.events(STARTED)}


@attrs.frozen(kw_only=True)
class Submitter:
    """What submitting takes: the run's ledger, and a client of SageMaker."""

    ledger: Ledger
    sagemaker: Client
    patience: Patience = Patience()

    def submit(self, submission: Submission) -> str:
        """The ARN of the execution of a pipeline, made or updated for it and started if need be."""
        known = started(self.ledger).get(submission.name)
        if known is not None:
            return known
        version = self._defined(submission)
        request: dict[str, Any] = {
            "PipelineName": submission.name,
            "PipelineExecutionDisplayName": display_name(self.ledger.run_id),
            # What was just defined, whatever anyone else makes of the pipeline meanwhile.
            **({} if version is None else {"PipelineVersionId": version}),
        }
        answer = self.ask("StartPipelineExecution", START, submission.name, request)
        arn = str(answer["PipelineExecutionArn"])
        self.ledger.note(STARTED, pipeline=submission.name, execution=arn)
        return arn

    def _defined(self, submission: Submission) -> int | None:
        """The pipeline's version that has the definition; None where SageMaker tells none."""
        for event in self.ledger.events(DEFINED):
            if event["pipeline"] == submission.name:
                version: int | None = event["version"]
                return version
        version = self._upsert(submission)
        self.ledger.note(DEFINED, pipeline=submission.name, version=version)
        return version

    def _upsert(self, submission: Submission) -> int | None:
        """Make the pipeline, or update the one that is there."""
        token = token_of(self.ledger.run_id, "create", submission.name)
        try:
            self._call("CreatePipeline", {**submission.request, "ClientRequestToken": token})
        except Refused as error:
            if EXISTS in error.message or error.code == CONFLICT:
                return self._update(submission.request)
            raise
        return None

    def _update(self, request: Mapping[str, Any]) -> int | None:
        tags = request.get("Tags")
        update = {key: value for key, value in request.items() if key != "Tags"}
        answer = self._call("UpdatePipeline", update)
        if tags:
            self._call("AddTags", {"ResourceArn": answer["PipelineArn"], "Tags": tags})
        version: int | None = answer.get("PipelineVersionId")
        return version

    def ask(
        self, operation: str, what: str, pipeline: str, request: Mapping[str, Any], number: int = 1
    ) -> dict[str, Any]:
        """What `operation` answers, asked with a token that is in the ledger before the call.

        - `what`: it is for, and which time of that `number` is, so that tokens differ.
        """
        token = token_of(self.ledger.run_id, f"{what}-{number}", pipeline)
        self.ledger.note(INTENDED, what=what, pipeline=pipeline, number=number, token=token)
        return self._call(operation, {**request, "ClientRequestToken": token})

    def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Asked again where it was throttled, or not answered: it does no harm."""

        def once() -> dict[str, Any]:
            return self.patience.insist(
                lambda: self.sagemaker.call(operation, **request), on=Unanswered
            )

        return self.patience.insist(once)


def token_of(run_id: str, what: str, pipeline: str) -> str:
    """A token of 64 characters that only this call of this run has."""
    return hashlib.sha256(f"{run_id}/{what}/{pipeline}".encode()).hexdigest()


def display_name(run_id: str) -> str:
    """The run's id as far as executions can be called so: no `_`, and not too long.

    Its end, which tells runs apart, is kept.
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", run_id)
    return plain[-MAX_DISPLAY_NAME:].strip("-")


def failed_to_start(ledger: Ledger, total: int, error: AwsError) -> NotStarted:
    """What to tell where AWS refused one of `total` pipelines."""
    return NotStarted(ledger.handle, started(ledger), total, str(error))
