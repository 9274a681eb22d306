"""Which pipeline definitions SageMaker accepts, what a job runs, and when it is retried."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import attrs
import botocore.session
from botocore.validate import ParamValidator

from tests.engines.errors import ServiceError
from tests.engines.sagemaker_runs import JOBS, Json, flat

STEP_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
MAX_INLINE = 1_048_576
TOKEN = range(32, 129)
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
        steps[name] = step
        if step["Type"] != "Condition":
            _check_arguments(step)
    _check_dependencies(definition, steps)
    return definition


def _check_arguments(step: Json) -> None:
    kind = step["Type"]
    if kind not in JOBS:
        raise invalid(f"step type {kind!r} is not supported by this engine")
    params = {**step["Arguments"], NAMES[kind]: "name"}
    shape = _model().operation_model(OPERATIONS[kind]).input_shape
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        raise invalid(f"step {step['Name']}: {report.generate_report()}")


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
    """What a job runs: `count` instances of `command`."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    count: int


def job_spec(step: Json) -> JobSpec:
    arguments = step["Arguments"]
    if step["Type"] == "Processing":
        container = arguments["AppSpecification"]
        count = arguments["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
    else:
        container = arguments["AlgorithmSpecification"]
        count = arguments["ResourceConfig"]["InstanceCount"]
    return JobSpec(
        command=(*container["ContainerEntrypoint"], *container.get("ContainerArguments", ())),
        environment=arguments.get("Environment", {}),
        count=count,
    )


def may_retry(step: Json, fault: str, attempts: int) -> bool:
    """Whether a policy of the step retries that fault after so many attempts."""
    for policy in step.get("RetryPolicies", ()):
        if fault in policy["ExceptionType"]:
            return attempts <= int(policy.get("MaxAttempts", 5))
    return False
