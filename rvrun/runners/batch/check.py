"""What `rvrun check --runner batch` asks AWS Batch: whether it would take a run's jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rvrun.aws.client import Account, AwsError, Client
from rvrun.finding import Finding, error, ok
from rvrun.runners.aws_common import check_account
from rvrun.runners.batch.render import render, requests_in
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.run import Run

Request = Mapping[str, Any]


def check_queues(batch: Client, requests: Sequence[Request]) -> Iterator[Finding]:
    """The job queues are there and take jobs; those that share fairly are told whose share."""
    names = list(dict.fromkeys(request["jobQueue"] for request in requests))
    try:
        found = batch.call("DescribeJobQueues", jobQueues=names)["jobQueues"]
    except AwsError as problem:
        yield error("job queues", problem, "get leave for batch:DescribeJobQueues")
        return
    for name in names:
        queue = next((q for q in found if name in (q["jobQueueName"], q["jobQueueArn"])), None)
        shares = {"shareIdentifier" in each for each in requests if each["jobQueue"] == name}
        yield from [_queue(name, queue, shares)]


def _queue(name: str, queue: Mapping[str, Any] | None, shares: set[bool]) -> Finding:
    if queue is None:
        return error("job queue", f"there is no `{name}`", "change the setting, or make the queue")
    if queue["state"] != "ENABLED":
        return error("job queue", f"`{name}` is {queue['state'].lower()}", "enable it")
    if queue["status"] not in ("VALID", "UPDATING"):
        text = f"`{name}` is {queue['status'].lower()}: {queue.get('statusReason', '')}"
        return error("job queue", text, "mend its compute environments")
    is_fair = bool(queue.get("schedulingPolicyArn"))
    if is_fair and False in shares:
        text = f"`{name}` shares fairly, so each job must say whose share it is of"
        return error("job queue", text, "set `batch.share_identifier`")
    if not is_fair and True in shares:
        text = f"`{name}` has no scheduling policy, so it takes no job with a share identifier"
        return error("job queue", text, "take `batch.share_identifier` out")
    return ok("job queue", f"`{name}` takes jobs")


def check_definitions(batch: Client, requests: Sequence[Request]) -> Iterator[Finding]:
    """The job definitions are there and active; none that runs on Fargate is asked for GPUs."""
    for name in dict.fromkeys(request["jobDefinition"] for request in requests):
        mine = [request for request in requests if request["jobDefinition"] == name]
        try:
            found = _find_definition(batch, name)
        except AwsError as problem:
            yield error("job def", problem, "get leave for batch:DescribeJobDefinitions")
            return
        yield _definition(name, found, any(map(_wants_gpus, mine)))


def _find_definition(batch: Client, name: str) -> Mapping[str, Any] | None:
    """The active one that Batch would take: by name the newest, else the one of that revision."""
    exact = ":" in name
    how = {"jobDefinitions": [name]} if exact else {"jobDefinitionName": name}
    pages = batch.pages("DescribeJobDefinitions", "nextToken", status="ACTIVE", **how)
    found = [definition for page in pages for definition in page["jobDefinitions"]]
    return max(found, key=lambda each: int(each["revision"]), default=None)


def _definition(name: str, found: Mapping[str, Any] | None, wants_gpus: bool) -> Finding:
    if found is None:
        text = f"there is no active `{name}`"
        return error("job def", text, "change the setting, or register the definition")
    label = f"`{found['jobDefinitionName']}:{found['revision']}`"
    if found["type"] != "container":
        return error("job def", f"{label} is of type {found['type']}", "name one of a container")
    if wants_gpus and "FARGATE" in found.get("platformCapabilities", ()):
        text = f"{label} runs on Fargate, which has no GPUs, and is asked for them"
        return error("job def", text, "name one that runs on EC2")
    image = found.get("containerProperties", {}).get("image", "")
    return ok("job def", f"{label} runs {image}")


def _wants_gpus(request: Request) -> bool:
    wanted = request["containerOverrides"].get("resourceRequirements", ())
    return any(each["type"] == "GPU" for each in wanted)


def check(run: Run) -> Iterator[Finding]:
    """Yield what AWS would refuse: the account, its queues and definitions, the buckets."""

    def check_batch(account: Account) -> Iterator[Finding]:
        batch, requests = account.reader("batch"), list(requests_in(render(run)))
        yield from check_queues(batch, requests)
        yield from check_definitions(batch, requests)

    worker = run.settings.of(BatchSettings).worker
    return check_account(run, "batch", worker, check_batch)
