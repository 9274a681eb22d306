"""A pipeline definition, as JSON: everything in it that SageMaker would refuse. Offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rvrun.aws import request_check as shapes
from rvrun.runners.problems import is_secret
from rvrun.runners.sagemaker import limits
from rvrun.text import count

JSON = Mapping[str, Any]

#: The kinds of steps that are jobs: the call that makes one, and what it adds itself.
JOBS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
}
CONDITION = "Condition"
_KEYS = {"Name", "Type", "DependsOn", "Arguments", "DisplayName", "Description"}
_JOB_KEYS = {*_KEYS, "RetryPolicies", "CacheConfig"}
_TOP_KEYS = {"Version", "Metadata", "Parameters", "Steps", "PipelineExperimentConfig"}
VERSION = "2020-12-01"


def definition_problems(definition: JSON) -> list[str]:
    """Each thing that is wrong with a definition, with the steps it is wrong in; empty if none.

    What is wrong in many steps alike is told once.
    """
    found = [*_frame_problems(definition)]
    if not _is_list_of_objects(definition.get("Steps")):
        return [*found, "Steps is no list of objects"]
    steps = list(all_steps(definition))
    found += _name_problems(steps)
    found += _grouped((name_of(step), each) for step in steps for each in _step_problems(step))
    return [*found, *_dependency_problems(steps, definition)]


def all_steps(definition: JSON) -> Iterator[JSON]:
    """Every step, those inside of Condition steps after these."""
    for step in definition["Steps"]:
        yield step
        yield from _branches(step)


def _branches(step: JSON) -> Iterator[JSON]:
    if step.get("Type") == CONDITION and isinstance(step.get("Arguments"), Mapping):
        for branch in ("IfSteps", "ElseSteps"):
            inner = step["Arguments"].get(branch, [])
            if _is_list_of_objects(inner):
                yield from inner


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def name_of(step: JSON) -> str:
    """A step's name, as a text whatever it is."""
    return str(step.get("Name"))


def _frame_problems(definition: JSON) -> Iterator[str]:
    if definition.get("Version") != VERSION:
        yield f"Version is {definition.get('Version')!r}, not {VERSION!r}"
    for key in definition:
        if key not in _TOP_KEYS:
            yield f"{key} is unknown; known: {', '.join(sorted(_TOP_KEYS))}"
    if definition.get("Steps") == []:
        yield "Steps is empty"


def _name_problems(steps: list[JSON]) -> Iterator[str]:
    names = [name_of(step) for step in steps]
    for name in dict.fromkeys(names):
        if not limits.STEP_NAME.fullmatch(name):
            yield (
                f"step `{name}` ({count(len(name), 'character')}) cannot be named so: 1 to 64 of "
                "a-z, A-Z, 0-9, `-` and `_`; give the pipeline another name"
            )
    if len(set(names)) != len(names):
        twice = dict.fromkeys(name for name in names if names.count(name) > 1)
        yield from (f"{names.count(name)} steps are named `{name}`" for name in twice)


def _grouped(findings: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Findings of steps, those of equal text together."""
    by_problem: dict[str, list[str]] = {}
    for name, problem in findings:
        by_problem.setdefault(problem, []).append(name)
    for problem, names in by_problem.items():
        more = f" and {count(len(names) - 1, 'more step')}" if len(names) > 1 else ""
        yield f"step `{names[0]}`{more}: {problem}"


def _step_problems(step: JSON) -> Iterator[str]:
    kind, arguments = step.get("Type"), step.get("Arguments")
    if kind not in (*JOBS, CONDITION):
        yield f"Type is {kind!r}, none of {', '.join((*JOBS, CONDITION))}"
        return
    for key in step:
        if key not in (_KEYS if kind == CONDITION else _JOB_KEYS):
            yield f"{key} is unknown in a {kind} step"
    if not isinstance(step.get("DependsOn", []), list):
        yield f"DependsOn is {step['DependsOn']!r}, no list of names"
    if not isinstance(arguments, Mapping):
        yield "Arguments is no object"
    elif kind == CONDITION:
        yield from _condition_problems(arguments)
    else:
        operation, added = JOBS[kind]
        yield from shapes.problems("sagemaker", operation, arguments, without=(added,))
        yield from _secret_problems(_part(arguments, "Environment"))
        yield from _retry_problems(step.get("RetryPolicies", []))
        yield from _cache_problems(step.get("CacheConfig"))
        if kind == "Training":
            yield from _training_problems(arguments)


def _condition_problems(arguments: JSON) -> Iterator[str]:
    """Of conditions, those that rvrun renders are known here: two equal constants."""
    for key in ("Conditions", "IfSteps", "ElseSteps"):
        if not _is_list_of_objects(arguments.get(key)):
            yield f"{key} is no list of objects"
    for step in arguments.get("IfSteps") or []:
        if isinstance(step, Mapping) and step.get("Type") == CONDITION:
            yield f"it holds the Condition step `{name_of(step)}`; they cannot be nested"


def _training_problems(arguments: JSON) -> Iterator[str]:
    stopping, resources = (_part(arguments, key) for key in ("StoppingCondition", "ResourceConfig"))
    for key in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if key not in arguments:
            yield f"{key} is missing"
    for key, most in (("InstanceCount", limits.TRAINING_INSTANCES), ("VolumeSizeInGB", None)):
        number = resources.get(key)
        if isinstance(number, int) and (number < 1 or (most and number > most)):
            yield f"ResourceConfig.{key} is {number}, {'below 1' if number < 1 else f'> {most}'}"
    yield from _time_problems(stopping, is_spot=arguments.get("EnableManagedSpotTraining") is True)


def _time_problems(stopping: JSON, *, is_spot: bool) -> Iterator[str]:
    """A job on spot instances may wait as long as its whole time exceeds what it may run."""
    run, wait = stopping.get("MaxRuntimeInSeconds"), stopping.get("MaxWaitTimeInSeconds")
    if isinstance(run, int) and run > limits.TRAINING_SECONDS:
        yield (
            f"StoppingCondition.MaxRuntimeInSeconds is {run}, more than {limits.TRAINING_SECONDS}"
        )
    if is_spot and wait is None:
        yield "StoppingCondition.MaxWaitTimeInSeconds is missing, which spot instances need"
    if not is_spot and wait is not None:
        yield f"StoppingCondition.MaxWaitTimeInSeconds is {wait}, without spot instances"
    if is_spot and isinstance(run, int) and isinstance(wait, int) and wait < run:
        yield (
            f"StoppingCondition.MaxWaitTimeInSeconds is {wait}, less than MaxRuntimeInSeconds, "
            f"{run}: raise `sagemaker.spot_instance_max_wait_time` or lower "
            "`sagemaker.max_run_time`"
        )


def _part(arguments: JSON, key: str) -> JSON:
    part = arguments.get(key)
    return part if isinstance(part, Mapping) else {}


def _secret_problems(environment: JSON) -> Iterator[str]:
    for name in environment:
        if is_secret(name):
            yield (
                f"environment variable `{name}` looks like a secret, and everybody who may "
                "describe a pipeline can read it; let the command fetch it, as from Secrets Manager"
            )


def _retry_problems(policies: object) -> Iterator[str]:
    if not _is_list_of_objects(policies):
        yield "RetryPolicies is no list of objects"
        return
    assert isinstance(policies, list)
    for index, policy in enumerate(policies):
        path = f"RetryPolicies[{index}]"
        for each in policy.get("ExceptionType") or [None]:
            if each not in limits.RETRY_EXCEPTIONS:
                known = ", ".join(limits.RETRY_EXCEPTIONS)
                yield f"{path}.ExceptionType holds {each!r}, none of {known}"
        attempts, seconds = policy.get("MaxAttempts", 1), policy.get("IntervalSeconds", 1)
        if not _is_within(attempts, limits.RETRY_ATTEMPTS):
            yield f"{path}.MaxAttempts is {attempts!r}, not 1 to {limits.RETRY_ATTEMPTS}"
        if not _is_within(seconds, limits.RETRY_INTERVAL_SECONDS):
            most = limits.RETRY_INTERVAL_SECONDS
            yield f"{path}.IntervalSeconds is {seconds!r}, not 1 to {most}"


def _is_within(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _cache_problems(cache: object) -> Iterator[str]:
    if cache is None:
        return
    if not isinstance(cache, Mapping) or not isinstance(cache.get("Enabled"), bool):
        yield "CacheConfig.Enabled is not true or false"
    elif not limits.DURATION.fullmatch(str(cache.get("ExpireAfter"))):
        yield (
            f"CacheConfig.ExpireAfter is {cache.get('ExpireAfter')!r}, no duration such as "
            "`P30D` or `PT12H`: mend `sagemaker.cache_expire_after`"
        )


def _dependency_problems(steps: list[JSON], definition: JSON) -> Iterator[str]:
    """Needs of what is not there, of what nobody may depend on, and of each other."""
    kinds = {name_of(step): step.get("Type") for step in steps}
    graph = {name_of(step): list(_needed(step)) for step in steps}
    for name, needed in graph.items():
        for each in needed:
            if each not in kinds:
                yield f"step `{name}` depends on `{each}`, which is no step"
            elif kinds[each] == CONDITION:
                yield f"step `{name}` depends on `{each}`, a Condition step, which none may"
    for step in definition["Steps"]:
        for inner in _branches(step):
            graph[name_of(inner)].append(name_of(step))
    cycle = _cycle(graph)
    if cycle:
        yield f"steps depend on each other: {' -> '.join(cycle)}"


def _needed(step: JSON) -> list[str]:
    needed = step.get("DependsOn", [])
    return [str(each) for each in needed] if isinstance(needed, list) else []


def _cycle(graph: Mapping[str, list[str]]) -> list[str]:
    """A closed path of steps that depend on each other; empty where there is none.

    Without recursion: chains of steps may be long.
    """
    done: set[str] = set()
    for start in graph:
        path, waiting = [start], [iter(graph[start])]
        while path and start not in done:
            each = next(waiting[-1], None)
            if each is None:
                done.add(path.pop())
                waiting.pop()
            elif each in path:
                return [*path[path.index(each) :], each]
            elif each in graph and each not in done:
                path.append(each)
                waiting.append(iter(graph[each]))
    return []
