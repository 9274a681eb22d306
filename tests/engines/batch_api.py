"""The protocols of AWS Batch (REST-JSON) and CloudWatch Logs (JSON 1.1): requests and answers.

Every operation is a function of the engine and the request; OPERATIONS has them by name.
"""

from __future__ import annotations

import json
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tests.engines.attempts import Attempt, Outcome
from tests.engines.batch_jobs import RUNNABLE, RUNNING, STATES, Job, Queue, Unit
from tests.engines.batch_rules import Json, client_error
from tests.engines.errors import ServiceError
from tests.engines.http import Reply, Request
from tests.engines.logs import now

if TYPE_CHECKING:
    from tests.engines.batch import BatchEngine

LOGS_TARGET = "Logs_20140328."
MAX_DESCRIBED = 100
PAGE = 1_000
FILTERED_PAGE = 100


def read(request: Request) -> tuple[str, Json]:
    """The operation's name, as in boto3's models, and its parameters."""
    target = request.headers.get("X-Amz-Target", "")
    body = json.loads(request.body or b"{}")
    if target.startswith(LOGS_TARGET):
        return target.removeprefix(LOGS_TARGET), body
    path = urllib.parse.urlsplit(request.path).path
    if path.startswith("/v1/tags/"):
        arn = urllib.parse.unquote(path.removeprefix("/v1/tags/"))
        name = {"GET": "ListTagsForResource", "POST": "TagResource"}.get(request.method, "")
        return name, {**body, "resourceArn": arn}
    names = {name.lower(): name for name in OPERATIONS}
    action = path.removeprefix("/v1/")
    return names.get(action, action), body


def reply(operation: str, answer: Json) -> Reply:
    return Reply(200, json.dumps(answer).encode(), _head(operation))


def error_reply(operation: str, error: ServiceError) -> Reply:
    body = {"__type": error.code, "message": error.message}
    headers = {**_head(operation), "x-amzn-errortype": error.code}
    return Reply(error.status, json.dumps(body).encode(), headers)


def _head(operation: str) -> dict[str, str]:
    kind = "application/x-amz-json-1.1" if operation == "GetLogEvents" else "application/json"
    return {"Content-Type": kind, "x-amzn-RequestId": str(uuid.uuid4())}


def throttled(operation: str) -> ServiceError:
    if operation == "GetLogEvents":
        return ServiceError("ThrottlingException", "Rate exceeded")
    return ServiceError("TooManyRequestsException", "Too Many Requests", 429)


def broken(text: str = "Internal server error") -> ServiceError:
    return ServiceError("ServerException", text, 500)


def serve(engine: BatchEngine, operation: str, request: Json) -> Json:
    """Carry out an operation and return its answer."""
    if operation not in OPERATIONS:
        raise ServiceError("UnknownOperationException", f"no operation {operation!r}", 404)
    return OPERATIONS[operation](engine, request)


def submit_job(engine: BatchEngine, request: Json) -> Json:
    job = engine.submit(request)
    return {"jobArn": _arn(job.head), "jobName": job.name, "jobId": job.id}


def describe_jobs(engine: BatchEngine, request: Json) -> Json:
    ids = request.get("jobs", [])
    if len(ids) > MAX_DESCRIBED:
        raise client_error(
            f"at most {MAX_DESCRIBED} jobs can be described in one call, got {len(ids)}"
        )
    units = [engine.scheduler.find(job_id) for job_id in dict.fromkeys(ids)]
    return {"jobs": [job_json(unit) for unit in units if unit]}


def list_jobs(engine: BatchEngine, request: Json) -> Json:
    filters = request.get("filters", [])
    if len([k for k in ("jobQueue", "arrayJobId", "multiNodeJobId") if request.get(k)]) != 1:
        raise client_error("exactly one of jobQueue, arrayJobId and multiNodeJobId is needed")
    if len(filters) > 1:
        raise client_error("only one filter can be used at a time")
    if "arrayJobId" in request:
        units: Iterable[Unit] = engine.unit(request["arrayJobId"]).job.children
        filters = []  # they do not apply to children
    else:
        units = _listed(engine, engine.queue(request.get("jobQueue", "")))
    status = request.get("jobStatus", RUNNING)
    if status not in STATES:
        raise client_error(f"jobStatus {status} is invalid")
    if filters:
        selected = [unit for unit in units if _passes(unit.job, filters[0])]
        if filters[0]["name"] == "SHARE_IDENTIFIER" and "jobStatus" in request:
            selected = [unit for unit in selected if unit.status == status]
        selected.sort(key=lambda unit: unit.created, reverse=True)
    else:
        selected = [unit for unit in units if unit.status == status]
    return _page(selected, request, FILTERED_PAGE if filters else PAGE)


def _listed(engine: BatchEngine, queue: Queue) -> list[Unit]:
    last_listed = time.monotonic() - engine.list_lag
    return [
        job.head
        for job in engine.jobs.values()
        if job.queue is queue and job.head.created_monotonic <= last_listed
    ]


def _page(units: list[Unit], request: Json, most: int) -> Json:
    size = request.get("maxResults") or most
    if size < 1:
        raise client_error(f"maxResults must be at least 1, got {size}")
    start = _position(request.get("nextToken"))
    end = start + min(size, most)
    page: Json = {"jobSummaryList": [summary_json(unit) for unit in units[start:end]]}
    return {**page, "nextToken": f"page-{end}"} if end < len(units) else page


def _position(token: str | None) -> int:
    if token is None:
        return 0
    if not token.removeprefix("page-").isdecimal():
        raise client_error(f"nextToken {token} is invalid")
    return int(token.removeprefix("page-"))


def _passes(job: Job, condition: Json) -> bool:
    name, values = condition.get("name"), condition.get("values", [])
    if name == "JOB_NAME":
        return any(_like(job.name.lower(), value.lower()) for value in values)
    if name == "JOB_DEFINITION":
        definition = job.definition
        return any(
            value == definition["jobDefinitionArn"] or _like(definition["jobDefinitionName"], value)
            for value in values
        )
    if name == "BEFORE_CREATED_AT":
        return any(job.head.created < int(value) for value in values)
    if name == "AFTER_CREATED_AT":
        return any(job.head.created > int(value) for value in values)
    if name == "SHARE_IDENTIFIER":
        return job.request.get("shareIdentifier") in values
    raise client_error(f"filter {name} is invalid")


def _like(text: str, pattern: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def terminate_job(engine: BatchEngine, request: Json) -> Json:
    engine.scheduler.stop(_stoppable(engine, request), request["reason"], terminate=True)
    return {}


def cancel_job(engine: BatchEngine, request: Json) -> Json:
    engine.scheduler.stop(_stoppable(engine, request), request["reason"], terminate=False)
    return {}


def _stoppable(engine: BatchEngine, request: Json) -> Unit:
    if not 1 <= len(request.get("reason", "")) <= 1024:
        raise client_error("reason must have 1 to 1024 characters")
    return engine.unit(request.get("jobId", ""))


def create_job_queue(engine: BatchEngine, request: Json) -> Json:
    name = request["jobQueueName"]
    if name in engine.queues:
        raise client_error(f"Object already exists: job queue {name}")
    queue = engine.add_queue(
        name,
        fair_share="schedulingPolicyArn" in request,
        state=request.get("state", "ENABLED"),
    )
    queue.priority = request.get("priority", 1)
    queue.details = request
    return {"jobQueueName": name, "jobQueueArn": queue.arn}


def describe_job_queues(engine: BatchEngine, request: Json) -> Json:
    wanted = request.get("jobQueues")
    return {
        "jobQueues": [
            {
                "computeEnvironmentOrder": [],
                **({"schedulingPolicyArn": f"{queue.arn}-policy"} if queue.fair_share else {}),
                **queue.details,
                "jobQueueName": queue.name,
                "jobQueueArn": queue.arn,
                "state": queue.state,
                "status": "VALID",
                "priority": queue.priority,
            }
            for queue in engine.queues.values()
            if not wanted or queue.name in wanted or queue.arn in wanted
        ]
    }


def register_job_definition(engine: BatchEngine, request: Json) -> Json:
    definition = engine.register(request)
    keys = ("jobDefinitionName", "jobDefinitionArn", "revision")
    return {key: definition[key] for key in keys}


def deregister_job_definition(engine: BatchEngine, request: Json) -> Json:
    engine.definition(request["jobDefinition"])["status"] = "INACTIVE"
    return {}


def describe_job_definitions(engine: BatchEngine, request: Json) -> Json:
    name, status = request.get("jobDefinitionName"), request.get("status")
    wanted = request.get("jobDefinitions")
    return {
        "jobDefinitions": [
            definition
            for revisions in engine.definitions.values()
            for definition in revisions
            if name in {None, definition["jobDefinitionName"]}
            and status in {None, definition["status"]}
            and (not wanted or {_revision(definition), definition["jobDefinitionArn"]} & {*wanted})
        ]
    }


def _revision(definition: Json) -> str:
    return f"{definition['jobDefinitionName']}:{definition['revision']}"


def list_tags_for_resource(engine: BatchEngine, request: Json) -> Json:
    return {"tags": _tagged(engine, request)}


def tag_resource(engine: BatchEngine, request: Json) -> Json:
    _tagged(engine, request).update(request["tags"])
    return {}


def _tagged(engine: BatchEngine, request: Json) -> dict[str, str]:
    arn = request["resourceArn"]
    job = engine.jobs.get(arn.partition(":job/")[2])
    if job is None:
        raise client_error(f"no job has the ARN {arn}")
    return job.tags


def get_log_events(engine: BatchEngine, request: Json) -> Json:
    return engine.logs.get(request)


OPERATIONS: dict[str, Callable[[Any, Json], Json]] = {
    "SubmitJob": submit_job,
    "DescribeJobs": describe_jobs,
    "ListJobs": list_jobs,
    "TerminateJob": terminate_job,
    "CancelJob": cancel_job,
    "CreateJobQueue": create_job_queue,
    "DescribeJobQueues": describe_job_queues,
    "RegisterJobDefinition": register_job_definition,
    "DeregisterJobDefinition": deregister_job_definition,
    "DescribeJobDefinitions": describe_job_definitions,
    "ListTagsForResource": list_tags_for_resource,
    "TagResource": tag_resource,
    "GetLogEvents": get_log_events,
}


def _arn(unit: Unit) -> str:
    return f"{unit.job.queue.arn.partition(':job-queue/')[0]}:job/{unit.id}"


def _reason(unit: Unit) -> str:
    """The reason for its status; in a stuck queue only the unit at the head has one."""
    queue = unit.job.queue
    if unit.status == RUNNABLE and queue.blocked and queue.head() is unit:
        return queue.blocked
    return unit.reason


def _common(unit: Unit) -> Json:
    """The members that summaries and details share."""
    members = {
        "jobArn": _arn(unit),
        "jobId": unit.id,
        "jobName": unit.job.name,
        "status": unit.status,
        "statusReason": _reason(unit),
        "createdAt": unit.created,
        "startedAt": unit.started,
        "stoppedAt": unit.stopped,
        "jobDefinition": unit.job.definition["jobDefinitionArn"],
        "shareIdentifier": unit.job.request.get("shareIdentifier"),
        "isCancelled": unit.cancelled or None,
        "isTerminated": unit.terminated or None,
        "arrayProperties": _array(unit),
    }
    return {key: value for key, value in members.items() if value is not None and value != ""}


def _array(unit: Unit) -> Json | None:
    if unit.index is not None:
        return {"index": unit.index}
    if unit.job.size is None:
        return None
    counts = {state: unit.job.counts[state] for state in STATES}
    return {"size": unit.job.size, "statusSummary": counts, "statusSummaryLastUpdatedAt": now()}


def summary_json(unit: Unit) -> Json:
    """A job as ListJobs describes it."""
    last = unit.attempts[-1]["container"] if unit.attempts and unit.stopped else {}
    container = {key: last[key] for key in ("exitCode", "reason") if key in last}
    return {**_common(unit), **({"container": container} if container else {})}


def job_json(unit: Unit) -> Json:
    """A job as DescribeJobs describes it."""
    job = unit.job
    detail = {
        **_common(unit),
        "jobQueue": job.queue.arn,
        "attempts": unit.attempts,
        "dependsOn": job.request.get("dependsOn", []),
        "parameters": job.request.get("parameters", {}),
        "tags": job.tags,
        "container": _container(unit),
        "platformCapabilities": job.definition.get("platformCapabilities", ["EC2"]),
        "retryStrategy": {
            "attempts": job.spec.retry.attempts,
            "evaluateOnExit": list(job.spec.retry.conditions),
        },
    }
    timeout = job.spec.timeout
    if timeout is None:
        return detail
    return {**detail, "timeout": {"attemptDurationSeconds": timeout}}


def _container(unit: Unit) -> Json:
    spec = unit.job.spec
    container = {
        "image": unit.job.definition.get("containerProperties", {}).get("image"),
        "command": list(spec.command),
        "environment": [{"name": k, "value": v} for k, v in spec.environment.items()],
        "resourceRequirements": [{"type": k, "value": v} for k, v in spec.resources.items()],
    }
    if unit.attempt:
        return {**container, "logStreamName": unit.attempt.stream}
    return {**container, **(unit.attempts[-1]["container"] if unit.attempts else {})}


def attempt_json(unit: Unit, attempt: Attempt, outcome: Outcome) -> Json:
    """An attempt that has ended, as DescribeJobs describes it."""
    task = attempt.stream.rpartition("/")[2]
    container = {
        "exitCode": outcome.exit_code,
        "reason": outcome.reason or None,
        "logStreamName": attempt.stream,
        "taskArn": f"arn:aws:ecs:us-east-1:123456789012:task/batch/{task}",
    }
    return {
        "container": {key: value for key, value in container.items() if value is not None},
        "startedAt": unit.started,
        "stoppedAt": now(),
        "statusReason": outcome.status_reason,
    }
