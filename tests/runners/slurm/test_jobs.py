"""Stages become jobs, and jobs calls of sbatch. Pure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.model import Need, NeedKind, Plan, PlannedPipeline, Stage
from rvrun.runners.slurm.jobs import (
    Job,
    Packing,
    job_to_json,
    jobs_from_json,
    plan_jobs,
    submissions,
)

ALIGNED = Need("a", NeedKind.ALIGNED)


def planned(num_splits: int, *, packs: tuple[int, int] = (1, 1), kind: Need = ALIGNED) -> list[Job]:
    """The jobs of `first`, `a` that needs it, `b` that needs `a`, and `last` that needs `b`."""
    stages = (
        Stage(command="first"),
        Stage(command="a", num_splits=num_splits, needs=(Need("first"),)),
        Stage(command="b", num_splits=num_splits, needs=(kind,)),
        Stage(command="last", needs=(Need("b"),)),
    )
    pipeline = PlannedPipeline(name="p", config_digest="sha256:0", stages=stages)
    packing = dict(zip(("p/a", "p/b"), map(Packing, packs), strict=True))
    return plan_jobs(Plan((pipeline,)), {"p/first": Packing(), "p/last": Packing(), **packing})


def every_task(jobs: list[Job]) -> dict[str, range]:
    return {job.stage: range(job.num_tasks) for job in jobs}


def test_a_job_for_each_stage() -> None:
    """Scripts are numbered in the order of the plan."""
    jobs = planned(10, packs=(4, 4))
    assert [(job.stage, job.script, job.pack, job.num_tasks) for job in jobs] == [
        ("p/first", "1-p-first.sh", 1, 1),
        ("p/a", "2-p-a.sh", 4, 3),
        ("p/b", "3-p-b.sh", 4, 3),
        ("p/last", "4-p-last.sh", 1, 1),
    ]
    assert list(jobs[1].targets(2)) == [8, 9]
    assert jobs[1].tasks([0, 3, 9]) == (0, 2)
    assert [(job.after, job.corresponding) for job in jobs] == [
        ((), ()),
        (("p/first",), ()),
        ((), ("p/a",)),
        (("p/b",), ()),
    ]


def test_stages_packed_differently_are_not_aligned() -> None:
    """Tasks of the same index would have other splits."""
    job = planned(10, packs=(4, 2))[2]
    assert (job.after, job.corresponding) == (("p/a",), ())


def test_arrays_within_the_limit() -> None:
    """Further arrays have an offset, and wait for those with the same one."""
    jobs = planned(7)
    calls = submissions(jobs, every_task(jobs), 3)
    assert [(c.key, c.array, c.offset) for c in calls] == [
        ("p/first", None, 0),
        *[("p/a", "0-2", 0), ("p/a.1", "0-2", 3), ("p/a.2", "0", 6)],
        *[("p/b", "0-2", 0), ("p/b.1", "0-2", 3), ("p/b.2", "0", 6)],
        ("p/last", None, 0),
    ]
    assert [call.corresponding for call in calls[4:7]] == [("p/a",), ("p/a.1",), ("p/a.2",)]
    assert calls[-1].after == ("p/b", "p/b.1", "p/b.2")


def test_tasks_that_are_done_are_left_out() -> None:
    """Nothing waits for a stage without tasks; a task without its counterpart waits for all."""
    jobs = planned(4)
    calls = submissions(jobs, {"p/a": [1], "p/b": [1, 3], "p/last": [0]}, 1001)
    assert [(c.key, c.array, c.after, c.corresponding) for c in calls] == [
        ("p/a", "1", (), ()),
        ("p/b", "1,3", ("p/a",), ()),
        ("p/last", None, ("p/b",), ()),
    ]
    calls = submissions(jobs, {"p/a": [1, 2], "p/b": [1]}, 1001)
    assert calls[1].corresponding == ("p/a",)


@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_every_stale_target_runs_once_and_not_too_early(
    num_splits: int, pack: int, other: int, size: int, chance: object
) -> None:
    """Whatever is packed, however small arrays must be, whichever targets are stale."""
    jobs = planned(num_splits, packs=(pack, other))
    stale = {i for i in range(num_splits) if chance.random() < 0.5}  # type: ignore[attr-defined]
    tasks = {"p/a": jobs[1].tasks(stale), "p/b": jobs[2].tasks(stale)}
    calls = submissions(jobs, tasks, size)
    for job in jobs[1:3]:
        own = [call for call in calls if call.job == job]
        ran = [target for call in own for task in call.tasks for target in job.targets(task)]
        assert len(ran) == len(set(ran))
        assert stale <= set(ran)
        assert all(0 <= task - call.offset < size for call in own for task in call.tasks)
    keys = [call.key for call in calls]
    by_key = {call.key: call for call in calls}
    for number, call in enumerate(calls):
        assert set(call.after + call.corresponding) <= set(keys[:number])
        if call.job.stage != "p/b":
            continue
        for task in call.tasks:
            waited = {
                target
                for key in call.after
                for other_task in by_key[key].tasks
                for target in by_key[key].job.targets(other_task)
            }
            for key in call.corresponding:
                index = task - call.offset + by_key[key].offset
                assert index in by_key[key].tasks
                waited |= set(by_key[key].job.targets(index))
            assert set(call.job.targets(task)) & stale <= waited


def test_jobs_as_json() -> None:
    """They are read as they were written, and damage is noticed."""
    job = planned(10, packs=(4, 4))[2]
    values = job_to_json(job)
    assert jobs_from_json(json.dumps([values])) == [job]
    for name, value in (("pack", 0), ("pack", "1"), ("stage", 3), ("num_splits", "2")):
        with pytest.raises((TypeError, ValueError)):
            jobs_from_json(json.dumps([{**values, name: value}]))
    with pytest.raises(KeyError):
        jobs_from_json('[{"stage": "p/a"}]')
