"""Whether the jobs of a plan fit the quotas of instances that the account has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import attrs

from rvrun.aws.client import Account, AwsError
from rvrun.finding import Finding, error, ok, warning
from rvrun.runners.sagemaker.machine import Machine
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import SagemakerPipeline, Step
from rvrun.text import count

_SUBJECT = "quota"


@attrs.frozen
class Usage:
    """What a plan needs of one quota.

    - `per_job`: instances of the largest job. `concurrent`: of the jobs that may run in parallel.
    - `remedy`: what else helps a job that is too large.
    """

    quota: str
    per_job: int
    concurrent: int
    remedy: str = "use another instance type"


def check_quotas(
    account: Account, pipelines: Iterable[SagemakerPipeline], settings: SagemakerSettings
) -> Iterator[Finding]:
    """Compare what jobs need with what the account has; changes nothing."""
    pipelines = list(pipelines)
    try:
        quotas = read_quotas(account)
    except AwsError as problem:
        fix = problem.how_to_fix() or "look them up in the console of Service Quotas"
        yield warning(_SUBJECT, f"cannot check quotas of instances: {problem.message}", fix)
        return
    for usage in usages(pipelines, settings):
        # Service Quotas does not list quotas whose value it does not know.
        if usage.quota in quotas:
            yield _compare(usage, int(quotas[usage.quota]))
    for name, needed in _warm_pools(pipelines).items():
        if quotas.get(name, needed) < needed:
            text = f"quota `{name}` is {int(quotas[name])}, but jobs keep {needed}"
            yield warning(_SUBJECT, text, "request an increase, or remove `sagemaker.keep_alive`")


def read_quotas(account: Account) -> dict[str, float]:
    """Return the values of all quotas of SageMaker by name. Raises `AwsError`."""
    pages = account.reader("service-quotas").pages(
        "ListServiceQuotas", "NextToken", ServiceCode="sagemaker", MaxResults=100
    )
    return {
        quota["QuotaName"]: quota["Value"]
        for page in pages
        for quota in page["Quotas"]
        if "QuotaName" in quota and "Value" in quota
    }


def usages(pipelines: Iterable[SagemakerPipeline], settings: SagemakerSettings) -> list[Usage]:
    """Return what pipelines need of each quota, assuming that only a stage's own jobs overlap."""
    by_stage: dict[str, list[Step]] = {}
    for pipeline in pipelines:
        for step in pipeline.jobs():
            by_stage.setdefault(step.stage, []).append(step)
    largest: dict[str, Usage] = {}
    # The machine of all steps of a stage is the same.
    for steps in by_stage.values():
        sizes = sorted((step.instance_count for step in steps), reverse=True)
        machine, concurrent = steps[0].machine, sum(sizes[: settings.parallel_steps])
        for usage in _usages_of(machine, sizes[0], concurrent):
            other = largest.get(usage.quota, usage)
            largest[usage.quota] = attrs.evolve(
                usage,
                per_job=max(usage.per_job, other.per_job),
                concurrent=max(usage.concurrent, other.concurrent),
            )
    return list(largest.values())


def _usages_of(machine: Machine, per_job: int, concurrent: int) -> Iterator[Usage]:
    """What a stage needs of the quotas of its instance type, of a job, and of all jobs."""
    yield Usage(quota_name(machine), per_job, concurrent)
    kind = "training" if machine.is_training else "processing"
    setting = "train_instance_count" if machine.is_training else "max_instances"
    remedy = f"lower `sagemaker.{setting}`"
    yield Usage(f"Maximum number of instances per {kind} job", per_job, per_job, remedy)
    if not machine.is_spot:
        yield Usage(f"Number of instances across all {kind} jobs", per_job, concurrent, remedy)


def quota_name(machine: Machine) -> str:
    """Return the name of the quota of a job's instances in Service Quotas.

    These are the names in SageMaker's own errors (`ResourceLimitExceeded`).
    """
    kind = "training" if machine.is_training else "processing"
    return f"{machine.instance_type} for {'spot ' if machine.is_spot else ''}{kind} job usage"


def _warm_pools(pipelines: Iterable[SagemakerPipeline]) -> Mapping[str, int]:
    """How many instances jobs keep, by the name of the quota of warm pools."""
    needed: Counter[str] = Counter()
    for pipeline in pipelines:
        for step in pipeline.jobs():
            if step.machine.keep_alive:
                name = f"{step.machine.instance_type} for training warm pool usage"
                needed[name] = max(needed[name], step.instance_count)
    return needed


def _compare(usage: Usage, value: int) -> Finding:
    if value < usage.per_job:
        needed = count(usage.per_job, "instance")
        text = f"quota `{usage.quota}` is {value}, but a job needs {needed}"
        return error(_SUBJECT, text, f"request an increase, or {usage.remedy}")
    if value < usage.concurrent:
        needed = count(usage.concurrent, "instance")
        text = f"quota `{usage.quota}` is {value}, but {needed} may run in parallel"
        most = value // usage.per_job
        return warning(_SUBJECT, text, f"set `sagemaker.parallel_steps = {most}` or less")
    return ok(_SUBJECT, f"`{usage.quota}`: {usage.concurrent} of {value}")
