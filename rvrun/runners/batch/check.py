"""Findings of `rvrun check --runner batch`: whether AWS Batch would accept the jobs of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rvrun.aws.client import Account, AwsError, Client
from rvrun.finding import Finding, error, ok
from rvrun.runners.aws_common import check_account
from rvrun.runners.batch.api import SubmitJobRequest
from rvrun.runners.batch.render import render
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.spec_files import requests_in
from rvrun.runners.run import Run


def check(run: Run) -> Iterator[Finding]:
    """Yield findings about the account, the job queues and definitions, and the buckets."""

    def check_batch(account: Account) -> Iterator[Finding]:
        batch, requests = account.reader("batch"), list(requests_in(render(run)))
        yield from check_queues(batch, requests)
        yield from check_definitions(batch, requests)

    worker = run.settings.of(BatchSettings).worker
    return check_account(run, "batch", worker, check_batch)


def check_queues(batch: Client, requests: Sequence[SubmitJobRequest]) -> Iterator[Finding]:
    """Check that the job queues accept jobs, with or without a share identifier as these have."""
    names = list(dict.fromkeys(request["jobQueue"] for request in requests))
    try:
        queues = batch.call("DescribeJobQueues", jobQueues=names)["jobQueues"]
    except AwsError as problem:
        yield error("job queues", problem, "add the `batch:DescribeJobQueues` permission")
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
    if queue["status"] not in ("VALID", "UPDATING"):
        text = f"`{name}` is {queue['status'].lower()}: {queue.get('statusReason', '')}"
        return error(subject, text, "fix its compute environments")
    has_policy = bool(queue.get("schedulingPolicyArn"))
    if has_policy and False in have_share:
        text = f"`{name}` has a scheduling policy, so its jobs must have a share identifier"
        return error(subject, text, "set `batch.share_identifier`")
    if not has_policy and True in have_share:
        text = f"`{name}` has no scheduling policy, so its jobs must not have a share identifier"
        return error(subject, text, "remove `batch.share_identifier`")
    return ok(subject, f"`{name}` accepts jobs")


def check_definitions(batch: Client, requests: Sequence[SubmitJobRequest]) -> Iterator[Finding]:
    """Check that the job definitions are active, and that no GPU job uses one on Fargate."""
    for name in dict.fromkeys(request["jobDefinition"] for request in requests):
        needs_gpus = any(_needs_gpus(r) for r in requests if r["jobDefinition"] == name)
        try:
            definition = _find_definition(batch, name)
        except AwsError as problem:
            fix = "add the `batch:DescribeJobDefinitions` permission"
            yield error("job definition", problem, fix)
            return
        yield _check_definition(name, definition, needs_gpus=needs_gpus)


def _find_definition(batch: Client, name: str) -> Mapping[str, Any] | None:
    """The active definition that Batch would use: the newest revision unless `name` has one."""
    key = {"jobDefinitions": [name]} if ":" in name else {"jobDefinitionName": name}
    pages = batch.pages("DescribeJobDefinitions", "nextToken", status="ACTIVE", **key)
    definitions = [definition for page in pages for definition in page["jobDefinitions"]]
    return max(definitions, key=lambda definition: int(definition["revision"]), default=None)


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
    if needs_gpus and "FARGATE" in definition.get("platformCapabilities", ()):
        text = f"{label} runs on Fargate, which has no GPUs, but its jobs require GPUs"
        return error(subject, text, "use a definition that runs on EC2")
    image = definition.get("containerProperties", {}).get("image", "")
    return ok(subject, f"{label} runs {image}")


def _needs_gpus(request: SubmitJobRequest) -> bool:
    resources = request["containerOverrides"].get("resourceRequirements", ())
    return any(resource["type"] == "GPU" for resource in resources)
