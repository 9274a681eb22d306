"""A plan as the steps of SageMaker pipelines: what each says, as values for a template. Pure.

A step depends on no more than what its stage needs directly. Where all of many steps need all of
many others, a Condition step that is always true joins them: it depends on the latter and holds
the former, so that there are N + M names and not N x M. It takes no machine. That it *holds* them
is how SageMaker has it: no step may depend on a Condition step, while what is inside of one is
started when its condition is true, and other steps may depend on that. (Sources: issue 3565 of
aws/sagemaker-python-sdk; there, `ConditionStep`, the integration tests whose condition is
`ConditionEquals(left=1, right=1)`, and the unit test of a step that depends on one inside of a
Condition step.) Joins are never nested.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun import split_ranges as indices
from rvrun.environment import SPLITS
from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.remote.upload import Upload, rvrun_argv
from rvrun.runners.sagemaker.machine import Machine, machine
from rvrun.runners.sagemaker.settings import SagemakerSettings

#: The runner's name, as its jobs pass it to the worker.
RUNNER = "sagemaker"


@attrs.frozen(kw_only=True)
class Place:
    """What travels of a pipeline to its jobs, where they put what is theirs, how much they tell."""

    upload: Upload
    root_uri: str
    verbosity: int = 0


@attrs.frozen(kw_only=True)
class Step:
    """One job: a command, one split of it, or a split on each of its instances.

    `splits` are the indices of those it runs; none for a command that is never split.
    """

    name: str
    stage: str
    splits: range
    depends_on: tuple[str, ...]
    machine: Machine
    instance_count: int
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    output_uri: str


@attrs.frozen(kw_only=True)
class Join:
    """A Condition step that is always true: `steps` start when all of `depends_on` are done."""

    name: str
    depends_on: tuple[str, ...]
    steps: tuple[Step, ...]


@attrs.frozen(kw_only=True)
class Definition:
    """One SageMaker pipeline, of one pipeline or of several that run beside each other."""

    name: str
    pipelines: tuple[str, ...]
    steps: tuple[Step | Join, ...]

    @property
    def num_steps(self) -> int:
        return sum(1 + len(each.steps) if isinstance(each, Join) else 1 for each in self.steps)

    def jobs(self) -> Iterator[Step]:
        """The steps that are jobs, also those in joins, each after what it depends on."""
        for each in self.steps:
            yield from each.steps if isinstance(each, Join) else (each,)


def definitions(
    plan: Plan, settings: SagemakerSettings, places: Mapping[str, Place], run_name: str
) -> tuple[Definition, ...]:
    """The SageMaker pipelines of `plan`: one, or one for each pipeline, as the settings say.

    `places` are by the pipelines' names; `run_name` names the one of several pipelines.
    """
    groups: list[tuple[PlannedPipeline, ...]] = [plan.pipelines]
    if settings.definitions == "each":
        groups = [(pipeline,) for pipeline in plan.pipelines]
    return tuple(
        Definition(
            name=_name(group, settings, run_name),
            pipelines=tuple(pipeline.name for pipeline in group),
            steps=tuple(
                step
                for pipeline in group
                for step in _pipeline_steps(pipeline, settings, places[pipeline.name])
            ),
        )
        for group in groups
    )


def _name(pipelines: Sequence[PlannedPipeline], settings: SagemakerSettings, run_name: str) -> str:
    if settings.definitions == "one" and settings.pipeline_name:
        return settings.pipeline_name
    name = pipelines[0].name if len(pipelines) == 1 else run_name
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or name


@attrs.frozen
class _Part:
    """What one step runs of a stage: the splits from `first` on."""

    name: str
    splits: range


def _parts(pipeline: str, stage: Stage, on: Machine) -> tuple[_Part, ...]:
    """A stage cut into steps, of as many splits as may have an instance each."""
    name = _step_name(pipeline, stage.command)
    if stage.num_splits is None:
        return (_Part(name, range(0)),)
    num, size = stage.num_splits, on.max_instances
    if num <= size:
        return (_Part(name, range(num)),)
    return tuple(
        _Part(f"{name}-{first}", range(first, min(first + size, num)))
        for first in range(0, num, size)
    )


def _step_name(pipeline: str, *rest: str) -> str:
    """Without the dots that pipelines may have in their names and steps may not."""
    return "-".join([pipeline.replace(".", "-"), *rest])


def _pipeline_steps(
    pipeline: PlannedPipeline, settings: SagemakerSettings, place: Place
) -> Iterator[Step | Join]:
    parts: dict[str, tuple[_Part, ...]] = {}
    for stage in pipeline.stages:
        on = machine(pipeline.name, stage, settings)
        own = parts[stage.command] = _parts(pipeline.name, stage, on)
        whole = _whole(stage, parts)
        is_joined = len(own) > 1 and len(whole) > 1
        depends = [(*(() if is_joined else whole), *_aligned(stage, part, parts)) for part in own]
        steps = tuple(
            _step(pipeline.name, stage, part, on, place, depends_on=names)
            for part, names in zip(own, depends, strict=True)
        )
        if is_joined:
            name = _step_name(pipeline.name, stage.command, "-join")
            yield Join(name=name, depends_on=whole, steps=steps)
        else:
            yield from steps


def _whole(stage: Stage, parts: Mapping[str, tuple[_Part, ...]]) -> tuple[str, ...]:
    """All steps of the stages that are needed whole."""
    return tuple(
        part.name
        for need in stage.needs
        if need.kind is NeedKind.ALL
        for part in parts[need.command]
    )


def _aligned(stage: Stage, part: _Part, parts: Mapping[str, tuple[_Part, ...]]) -> tuple[str, ...]:
    """The steps that run those splits, of stages needed aligned, that `part` runs too."""
    return tuple(
        other.name
        for need in stage.needs
        if need.kind is NeedKind.ALIGNED
        for other in parts[need.command]
        if other.splits.start < part.splits.stop and part.splits.start < other.splits.stop
    )


def _step(
    pipeline: str,
    stage: Stage,
    part: _Part,
    on: Machine,
    place: Place,
    *,
    depends_on: tuple[str, ...],
) -> Step:
    on_instances = len(part.splits) > 1
    entrypoint, *arguments = argv = _argv(stage, part, on, place)
    is_whole = len(part.splits) == stage.num_splits
    told = {SPLITS: indices.write(part.splits)} if on_instances and not is_whole else {}
    told |= place.upload.environment(argv, place.verbosity)
    return Step(
        name=part.name,
        stage=f"{pipeline}/{stage.command}",
        splits=part.splits,
        depends_on=depends_on,
        machine=on,
        instance_count=len(part.splits) if on_instances else on.instance_count,
        entrypoint=(entrypoint,),
        arguments=tuple(arguments),
        environment={**on.environment, **told},
        output_uri=f"{place.root_uri.rstrip('/')}/sagemaker-output",
    )


def _argv(stage: Stage, part: _Part, on: Machine, place: Place) -> list[str]:
    """The command line of a step; an instance that is a split finds out itself which one.

    What is told by the list of instances only rvrun's own worker reads.
    """
    only = part.splits.start if len(part.splits) == 1 else None
    if len(part.splits) > 1 or on.processes is not None:
        argv = rvrun_argv(place.upload.config_uri, stage, RUNNER, only)
    else:
        argv = place.upload.argv(stage, RUNNER, only, place.verbosity)
    return argv if on.processes is None else [*argv, "--torchrun", str(on.processes)]
