"""Findings of `rvrun check --runner batch`: whether AWS Batch would accept the jobs of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rvrun.aws.client import DENIED, Account, AwsError, Client, Refused
from rvrun.finding import Finding, Level, error, ok
from rvrun.model import Plan
from rvrun.runners.aws_common import check_account
from rvrun.runners.batch.api import SubmitJobRequest
from rvrun.runners.batch.images import check_images
from rvrun.runners.batch.render import render
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.spec_files import requests_in
from rvrun.runners.batch.validate import SERVICE
from rvrun.runners.problems import check_fit
from rvrun.runners.run import Run

#: What jobs name as their definitions, with the active one; None for one that does not exist.
Definitions = Mapping[str, Mapping[str, Any] | None]
#: What to do if a look-up fails for another reason than a missing permission.
_LOOK_UP_FIX = "check the settings `aws.region` and `aws.profile`, or try again"


def check(run: Run) -> Iterator[Finding]:
    """Yield findings about the account, the job queues and definitions, and the buckets."""

    def check_batch(account: Account) -> Iterator[Finding]:
        batch, requests = account.reader("batch"), list(requests_in(render(run)))
        yield from check_queues(batch, requests)
        yield from check_definitions(batch, run.plan, requests)

    worker = run.settings.of(BatchSettings).worker
    return check_account(run, "batch", worker, check_batch)


def check_queues(batch: Client, requests: Sequence[SubmitJobRequest]) -> Iterator[Finding]:
    """Check that the job queues accept jobs, with or without a share identifier as these have."""
    names = list(dict.fromkeys(request["jobQueue"] for request in requests))
    try:
        queues = batch.call("DescribeJobQueues", jobQueues=names)["jobQueues"]
    except AwsError as problem:
        yield error("job queues", problem, _LOOK_UP_FIX)
        return
    by_name = {queue[key]: queue for queue in queues for key in ("jobQueueName", "jobQueueArn")}
    for name in names:
        have_share = {"shareIdentifier" in r for r in requests if r["jobQueue"] == name}
        yield _check_queue(name, by_name.get(name), have_share)


def _check_queue(name: str, queue: Mapping[str, Any] | None, have_share: set[bool]) -> Finding:
    """`have_share`: whether the queue's jobs have a share identifier; both if they differ."""
    subject = "job queue"
    if queue is None:
        return error(subject, f"`{name}` does not exist", "change the setting, or create the queue")
    if queue["state"] != "ENABLED":
        return error(subject, f"`{name}` is {queue['state'].lower()}", "enable it")
    # Unlike `state`, it is optional.
    status = queue.get("status", "VALID")
    if status not in ("VALID", "UPDATING"):
        text = f"`{name}` is {status.lower()}: {queue.get('statusReason', '')}"
        return error(subject, text, "fix its compute environments")
    has_policy = bool(queue.get("schedulingPolicyArn"))
    if has_policy and False in have_share:
        text = f"`{name}` has a scheduling policy, so its jobs must have a share identifier"
        return error(subject, text, "set `batch.share_identifier`")
    if not has_policy and True in have_share:
        text = f"`{name}` has no scheduling policy, so its jobs must not have a share identifier"
        return error(subject, text, "remove `batch.share_identifier`")
    return ok(subject, f"`{name}` accepts jobs")


def check_definitions(
    batch: Client, plan: Plan, requests: Sequence[SubmitJobRequest]
) -> Iterator[Finding]:
    """Check that the job definitions are active and of a kind whose container rvrun can override.

    No GPU job may use one on Fargate, and their images should be those that the plan names.
    """
    try:
        definitions = find_definitions(batch, requests)
    except AwsError as problem:
        yield error("job definition", problem, _LOOK_UP_FIX)
        return
    for name, definition in definitions.items():
        yield _check_definition(name, definition, needs_gpus=_need_gpus(name, requests))
    yield from check_images(plan, requests, _images(definitions))


def find_definitions(batch: Client, requests: Sequence[SubmitJobRequest]) -> Definitions:
    """Return the definitions that jobs name, as `find_definition` does each. Raises `AwsError`."""
    names = dict.fromkeys(request["jobDefinition"] for request in requests)
    return {name: find_definition(batch, name) for name in names}


def _images(definitions: Definitions) -> dict[str, str]:
    """The image of each definition."""
    return {
        name: definition.get("containerProperties", {}).get("image", "")
        for name, definition in definitions.items()
        if definition is not None
    }


def require_definitions(batch: Client, requests: Sequence[SubmitJobRequest]) -> dict[str, str]:
    """Return the revision of each job definition that the jobs will use, as `name:revision`.

    A definition without a revision in the settings may change while a run is submitted or before it
    is retried; the revision is what keeps all of its jobs alike. Without the permission to describe
    definitions there is nothing to return, and Batch itself decides.

    Raises `Unfit` if one does not exist or cannot run the jobs.
    """
    try:
        definitions = find_definitions(batch, requests)
    except Refused as refusal:
        if refusal.code in DENIED:
            return {}
        raise
    revisions: dict[str, str] = {}
    problems: list[str] = []
    for name, definition in definitions.items():
        finding = _check_definition(name, definition, needs_gpus=_need_gpus(name, requests))
        if finding.level is Level.ERROR:
            problems.append(f"job definition: {finding.text}; {finding.fix}")
        elif definition is not None:
            revisions[name] = f"{definition['jobDefinitionName']}:{definition['revision']}"
    check_fit(SERVICE, problems)
    return revisions


def find_definition(batch: Client, name: str) -> Mapping[str, Any] | None:
    """Return the active definition that Batch would use; None if there is none.

    That is the newest revision unless `name` has one. `jobDefinitions` cannot be combined with
    other parameters (AWS Batch API Reference, DescribeJobDefinitions).
    """
    short = name.rpartition("job-definition/")[2]
    if ":" in short:
        pages = batch.pages("DescribeJobDefinitions", "nextToken", jobDefinitions=[name])
    else:
        pages = batch.pages(
            "DescribeJobDefinitions", "nextToken", status="ACTIVE", jobDefinitionName=short
        )
    definitions = [definition for page in pages for definition in page["jobDefinitions"]]
    active = [definition for definition in definitions if definition.get("status") == "ACTIVE"]
    return max(active, key=lambda definition: int(definition["revision"]), default=None)


def _check_definition(
    name: str, definition: Mapping[str, Any] | None, *, needs_gpus: bool
) -> Finding:
    subject = "job definition"
    if definition is None:
        text = f"`{name}` does not exist, or is not active"
        return error(subject, text, "change the setting, or register the definition")
    label = f"`{definition['jobDefinitionName']}:{definition['revision']}`"
    if definition["type"] != "container":
        text = f"{label} must be of type container, got {definition['type']}"
        return error(subject, text, "use a definition of type container")
    # `containerOverrides` applies to `containerProperties` only. Definitions for EKS and those with
    # several containers have overrides of their own (AWS Batch API Reference, SubmitJob).
    if "containerProperties" not in definition:
        kind = "runs on EKS" if "eksProperties" in definition else "has `ecsProperties`"
        text = f"{label} must have `containerProperties`, but it {kind}"
        return error(subject, text, "use a definition with one container that runs on ECS")
    if needs_gpus and "FARGATE" in definition.get("platformCapabilities", ()):
        text = f"{label} runs on Fargate, which has no GPUs, but its jobs require GPUs"
        return error(subject, text, "use a definition that runs on EC2")
    return ok(subject, f"{label} runs {definition['containerProperties'].get('image', '')}")


def _need_gpus(name: str, requests: Sequence[SubmitJobRequest]) -> bool:
    return any(_needs_gpus(request) for request in requests if request["jobDefinition"] == name)


def _needs_gpus(request: SubmitJobRequest) -> bool:
    resources = request["containerOverrides"].get("resourceRequirements", ())
    return any(resource["type"] == "GPU" for resource in resources)
