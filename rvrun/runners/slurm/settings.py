"""The section `[slurm]` of `rvrun.toml`. Most settings are named after the options of `sbatch`."""

from __future__ import annotations

from typing import Literal

import attrs

from rvrun.settings.schema import setting, table


@attrs.frozen(kw_only=True)
class SlurmJobSettings:
    """Settings of jobs, in `[slurm]` for all or in `[slurm.commands.GLOB]` for some commands."""

    partition: str | None = setting("partition; default: the cluster's default partition")
    account: str | None = setting("account that jobs are charged to; default: your default account")
    qos: str | None = setting("quality of service; default: the partition's or the account's")
    constraint: str | None = setting("features that a node must have, such as `a100|h100`")
    time: str | None = setting(
        "time limit of a job, as `30` (minutes), `2:00:00` or `1-12:00:00`; default: the "
        "partition's"
    )
    cpus: int | None = setting("CPUs of a target; default: 1")
    memory_mib: int | None = setting("memory of a target in MiB; default: the cluster's")
    gpus: int | None = setting("GPUs of a GPU command's target; default: 1")
    gres: str | None = setting(
        "generic resources of a job, such as `gpu:a100:2`; replaces what `gpus` requests"
    )
    pack: int | None = setting(
        "splits that each task of an array runs, for tasks that take minutes, not seconds; "
        "default: 1"
    )
    parallel: int | None = setting(
        "splits of a task that run in parallel, each with CPUs, memory and GPUs of its own; "
        "default: 1"
    )
    max_running: int | None = setting(
        "tasks of an array that run in parallel; default: as many as the cluster allows"
    )
    attempts: int | None = setting(
        "attempts of each job, 1 to 10: a job that fails is requeued; default: 1", most=10
    )
    container: str | None = setting(
        "container image in which jobs run, with make and rvrun in it: a file, or an image of a "
        "registry; a command's `image` replaces it; default: no container"
    )
    environment: dict[str, str] = table(
        "environment variables of the jobs; no secrets", secret=True
    )


@attrs.frozen(kw_only=True)
class SlurmCommandSettings(SlurmJobSettings):
    """`[slurm.commands.GLOB]`: settings of the jobs of commands that GLOB matches."""

    sbatch: tuple[str, ...] = setting("more options of sbatch, after those of [slurm]", ())


@attrs.frozen(kw_only=True)
class SlurmSettings(SlurmJobSettings):
    """`[slurm]`: running on a cluster with Slurm."""

    gpu_partition: str | None = setting("partition of GPU commands; default: `partition`")
    sbatch: tuple[str, ...] = setting("more options of sbatch, such as `--exclude=node7`", ())
    modules: tuple[str, ...] = setting("modules that jobs load with `module load`", ())
    prologue: tuple[str, ...] = setting(
        "lines of bash that jobs run first, such as `source .venv/bin/activate`", ()
    )
    rvrun: str | None = setting(
        "command that runs rvrun in jobs; default: the rvrun that submits them, and `rvrun` for "
        "scripts submitted by hand and in containers"
    )
    container_runtime: Literal["apptainer", "pyxis"] = setting(
        "what runs the container: `apptainer`, or `pyxis`, the enroot plugin of srun", "apptainer"
    )
    requeue: bool = setting(
        "whether Slurm runs a job again after a node fails or another job preempts it", default=True
    )
    signal_seconds: int = setting(
        "seconds before the time limit at which targets get SIGTERM", 60, most=65535
    )
    max_array_size: int | None = setting(
        "MaxArraySize of the cluster; default: queried by `rvrun run`, else 1001"
    )
    lookup_delay: int = setting(
        "seconds within which the controller lists a job whose submission was cut off; rvrun waits "
        "as long before it submits the job again",
        10,
        least=0,
    )
    not_secret: tuple[str, ...] = setting(
        "environment variables of the jobs that look like secrets but are not", ()
    )
    commands: dict[str, SlurmCommandSettings] = table(
        "the same for commands that a glob matches: [slurm.commands.GLOB]"
    )
