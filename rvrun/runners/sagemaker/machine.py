"""What the job of a stage runs on: the settings, with what they say of its command. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import attrs

from rvrun.model import Plan, PlannedPipeline, Stage
from rvrun.settings import SagemakerCommandSettings, SagemakerSettings, variable

#: Stands for a setting that is missing, so that all else can be checked all the same.
UNSET_ROLE = "arn:aws:iam::000000000000:role/not-set"
UNSET_IMAGE = "not-set"
UNSET_INSTANCE_TYPE = "ml.m5.large"


@attrs.frozen(kw_only=True)
class Machine:
    """What each job of a stage runs on, and how.

    - `is_training`: a training job, else a processing job.
    - `instance_count`: of a training job. `max_instances`: of a processing job for splits; 1
      where a split is a step of its own.
    - `processes`: how many torchrun starts on an instance, or `gpu` for one a GPU; None without.
    - `max_wait_time`: seconds that a job on spot instances may take; None for one that is not.
    - `retries`: how often it is tried again; `cache`: how long its result may be used again.
    """

    is_training: bool
    image: str
    instance_type: str
    instance_count: int
    max_instances: int
    processes: int | Literal["gpu"] | None
    volume_size: int
    max_run_time: int
    max_wait_time: int | None
    retries: int
    retry_interval: int
    cache: str | None
    environment: Mapping[str, str]
    tags: Mapping[str, str]


def machine(pipeline: str, stage: Stage, settings: SagemakerSettings) -> Machine:
    """The machine of one stage of the pipeline of that name."""
    said = _said(pipeline, stage.command, settings)
    is_training = _is_training(pipeline, stage, settings)
    max_run_time = stage.resources.timeout_seconds or said["max_run_time"]
    by_instances = said["split_by"] == "instances" and not is_training
    count = said["train_instance_count"] if is_training else 1
    is_spot = is_training and said["use_spot_instances"]
    return Machine(
        is_training=is_training,
        image=_first(said, _keys(stage, "image", is_training=is_training)) or UNSET_IMAGE,
        instance_type=_first(said, _keys(stage, "instance_type", is_training=is_training))
        or UNSET_INSTANCE_TYPE,
        instance_count=count,
        max_instances=said["max_instances"] if by_instances else 1,
        processes=_processes(count, said["processes_per_instance"]) if is_training else None,
        volume_size=said["volume_size"],
        max_run_time=max_run_time,
        max_wait_time=(said["spot_instance_max_wait_time"] or max_run_time) if is_spot else None,
        retries=said["attempts"] - 1,
        retry_interval=said["retry_interval"],
        cache=said["cache_expire_after"],
        environment=said["environment"],
        tags=said["tags"],
    )


def _processes(count: int, said: int | None) -> int | Literal["gpu"] | None:
    if count == 1 and said is None:
        return None
    return said or "gpu"


def _is_training(pipeline: str, stage: Stage, settings: SagemakerSettings) -> bool:
    return any(_matches(glob, pipeline, stage.command) for glob in settings.train_commands)


def _matches(glob: str, pipeline: str, command: str) -> bool:
    """Whether `glob` matches a command by its name, or by that of its stage."""
    return fnmatchcase(command, glob) or fnmatchcase(f"{pipeline}/{command}", glob)


def _said(pipeline: str, command: str, settings: SagemakerSettings) -> dict[str, Any]:
    """All settings as they are for a command: of several globs that match, the last one says."""
    said: dict[str, Any] = attrs.asdict(settings, recurse=False)
    for glob, own in settings.commands.items():
        if _matches(glob, pipeline, command):
            said.update(_own(own, said))
    return said


def _own(own: SagemakerCommandSettings, said: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a command; its tables add to those of all."""
    values = attrs.asdict(own, recurse=False, filter=lambda _, value: value is not None)
    return {
        key: {**said[key], **value} if isinstance(value, dict) else value
        for key, value in values.items()
    }


def _keys(stage: Stage, what: str, *, is_training: bool) -> tuple[str, ...]:
    """The settings that say an image or an instance type, the most particular first."""
    kind = "gpu" if stage.gpu else "cpu"
    return (what, *([f"train_{what}"] if is_training else []), f"{kind}_{what}")


def _first(said: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((said[key] for key in keys if said.get(key)), None)


def missing(plan: Plan, settings: SagemakerSettings, where: str) -> list[str]:
    """Each setting that `plan` cannot do without and that is not set; `where` they could be."""
    found = [] if settings.role else [_missing("role", "the jobs", where)]
    needed: dict[str, list[str]] = {}
    for pipeline, stage in _stages(plan):
        said = _said(pipeline.name, stage.command, settings)
        is_training = _is_training(pipeline.name, stage, settings)
        for what in ("image", "instance_type"):
            keys = _keys(stage, what, is_training=is_training)
            if _first(said, keys) is None:
                needed.setdefault(keys[1], []).append(f"`{pipeline.name}/{stage.command}`")
    return [*found, *(_missing(key, ", ".join(who), where) for key, who in needed.items())]


def _missing(key: str, who: str, where: str) -> str:
    name = f"sagemaker.{key}"
    return f"`{name}` is not set, and {who} need it: set it in {where} or as {variable(name)}"


def _stages(plan: Plan) -> Iterator[tuple[PlannedPipeline, Stage]]:
    return ((pipeline, stage) for pipeline in plan.pipelines for stage in pipeline.stages)
