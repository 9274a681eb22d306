"""A plan as jobs of AWS Batch: arrays for splits, dependencies, joins where there are too many.

Pure. The limits are those of the AWS Batch User Guide, "Array jobs" and "Job dependencies".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.pipelines.base import share

#: An array has 2 to so many children; one split is a plain job.
MAX_ARRAY = 10_000
#: A job may depend on so many others.
MAX_DEPENDENCIES = 20


@attrs.frozen
class Dependency:
    """A job that must have succeeded; `aligned`: for each child, the child of the same index."""

    key: str
    aligned: bool = False


@attrs.frozen(kw_only=True)
class Job:
    """One job to submit.

    - `key`: its name in the plan, `tiny/chip`, `tiny/chip.1` for a part of many splits, or
      `tiny/sum.needs.0` for a job that does nothing but join what `tiny/sum` needs.
    - `stage`: what it runs; None for a join.
    - `splits`: the splits it runs, a child each; None for what is not split.
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
        """The size of its array; None for a plain job."""
        return len(self.splits) if self.splits is not None and len(self.splits) > 1 else None


def plan_jobs(plan: Plan) -> list[Job]:
    """The jobs of `plan`, each after all that it depends on."""
    return [job for pipeline in plan.pipelines for job in _pipeline_jobs(pipeline)]


def _pipeline_jobs(pipeline: PlannedPipeline) -> Iterator[Job]:
    parts: dict[str, list[Job]] = {}
    for stage in pipeline.stages:
        parts[stage.command] = stage_parts(pipeline.name, stage)
        name = f"{pipeline.name}/{stage.command}.needs"
        wholes = [
            Dependency(part.key)
            for need in stage.needs
            if need.kind is NeedKind.ALL
            for part in parts[need.command]
        ]
        joins, wholes = joined(pipeline.name, name, wholes, _room(stage))
        yield from joins
        for number, part in enumerate(parts[stage.command]):
            aligned = _aligned(stage, parts, part, number)
            room = MAX_DEPENDENCIES - len(wholes)
            more, aligned = joined(part.pipeline, f"{part.key}.aligned", aligned, room, part.splits)
            yield from more
            yield attrs.evolve(part, depends=(*wholes, *aligned))


def _room(stage: Stage) -> int:
    """How many dependencies are left for whole stages, so that each aligned one has a place.

    Where these are too many themselves, they are joined in what the others leave.
    """
    aligned = sum(need.kind is NeedKind.ALIGNED for need in stage.needs)
    return max(MAX_DEPENDENCIES - aligned, 1)


def _aligned(
    stage: Stage, parts: Mapping[str, Sequence[Job]], part: Job, number: int
) -> list[Dependency]:
    """Equally many splits are parted equally, so the part of the same number has the same."""
    return [
        Dependency(parts[need.command][number].key, aligned=part.size is not None)
        for need in stage.needs
        if need.kind is NeedKind.ALIGNED
    ]


def stage_parts(pipeline: str, stage: Stage) -> list[Job]:
    """The jobs of a stage: one, or several of nearly equal size for more splits than an array."""
    key = f"{pipeline}/{stage.command}"
    if stage.num_splits is None:
        return [Job(key=key, pipeline=pipeline, stage=stage)]
    number = -(-stage.num_splits // MAX_ARRAY)
    splits = range(stage.num_splits)
    return [
        Job(
            key=key if number == 1 else f"{key}.{index}",
            pipeline=pipeline,
            stage=stage,
            splits=share(splits, index, number),
            whole=number == 1,
        )
        for index in range(number)
    ]


def joined(
    pipeline: str,
    name: str,
    depends: Sequence[Dependency],
    room: int,
    splits: Sequence[int] | None = None,
) -> tuple[list[Job], list[Dependency]]:
    """Jobs that join `depends` until no more than `room` are left, and those.

    Joins of aligned dependencies are arrays of the same size.
    """
    joins: list[Job] = []
    left = list(depends)
    while len(left) > room:
        groups = [left[i : i + MAX_DEPENDENCIES] for i in range(0, len(left), MAX_DEPENDENCIES)]
        left = []
        for group in groups:
            if len(group) == 1:  # a join of one would be a job for nothing
                left += group
                continue
            key = f"{name}.{len(joins)}"
            joins.append(
                Job(key=key, pipeline=pipeline, stage=None, splits=splits, depends=tuple(group))
            )
            left.append(Dependency(key, aligned=joins[-1].size is not None))
    return joins, left
