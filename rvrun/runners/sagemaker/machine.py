"""What the jobs of a stage run on: the settings in force for its command. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from rvrun.model import Plan, Stage
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.settings.overrides import matches, overridden
from rvrun.settings.schema import variable

#: Placeholders for missing settings, so that everything else can be checked at the same time.
UNSET_IMAGE = "not-set"
UNSET_INSTANCE_TYPE = "ml.m5.large"

#: A setting with one value for CPU commands, one for GPU commands and one for training.
PerKind = Literal["image", "instance_type"]


@attrs.frozen(kw_only=True)
class Machine:
    """What each job of a stage runs on.

    - `is_training`: whether it is a training job rather than a processing job.
    - `instance_count`: instances of a training job. `max_instances`: how many splits may share a
      processing job, one per instance; 1 if each split is a step of its own.
    - `processes`: how many torchrun starts per instance, or `gpu` for one per GPU; None without
      torchrun.
    - `volume_size`: in GB. `max_run_time`, `retry_interval`: in seconds.
    - `max_wait_time`: seconds that a job on spot instances may take, including the wait for them;
      None for a job on other instances.
    - `checkpoint_uri`: S3 prefix of its checkpoints, as configured. `checkpoint_path`: their
      directory in the container; None for SageMaker's default.
    - `keep_alive`: seconds that its instances are kept for the next training job.
    - `metrics`: of a training job, regular expressions by name.
    - `cache`: how long SageMaker may reuse the result, as `P30D`; None for never.
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
    checkpoint_uri: str | None
    checkpoint_path: str | None
    keep_alive: int | None
    metrics: Mapping[str, str]
    retries: int
    retry_interval: int
    cache: str | None
    environment: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def is_spot(self) -> bool:
        return self.max_wait_time is not None

    @property
    def metric_definitions(self) -> list[dict[str, str]]:
        """Its metrics as requests list them."""
        return [{"Name": name, "Regex": regex} for name, regex in self.metrics.items()]

    @property
    def tag_list(self) -> list[dict[str, str]]:
        """Its tags as requests list them."""
        return list_tags(self.tags)


def list_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return `tags` as requests list them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def choose_machine(pipeline: str, stage: Stage, settings: SagemakerSettings) -> Machine:
    """Return what the jobs of `stage` run on; `pipeline` is its pipeline's name."""
    name = f"{pipeline}/{stage.command}"
    own = overridden(settings, settings.commands, name)
    is_training = _is_training(name, settings)
    max_run_time = stage.resources.timeout_seconds or own.max_run_time
    by_instances = own.split_by == "instances" and not is_training
    is_spot = is_training and own.use_spot_instances
    return Machine(
        is_training=is_training,
        image=_look_up("image", name, stage, settings)[1] or UNSET_IMAGE,
        instance_type=_look_up("instance_type", name, stage, settings)[1] or UNSET_INSTANCE_TYPE,
        instance_count=own.train_instance_count if is_training else 1,
        max_instances=own.max_instances if by_instances else 1,
        processes=_torchrun_processes(own) if is_training else None,
        volume_size=own.volume_size,
        max_run_time=max_run_time,
        max_wait_time=(own.spot_instance_max_wait_time or max_run_time) if is_spot else None,
        checkpoint_uri=own.checkpoint_uri if is_training else None,
        checkpoint_path=own.checkpoint_path,
        keep_alive=own.keep_alive if is_training else None,
        metrics=dict(sorted(own.metrics.items())) if is_training else {},
        retries=own.attempts - 1,
        retry_interval=own.retry_interval,
        cache=own.cache_expire_after,
        environment=dict(sorted(own.environment.items())),
        tags=dict(sorted(own.tags.items())),
    )


def _torchrun_processes(settings: SagemakerSettings) -> int | Literal["gpu"] | None:
    if settings.train_instance_count == 1 and settings.processes_per_instance is None:
        return None
    return settings.processes_per_instance or "gpu"


def _is_training(name: str, settings: SagemakerSettings) -> bool:
    return any(matches(glob, name) for glob in settings.train_commands)


def _look_up(
    setting: PerKind, name: str, stage: Stage, settings: SagemakerSettings
) -> tuple[str, str | None]:
    """The key to set for a stage, and its value, from the most specific key that is set.

    That of the command comes before that of training, and this before those of CPU and GPU.
    """
    for glob, own in reversed(settings.commands.items()):
        if matches(glob, name) and getattr(own, setting):
            return setting, getattr(own, setting)
    if setting == "image" and stage.resources.image:
        return setting, stage.resources.image
    general = f"{'gpu' if stage.gpu else 'cpu'}_{setting}"
    if not _is_training(name, settings):
        return general, getattr(settings, general)
    training = f"train_{setting}"
    return training, getattr(settings, training) or getattr(settings, general)


def find_missing(plan: Plan, settings: SagemakerSettings, file: str) -> list[str]:
    """Return a sentence for each required setting that is not set; `file` is where to set it."""
    users: dict[str, list[str]] = {} if settings.role else {"role": ["all jobs"]}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            name = f"{pipeline.name}/{stage.command}"
            for setting in ("image", "instance_type"):
                key, value = _look_up(setting, name, stage, settings)
                if value is None:
                    users.setdefault(key, []).append(f"`{name}`")
    return [
        f"`sagemaker.{key}` is required for {', '.join(names)}; set it in {file} or "
        f"as {variable(f'sagemaker.{key}')}"
        for key, names in users.items()
    ]
