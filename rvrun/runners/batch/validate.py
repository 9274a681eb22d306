"""Find what Batch would refuse, or what would make jobs wait forever, before any call. Pure.

Settings are checked before rendering. Rendered specs are read back and checked too, because users
may have templates of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from rvrun.aws import request_check
from rvrun.environment import SPLITS
from rvrun.errors import RvrunError
from rvrun.inputs import CannotRead, parse_json
from rvrun.runners.batch.api import SubmitJobRequest
from rvrun.runners.batch.jobs import Job
from rvrun.runners.batch.limits import check_request
from rvrun.runners.batch.spec_files import JOB_TAG, RUN, RUN_TAG, key_of, placeholder
from rvrun.runners.batch.specs import Source, TemplateJob, job_settings, stage_name
from rvrun.runners.problems import check_fit
from rvrun.settings.schema import variable
from rvrun.text import count

SERVICE = "AWS Batch"
TEMPLATE = "batch-job.json.j2"


class BadSpec(RvrunError):
    """A user's template that does not render a request by which rvrun can find the job again."""

    key: str
    requirement: str
    template = f"template {TEMPLATE} must render {{requirement}}, for job {{key}}"
    fix = f"change {TEMPLATE} in the directory of `templates`"


def check_settings(jobs: Sequence[Job], source: Source) -> None:
    """Raise `Unfit` if settings are missing for `jobs`, or contradict each other."""
    check_fit(SERVICE, (problem for job in jobs for problem in _settings_problems(job, source)))


def _settings_problems(job: Job, source: Source) -> Iterator[str]:
    settings = job_settings(job, source.settings)
    stage = stage_name(job)
    kind = "gpu" if job.stage is not None and job.stage.gpu else "cpu"

    def how_to_set(key: str) -> str:
        return f"set `{key}` in {source.settings_file}, or {variable(key)} in the environment"

    if not settings.job_queue:
        yield f"{stage}: no job queue; {how_to_set(f'batch.{kind}_job_queue')}"
    if not settings.job_def:
        yield f"{stage}: no job definition; {how_to_set(f'batch.{kind}_job_def')}"
    if settings.retry == "spot" and settings.attempts is None:
        yield f'{stage}: `retry = "spot"` requires `attempts`; {how_to_set("batch.attempts")}'
    # Batch would accept such a job, which then waits forever for an instance with a GPU.
    if kind == "cpu" and settings.gpus and settings.job_queue == source.settings.cpu_job_queue:
        yield (
            f"{stage}: requires {count(settings.gpus, 'GPU')}, but goes to the queue of CPU jobs, "
            f"`{settings.job_queue}`; add it to `gpu_commands`, or set another `job_queue` for it"
        )
    if SPLITS in settings.environment:
        yield f"{stage}: `environment` must not set {SPLITS}, which rvrun sets itself; remove it"


def check_rendered(
    jobs: Mapping[str, TemplateJob], specs: Mapping[str, str], run_name: str
) -> None:
    """Check rendered specs against the values that the template got; both by the jobs' keys.

    Raises `BadSpec` if one cannot be read, `Unfit` with everything that Batch would refuse.
    """
    requests = {key: parse(key, text) for key, text in specs.items()}
    # First the types: the other checks rely on them.
    check_fit(SERVICE, (p for key, request in requests.items() for p in _types(key, request)))
    check_fit(
        SERVICE,
        (
            problem
            for key, request in requests.items()
            for problem in (
                *_omissions(key, jobs[key], request),
                *check_request(key, request, run_name),
            )
        ),
    )


def parse(key: str, text: str) -> SubmitJobRequest:
    """Read back the spec of the job `key`. Raises `BadSpec`."""
    try:
        request: Any = parse_json(text, key)
    except CannotRead as error:
        raise BadSpec(key, f"JSON, but it {error.problem}") from None
    if not isinstance(request, dict) or not isinstance(request.get("jobName"), str):
        raise BadSpec(key, "an object with a `jobName`")
    tags: Any = request.get("tags")
    has_tags = isinstance(tags, dict) and all(isinstance(value, str) for value in tags.values())
    own = {RUN_TAG: RUN, JOB_TAG: key}
    if not has_tags or not own.items() <= tags.items() or RUN not in request["jobName"]:
        raise BadSpec(key, f"a `jobName` with {RUN} and the tags of `job.tags`")
    return cast("SubmitJobRequest", request)


def _types(key: str, request: SubmitJobRequest) -> list[str]:
    """The members that SubmitJob does not know, and values that have other types.

    Tags are not held to the model, because `limits` has better messages for them.
    """
    members = {name: value for name, value in request.items() if name != "tags"}
    return [f"{key}: {text}" for text in request_check.problems("batch", "SubmitJob", members)]


def _omissions(key: str, job: TemplateJob, request: SubmitJobRequest) -> Iterator[str]:
    """What a template left out, so that a job would start too early or run the wrong splits."""
    rule = f"{key}: template {TEMPLATE} must"
    if request.get("arrayProperties", {}).get("size") != job.size:
        yield f"{rule} use `job.size`, {job.size}, as the array size"
    depends = request.get("dependsOn", ())
    if any(dependency not in depends for dependency in job.depends):
        yield f"{rule} use all of `job.depends` in `dependsOn`"
    own = [key_of(dependency) for dependency in job.depends]
    for other in map(key_of, depends):
        if other is not None and other not in own:
            yield f"{rule} not depend on {placeholder(other)}, which is not in `job.depends`"
    overrides = request.get("containerOverrides", {})
    if any(entry not in overrides.get("environment", ()) for entry in job.environment):
        yield f"{rule} use all of `job.environment` in `environment`"
    if not set(job.command) <= set(overrides.get("command", ())):
        yield f"{rule} use all words of `job.command` in `command`"
