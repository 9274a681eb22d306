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
    """

    quota: str
    per_job: int
    concurrent: int


def check_quotas(
    account: Account, pipelines: Iterable[SagemakerPipeline], settings: SagemakerSettings
) -> Iterator[Finding]:
    """Compare what jobs need with what the account has; changes nothing."""
    pipelines = list(pipelines)
    try:
        quotas = _read_quotas(account)
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


def _read_quotas(account: Account) -> dict[str, float]:
    """The values of all quotas of SageMaker by name. Raises `AwsError`."""
    pages = account.reader("service-quotas").pages(
        "ListServiceQuotas", "NextToken", ServiceCode="sagemaker", MaxResults=100
    )
    return {quota["QuotaName"]: quota["Value"] for page in pages for quota in page["Quotas"]}


def usages(pipelines: Iterable[SagemakerPipeline], settings: SagemakerSettings) -> list[Usage]:
    """Return what pipelines need of each quota, assuming that only a stage's own jobs overlap."""
    largest: Counter[str] = Counter()
    concurrent: Counter[str] = Counter()
    by_stage: dict[tuple[str, str], list[Step]] = {}
    for pipeline in pipelines:
        for step in pipeline.jobs():
            by_stage.setdefault((quota_name(step.machine), step.stage), []).append(step)
    for (name, _), steps in by_stage.items():
        sizes = sorted((step.instance_count for step in steps), reverse=True)
        largest[name] = max(largest[name], sizes[0])
        concurrent[name] = max(concurrent[name], sum(sizes[: settings.parallel_steps]))
    return [Usage(name, largest[name], concurrent[name]) for name in largest]


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
        return error(_SUBJECT, text, "request an increase, or use another instance type")
    if value < usage.concurrent:
        needed = count(usage.concurrent, "instance")
        text = f"quota `{usage.quota}` is {value}, but {needed} may run in parallel"
        most = value // usage.per_job
        return warning(_SUBJECT, text, f"set `sagemaker.parallel_steps = {most}` or less")
    return ok(_SUBJECT, f"`{usage.quota}`: {usage.concurrent} of {value}")
