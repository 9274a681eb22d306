"""Whether the steps of a plan fit the quota of an account, and which settings make them fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from rvrun.model import Plan
from rvrun.runners.sagemaker.settings import SagemakerCommandSettings, SagemakerSettings
from rvrun.runners.sagemaker.steps import JobContext, plan_steps
from rvrun.text import count


def quota_problems(
    plan: Plan, settings: SagemakerSettings, contexts: Mapping[str, JobContext], run_name: str
) -> list[str]:
    """Return a sentence for each SageMaker pipeline with more steps than `sagemaker.max_steps`."""
    limit = settings.max_steps
    pipelines = plan_steps(plan, settings, contexts, run_name)
    too_long = [pipeline for pipeline in pipelines if pipeline.num_steps > limit]
    if not too_long:
        return []
    fix = _find_fix(plan, settings, contexts, run_name)
    return [
        f"pipeline `{pipeline.name}` must have at most {count(limit, 'step')} "
        f"(`sagemaker.max_steps`), got {pipeline.num_steps:,}; {fix}"
        for pipeline in too_long
    ]


def _find_fix(
    plan: Plan, settings: SagemakerSettings, contexts: Mapping[str, JobContext], run_name: str
) -> str:
    """The smallest change of settings that makes the plan fit, or what to do if none does."""
    for change, changed in _alternatives(settings):
        if changed == settings:
            continue
        longest = max(p.num_steps for p in plan_steps(plan, changed, contexts, run_name))
        if longest <= settings.max_steps:
            return f"set {change} to get {count(longest, 'step')}"
    return "use fewer splits, or raise that quota of your account and then `sagemaker.max_steps`"


def _alternatives(settings: SagemakerSettings) -> Iterator[tuple[str, SagemakerSettings]]:
    """Settings that make fewer steps, each with the change in words, the smallest first."""
    per_pipeline = attrs.evolve(settings, definitions="each")
    yield '`sagemaker.definitions = "each"`', per_pipeline
    yield '`sagemaker.split_by = "instances"`', _by_instances(settings)
    both = '`sagemaker.split_by = "instances"` and `sagemaker.definitions = "each"`'
    yield both, _by_instances(per_pipeline)
    largest = attrs.evolve(_by_instances(per_pipeline), max_instances=100)
    yield f"{both} and `sagemaker.max_instances = 100`", largest


def _by_instances(settings: SagemakerSettings) -> SagemakerSettings:
    """All splits on instances, also where settings of single commands differ."""
    commands: dict[str, SagemakerCommandSettings] = {
        glob: attrs.evolve(own, split_by=None) for glob, own in settings.commands.items()
    }
    return attrs.evolve(settings, split_by="instances", commands=commands)
