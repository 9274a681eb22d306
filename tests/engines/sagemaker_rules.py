"""Which pipeline definitions SageMaker accepts, what a job runs, and when it is retried."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import attrs
import botocore.session
from botocore.validate import ParamValidator

from tests.engines.errors import ServiceError
from tests.engines.sagemaker_runs import JOBS, Json, flat

#: As the model has it for container images of other operations.
IMAGE = re.compile(r"\S+")
STEP_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
MAX_INLINE = 1_048_576
TOKEN = range(32, 129)
#: The maximum number of retries of a policy that has none.
DEFAULT_RETRIES = 5
RESERVED_TAG = "aws:"
OPERATIONS = {"Processing": "CreateProcessingJob", "Training": "CreateTrainingJob"}
NAMES = {"Processing": "ProcessingJobName", "Training": "TrainingJobName"}


def invalid(text: str) -> ServiceError:
    return ServiceError("ValidationException", text)


def parsed(text: str) -> Json:
    """Parse a definition; raise `ServiceError` unless the service accepts it."""
    try:
        definition: Json = json.loads(text)
    except ValueError as err:
        raise invalid(f"Unable to parse pipeline definition. {err}") from None
    if definition.get("Version") != "2020-12-01" or not definition.get("Steps"):
        raise invalid("Unable to parse pipeline definition. Version or Steps.")
    steps = dict[str, Json]()
    for step, branch in flat(definition["Steps"]):
        name = step.get("Name", "")
        if not STEP_NAME.fullmatch(name) or name in steps:
            raise invalid(f"step name {name!r} is not valid or not unique")
        if step["Type"] == "Condition" and branch:
            raise invalid(f"condition step {name!r} is nested")
        if not STEP_NAME.fullmatch(str(step.get("DisplayName", name))):
            raise invalid(f"display name {step['DisplayName']!r} is not valid")
        steps[name] = step
        if step["Type"] != "Condition":
            _check_arguments(step)
    _check_dependencies(definition, steps)
    return definition


def _check_arguments(step: Json) -> None:
    kind = step["Type"]
    if kind not in JOBS:
        raise invalid(f"step type {kind!r} is not supported by this engine")
    params = {**resolve(step["Arguments"], "a1b2c3d4e5f6"), NAMES[kind]: "name"}
    shape = _model().operation_model(OPERATIONS[kind]).input_shape
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        raise invalid(f"step {step['Name']}: {report.generate_report()}")
    spec = job_spec(step)
    if not IMAGE.fullmatch(spec.image):
        raise invalid(f"step {step['Name']}: image {spec.image!r} does not match {IMAGE.pattern}")
    check_tags(step["Arguments"].get("Tags", ()))


def check_tags(tags: Iterable[Mapping[str, str]]) -> None:
    """Refuse tags with the prefix that AWS reserves for itself."""
    for tag in tags:
        if tag["Key"].lower().startswith(RESERVED_TAG):
            raise invalid(f"tag {tag['Key']!r}: aws: prefixed tag key names are not allowed")


def resolve(value: Any, execution_id: str) -> Any:
    """Return `value` with its functions replaced: the execution's id, and joined strings."""
    if value == {"Get": "Execution.PipelineExecutionId"}:
        return execution_id
    if isinstance(value, Mapping) and [*value] == ["Std:Join"]:
        join = value["Std:Join"]
        return str(join["On"]).join(resolve(part, execution_id) for part in join["Values"])
    if isinstance(value, Mapping):
        return {key: resolve(item, execution_id) for key, item in value.items()}
    return [resolve(item, execution_id) for item in value] if isinstance(value, list) else value


def _check_dependencies(definition: Json, steps: Mapping[str, Json]) -> None:
    graph: dict[str, set[str]] = {}
    for step, branch in flat(definition["Steps"]):
        needed = set(step.get("DependsOn", []))
        for name in needed:
            if name not in steps or steps[name]["Type"] == "Condition":
                raise invalid(f"step {step['Name']!r} cannot depend on {name!r}")
        graph[step["Name"]] = needed | ({branch[0]} if branch else set())
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        raise invalid(f"a cycle: {err.args[1]}") from None


@functools.cache
def _model() -> Any:
    return botocore.session.Session().get_service_model("sagemaker")


@attrs.frozen(kw_only=True)
class JobSpec:
    """What a job runs: `count` instances of `command`.

    - `checkpoint_uri`: where checkpoints are in S3; None for none. `checkpoint_path`: their
      directory in the container.
    """

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    count: int
    checkpoint_uri: str | None
    checkpoint_path: str
    is_spot: bool


def job_spec(step: Json, execution_id: str = "a1b2c3d4e5f6") -> JobSpec:
    arguments = resolve(step["Arguments"], execution_id)
    checkpoints = arguments.get("CheckpointConfig", {})
    image = "ImageUri"
    if step["Type"] == "Processing":
        container = arguments["AppSpecification"]
        count = arguments["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
    else:
        container, image = arguments["AlgorithmSpecification"], "TrainingImage"
        count = arguments["ResourceConfig"]["InstanceCount"]
    return JobSpec(
        image=container[image],
        command=(*container["ContainerEntrypoint"], *container.get("ContainerArguments", ())),
        environment=arguments.get("Environment", {}),
        count=count,
        checkpoint_uri=checkpoints.get("S3Uri"),
        checkpoint_path=checkpoints.get("LocalPath", "/opt/ml/checkpoints"),
        is_spot=arguments.get("EnableManagedSpotTraining", False),
    )


def may_retry(step: Json, fault: str, attempts: int) -> bool:
    """Whether that fault is retried after so many attempts: by a policy of the step, or by default.

    Without a policy, only faults of the step itself are retried (Amazon SageMaker Developer Guide,
    "Retry Policy for Pipeline Steps"). The guide does not say how often; here, as often as by a
    policy without a maximum.
    """
    for policy in step.get("RetryPolicies", ()):
        if fault in policy["ExceptionType"]:
            return attempts <= int(policy.get("MaxAttempts", DEFAULT_RETRIES))
    return fault.startswith("Step.") and attempts <= DEFAULT_RETRIES
