"""A plan as the steps of SageMaker pipelines, as values for a template. Pure.

A step depends only on what its stage needs directly, by name. If each of many steps needs all of
many others, a join connects them with N + M names instead of N x M: a Condition step that is always
true, depends on the needed steps and contains those that need them. It runs on no machine.

It must contain them because no step may depend on a Condition step. The steps inside start when
its condition is true, and other steps may depend on them. (Sources: issue 3565 of
aws/sagemaker-python-sdk, and in its tests: the integration tests whose condition is
`ConditionEquals(left=1, right=1)`, and the unit test of a step that depends on one inside of a
Condition step.) Joins are never nested, because Condition steps may not be.

These sources show that the definition is accepted; no document describes how such an execution
runs. Therefore `MAX_DIRECT_EDGES` keeps joins out of every definition that fits the usual quota.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun import split_ranges
from rvrun.environment import SPLITS
from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.remote.upload import Upload, rvrun_argv, short_digest
from rvrun.runners.sagemaker.functions import EXECUTION_ID, join
from rvrun.runners.sagemaker.machine import Machine, choose_machine
from rvrun.runners.sagemaker.settings import RUNNER, SagemakerSettings

#: How many dependencies between the steps of a stage and those that it needs are direct; more are
#: joined. The quota of an account is usually 50 steps per pipeline, and 50 steps in two stages have
#: at most 25 x 25 dependencies.
MAX_DIRECT_EDGES = 25 * 25


@attrs.frozen(kw_only=True)
class JobContext:
    """What the jobs of a pipeline share, beside the plan and the settings.

    - `upload`: what they read. `root_uri`: below it they write.
    - `verbosity`: how verbose another system's pipeline is, from 0.
    """

    upload: Upload
    root_uri: str
    verbosity: int = 0


@attrs.frozen(kw_only=True)
class Step:
    """One job: a command, one of its splits, or several splits on an instance each.

    - `stage`: such as `tiny/chip`. `splits`: the indices that it runs; empty for a command that is
      not split.
    - `checkpoint_uri`: where its checkpoints are, as a string or as a function of the execution;
      None for no checkpoints.
    - `description`: its target, or the targets of its instances.
    """

    name: str
    stage: str
    splits: range
    description: str
    depends_on: tuple[str, ...]
    machine: Machine
    instance_count: int
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    output_uri: str
    checkpoint_uri: str | Mapping[str, Any] | None = None


@attrs.frozen(kw_only=True)
class Join:
    """A Condition step that is always true: `steps` start when all of `depends_on` are done.

    - `display_name`, `description`: what consoles show, so that it is not taken for a decision.
    """

    name: str
    display_name: str
    description: str
    depends_on: tuple[str, ...]
    steps: tuple[Step, ...]


@attrs.frozen(kw_only=True)
class SagemakerPipeline:
    """One SageMaker pipeline; `pipelines` names those of the plan that run in it, side by side."""

    name: str
    pipelines: tuple[str, ...]
    steps: tuple[Step | Join, ...]

    @property
    def num_steps(self) -> int:
        return sum(1 + len(step.steps) if isinstance(step, Join) else 1 for step in self.steps)

    def jobs(self) -> Iterator[Step]:
        """Yield the steps that are jobs, including those in joins, in the order of the plan."""
        for step in self.steps:
            yield from step.steps if isinstance(step, Join) else (step,)


def plan_steps(
    plan: Plan, settings: SagemakerSettings, contexts: Mapping[str, JobContext], run_name: str
) -> tuple[SagemakerPipeline, ...]:
    """Return the SageMaker pipelines of `plan`: one, or one per pipeline, as the settings say.

    - `contexts`: by the name of the pipeline. `run_name`: the name if several pipelines share one.
    """
    groups: list[tuple[PlannedPipeline, ...]] = [plan.pipelines]
    if settings.definitions == "each":
        groups = [(pipeline,) for pipeline in plan.pipelines]
    return tuple(
        SagemakerPipeline(
            name=_pipeline_name(group, settings, run_name),
            pipelines=tuple(pipeline.name for pipeline in group),
            steps=tuple(
                step
                for pipeline in group
                for step in _pipeline_steps(pipeline, settings, contexts[pipeline.name])
            ),
        )
        for group in groups
    )


def _pipeline_name(
    pipelines: Sequence[PlannedPipeline], settings: SagemakerSettings, run_name: str
) -> str:
    if settings.definitions == "one" and settings.pipeline_name:
        return settings.pipeline_name
    name = pipelines[0].name if len(pipelines) == 1 else run_name
    # A name with nothing left stays as it is, so that the check of names reports it.
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or name


@attrs.frozen
class _Chunk:
    """The splits of a stage that one step runs; empty for a stage that is not split."""

    name: str
    splits: range


def _chunks(pipeline: str, stage: Stage, size: int) -> tuple[_Chunk, ...]:
    """Divide a stage into steps of at most `size` splits, which run on an instance each."""
    name = _step_name(pipeline, stage.command)
    if stage.num_splits is None:
        return (_Chunk(name, range(0)),)
    if stage.num_splits <= size:
        return (_Chunk(name, range(stage.num_splits)),)
    return tuple(
        _Chunk(f"{name}-{first}", range(first, min(first + size, stage.num_splits)))
        for first in range(0, stage.num_splits, size)
    )


def _step_name(pipeline: str, *rest: str) -> str:
    """Names of pipelines may contain dots, names of steps may not."""
    return "-".join([pipeline.replace(".", "-"), *rest])


def _pipeline_steps(
    pipeline: PlannedPipeline, settings: SagemakerSettings, context: JobContext
) -> Iterator[Step | Join]:
    chunks: dict[str, tuple[_Chunk, ...]] = {}
    for stage in pipeline.stages:
        machine = choose_machine(pipeline.name, stage, settings)
        own = chunks[stage.command] = _chunks(pipeline.name, stage, machine.max_instances)
        whole = _needed_whole(stage, chunks)
        is_joined = min(len(own), len(whole)) > 1 and len(own) * len(whole) > MAX_DIRECT_EDGES
        steps = tuple(
            _step(
                pipeline.name,
                stage,
                chunk,
                machine,
                context,
                depends_on=(
                    *(() if is_joined else whole),
                    *_needed_aligned(stage, chunk, chunks),
                ),
            )
            for chunk in own
        )
        if is_joined:
            yield _join(f"{pipeline.name}/{stage.command}", whole, steps)
        else:
            yield from steps


def _join(stage: str, depends_on: tuple[str, ...], steps: tuple[Step, ...]) -> Join:
    pipeline, _, command = stage.partition("/")
    return Join(
        name=_step_name(pipeline, command, "-join"),
        display_name=_step_name(f"Start-{pipeline}", command),
        description=(
            f"Always true: starts the steps of {stage} when all steps that they need have succeeded"
        ),
        depends_on=depends_on,
        steps=steps,
    )


def _needed_whole(stage: Stage, chunks: Mapping[str, tuple[_Chunk, ...]]) -> tuple[str, ...]:
    """The steps of stages of which `stage` needs all splits."""
    return tuple(
        chunk.name
        for need in stage.needs
        if need.kind is NeedKind.ALL
        for chunk in chunks[need.command]
    )


def _needed_aligned(
    stage: Stage, chunk: _Chunk, chunks: Mapping[str, tuple[_Chunk, ...]]
) -> tuple[str, ...]:
    """The steps that run splits of `chunk` in stages that `stage` needs split by split."""
    return tuple(
        other.name
        for need in stage.needs
        if need.kind is NeedKind.ALIGNED
        for other in chunks[need.command]
        if other.splits.start < chunk.splits.stop and chunk.splits.start < other.splits.stop
    )


def _step(
    pipeline: str,
    stage: Stage,
    chunk: _Chunk,
    machine: Machine,
    context: JobContext,
    *,
    depends_on: tuple[str, ...],
) -> Step:
    on_instances = len(chunk.splits) > 1
    target = [pipeline, stage.command]
    if chunk.splits:
        target.append(split_ranges.write(chunk.splits))
    entrypoint, *arguments = argv = _argv(stage, chunk, machine, context)
    environment = dict(machine.environment)
    # An instance's rank is its split, unless the splits of the step are only some of the stage's.
    if on_instances and len(chunk.splits) != stage.num_splits:
        environment[SPLITS] = split_ranges.write(chunk.splits)
    return Step(
        name=chunk.name,
        stage=f"{pipeline}/{stage.command}",
        splits=chunk.splits,
        description="/".join(target),
        depends_on=depends_on,
        machine=machine,
        instance_count=len(chunk.splits) if on_instances else machine.instance_count,
        entrypoint=(entrypoint,),
        arguments=tuple(arguments),
        environment={**environment, **context.upload.environment(argv, context.verbosity)},
        output_uri=f"{context.root_uri.rstrip('/')}/sagemaker-output",
        checkpoint_uri=_checkpoint_uri(machine, context, "/".join(target)),
    )


def _checkpoint_uri(
    machine: Machine, context: JobContext, target: str
) -> str | Mapping[str, Any] | None:
    """Where the checkpoints of a training step are: a place of its own for each target.

    By default for each execution, too, so that a new run does not continue an earlier one, while a
    retry of the same execution does. But checkpoints are part of what SageMaker compares to reuse a
    cached result (Amazon SageMaker Developer Guide, "Default cache key attributes by pipeline step
    type"), so that with caching, runs with an equal config share them.
    """
    if machine.checkpoint_uri is not None:
        return f"{machine.checkpoint_uri.rstrip('/')}/{target}"
    if not machine.is_spot:
        return None
    folder = f"{context.root_uri.rstrip('/')}/sagemaker-checkpoints"
    if machine.cache is None:
        return join(folder, EXECUTION_ID, target)
    config = f"{context.upload.config_uri} {context.upload.digest}"
    return f"{folder}/{short_digest(config.encode())}/{target}"


def _argv(stage: Stage, chunk: _Chunk, machine: Machine, context: JobContext) -> list[str]:
    """The command line of a step. With several splits, each instance determines its own."""
    only_split = chunk.splits.start if len(chunk.splits) == 1 else None
    if len(chunk.splits) > 1 or machine.processes is not None:
        # Only rvrun's own worker reads the list of instances.
        argv = rvrun_argv(context.upload.config_uri, stage, RUNNER, only_split)
    else:
        argv = context.upload.argv(stage, RUNNER, only_split, context.verbosity)
    return argv if machine.processes is None else [*argv, "--torchrun", str(machine.processes)]
