"""Turn a plan into jobs of AWS Batch. Pure.

A split stage becomes one array job, or several if it has more splits than an array can have
children. A job with too many dependencies gets them through jobs that do nothing but join others.
Source of the limits: AWS Batch User Guide, "Array jobs" and "Job dependencies".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.pipelines.base import share

#: The most children of an array. The least is 2, so that one split is a plain job.
MAX_ARRAY = 10_000
#: The most dependencies of a job.
MAX_DEPENDENCIES = 20


@attrs.frozen
class Dependency:
    """A job that must succeed first; `aligned`: for each child, the child of the same index."""

    key: str
    aligned: bool = False


@attrs.frozen(kw_only=True)
class Job:
    """One job to submit.

    - `key`: identifies it in the plan: `tiny/chip`, `tiny/chip.1` for a part of the splits, or
      `tiny/sum.needs.0` for a job that does nothing but join what `tiny/sum` needs.
    - `stage`: what it runs; None for a join.
    - `splits`: the splits that its children run; None if the stage is not split.
    - `whole`: whether these are all splits of its stage.
    """

    key: str
    pipeline: str
    stage: Stage | None
    splits: Sequence[int] | None = None
    whole: bool = True
    depends: tuple[Dependency, ...] = ()

    @property
    def size(self) -> int | None:
        """The number of children of its array; None for a plain job."""
        return len(self.splits) if self.splits is not None and len(self.splits) > 1 else None


def plan_jobs(plan: Plan) -> list[Job]:
    """Return the jobs of `plan`, each after all jobs that it depends on."""
    return [job for pipeline in plan.pipelines for job in _pipeline_jobs(pipeline)]


def _pipeline_jobs(pipeline: PlannedPipeline) -> Iterator[Job]:
    parts: dict[str, list[Job]] = {}
    for stage in pipeline.stages:
        parts[stage.command] = split_into_parts(pipeline.name, stage)
        name = f"{pipeline.name}/{stage.command}.needs"
        wholes = [
            Dependency(part.key)
            for need in stage.needs
            if need.kind is NeedKind.ALL
            for part in parts[need.command]
        ]
        # Joins of whole stages serve all parts, so they leave a place for each aligned dependency.
        # If there are too many of those, they are joined too, per part.
        num_aligned = sum(need.kind is NeedKind.ALIGNED for need in stage.needs)
        joins, wholes = join(pipeline.name, name, wholes, max(MAX_DEPENDENCIES - num_aligned, 1))
        yield from joins
        for number, part in enumerate(parts[stage.command]):
            aligned = _aligned(stage, parts, part, number)
            room = MAX_DEPENDENCIES - len(wholes)
            joins, aligned = join(part.pipeline, f"{part.key}.aligned", aligned, room, part.splits)
            yield from joins
            yield attrs.evolve(part, depends=(*wholes, *aligned))


def _aligned(
    stage: Stage, parts: Mapping[str, Sequence[Job]], part: Job, number: int
) -> list[Dependency]:
    """The aligned dependencies of a part.

    Aligned stages have equally many splits, so parts of the same number have the same splits.
    """
    return [
        Dependency(parts[need.command][number].key, aligned=part.size is not None)
        for need in stage.needs
        if need.kind is NeedKind.ALIGNED
    ]


def split_into_parts(pipeline: str, stage: Stage) -> list[Job]:
    """Return the jobs of a stage: one, or several of nearly equal size if it has many splits."""
    key = f"{pipeline}/{stage.command}"
    if stage.num_splits is None:
        return [Job(key=key, pipeline=pipeline, stage=stage)]
    num_parts = math.ceil(stage.num_splits / MAX_ARRAY)
    splits = range(stage.num_splits)
    return [
        Job(
            key=key if num_parts == 1 else f"{key}.{index}",
            pipeline=pipeline,
            stage=stage,
            splits=share(splits, index, num_parts),
            whole=num_parts == 1,
        )
        for index in range(num_parts)
    ]


def join(
    pipeline: str,
    name: str,
    depends: Sequence[Dependency],
    room: int,
    splits: Sequence[int] | None = None,
) -> tuple[list[Job], list[Dependency]]:
    """Return jobs that join `depends` until at most `room` dependencies are left, and these.

    - `splits`: of the job, if the dependencies are aligned: then joins are arrays of the same size.
    """
    joins: list[Job] = []
    left = list(depends)
    while len(left) > room:
        groups = [left[i : i + MAX_DEPENDENCIES] for i in range(0, len(left), MAX_DEPENDENCIES)]
        left = []
        for group in groups:
            if len(group) == 1:  # a join of one job would be superfluous
                left += group
                continue
            key = f"{name}.{len(joins)}"
            joins.append(
                Job(key=key, pipeline=pipeline, stage=None, splits=splits, depends=tuple(group))
            )
            left.append(Dependency(key, aligned=joins[-1].size is not None))
    return joins, left
