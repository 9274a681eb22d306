"""The section of `rvrun.toml` for SageMaker Pipelines. Raster Vision has some of the same names."""

from __future__ import annotations

from typing import Literal

import attrs

from rvrun.settings.schema import WORKER, Worker, setting, table


@attrs.frozen(kw_only=True)
class SagemakerCommandSettings:
    """`[sagemaker.commands.GLOB]`: settings of the steps of commands that GLOB matches."""

    image: str | None = setting("image")
    instance_type: str | None = setting("instance type")
    volume_size: int | None = setting("as in [sagemaker]", most=16384)
    max_run_time: int | None = setting("as in [sagemaker]")
    train_instance_count: int | None = setting("as in [sagemaker]")
    processes_per_instance: int | None = setting("as in [sagemaker]")
    use_spot_instances: bool | None = setting("as in [sagemaker]")
    spot_instance_max_wait_time: int | None = setting("as in [sagemaker]")
    split_by: Literal["steps", "instances"] | None = setting("as in [sagemaker]")
    max_instances: int | None = setting("as in [sagemaker]", most=100)
    attempts: int | None = setting("as in [sagemaker]", most=21)
    retry_interval: int | None = setting("as in [sagemaker]", most=43200)
    cache_expire_after: str | None = setting("as in [sagemaker]")
    tags: dict[str, str] = table("tags of the jobs")
    environment: dict[str, str] = table("environment variables of the jobs; no secrets")


@attrs.frozen(kw_only=True)
class SagemakerSettings:
    """`[sagemaker]`: running on SageMaker Pipelines."""

    role: str | None = setting(
        "role that pipeline and jobs run as: its ARN or name", raster_vision=True
    )
    cpu_image: str | None = setting("image of commands that need no GPU", raster_vision=True)
    cpu_instance_type: str | None = setting(
        "instance type of commands that need no GPU", raster_vision=True
    )
    gpu_image: str | None = setting("image of GPU commands", raster_vision=True)
    gpu_instance_type: str | None = setting("instance type of GPU commands", raster_vision=True)
    train_image: str | None = setting(
        "image of training steps; default: as for other commands", raster_vision=True
    )
    train_instance_type: str | None = setting(
        "instance type of training steps; default: as for other commands", raster_vision=True
    )
    train_instance_count: int = setting(
        "instances of a training step; several run under torchrun", 1, raster_vision=True
    )
    processes_per_instance: int | None = setting(
        "processes that torchrun starts on an instance; default: one per GPU, at least one"
    )
    train_commands: tuple[str, ...] = setting("commands that are training steps", ("train",))
    use_spot_instances: bool = setting(
        "training steps on managed spot instances", default=False, raster_vision=True
    )
    spot_instance_max_wait_time: int | None = setting(
        "seconds that a training step on spot instances may take, waiting included; default: "
        "max_run_time",
        raster_vision=True,
    )
    max_run_time: int = setting("seconds that a job may run", 86400, raster_vision=True)
    split_by: Literal["steps", "instances"] = setting(
        "what runs a split: a step of its own, or an instance of a shared step", "steps"
    )
    max_instances: int = setting("instances of a step whose instances run splits", 100, most=100)
    worker: Worker = setting(WORKER, "own")
    max_steps: int = setting("your account's quota of steps in a pipeline", 50)
    definitions: Literal["one", "each"] = setting(
        "several pipelines: `one` definition for all, or one for `each`", "one"
    )
    pipeline_name: str | None = setting(
        "name of the one definition; default: that of the pipeline or of the run directory"
    )
    parallel_steps: int | None = setting("steps that run in parallel; default: all that can")
    volume_size: int = setting("GB of the volume of an instance", 30, most=16384)
    attempts: int = setting(
        "attempts of a step when the service or its capacity fails, not the command; 1 to 21",
        4,
        most=21,
    )
    retry_interval: int = setting(
        "seconds before the second try; twice as long before each further one", 60, most=43200
    )
    cache_expire_after: str | None = setting(
        "how long the result of a step counts as that of an equal one, such as P30D; not set: never"
    )
    kms_key: str | None = setting("KMS key that encrypts volumes and outputs")
    subnets: tuple[str, ...] = setting("subnets of your VPC that jobs run in", ())
    security_groups: tuple[str, ...] = setting("security groups of jobs in your VPC", ())
    encrypt_traffic: bool = setting("encryption between the instances of a step", default=False)
    tags: dict[str, str] = table("tags of pipelines and jobs")
    environment: dict[str, str] = table("environment variables of the jobs; no secrets")
    commands: dict[str, SagemakerCommandSettings] = table(
        "the same for commands that a glob matches: [sagemaker.commands.GLOB]"
    )
