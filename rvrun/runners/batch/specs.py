"""What the spec of a job contains: the values that the template gets. Pure.

Each job's settings are those of `[batch]`, overridden by its pipeline's `resources`, overridden by
the sections `[batch.commands.GLOB]` that match.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from rvrun import split_ranges
from rvrun.environment import SPLITS
from rvrun.remote.upload import Upload
from rvrun.runners.batch.api import JobDependency, KeyValue, Resource, RetryStrategy
from rvrun.runners.batch.boot import prepend_boot
from rvrun.runners.batch.jobs import Job
from rvrun.runners.batch.settings import BatchCommandSettings, BatchSettings
from rvrun.runners.batch.spec_files import JOB_TAG, RUN, RUN_TAG, placeholder, plain
from rvrun.settings.overrides import overridden

RUNNER = "batch"
#: A job that only joins others: vCPUs and MiB that both EC2 and Fargate offer.
JOIN_COMMAND, JOIN_VCPUS, JOIN_MEMORY = ("true",), 1, 2048


@attrs.frozen(kw_only=True)
class TemplateJob:
    """The values that the template gets as `job`, each as SubmitJob expects it.

    A value that is None or empty is not part of the request.
    """

    name: str
    queue: str
    definition: str
    size: int | None
    depends: Sequence[JobDependency]
    resources: Sequence[Resource]
    environment: Sequence[KeyValue]
    command: Sequence[str]
    retry_strategy: RetryStrategy
    timeout_seconds: int | None
    share_identifier: str | None
    scheduling_priority: int | None
    tags: Mapping[str, str]


@attrs.frozen(kw_only=True)
class Source:
    """The inputs of specs, besides the plan.

    - `uploads`: what jobs read of each pipeline, by its name.
    - `command_names`: all commands of all pipelines, as `tiny/chip`, also those not selected.
    - `settings_file`: the file where missing settings belong.
    """

    settings: BatchSettings
    uploads: Mapping[str, Upload]
    command_names: Sequence[str]
    settings_file: str
    run_name: str
    templates: str | None = None
    verbosity: int = 0


def stage_name(job: Job) -> str:
    """Return `tiny/chip`, for each part of the stage; a join's own key."""
    return job.key if job.stage is None else f"{job.pipeline}/{job.stage.command}"


def job_settings(job: Job, settings: BatchSettings) -> BatchCommandSettings:
    """Return the settings of one job. The queue or definition is None if none is set for it."""
    is_gpu = job.stage is not None and job.stage.gpu
    common = {
        field.name: getattr(settings, field.name)
        for field in attrs.fields(BatchCommandSettings)
        if field.name not in ("job_queue", "job_def", "gpus")
    }
    base = BatchCommandSettings(
        job_queue=settings.gpu_job_queue if is_gpu else settings.cpu_job_queue,
        job_def=settings.gpu_job_def if is_gpu else settings.cpu_job_def,
        gpus=settings.gpus if is_gpu else None,
        **common,
    )
    if job.stage is None:
        return attrs.evolve(base, vcpus=JOIN_VCPUS, memory_mib=JOIN_MEMORY)
    resources = attrs.asdict(job.stage.resources, filter=lambda _, value: value is not None)
    if retries := resources.pop("retries", None):
        resources["attempts"] = retries + 1
    # A request cannot name an image: that of the job definition applies.
    resources.pop("image", None)
    return overridden(attrs.evolve(base, **resources), settings.commands, stage_name(job))


def template_job(job: Job, source: Source) -> TemplateJob:
    """Return the template's values for a job whose settings are complete."""
    settings = job_settings(job, source.settings)
    assert settings.job_queue is not None
    assert settings.job_def is not None
    command = _command(job, source)
    return TemplateJob(
        name=f"{RUN}-{plain(job.key)}",
        queue=settings.job_queue,
        definition=settings.job_def,
        size=job.size,
        depends=[depend(need.key, aligned=need.aligned) for need in job.depends],
        resources=_resources(settings),
        environment=_environment(job, settings.environment, command, source),
        command=command,
        retry_strategy=retry_strategy(settings.attempts, settings.retry),
        timeout_seconds=settings.timeout_seconds,
        share_identifier=settings.share_identifier,
        scheduling_priority=settings.scheduling_priority,
        tags={RUN_TAG: RUN, JOB_TAG: job.key, **dict(sorted(settings.tags.items()))},
    )


def depend(key: str, *, aligned: bool) -> JobDependency:
    """Return a dependency on the job with that key, whose id is not known yet."""
    dependency: JobDependency = {"jobId": placeholder(key)}
    return {**dependency, "type": "N_TO_N"} if aligned else dependency


def _resources(settings: BatchCommandSettings) -> list[Resource]:
    amounts = (("VCPU", settings.vcpus), ("MEMORY", settings.memory_mib), ("GPU", settings.gpus))
    return [{"type": kind, "value": str(value)} for kind, value in amounts if value is not None]


def _environment(
    job: Job, variables: Mapping[str, str], command: Sequence[str], source: Source
) -> list[KeyValue]:
    """The user's `variables`, and the job's splits if they are not all of its stage."""
    variables = dict(variables)
    if job.stage is not None:
        variables |= source.uploads[job.pipeline].environment(command, source.verbosity)
    if job.stage is not None and job.splits is not None and not job.whole:
        variables[SPLITS] = split_ranges.write(job.splits)
    return [{"name": name, "value": value} for name, value in sorted(variables.items())]


def _command(job: Job, source: Source) -> list[str]:
    if job.stage is None:
        return list(JOIN_COMMAND)
    # A plain job has no array index, so the only split of its stage goes into its command line.
    only = job.splits[0] if job.splits is not None and job.size is None else None
    upload = source.uploads[job.pipeline]
    argv = upload.argv(job.stage, RUNNER, only, source.verbosity)
    return argv if job.whole else prepend_boot(argv)


def retry_strategy(attempts: int | None, retry: str | None) -> RetryStrategy:
    """Return how many attempts a job has, and after what; None is one attempt.

    It is always sent: without it, Batch would take the strategy of the job definition, which may
    retry commands that must not be attempted twice, and which no plan shows. (AWS Batch API
    Reference, SubmitJob: `retryStrategy` overrides that of the job definition.)

    Batch retries a job that no condition matches, so the last condition matches everything and
    exits (AWS Batch User Guide, "Automated job retries").
    """
    attempts = 1 if attempts is None else attempts
    if retry != "spot":
        return {"attempts": attempts}
    return {
        "attempts": attempts,
        "evaluateOnExit": [
            {"onStatusReason": "Host EC2*", "action": "RETRY"},
            {"onReason": "*", "action": "EXIT"},
        ],
    }
