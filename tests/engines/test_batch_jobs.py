"""The engine's state machine against a naive implementation of the rules, for any jobs."""

from __future__ import annotations

import random
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.attempts import Outcome
from tests.engines.batch_jobs import (
    FAILED,
    RUNNING,
    STATES,
    SUCCEEDED,
    Job,
    Queue,
    Scheduler,
    Unit,
)
from tests.engines.batch_rules import spec_of


@attrs.frozen
class JobPlan:
    """A job to submit: its size, the earlier jobs that it needs, and which indices fail."""

    size: int | None
    whole: frozenset[int]
    aligned: frozenset[int]
    sequential: bool
    failing: frozenset[int]


@st.composite
def submissions(draw: st.DrawFn) -> list[JobPlan]:
    jobs: list[JobPlan] = []
    for _ in range(draw(st.integers(1, 7))):
        size = draw(st.sampled_from([None, 2, 3]))
        before = range(len(jobs))
        same = [index for index in before if size is not None and jobs[index].size == size]
        jobs.append(
            JobPlan(
                size=size,
                whole=draw(st.frozensets(st.sampled_from(before), max_size=2))
                if before
                else frozenset(),
                aligned=draw(st.frozensets(st.sampled_from(same), max_size=2))
                if same
                else frozenset(),
                sequential=size is not None and draw(st.booleans()),
                failing=draw(st.frozensets(st.integers(0, 2), max_size=1)),
            )
        )
    return jobs


def indices(plan: JobPlan) -> range:
    return range(1 if plan.size is None else plan.size)


def succeeds(jobs: list[JobPlan], number: int, index: int) -> bool:
    """Whether that unit succeeds: its needs succeed, and it does not fail itself."""
    job = jobs[number]
    return (
        all(succeeds(jobs, need, other) for need in job.whole for other in indices(jobs[need]))
        and all(succeeds(jobs, need, index) for need in job.aligned)
        and (not job.sequential or index == 0 or succeeds(jobs, number, index - 1))
        and index not in job.failing
    )


def submit(scheduler: Scheduler, queue: Queue, number: int, plan: JobPlan) -> None:
    needs: list[dict[str, Any]] = [{"jobId": str(need)} for need in plan.whole]
    needs += [{"jobId": str(need), "type": "N_TO_N"} for need in plan.aligned]
    needs += [{"type": "SEQUENTIAL"}] * plan.sequential
    request: dict[str, Any] = {"jobName": f"job-{number}", "dependsOn": needs}
    if plan.size is not None:
        request["arrayProperties"] = {"size": plan.size}
    scheduler.add(Job(str(number), request, spec_of(request, {}), {}, queue))


def run_one(scheduler: Scheduler, unit: Unit, jobs: list[JobPlan]) -> None:
    scheduler.start(unit, None)
    assert unit.status == RUNNING
    failed = (unit.index or 0) in jobs[int(unit.job.id)].failing
    scheduler.finish(unit, Outcome(int(failed)), {})


@given(submissions(), st.integers(0, 2**16))
def test_any_jobs_end_as_the_rules_say(jobs: list[JobPlan], seed: int) -> None:
    """In any order, however much is done before the last job is submitted."""
    dice = random.Random(seed)
    scheduler, queue = Scheduler(), Queue("q", "arn:q")
    waiting = list(enumerate(jobs))
    while waiting or queue.waiting:
        if waiting and (not queue.waiting or dice.random() < 0.5):
            submit(scheduler, queue, *waiting.pop(0))
        else:
            queue.waiting.rotate(dice.randrange(len(queue.waiting)))
            run_one(scheduler, queue.waiting.popleft(), jobs)
    for number, plan in enumerate(jobs):
        job = scheduler.jobs[str(number)]
        expected = [
            SUCCEEDED if succeeds(jobs, number, index) else FAILED for index in indices(plan)
        ]
        assert job.status == (FAILED if FAILED in expected else SUCCEEDED)
        if job.units:
            assert [unit.status for unit in job.units] == expected
        else:
            assert set(expected) == {FAILED}
        assert all(unit.open == 0 for unit in [job.head, *job.children])
        if plan.size is not None and job.children:
            counted = [sum(unit.status == state for unit in job.children) for state in STATES]
            assert [job.counts[state] for state in STATES] == counted


@given(submissions(), st.integers(0, 2**16))
def test_nothing_starts_before_what_it_needs(jobs: list[JobPlan], seed: int) -> None:
    """When a unit starts, everything that it needs has succeeded; it starts only once."""
    dice = random.Random(seed)
    scheduler, queue = Scheduler(), Queue("q", "arn:q")
    for number, plan in enumerate(jobs):
        submit(scheduler, queue, number, plan)
    started: set[str] = set()
    while queue.waiting:
        queue.waiting.rotate(dice.randrange(len(queue.waiting)))
        unit = queue.waiting.popleft()
        plan = jobs[int(unit.job.id)]
        needed = [scheduler.jobs[str(need)].head for need in plan.whole]
        needed += [scheduler.jobs[str(need)].children[unit.index or 0] for need in plan.aligned]
        if plan.sequential and unit.index:
            needed.append(unit.job.children[unit.index - 1])
        assert {unit.status for unit in needed} <= {SUCCEEDED}
        assert unit.id not in started
        started.add(unit.id)
        run_one(scheduler, unit, jobs)


@given(submissions(), st.integers(0, 2**16))
def test_terminated_jobs_end(jobs: list[JobPlan], seed: int) -> None:
    """All jobs end if each is terminated, in any order and at any time."""
    dice = random.Random(seed)
    scheduler, queue = Scheduler(), Queue("q", "arn:q")
    for number, plan in enumerate(jobs):
        submit(scheduler, queue, number, plan)
    for _ in range(dice.randrange(4)):
        if queue.head():
            run_one(scheduler, queue.waiting.popleft(), jobs)
    for job_id in dice.sample(list(scheduler.jobs), len(jobs)):
        scheduler.stop(scheduler.jobs[job_id].head, "over", terminate=True)
    assert queue.head() is None
    assert all(job.head.ended for job in scheduler.jobs.values())
    assert all(unit.ended for job in scheduler.jobs.values() for unit in job.units)
