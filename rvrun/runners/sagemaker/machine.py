"""What the job of a stage runs on: the settings, with what they say of its command. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from rvrun.model import Plan, Stage
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.settings.overrides import matches, overridden
from rvrun.settings.schema import variable

#: Stands for a setting that is missing, so that all else can be checked all the same.
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
    name = f"{pipeline}/{stage.command}"
    said = overridden(settings, settings.commands, name)
    is_training = _is_training(name, settings)
    max_run_time = stage.resources.timeout_seconds or said.max_run_time
    by_instances = said.split_by == "instances" and not is_training
    is_spot = is_training and said.use_spot_instances
    return Machine(
        is_training=is_training,
        image=_said(name, stage, settings, "image")[1] or UNSET_IMAGE,
        instance_type=_said(name, stage, settings, "instance_type")[1] or UNSET_INSTANCE_TYPE,
        instance_count=said.train_instance_count if is_training else 1,
        max_instances=said.max_instances if by_instances else 1,
        processes=_processes(said) if is_training else None,
        volume_size=said.volume_size,
        max_run_time=max_run_time,
        max_wait_time=(said.spot_instance_max_wait_time or max_run_time) if is_spot else None,
        retries=said.attempts - 1,
        retry_interval=said.retry_interval,
        cache=said.cache_expire_after,
        environment=dict(sorted(said.environment.items())),
        tags=dict(sorted(said.tags.items())),
    )


def _processes(said: SagemakerSettings) -> int | Literal["gpu"] | None:
    if said.train_instance_count == 1 and said.processes_per_instance is None:
        return None
    return said.processes_per_instance or "gpu"


def _is_training(name: str, settings: SagemakerSettings) -> bool:
    return any(matches(glob, name) for glob in settings.train_commands)


def _said(
    name: str, stage: Stage, settings: SagemakerSettings, what: str
) -> tuple[str, str | None]:
    """The `image` or `instance_type` of a stage: the key that says it, or should, and its value.

    The most particular goes first: what is said of the command, of training, of CPU or GPU.
    """
    for glob, own in reversed(settings.commands.items()):
        if matches(glob, name) and getattr(own, what):
            return what, getattr(own, what)
    general = f"{'gpu' if stage.gpu else 'cpu'}_{what}"
    if not _is_training(name, settings):
        return general, getattr(settings, general)
    particular = f"train_{what}"
    value = getattr(settings, particular) or getattr(settings, general)
    return particular, value


def missing(plan: Plan, settings: SagemakerSettings, where: str) -> list[str]:
    """Each setting that `plan` cannot do without and that is not set; `where` they could be."""
    needed: dict[str, list[str]] = {} if settings.role else {"role": ["the jobs"]}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            name = f"{pipeline.name}/{stage.command}"
            for what in ("image", "instance_type"):
                key, value = _said(name, stage, settings, what)
                if value is None:
                    needed.setdefault(key, []).append(f"`{name}`")
    return [
        f"`sagemaker.{key}` is not set, which {', '.join(who)} cannot do without: set it in "
        f"{where} or as {variable(f'sagemaker.{key}')}"
        for key, who in needed.items()
    ]
