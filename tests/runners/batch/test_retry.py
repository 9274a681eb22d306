"""What failed of a round as the specs of the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun import split_ranges as indices
from rvrun.model import Plan
from rvrun.runners.batch.jobs import Job
from rvrun.runners.batch.retry import Failed, retry_files
from rvrun.runners.batch.submit import Ticket
from rvrun.runners.problems import Unfit
from tests.runners.batch.test_jobs import Target, children, limits, runs, small_jobs, target_edges
from tests.strategies import plans


def request(job: Job, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The request of a job, as far as retries read it."""
    splits = {} if job.whole else {"RVRUN_SPLITS": indices.write(job.splits or ())}
    said = {**(environment or {}), **splits}
    command = ["true"] if job.stage is None else ["rvrun", "run_command", "uri", job.stage.command]
    words = ["--num-splits", "99"] if job.stage and job.splits is not None else []
    needs = [
        {"jobId": f"${{{each.key}}}", **({"type": "N_TO_N"} if each.aligned else {})}
        for each in job.depends
    ]
    return {
        "jobName": f"${{run}}-{job.key.replace('/', '-')}",
        "tags": {"rvrun:run": "${run}", "rvrun:job": job.key},
        "containerOverrides": {
            "command": [*command, *words],
            "environment": [{"name": name, "value": value} for name, value in said.items()],
        },
        **({"arrayProperties": {"size": job.size}} if job.size else {}),
        **({"dependsOn": needs} if needs else {}),
    }


def ticket(job: Job, **more: Any) -> Ticket:
    return Ticket(key=job.key, round=1, request=request(job, **more))


def retried(failed: Sequence[Failed], number: int = 2) -> list[dict[str, Any]]:
    return [json.loads(text) for text in retry_files(failed, number).values()]


JOB = Job(key="r1/chip", pipeline="r1", stage=None, splits=range(4))


def test_names_are_fresh() -> None:
    """Also in a pipeline that is called as a round is."""
    (first,) = retried([Failed(ticket(JOB), None)])
    again = Ticket(key=JOB.key, round=2, request=first)
    (second,) = retried([Failed(again, None)], 3)
    assert [first["jobName"], second["jobName"]] == ["${run}-r2-r1-chip", "${run}-r3-r1-chip"]


def test_what_must_be_told_may_be_too_much() -> None:
    """A job that just fitted does not with a list of splits; nothing is submitted then."""
    stuffed = ticket(JOB, environment={"LONG": "x" * 8050})
    assert len(retried([Failed(stuffed, None)])) == 1
    with pytest.raises(Unfit, match=r"r1/chip: its command and environment have 8,332 characters"):
        retry_files([Failed(stuffed, tuple(range(0, 120, 2)))], 2)


# Whatever the plan, and whatever fails.


def failed_targets(plan: Plan, broken: set[Target]) -> set[Target]:
    """Those that fail themselves, and what hangs on them."""
    edges = target_edges(plan)
    failed = set(broken)
    for each in plan.targets():
        target = (each.pipeline, each.command, each.split_ind)
        if any(mine == target and needed in failed for mine, needed in edges):
            failed.add(target)
    return failed


def failed_jobs(jobs: Sequence[Job], failed: set[Target]) -> list[Failed]:
    """The jobs of which something failed, as Batch would tell."""
    ended: set[tuple[str, int]] = set()  # failed children, by their jobs' keys
    found = []
    for job in jobs:
        for key, child in children(job):
            if job.stage is None:
                is_failed = any(
                    (need.key, child if need.aligned else other) in ended
                    for need in job.depends
                    for other in range(99)
                )
            else:
                is_failed = runs(job, child) in failed
            if is_failed:
                ended.add((key, child))
        mine = tuple(child for key, child in children(job) if (key, child) in ended)
        if mine:
            is_split = job.stage is not None and job.splits is not None
            splits = tuple(job.splits[child] for child in mine) if is_split else None
            found.append(Failed(ticket(job), splits))
    return found


def targets(request: Mapping[str, Any], job: Job) -> list[Target]:
    """What its children run; nothing for a join."""
    if job.stage is None:
        return []
    said = {each["name"]: each["value"] for each in request["containerOverrides"]["environment"]}
    splits = indices.read(said["RVRUN_SPLITS"]) if "RVRUN_SPLITS" in said else [None]
    return [(job.pipeline, job.stage.command, split) for split in splits]


@given(plan=plans(max_pipelines=1, max_stages=7), most=limits, data=st.data())
@settings(max_examples=60)
def test_exactly_what_failed_goes_again(
    plan: Plan, most: tuple[int, int], data: st.DataObject
) -> None:
    """Each failed target once and no other, after all failed ones that it needs."""
    every = [(each.pipeline, each.command, each.split_ind) for each in plan.targets()]
    broken = data.draw(st.sets(st.sampled_from(every), min_size=1, max_size=4))
    failed = failed_targets(plan, broken)
    jobs = {job.key: job for job in small_jobs(plan, most)}
    again = {
        each["tags"]["rvrun:job"]: each for each in retried(failed_jobs([*jobs.values()], failed))
    }

    found = [target for key, each in again.items() for target in targets(each, jobs[key])]
    assert sorted(found, key=repr) == sorted(failed, key=repr)

    def size(key: str) -> int:
        return int(again[key].get("arrayProperties", {}).get("size", 1))

    def waits_for(key: str, child: int) -> Iterator[Target]:
        for need in again[key].get("dependsOn", ()):
            other = need["jobId"][2:-1]
            assert list(again).index(other) < list(again).index(key)
            assert "type" not in need or size(other) == size(key) > 1
            for their in [child] if "type" in need else range(size(other)):
                if jobs[other].stage is None:
                    yield from waits_for(other, their)
                else:
                    yield targets(again[other], jobs[other])[their]

    waits = {
        (target, other)
        for key, each in again.items()
        for child, target in enumerate(targets(each, jobs[key]))
        for other in waits_for(key, child)
    }
    assert {(a, b) for a, b in target_edges(plan) if a in failed and b in failed} <= waits
