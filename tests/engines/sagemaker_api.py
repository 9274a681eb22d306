"""The protocol of SageMaker, CloudWatch Logs and Service Quotas (JSON 1.1)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.engines.errors import ServiceError
from tests.engines.http import Reply, Request
from tests.engines.sagemaker_rules import invalid
from tests.engines.sagemaker_runs import Execution, Json, StepRun

if TYPE_CHECKING:
    from tests.engines.sagemaker import SagemakerEngine

PREFIXES = ("SageMaker.", "Logs_20140328.", "ServiceQuotasV20190624.")
TYPE = "application/x-amz-json-1.1"


def read(request: Request) -> tuple[str, Json]:
    """Return the operation's name and its parameters."""
    target = request.headers.get("X-Amz-Target", "")
    for prefix in PREFIXES:
        target = target.removeprefix(prefix)
    return target, json.loads(request.body or b"{}")


def reply(body: Json) -> Reply:
    return Reply(200, json.dumps(body).encode(), _headers())


def error_reply(error: ServiceError) -> Reply:
    body = {"__type": error.code, "message": error.message}
    return Reply(error.status, json.dumps(body).encode(), _headers())


def _headers() -> dict[str, str]:
    return {"Content-Type": TYPE, "x-amzn-RequestId": str(uuid.uuid4())}


def throttled() -> ServiceError:
    return ServiceError("ThrottlingException", "Rate exceeded")


def internal_failure(text: str = "Internal server error") -> ServiceError:
    return ServiceError("InternalFailure", text, 500)


def serve(engine: SagemakerEngine, operation: str, request: Json) -> Json:
    """Carry out an operation."""
    if operation not in OPERATIONS:
        raise ServiceError("UnknownOperationException", f"no operation {operation!r}", 404)
    return OPERATIONS[operation](engine, request)


def create_pipeline(engine: SagemakerEngine, request: Json) -> Json:
    return {"PipelineArn": engine.create(request)}


def update_pipeline(engine: SagemakerEngine, request: Json) -> Json:
    arn = engine.update(request)
    version = len(engine.pipeline(request["PipelineName"]).versions)
    return {"PipelineArn": arn, "PipelineVersionId": version}


def list_versions(engine: SagemakerEngine, request: Json) -> Json:
    """The versions of a pipeline, by default the latest first."""
    pipeline = engine.pipeline(request["PipelineName"])
    versions = [
        {"PipelineArn": pipeline.arn, "PipelineVersionId": number}
        for number in range(1, len(pipeline.versions) + 1)
    ]
    if request.get("SortOrder", "Descending") == "Descending":
        versions.reverse()
    start, size = int(request.get("NextToken", "0")), request.get("MaxResults", 10)
    page: Json = {"PipelineVersionSummaries": versions[start : start + size]}
    return {**page, "NextToken": str(start + size)} if versions[start + size :] else page


def add_tags(engine: SagemakerEngine, request: Json) -> Json:
    pipeline = engine.pipeline(request["ResourceArn"].rpartition("/")[2])
    tags = {tag["Key"]: tag for tag in (*pipeline.request.get("Tags", ()), *request["Tags"])}
    pipeline.request["Tags"] = list(tags.values())
    return {"Tags": pipeline.request["Tags"]}


def list_executions(engine: SagemakerEngine, request: Json) -> Json:
    """The executions of a pipeline, the latest first."""
    engine.pipeline(request["PipelineName"])
    own = [e for e in engine.executions.values() if e.pipeline == request["PipelineName"]]
    summaries = [{**execution_json(e), "StartTime": e.created} for e in reversed(own)]
    for summary in summaries:
        del summary["CreationTime"], summary["LastModifiedTime"]
    start, size = int(request.get("NextToken", "0")), request.get("MaxResults", 10)
    page: Json = {"PipelineExecutionSummaries": summaries[start : start + size]}
    return {**page, "NextToken": str(start + size)} if summaries[start + size :] else page


def describe_pipeline(engine: SagemakerEngine, request: Json) -> Json:
    pipeline = engine.pipeline(request["PipelineName"])
    return {**pipeline.request, "PipelineArn": pipeline.arn, "PipelineStatus": "Active"}


def start_execution(engine: SagemakerEngine, request: Json) -> Json:
    return {"PipelineExecutionArn": engine.start(request).arn}


def describe_execution(engine: SagemakerEngine, request: Json) -> Json:
    execution = engine.execution(request["PipelineExecutionArn"])
    return {**execution_json(execution), "PipelineArn": execution.arn.partition("/execution")[0]}


def execution_json(execution: Execution) -> Json:
    members = {
        "PipelineExecutionArn": execution.arn,
        "PipelineExecutionDisplayName": execution.display_name or None,
        "PipelineExecutionStatus": execution.status,
        "CreationTime": execution.created,
        "LastModifiedTime": execution.modified,
        "FailureReason": execution.failure or None,
    }
    return {key: value for key, value in members.items() if value is not None}


def list_steps(engine: SagemakerEngine, request: Json) -> Json:
    """The steps that were started, by default the latest first."""
    runs = engine.execution(request["PipelineExecutionArn"]).started()
    if request.get("SortOrder", "Descending") == "Descending":
        runs.reverse()
    size = request.get("MaxResults", 10)
    if not 1 <= size <= 100:
        raise invalid(f"MaxResults must be between 1 and 100, got {size}")
    start = int(request.get("NextToken", "0"))
    page: Json = {"PipelineExecutionSteps": [step_json(run) for run in runs[start : start + size]]}
    return {**page, "NextToken": str(start + size)} if runs[start + size :] else page


def step_json(run: StepRun) -> Json:
    metadata: Json = {}
    if not run.is_job:
        metadata = {"Condition": {"Outcome": str(run.outcome)}}
    elif run.status != "Starting":
        metadata = {f"{run.step['Type']}Job": {"Arn": run.job_arn}}
    members = {
        "StepName": run.name,
        "StepDisplayName": run.step.get("DisplayName"),
        "StepDescription": run.step.get("Description"),
        "StartTime": run.started,
        "EndTime": run.ended,
        "StepStatus": run.status,
        "AttemptCount": run.attempts,
        "FailureReason": run.failure or None,
        "Metadata": metadata,
    }
    return {key: value for key, value in members.items() if value is not None}


def stop_execution(engine: SagemakerEngine, request: Json) -> Json:
    return {"PipelineExecutionArn": engine.stop(request["PipelineExecutionArn"]).arn}


def retry_execution(engine: SagemakerEngine, request: Json) -> Json:
    return {"PipelineExecutionArn": engine.retry(request).arn}


def get_log_events(engine: SagemakerEngine, request: Json) -> Json:
    return engine.group(request).get(request)


def describe_log_streams(engine: SagemakerEngine, request: Json) -> Json:
    return engine.group(request).describe(request)


def list_quotas(engine: SagemakerEngine, request: Json) -> Json:
    """The quotas of a service, in pages of at most 100."""
    quotas = [{"QuotaName": name, "Value": value} for name, value in engine.quotas.items()]
    start, size = int(request.get("NextToken", "0")), request.get("MaxResults", 100)
    page: Json = {"Quotas": quotas[start : start + size]}
    return {**page, "NextToken": str(start + size)} if quotas[start + size :] else page


OPERATIONS: dict[str, Callable[[Any, Json], Json]] = {
    "CreatePipeline": create_pipeline,
    "UpdatePipeline": update_pipeline,
    "ListPipelineVersions": list_versions,
    "AddTags": add_tags,
    "ListServiceQuotas": list_quotas,
    "ListPipelineExecutions": list_executions,
    "DescribePipeline": describe_pipeline,
    "StartPipelineExecution": start_execution,
    "DescribePipelineExecution": describe_execution,
    "ListPipelineExecutionSteps": list_steps,
    "StopPipelineExecution": stop_execution,
    "RetryPipelineExecution": retry_execution,
    "GetLogEvents": get_log_events,
    "DescribeLogStreams": describe_log_streams,
}
