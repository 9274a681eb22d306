"""The sections of `rvrun.toml` for SageMaker; Raster Vision has some of these settings, too."""

from __future__ import annotations

from typing import Literal

import attrs

from rvrun.settings.schema import WORKER, Worker, setting, table

#: The runner's name: what users type, and the name of its section and of its runs' runner.
RUNNER = "sagemaker"


@attrs.frozen(kw_only=True)
class SagemakerCommandSettings:
    """`[sagemaker.commands.GLOB]`: settings for commands that match GLOB."""

    image: str | None = setting("image")
    instance_type: str | None = setting("instance type")
    volume_size: int | None = setting("as in [sagemaker]", most=16384)
    max_run_time: int | None = setting("as in [sagemaker]")
    train_instance_count: int | None = setting("as in [sagemaker]")
    processes_per_instance: int | None = setting("as in [sagemaker]")
    use_spot_instances: bool | None = setting("as in [sagemaker]")
    spot_instance_max_wait_time: int | None = setting("as in [sagemaker]")
    checkpoint_uri: str | None = setting("as in [sagemaker]")
    checkpoint_path: str | None = setting("as in [sagemaker]")
    keep_alive: int | None = setting("as in [sagemaker]", most=21600)
    split_by: Literal["steps", "instances"] | None = setting("as in [sagemaker]")
    max_instances: int | None = setting("as in [sagemaker]", most=100)
    attempts: int | None = setting("as in [sagemaker]", most=21)
    retry_interval: int | None = setting("as in [sagemaker]", most=43200)
    cache_expire_after: str | None = setting("as in [sagemaker]")
    metrics: dict[str, str] = table("as in [sagemaker]")
    tags: dict[str, str] = table("tags of the jobs")
    environment: dict[str, str] = table(
        "environment variables of the jobs; no secrets", secret=True
    )


@attrs.frozen(kw_only=True)
class SagemakerSettings:
    """`[sagemaker]`: how to run on SageMaker Pipelines."""

    role: str | None = setting(
        "role that pipelines and jobs run as: an ARN or a name", raster_vision=True
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
        "instances of a training step; more than one run under torchrun", 1, raster_vision=True
    )
    processes_per_instance: int | None = setting(
        "processes that torchrun starts per instance; default: one per GPU, at least one"
    )
    train_commands: tuple[str, ...] = setting("commands that are training steps", ("train",))
    use_spot_instances: bool = setting(
        "run training steps on managed spot instances", default=False, raster_vision=True
    )
    spot_instance_max_wait_time: int | None = setting(
        "seconds that a training step on spot instances may take, including the wait for them; "
        "default: max_run_time",
        raster_vision=True,
    )
    checkpoint_uri: str | None = setting(
        "S3 prefix of the checkpoints of training steps, which later runs continue from; default: "
        "on spot instances, a directory of the run below root_uri"
    )
    checkpoint_path: str | None = setting(
        "directory in the container that SageMaker copies to S3 as checkpoints, and back when a "
        "job starts; default: /opt/ml/checkpoints"
    )
    keep_alive: int | None = setting(
        "seconds that the instances of a training step are kept for the next one; default: they "
        "are not kept",
        most=21600,
    )
    max_run_time: int = setting("seconds that a job may run", 86400, raster_vision=True)
    split_by: Literal["steps", "instances"] = setting(
        "how splits run: as `steps` of their own, or as `instances` of a shared step", "steps"
    )
    max_instances: int = setting("instances per step if split_by is `instances`", 100, most=100)
    worker: Worker = setting(WORKER, "own")
    max_steps: int = setting("quota of your account for steps per pipeline", 50)
    definitions: Literal["one", "each"] = setting(
        "definitions of a run with several pipelines: `one` for all, or one for `each`", "one"
    )
    pipeline_name: str | None = setting(
        "name of the shared definition; default: name of the pipeline or of the run directory"
    )
    parallel_steps: int | None = setting(
        "maximum number of steps that run in parallel; default: no limit"
    )
    volume_size: int = setting("size of an instance's volume in GB", 30, most=16384)
    attempts: int = setting(
        "attempts of a step, 1 to 21; failures of the command are not retried",
        4,
        most=21,
    )
    retry_interval: int = setting(
        "seconds before the second attempt; doubles before each further one", 60, most=43200
    )
    cache_expire_after: str | None = setting(
        "how long SageMaker may reuse the result of an equal step, such as P30D; default: never"
    )
    kms_key: str | None = setting("KMS key that encrypts volumes and outputs")
    subnets: tuple[str, ...] = setting("subnets of your VPC that jobs run in", ())
    security_groups: tuple[str, ...] = setting("security groups of jobs in your VPC", ())
    encrypt_traffic: bool = setting(
        "encrypt the traffic between the instances of a step", default=False
    )
    metrics: dict[str, str] = table(
        "metrics of training steps: by name, a regular expression whose group is the value in a "
        "line of the log"
    )
    not_secret: tuple[str, ...] = setting(
        "environment variables and tags of pipelines and jobs that look like secrets but are not",
        (),
    )
    tags: dict[str, str] = table("tags of pipelines and jobs")
    environment: dict[str, str] = table(
        "environment variables of the jobs; no secrets", secret=True
    )
    commands: dict[str, SagemakerCommandSettings] = table(
        "settings for commands that match a glob: [sagemaker.commands.GLOB]"
    )
