"""Plans as jobs of AWS Batch: arrays, parts, dependencies and joins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.runners.batch import jobs
from rvrun.runners.batch.jobs import Dependency, Job, plan_jobs
from tests.build import DIGEST, pipeline
from tests.build import need as parse_need
from tests.strategies import plans


def stages(**splits_and_needs: tuple[int | None, Sequence[str]]) -> Plan:
    """A plan of one pipeline `p`: each stage's splits and needs, `=chip` for an aligned one."""
    made = (
        Stage(command=name, num_splits=splits, needs=tuple(map(parse_need, needs)))
        for name, (splits, needs) in splits_and_needs.items()
    )
    return Plan((PlannedPipeline(name="p", config_digest=DIGEST, stages=tuple(made)),))


def shown(plan: Plan) -> tuple[tuple[str, Sequence[int] | None, tuple[str, ...]], ...]:
    """Each job's key, its splits (None: not split; one: an array), and its dependencies."""
    return tuple(
        (
            job.key,
            job.splits,
            tuple(("=" if need.aligned else "") + need.key for need in job.depends),
        )
        for job in plan_jobs(plan)
    )


def keys(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"p/{name}.{number}" for number in range(count))


def test_a_plain_pipeline() -> None:
    """Each stage is a job, or an array if it is split, and depends on what the plan says."""
    declared = pipeline("tiny", "chip*", "train", "predict*", "eval")
    plan = compile_plan([declared], splits=parse_splits(["predict=3", "chip=2"]))
    assert plan_jobs(plan) == [
        Job(
            key="tiny/chip",
            pipeline="tiny",
            stage=plan.pipelines[0].stages[0],
            splits=range(2),
            whole=True,
            depends=(),
        ),
        Job(
            key="tiny/train",
            pipeline="tiny",
            stage=plan.pipelines[0].stages[1],
            depends=(Dependency("tiny/chip"),),
        ),
        Job(
            key="tiny/predict",
            pipeline="tiny",
            stage=plan.pipelines[0].stages[2],
            splits=range(3),
            depends=(Dependency("tiny/train"),),
        ),
        Job(
            key="tiny/eval",
            pipeline="tiny",
            stage=plan.pipelines[0].stages[3],
            depends=(Dependency("tiny/predict"),),
        ),
    ]
    assert [job.size for job in plan_jobs(plan)] == [2, None, 3, None]


def test_one_split_is_a_plain_job() -> None:
    """An array has at least two children; an aligned job waits for all of a plain job."""
    plan = stages(chip=(1, []), predict=(1, ["=chip"]))
    assert shown(plan) == (("p/chip", range(1), ()), ("p/predict", range(1), ("p/chip",)))
    assert [job.size for job in plan_jobs(plan)] == [None, None]


@pytest.mark.parametrize(
    ("splits", "parts"),
    [
        (10_000, [range(10_000)]),
        (10_001, [range(5_001), range(5_001, 10_001)]),
        (20_000, [range(10_000), range(10_000, 20_000)]),
        (20_001, [range(6_667), range(6_667, 13_334), range(13_334, 20_001)]),
    ],
)
def test_more_splits_than_an_array_has_children(splits: int, parts: list[range]) -> None:
    """They are several arrays of nearly equal size; a dependent waits for all of them."""
    plan = stages(chip=(splits, []), train=(None, ["chip"]))
    names = ["p/chip"] if len(parts) == 1 else list(keys("chip", len(parts)))
    assert shown(plan) == (
        *((name, part, ()) for name, part in zip(names, parts, strict=True)),
        ("p/train", None, tuple(names)),
    )
    assert plan_jobs(plan)[0].whole is (len(parts) == 1)


def test_so_many_parts_that_they_are_joined() -> None:
    """300,000 splits are 30 arrays; each part of a dependent waits for them through two joins."""
    made = shown(stages(chip=(300_000, []), predict=(300_000, ["chip"])))
    parts = keys("chip", 30)
    assert [key for key, _, _ in made[:30]] == list(parts)
    assert made[30:32] == (
        ("p/predict.needs.0", None, parts[:20]),
        ("p/predict.needs.1", None, parts[20:]),
    )
    assert {depends for _, _, depends in made[32:]} == {("p/predict.needs.0", "p/predict.needs.1")}
    assert [split for _, part, _ in made[32:] for split in part or ()] == list(range(300_000))


def test_aligned_arrays() -> None:
    """Arrays of equal size wait index by index, part by part."""
    assert shown(stages(chip=(4, []), predict=(4, ["=chip"]))) == (
        ("p/chip", range(4), ()),
        ("p/predict", range(4), ("=p/chip",)),
    )
    assert shown(stages(chip=(10_001, []), predict=(10_001, ["=chip"]))) == (
        ("p/chip.0", range(5_001), ()),
        ("p/chip.1", range(5_001, 10_001), ()),
        ("p/predict.0", range(5_001), ("=p/chip.0",)),
        ("p/predict.1", range(5_001, 10_001), ("=p/chip.1",)),
    )


def test_branches_joined_into_one_command() -> None:
    """25 branches are joined by two joins."""
    branches = [f"b{number}" for number in range(25)]
    plan = stages(**dict.fromkeys(branches, (None, [])), last=(None, branches))
    wanted = tuple(f"p/{name}" for name in branches)
    assert shown(plan)[25:] == (
        ("p/last.needs.0", None, wanted[:20]),
        ("p/last.needs.1", None, wanted[20:]),
        ("p/last", None, ("p/last.needs.0", "p/last.needs.1")),
    )


def test_twenty_one_needs_take_one_join() -> None:
    """The remaining need is a direct dependency: a join of one job would be superfluous."""
    branches = [f"b{number}" for number in range(21)]
    plan = stages(**dict.fromkeys(branches, (None, [])), last=(None, branches))
    wanted = tuple(f"p/{name}" for name in branches)
    assert shown(plan)[21:] == (
        ("p/last.needs.0", None, wanted[:20]),
        ("p/last", None, ("p/last.needs.0", "p/b20")),
    )


@pytest.mark.parametrize("number", [20, 45])
def test_many_needs_of_one_command(number: int) -> None:
    """Up to 20 dependencies are direct; 45 go through three joins."""
    before = [f"c{index}" for index in range(number)]
    plan = stages(**dict.fromkeys(before, (None, [])), last=(2, before))
    names = tuple(f"p/{name}" for name in before)
    joins = tuple(f"p/last.needs.{index}" for index in range(3)) if number > 20 else ()
    groups = [names[:20], names[20:40], names[40:]]
    assert shown(plan)[number:] == (
        *((join, None, group) for join, group in zip(joins, groups, strict=False)),
        ("p/last", range(2), joins or names),
    )


def test_a_stage_after_a_chain_of_45() -> None:
    """It depends on its needs, not on all stages before it."""
    chain = [f"c{index}" for index in range(45)]
    declared = pipeline("p", *chain, "last*")
    made = shown(compile_plan([declared], splits=parse_splits(["2"])))
    assert made[-1] == ("p/last", range(2), ("p/c44",))
    assert len(made) == 46


def test_many_aligned_needs() -> None:
    """More than 20 are joined by arrays of the same size; the whole need stays direct."""
    before = [f"c{index}" for index in range(25)]
    plan = stages(
        first=(None, []),
        **dict.fromkeys(before, (3, [])),
        last=(3, ["first", *(f"={name}" for name in before)]),
    )
    names = tuple(f"=p/{name}" for name in before)
    assert shown(plan)[26:] == (
        ("p/last.aligned.0", range(3), names[:20]),
        ("p/last.aligned.1", range(3), names[20:]),
        ("p/last", range(3), ("p/first", "=p/last.aligned.0", "=p/last.aligned.1")),
    )


def test_pipelines_are_independent() -> None:
    """25 pipelines in one run have the same jobs as each of them alone."""
    names = [f"p{number}" for number in range(25)]
    plan = compile_plan([pipeline(name, "chip*", "train") for name in names])
    alone = [compile_plan([pipeline(name, "chip*", "train")]) for name in names]
    assert shown(plan) == tuple(job for single in alone for job in shown(single))


# For any plan.

#: Small limits: the most children of an array, and the most dependencies.
limits = st.tuples(st.integers(2, 5), st.integers(2, 4))


def small_jobs(plan: Plan, most: tuple[int, int]) -> list[Job]:
    with mock.patch.multiple(jobs, MAX_ARRAY=most[0], MAX_DEPENDENCIES=most[1]):
        return plan_jobs(plan)


Target = tuple[str, str, int | None]


def target_edges(plan: Plan) -> set[tuple[Target, Target]]:
    """Each target with each target that it needs."""
    edges = set()
    for planned in plan.pipelines:
        for stage in planned.stages:
            for dependency in stage.needs:
                needed_stage = planned.stage(dependency.command)
                for target in stage.targets(planned.name):
                    for needed in needed_stage.targets(planned.name):
                        is_all = dependency.kind is NeedKind.ALL
                        if is_all or target.split_ind == needed.split_ind:
                            edges.add((_target(target), _target(needed)))
    return edges


def _target(target: object) -> Target:
    return (target.pipeline, target.command, target.split_ind)  # type: ignore[attr-defined]


def children(job: Job) -> list[tuple[str, int]]:
    return [(job.key, child) for child in range(job.size or 1)]


def job_edges(made: Sequence[Job]) -> set[tuple[Target, Target]]:
    """Each target with each target that its job waits for, by Batch's rules, through joins."""
    by_key = {job.key: job for job in made}

    def waits_for(job: Job, child: int) -> Iterator[Target]:
        for need in job.depends:
            other = by_key[need.key]
            for other_child in [child] if need.aligned else range(other.size or 1):
                if other.stage is None:
                    yield from waits_for(other, other_child)
                else:
                    yield runs(other, other_child)

    return {
        (runs(job, child), other)
        for job in made
        if job.stage is not None
        for child in range(job.size or 1)
        for other in waits_for(job, child)
    }


def runs(job: Job, child: int) -> Target:
    """The target that a child of a job runs."""
    assert job.stage is not None
    split = None if job.splits is None else job.splits[child]
    return (job.pipeline, job.stage.command, split)


@given(plan=plans(max_pipelines=2), most=limits)
@settings(max_examples=50)
def test_every_target_is_in_one_job(plan: Plan, most: tuple[int, int]) -> None:
    """No split is lost or run twice, and arrays have allowed sizes."""
    made = small_jobs(plan, most)
    targets = [runs(job, child) for job in made if job.stage for child in range(job.size or 1)]
    assert sorted(targets, key=repr) == sorted(map(_target, plan.targets()), key=repr)
    assert all(job.size is None or 2 <= job.size <= most[0] for job in made)
    assert len({job.key for job in made}) == len(made)


@given(plan=plans(max_pipelines=1, max_stages=8), most=limits)
@settings(max_examples=70)
def test_jobs_wait_for_what_the_plan_says(plan: Plan, most: tuple[int, int]) -> None:
    """Each target waits for exactly the targets that it needs, through all joins and parts.

    Batch accepts the dependencies: there are few enough, each is on an earlier job, none occurs
    twice, and aligned ones are between arrays of equal size. No join joins a single job.
    """
    made = small_jobs(plan, most)
    assert job_edges(made) == target_edges(plan)
    before: dict[str, Job] = {}
    for job in made:
        assert len(job.depends) <= most[1]
        assert len({need.key for need in job.depends}) == len(job.depends)
        assert job.stage is not None or len(job.depends) > 1
        for need in job.depends:
            assert need.key in before
            assert not need.aligned or before[need.key].size == job.size is not None
        before[job.key] = job
