"""The section `[batch]` of `rvrun.toml`. Some settings have the names of Raster Vision's."""

from __future__ import annotations

from typing import Literal

import attrs

from rvrun.settings.schema import WORKER, Worker, setting, table


@attrs.frozen(kw_only=True)
class BatchJobSettings:
    """Settings of jobs, in `[batch]` for all or in `[batch.commands.GLOB]` for some commands."""

    vcpus: int | None = setting("vCPUs of a job; default: from the job definition")
    memory_mib: int | None = setting("memory of a job in MiB; default: from the job definition")
    gpus: int | None = setting("GPUs of a GPU command's job; default: from the job definition")
    attempts: int | None = setting(
        "attempts of each job, 1 to 10; default: 1, whatever the job definition says",
        most=10,
        raster_vision=True,
    )
    retry: Literal["any", "spot"] = setting(
        "which failures are retried: `any`, or only a reclaimed `spot` instance", "any"
    )
    timeout_seconds: int | None = setting("seconds that an attempt may take, at least 60", least=60)
    share_identifier: str | None = setting("share of a queue with a fair-share policy")
    scheduling_priority: int | None = setting(
        "priority within the share, 0 to 9999", least=0, most=9999
    )
    tags: dict[str, str] = table("tags of the jobs")
    environment: dict[str, str] = table(
        "environment variables of the jobs; no secrets", secret=True
    )


@attrs.frozen(kw_only=True)
class BatchCommandSettings(BatchJobSettings):
    """`[batch.commands.GLOB]`: settings of the jobs of commands that GLOB matches."""

    job_queue: str | None = setting("job queue")
    job_def: str | None = setting("job definition")
    retry: Literal["any", "spot"] | None = setting("as in [batch]")  # type: ignore[assignment]


@attrs.frozen(kw_only=True)
class BatchSettings(BatchJobSettings):
    """`[batch]`: running on AWS Batch."""

    cpu_job_queue: str | None = setting(
        "job queue of commands that need no GPU", raster_vision=True
    )
    cpu_job_def: str | None = setting(
        "job definition of commands that need no GPU", raster_vision=True
    )
    gpu_job_queue: str | None = setting("job queue of GPU commands", raster_vision=True)
    gpu_job_def: str | None = setting("job definition of GPU commands", raster_vision=True)
    submit_rate: int = setting("jobs submitted per second, at most 50", 40, most=50)
    worker: Worker = setting(WORKER, "own")
    commands: dict[str, BatchCommandSettings] = table(
        "the same for commands that a glob matches: [batch.commands.GLOB]"
    )
