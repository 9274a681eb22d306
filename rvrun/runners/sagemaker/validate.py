"""Everything in a pipeline definition that SageMaker would refuse, found offline.

The arguments of a job are checked against botocore's model of the call that creates it. This
module adds what no service model contains: the schema of pipeline definitions, and `limits`.
"""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rvrun.aws import request_check
from rvrun.runners.sagemaker import limits
from rvrun.runners.sagemaker.functions import resolve
from rvrun.secret_marks import mark

#: A JSON object, which may be anything: users can replace the template.
Json = Mapping[str, Any]

VERSION = "2020-12-01"
#: The types of steps that are jobs: the call that creates one, and the member that SageMaker adds.
JOBS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
}
CONDITION = "Condition"
_TOP_KEYS = ("Metadata", "Parameters", "PipelineExperimentConfig", "Steps", "Version")
_STEP_KEYS = ("Arguments", "DependsOn", "Description", "DisplayName", "Name", "Type")
_OVERRIDE = "or add its name to `sagemaker.not_secret` if it is not one"
_JOB_KEYS = (*_STEP_KEYS, "CacheConfig", "RetryPolicies")


def validate_definition(definition: Json, not_secret: Collection[str] = ()) -> list[str]:
    """Return a sentence for each problem; those of a step begin with its name and a colon.

    - `not_secret`: variables and tags that look like secrets but are not.
    """
    problems = list(_top_level_problems(definition))
    if not _is_list_of_objects(definition.get("Steps")):
        return [*problems, f"Steps must be a list of objects, got {definition.get('Steps')!r}"]
    steps = list(all_steps(definition))
    problems += _name_problems([step_name(step) for step in steps])
    problems += [
        f"{step_name(step)}: {problem}"
        for step in steps
        for problem in _step_problems(step, not_secret)
    ]
    return [*problems, *_dependency_problems(steps), *_cycle_problems(definition)]


def all_steps(definition: Json) -> Iterator[Json]:
    """Yield every step of a definition, those inside of a Condition step after it."""
    for step in definition["Steps"]:
        yield step
        yield from _inner_steps(step)


def step_name(step: Json) -> str:
    """Return the name of a step as a string, whatever it is."""
    return str(step.get("Name"))


def _inner_steps(step: Json) -> Iterator[Json]:
    if step.get("Type") == CONDITION:
        for branch in ("IfSteps", "ElseSteps"):
            steps = _member(step, "Arguments").get(branch, [])
            if _is_list_of_objects(steps):
                yield from steps


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _member(values: Json, key: str) -> Json:
    """The object at `key`; empty if it is missing or not an object, which is reported elsewhere."""
    member = values.get(key)
    return member if isinstance(member, Mapping) else {}


def _top_level_problems(definition: Json) -> Iterator[str]:
    if definition.get("Version") != VERSION:
        yield f"Version must be {VERSION!r}, got {definition.get('Version')!r}"
    for key in definition:
        if key not in _TOP_KEYS:
            yield f"unknown key `{key}`; known keys: {', '.join(_TOP_KEYS)}"
    if definition.get("Steps") == []:
        yield "Steps must not be empty"


def _name_problems(names: list[str]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if not limits.STEP_NAME.fullmatch(name):
            yield (
                f"{name}: names of steps must be 1 to 64 characters of a-z, A-Z, 0-9, `-` and "
                "`_`; rename the pipeline"
            )
        if (number := names.count(name)) > 1:
            yield f"{name}: names of steps must be unique, got {number} steps of this name"


def _step_problems(step: Json, not_secret: Collection[str]) -> Iterator[str]:
    kind, arguments = step.get("Type"), step.get("Arguments")
    if kind not in (*JOBS, CONDITION):
        yield f"Type must be Processing, Training or Condition, got {kind!r}"
        return
    for key in step:
        if key not in (_STEP_KEYS if kind == CONDITION else _JOB_KEYS):
            yield f"unknown key `{key}` in a {kind} step"
    yield from _label_problems(step)
    if not isinstance(step.get("DependsOn", []), list):
        yield f"DependsOn must be a list of names, got {step['DependsOn']!r}"
    if not isinstance(arguments, Mapping):
        yield f"Arguments must be an object, got {arguments!r}"
    elif kind == CONDITION:
        yield from _condition_problems(arguments)
    else:
        operation, added = JOBS[kind]
        arguments = resolve(arguments)
        yield from request_check.problems("sagemaker", operation, arguments, without=(added,))
        yield from _image_problems(str(kind), arguments)
        yield from tag_problems(arguments.get("Tags"))
        yield from _secret_problems(_member(arguments, "Environment"), not_secret)
        yield from secret_tags(arguments.get("Tags"), not_secret)
        yield from _retry_problems(step.get("RetryPolicies", []))
        yield from _cache_problems(step.get("CacheConfig"))
        if kind == "Training":
            yield from _training_problems(arguments)


def _label_problems(step: Json) -> Iterator[str]:
    display_name, description = step.get("DisplayName"), step.get("Description", "")
    if display_name is not None and not limits.STEP_NAME.fullmatch(str(display_name)):
        yield (
            "DisplayName must be 1 to 64 characters of a-z, A-Z, 0-9, `-` and `_`, got "
            f"{display_name!r}"
        )
    most = limits.DESCRIPTION_CHARACTERS
    if not isinstance(description, str) or len(description) > most:
        yield f"Description must be a string of at most {most} characters, got {description!r:.60}"


def _condition_problems(arguments: Json) -> Iterator[str]:
    for key in ("Conditions", "IfSteps", "ElseSteps"):
        if not _is_list_of_objects(arguments.get(key)):
            yield f"{key} must be a list of objects, got {arguments.get(key)!r}"
    for inner in arguments.get("IfSteps") or []:
        if isinstance(inner, Mapping) and inner.get("Type") == CONDITION:
            yield f"Condition steps must not be nested, got `{step_name(inner)}` inside"


def _training_problems(arguments: Json) -> Iterator[str]:
    for key in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if key not in arguments:
            yield f"{key} is required in a Training step"
    resources = _member(arguments, "ResourceConfig")
    for key, most in (("InstanceCount", limits.TRAINING_INSTANCES), ("VolumeSizeInGB", None)):
        number = resources.get(key)
        if isinstance(number, int):
            yield from _range_problems(f"ResourceConfig.{key}", number, most)
    is_spot = arguments.get("EnableManagedSpotTraining") is True
    if is_spot and "KeepAlivePeriodInSeconds" in resources:
        # Amazon SageMaker Developer Guide, "Train Using SageMaker Managed Warm Pools".
        yield (
            "ResourceConfig.KeepAlivePeriodInSeconds conflicts with spot instances; remove "
            "`sagemaker.keep_alive` or `sagemaker.use_spot_instances`"
        )
    yield from _time_problems(_member(arguments, "StoppingCondition"), is_spot=is_spot)


def _time_problems(stopping: Json, *, is_spot: bool) -> Iterator[str]:
    """On spot instances, the wait for them counts as part of MaxWaitTimeInSeconds."""
    wait_key = "StoppingCondition.MaxWaitTimeInSeconds"
    run, wait = stopping.get("MaxRuntimeInSeconds"), stopping.get("MaxWaitTimeInSeconds")
    if isinstance(run, int) and run > limits.TRAINING_SECONDS:
        most = limits.TRAINING_SECONDS
        yield f"StoppingCondition.MaxRuntimeInSeconds must be at most {most}, got {run}"
    if is_spot and wait is None:
        yield f"{wait_key} is required with spot instances"
    if not is_spot and wait is not None:
        yield f"{wait_key} requires spot instances, got {wait} without them"
    if is_spot and isinstance(run, int) and isinstance(wait, int) and wait < run:
        yield (
            f"{wait_key} must be at least MaxRuntimeInSeconds ({run}), got {wait}; raise "
            "`sagemaker.spot_instance_max_wait_time` or lower `sagemaker.max_run_time`"
        )


def _secret_problems(environment: Json, not_secret: Collection[str]) -> Iterator[str]:
    for name, value in environment.items():
        if name not in not_secret and (why := mark(name, str(value))):
            yield (
                f"environment variable `{name}` {why}, and everyone who may describe the pipeline "
                "can read it; fetch it in the command, for example from Secrets Manager, "
                f"{_OVERRIDE}"
            )


def secret_tags(tags: Any, not_secret: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each tag, as requests list them, that looks like a secret."""
    for tag in tags if _is_list_of_objects(tags) else ():
        key = str(tag.get("Key"))
        if key not in not_secret and (why := mark(key, str(tag.get("Value")))):
            yield (
                f"tag `{key}` {why}, and everyone who may describe the pipeline can read it; "
                f"remove it, {_OVERRIDE}"
            )


def _image_problems(kind: str, arguments: Json) -> Iterator[str]:
    group, name = limits.IMAGES[kind]
    image = _member(arguments, group).get(name)
    if isinstance(image, str) and not limits.IMAGE.fullmatch(image):
        yield f"{group}.{name} must not contain spaces, got {image!r}"


def tag_problems(tags: Any) -> Iterator[str]:
    """Yield a sentence for each tag, as requests list them, whose key AWS reserves for itself."""
    if not _is_list_of_objects(tags):
        return
    for index, tag in enumerate(tags):
        key = str(tag.get("Key"))
        if key.lower().startswith(limits.RESERVED_TAG):
            yield (
                f"Tags[{index}].Key must not begin with `{limits.RESERVED_TAG}`, which AWS "
                f"reserves, got {key!r}; rename the tag"
            )


def _retry_problems(policies: Any) -> Iterator[str]:
    if not _is_list_of_objects(policies):
        yield f"RetryPolicies must be a list of objects, got {policies!r}"
        return
    for index, policy in enumerate(policies):
        path = f"RetryPolicies[{index}]"
        for exception in policy.get("ExceptionType") or [None]:
            if exception not in limits.RETRY_EXCEPTIONS:
                names = ", ".join(limits.RETRY_EXCEPTIONS)
                yield f"{path}.ExceptionType must be one or more of {names}, got {exception!r}"
        attempts, seconds = policy.get("MaxAttempts", 1), policy.get("IntervalSeconds", 1)
        most = limits.RETRY_ATTEMPTS
        yield from _range_problems(f"{path}.MaxAttempts", attempts, most, least=0)
        most = limits.RETRY_INTERVAL_SECONDS
        yield from _range_problems(f"{path}.IntervalSeconds", seconds, most)


def _range_problems(path: str, value: object, most: int | None, *, least: int = 1) -> Iterator[str]:
    """`value` must be an integer from `least` to `most`; None for no upper bound."""
    if type(value) is not int or value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"between {least} and {most}"
        yield f"{path} must be {bounds}, got {value!r}"


def _cache_problems(cache: object) -> Iterator[str]:
    if cache is None:
        return
    if not isinstance(cache, Mapping) or not isinstance(cache.get("Enabled"), bool):
        yield f"CacheConfig.Enabled must be true or false, got {cache!r}"
    elif not limits.DURATION.fullmatch(str(cache.get("ExpireAfter"))):
        yield (
            "CacheConfig.ExpireAfter must be a duration such as `P30D` or `PT12H`, got "
            f"{cache.get('ExpireAfter')!r}; change `sagemaker.cache_expire_after`"
        )


def _needs(step: Json) -> list[str]:
    names = step.get("DependsOn", [])
    return [str(name) for name in names] if isinstance(names, list) else []


def _dependency_problems(steps: list[Json]) -> Iterator[str]:
    kinds = {step_name(step): step.get("Type") for step in steps}
    for step in steps:
        for need in _needs(step):
            if need not in kinds:
                yield f"{step_name(step)}: depends on `{need}`, which does not exist"
            elif kinds[need] == CONDITION:
                yield f"{step_name(step)}: must not depend on a Condition step, got `{need}`"


def _cycle_problems(definition: Json) -> Iterator[str]:
    graph = {step_name(step): _needs(step) for step in all_steps(definition)}
    for step in definition["Steps"]:
        for inner in _inner_steps(step):
            # A step inside of a Condition step waits for it like for a dependency.
            graph[step_name(inner)].append(step_name(step))
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        # graphlib lists what is needed before what needs it.
        yield f"steps depend on each other: {' -> '.join(reversed(error.args[1]))}"
