"""Jobs as specs: SubmitJob requests, one JSON file each, rendered and read back. Pure.

What is not known before a job is submitted stands as a symbol: `${run}` for the id of the run,
`${tiny/chip}` for the id of the job of that key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun import split_ranges as indices
from rvrun.environment import SPLITS
from rvrun.errors import Problem
from rvrun.model import Plan
from rvrun.remote.upload import Upload
from rvrun.render.jinja import Template, render
from rvrun.runners.batch.boot import booted
from rvrun.runners.batch.jobs import Job, plan_jobs
from rvrun.runners.batch.limits import RUN, check_request, check_types
from rvrun.runners.batch.settings import BatchCommandSettings, BatchSettings
from rvrun.runners.problems import check_fit
from rvrun.settings.overrides import check_globs, overridden
from rvrun.settings.schema import variable
from rvrun.text import count

TEMPLATE = "batch-job.json.j2"
_TEMPLATE = Template("rvrun.templates", "batch", TEMPLATE)
FOLDER = RUNNER = "batch"
#: Tags by which a job is found again.
RUN_TAG, JOB_TAG = "rvrun:run", "rvrun:job"
#: A job that only joins others; vCPU and MiB that EC2 and Fargate both have.
JOIN_COMMAND, JOIN_VCPUS, JOIN_MEMORY = ("true",), 1, 2048


class BadSpec(Problem):
    """A template of the user's that does not give JSON."""


@attrs.frozen(kw_only=True)
class Spec:
    """What the template lays out: the parts of one SubmitJob request.

    Each is what the request holds; None, or nothing in it, where it holds nothing.
    """

    name: str
    queue: str
    definition: str
    size: int | None
    depends: Sequence[Mapping[str, str]]
    resources: Sequence[Mapping[str, str]]
    environment: Sequence[Mapping[str, str]]
    command: Sequence[str]
    retry_strategy: Mapping[str, Any] | None
    timeout_seconds: int | None
    share_identifier: str | None
    scheduling_priority: int | None
    tags: Mapping[str, str]


@attrs.frozen(kw_only=True)
class Source:
    """What specs are made of, beside the plan.

    - `uploads`: what jobs read of each pipeline, by its name.
    - `names`: all commands of all pipelines, `tiny/chip`, also those not selected.
    - `settings_file`: the file that the settings are, or would be, read from.
    """

    settings: BatchSettings
    uploads: Mapping[str, Upload]
    names: Sequence[str]
    settings_file: str
    run_name: str
    templates: str | None = None
    verbosity: int = 0


def render_specs(plan: Plan, source: Source) -> dict[str, str]:
    """The specs of `plan`, as {relative path: text} in the order of submission.

    Raises `NoMatch` for a glob that no command matches, `Unfit` for all else that is wrong.
    """
    check_globs("batch.commands", source.settings.commands, source.names)
    jobs = plan_jobs(plan)
    _check(finding for job in jobs for finding in unfit(job, source))
    specs = {job.key: spec(job, source) for job in jobs}
    texts = {key: render(_TEMPLATE, source.templates, job=each) for key, each in specs.items()}
    requests = {key: parse(key, text) for key, text in texts.items()}
    _check(f for key, request in requests.items() for f in check_types(key, request))
    _check(
        finding
        for key, request in requests.items()
        for finding in (
            *left_out(key, specs[key], request),
            *check_request(key, request, source.run_name),
        )
    )
    return {path: texts[key] for key, path in zip(texts, file_names(texts), strict=True)}


def _check(findings: Iterable[str]) -> None:
    check_fit("AWS Batch", findings)


def file_names(keys: Iterable[str]) -> list[str]:
    """`batch/01-tiny-chip.json`: numbered in order, so that a listing has it too."""
    known = list(keys)
    width = len(str(len(known)))
    return [
        f"{FOLDER}/{number:0{width}}-{plain(key)}.json" for number, key in enumerate(known, start=1)
    ]


def parse(key: str, text: str) -> dict[str, Any]:
    """A rendered spec, read back. Raises `BadSpec` for what is no JSON object."""
    try:
        request: Any = json.loads(text)
    except ValueError as error:
        raise BadSpec(f"template {TEMPLATE} gives no JSON for {key}: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("jobName"), str):
        raise BadSpec(f"template {TEMPLATE} gives no request with a `jobName` for {key}")
    tags: Any = request.get("tags")
    is_tags = isinstance(tags, dict) and all(isinstance(value, str) for value in tags.values())
    own = {RUN_TAG: RUN, JOB_TAG: key}
    if not is_tags or not own.items() <= tags.items() or RUN not in request["jobName"]:
        wanted = f"a `jobName` with {RUN} and the tags of `job.tags`"
        raise BadSpec(f"template {TEMPLATE} must give {wanted} for {key}: by these it is found")
    return request


def left_out(key: str, spec: Spec, request: Mapping[str, Any]) -> Iterator[str]:
    """What a template did not take from `spec`, so that jobs would run too early, or too often."""
    place = f"{key}: template {TEMPLATE} must give"
    if request.get("arrayProperties", {}).get("size") != spec.size:
        yield f"{place} `job.size`, {spec.size}, as the size of its array"
    depends = request.get("dependsOn", [])
    if any(each not in depends for each in spec.depends):
        yield f"{place} all of `job.depends` as `dependsOn`"
    known = {each["jobId"] for each in spec.depends}
    for each in depends:
        if (id_ := each.get("jobId", "")).startswith("${") and id_ not in known:
            yield f"{key}: template {TEMPLATE} gives a dependency on {id_}, which is not known"
    overrides = request.get("containerOverrides", {})
    if any(each not in overrides.get("environment", []) for each in spec.environment):
        yield f"{place} all of `job.environment` as `environment`"
    if not set(spec.command) <= set(overrides.get("command", [])):
        yield f"{place} all words of `job.command` in `command`"


def unfit(job: Job, source: Source) -> Iterator[str]:
    """What the settings lack for `job`, or say of it that cannot be, as a sentence each."""
    asked = asked_for(job, source)
    stage = _stage_name(job)
    kind = "gpu" if job.stage is not None and job.stage.gpu else "cpu"
    for key, what in (("job_queue", "job queue"), ("job_def", "job definition")):
        if not getattr(asked, key):
            yield (
                f"{stage}: no {what}; set `batch.{kind}_{key}` in {source.settings_file}, or "
                f"{variable(f'batch.{kind}_{key}')} in the environment"
            )
    if asked.retry == "spot" and asked.attempts is None:
        yield (
            f"{stage}: `retry` is spot, but nothing says how often; set `batch.attempts` in "
            f"{source.settings_file}, or {variable('batch.attempts')} in the environment"
        )
    if kind == "cpu" and asked.gpus and asked.job_queue == source.settings.cpu_job_queue:
        yield (
            f"{stage}: asks for {count(asked.gpus, 'GPU')} on the queue of CPU jobs, "
            f"`{asked.job_queue}`; name it in `gpu_commands`, or give it another `job_queue`"
        )
    if SPLITS in asked.environment:
        yield f"{stage}: {SPLITS} in `environment` is what rvrun itself tells jobs; take it out"


def _stage_name(job: Job) -> str:
    return job.key if job.stage is None else f"{job.pipeline}/{job.stage.command}"


def asked_for(job: Job, source: Source) -> BatchCommandSettings:
    """What is said of a job: `[batch]`, over it its pipeline, over that the globs that match."""
    batch = source.settings
    gpu = job.stage is not None and job.stage.gpu
    common = {
        field.name: getattr(batch, field.name)
        for field in attrs.fields(BatchCommandSettings)
        if field.name not in ("job_queue", "job_def", "gpus")
    }
    base = BatchCommandSettings(
        job_queue=batch.gpu_job_queue if gpu else batch.cpu_job_queue,
        job_def=batch.gpu_job_def if gpu else batch.cpu_job_def,
        gpus=batch.gpus if gpu else None,
        **common,
    )
    if job.stage is None:
        return attrs.evolve(base, vcpus=JOIN_VCPUS, memory_mib=JOIN_MEMORY)
    said = attrs.asdict(job.stage.resources, filter=lambda _, value: value is not None)
    name = f"{job.pipeline}/{job.stage.command}"
    return overridden(attrs.evolve(base, **said), batch.commands, name)


def spec(job: Job, source: Source) -> Spec:
    """The parts of the request of `job`."""
    asked = asked_for(job, source)
    assert asked.job_queue is not None
    assert asked.job_def is not None
    command = _command(job, source)
    return Spec(
        name=f"{RUN}-{plain(job.key)}",
        queue=asked.job_queue,
        definition=asked.job_def,
        size=job.size,
        depends=[_depends(each.key, aligned=each.aligned) for each in job.depends],
        resources=_resources(asked),
        environment=_environment(job, asked.environment, command, source),
        command=command,
        retry_strategy=retry_strategy(asked.attempts, asked.retry),
        timeout_seconds=asked.timeout_seconds,
        share_identifier=asked.share_identifier,
        scheduling_priority=asked.scheduling_priority,
        tags={RUN_TAG: RUN, JOB_TAG: job.key, **dict(sorted(asked.tags.items()))},
    )


def plain(key: str) -> str:
    """A job's key as names of jobs and files have it: `tiny/chip.1` → `tiny-chip-1`."""
    return re.sub(r"[^A-Za-z0-9_]", "-", key)


def symbol(key: str) -> str:
    """What stands for the id of the job of that key."""
    return f"${{{key}}}"


def _depends(key: str, *, aligned: bool) -> dict[str, str]:
    return {"jobId": symbol(key), **({"type": "N_TO_N"} if aligned else {})}


def _resources(asked: BatchCommandSettings) -> list[dict[str, str]]:
    wanted = (("VCPU", asked.vcpus), ("MEMORY", asked.memory_mib), ("GPU", asked.gpus))
    return [{"type": kind, "value": str(value)} for kind, value in wanted if value is not None]


def _environment(
    job: Job, said: Mapping[str, str], command: Sequence[str], source: Source
) -> list[dict[str, str]]:
    """The user's variables, and which splits it runs, where these are not all of them."""
    variables = dict(said)
    if job.stage is not None:
        variables |= source.uploads[job.pipeline].environment(command, source.verbosity)
    if job.stage is not None and job.splits is not None and not job.whole:
        variables[SPLITS] = indices.write(job.splits)
    return [{"name": name, "value": value} for name, value in sorted(variables.items())]


def _command(job: Job, source: Source) -> list[str]:
    """What its children run; a plain job of a split stage is told its split, as it has no index."""
    if job.stage is None:
        return list(JOIN_COMMAND)
    only = job.splits[0] if job.splits is not None and job.size is None else None
    upload = source.uploads[job.pipeline]
    argv = upload.argv(job.stage, RUNNER, only, source.verbosity)
    return argv if job.whole else booted(argv)


def retry_strategy(attempts: int | None, retry: str | None) -> dict[str, Any] | None:
    """How often a job is tried, and after what; None leaves it to the definition.

    A job that no condition matches is tried again, so the last one says EXIT to all else (AWS
    Batch User Guide, "Automated job retries").
    """
    if attempts is None:
        return None
    if retry != "spot":
        return {"attempts": attempts}
    reclaimed = {"onStatusReason": "Host EC2*", "action": "RETRY"}
    return {
        "attempts": attempts,
        "evaluateOnExit": [reclaimed, {"onReason": "*", "action": "EXIT"}],
    }
