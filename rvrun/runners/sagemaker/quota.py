"""Whether the steps of a plan fit into the quota of an account, and which settings would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from rvrun.model import Plan
from rvrun.runners.sagemaker.settings import SagemakerCommandSettings, SagemakerSettings
from rvrun.runners.sagemaker.steps import Place, definitions
from rvrun.text import count


def quota_problems(
    plan: Plan, settings: SagemakerSettings, places: Mapping[str, Place], run_name: str
) -> list[str]:
    """A sentence for each definition of more steps than `sagemaker.max_steps`."""
    most = settings.max_steps
    too_long = [
        each for each in definitions(plan, settings, places, run_name) if each.num_steps > most
    ]
    if not too_long:
        return []
    fitting = _fitting(plan, settings, places, run_name)
    return [
        f"pipeline `{each.name}` has {count(each.num_steps, 'step')}, more than "
        f"`sagemaker.max_steps`, {most}: {fitting}"
        for each in too_long
    ]


def _fitting(
    plan: Plan, settings: SagemakerSettings, places: Mapping[str, Place], run_name: str
) -> str:
    """The first of the ways to have fewer steps that fits, and what is left to do if none does."""
    for words, other in _alternatives(settings):
        if other == settings:
            continue
        longest = max(each.num_steps for each in definitions(plan, other, places, run_name))
        if longest <= settings.max_steps:
            return f"{words} makes it {count(longest, 'step')}"
    raised = "raise that quota of your account and then `sagemaker.max_steps`"
    return f"give fewer splits, or {raised}"


def _alternatives(settings: SagemakerSettings) -> Iterator[tuple[str, SagemakerSettings]]:
    """Settings that make fewer steps, and how to say them."""
    each = attrs.evolve(settings, definitions="each")
    yield '`sagemaker.definitions = "each"`', each
    yield '`sagemaker.split_by = "instances"`', _by_instances(settings)
    both = '`sagemaker.split_by = "instances"` with `sagemaker.definitions = "each"`'
    yield both, _by_instances(each)
    widest = attrs.evolve(_by_instances(each), max_instances=100)
    yield f"{both} and `sagemaker.max_instances = 100`", widest


def _by_instances(settings: SagemakerSettings) -> SagemakerSettings:
    """All splits on instances, whatever is said of single commands."""
    commands: dict[str, SagemakerCommandSettings] = {
        glob: attrs.evolve(own, split_by=None) for glob, own in settings.commands.items()
    }
    return attrs.evolve(settings, split_by="instances", commands=commands)
