"""The specs of a retry, from what failed in the round before."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun import split_ranges
from rvrun.model import Plan, Stage
from rvrun.runners.batch.api import SubmitJobRequest
from rvrun.runners.batch.jobs import Job
from rvrun.runners.batch.limits import check_request
from rvrun.runners.batch.retry import FailedJob, retry_files
from rvrun.runners.batch.spec_files import Spec
from rvrun.runners.problems import Unfit
from tests.runners.batch.test_jobs import Target, children, limits, runs, small_jobs, target_edges
from tests.strategies import plans


def request(job: Job, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The request of a job, as far as retries read it."""
    splits = {} if job.whole else {"RVRUN_SPLITS": split_ranges.write(job.splits or ())}
    variables = {**(environment or {}), **splits}
    command = ["true"] if job.stage is None else ["rvrun", "run_command", "uri", job.stage.command]
    words = ["--num-splits", "99"] if job.stage and job.splits is not None else []
    if words and job.splits and job.size is None:
        words += ["--split-ind", str(job.splits[0])]
    needs = [
        {"jobId": f"${{{need.key}}}", **({"type": "N_TO_N"} if need.aligned else {})}
        for need in job.depends
    ]
    return {
        "jobName": f"${{run}}-{job.key.replace('/', '-')}",
        "tags": {"rvrun:run": "${run}", "rvrun:job": job.key},
        "containerOverrides": {
            "command": [*command, *words],
            "environment": [{"name": name, "value": value} for name, value in variables.items()],
        },
        **({"arrayProperties": {"size": job.size}} if job.size else {}),
        **({"dependsOn": needs} if needs else {}),
    }


def spec(job: Job, **more: Any) -> Spec:
    return Spec(key=job.key, round=1, request=cast("SubmitJobRequest", request(job, **more)))


def retried(failed: Sequence[FailedJob], number: int = 2) -> list[Any]:
    return [json.loads(text) for text in retry_files(failed, number).values()]


JOB = Job(key="r1/chip", pipeline="r1", stage=None, splits=range(4))


def test_names_contain_the_round() -> None:
    """Also in a pipeline whose name looks like a round."""
    (first,) = retried([FailedJob(spec(JOB), None)])
    again = Spec(key=JOB.key, round=2, request=first)
    (second,) = retried([FailedJob(again, None)], 3)
    assert [first["jobName"], second["jobName"]] == ["${run}-r2-r1-chip", "${run}-r3-r1-chip"]


def test_a_list_of_splits_may_be_too_long() -> None:
    """A job that was just short enough is too long with a list of splits, and is refused."""
    large = spec(JOB, environment={"LONG": "x" * 8050})
    assert len(retried([FailedJob(large, None)])) == 1
    with pytest.raises(Unfit, match=r"r1/chip: command and environment must .* got 8,332; "):
        retry_files([FailedJob(large, tuple(range(0, 120, 2)))], 2)


@pytest.mark.parametrize("size", [2, 3, 100, 600, 10_000])
def test_what_can_be_submitted_can_be_retried(size: int) -> None:
    """At the limit, every other or two of three splits of an array may fail."""
    stage = Stage(command="chip", num_splits=size)
    job = Job(key="a/chip", pipeline="a", stage=stage, splits=range(size))

    def problems(length: int) -> list[str]:
        large = spec(job, environment={"LONG": "x" * length})
        return check_request(job.key, large.request, "run")

    length = bisect.bisect_left(range(1, 8_200), 1, key=lambda length: len(problems(length)))
    assert problems(length) == []
    assert problems(length + 1)[0].startswith("a/chip: command and environment must have at most")
    assert "with the list of splits that a retry may need; shorten" in problems(length + 1)[0]
    large = spec(job, environment={"LONG": "x" * length})
    for splits in (range(0, size, 2), [i for i in range(size) if i % 3 != 2]):
        assert len(retried([FailedJob(large, tuple(splits))])) == 1


def test_a_single_split_at_the_limit_can_be_retried() -> None:
    """Its request already has its split, so a retry adds nothing but the name of its round."""
    stage = Stage(command="chip", num_splits=1)
    job = Job(key="a/chip", pipeline="a", stage=stage, splits=range(1))

    def large(length: int) -> Spec:
        return spec(job, environment={"LONG": "x" * length})

    def problems(length: int) -> int:
        return len(check_request(job.key, large(length).request, "run"))

    length = bisect.bisect_left(range(1, 8_200), 1, key=problems)
    (again,) = retried([FailedJob(large(length), (0,))])
    assert again["containerOverrides"] == large(length).request["containerOverrides"]


# For any plan and any failures.


def failed_targets(plan: Plan, broken: set[Target]) -> set[Target]:
    """The targets that fail themselves, and those that depend on them."""
    edges = target_edges(plan)
    failed = set(broken)
    for planned in plan.targets():
        target = (planned.pipeline, planned.command, planned.split_ind)
        if any(dependent == target and needed in failed for dependent, needed in edges):
            failed.add(target)
    return failed


def failed_jobs(jobs: Sequence[Job], failed: set[Target]) -> list[FailedJob]:
    """The jobs with a failure, as Batch would report them."""
    failed_children: set[tuple[str, int]] = set()  # each with its job's key
    result = []
    for job in jobs:
        for key, child in children(job):
            if job.stage is None:
                is_failed = any(
                    (need.key, child if need.aligned else other) in failed_children
                    for need in job.depends
                    for other in range(99)
                )
            else:
                is_failed = runs(job, child) in failed
            if is_failed:
                failed_children.add((key, child))
        own = tuple(child for key, child in children(job) if (key, child) in failed_children)
        if own:
            all_splits = job.splits if job.stage is not None else None
            splits = tuple(all_splits[child] for child in own) if all_splits is not None else None
            result.append(FailedJob(spec(job), splits))
    return result


def targets(request: Mapping[str, Any], job: Job) -> list[Target]:
    """The targets that the job's children run; none for a join."""
    if job.stage is None:
        return []
    environment = request["containerOverrides"]["environment"]
    variables = {variable["name"]: variable["value"] for variable in environment}
    text = variables.get("RVRUN_SPLITS")
    command = request["containerOverrides"]["command"]
    if "--split-ind" in command:
        text = command[command.index("--split-ind") + 1]
    splits = [None] if text is None else split_ranges.read(text)
    return [(job.pipeline, job.stage.command, split) for split in splits]


@given(plan=plans(max_pipelines=1, max_stages=7), most=limits, data=st.data())
@settings(max_examples=60)
def test_a_retry_contains_exactly_what_failed(
    plan: Plan, most: tuple[int, int], data: st.DataObject
) -> None:
    """It runs each failed target once and no other, after all failed ones that it needs."""
    all_targets = [(t.pipeline, t.command, t.split_ind) for t in plan.targets()]
    broken = data.draw(st.sets(st.sampled_from(all_targets), min_size=1, max_size=4))
    failed = failed_targets(plan, broken)
    jobs = {job.key: job for job in small_jobs(plan, most)}
    requests = retried(failed_jobs([*jobs.values()], failed))
    again = {request["tags"]["rvrun:job"]: request for request in requests}

    run_again = [t for key, request in again.items() for t in targets(request, jobs[key])]
    assert sorted(run_again, key=repr) == sorted(failed, key=repr)

    def size(key: str) -> int:
        return int(again[key].get("arrayProperties", {}).get("size", 1))

    def waits_for(key: str, child: int) -> Iterator[Target]:
        for need in again[key].get("dependsOn", ()):
            other = need["jobId"][2:-1]
            assert list(again).index(other) < list(again).index(key)
            assert "type" not in need or size(other) == size(key) > 1
            for other_child in [child] if "type" in need else range(size(other)):
                if jobs[other].stage is None:
                    yield from waits_for(other, other_child)
                else:
                    yield targets(again[other], jobs[other])[other_child]

    waits = {
        (target, other)
        for key, request in again.items()
        for child, target in enumerate(targets(request, jobs[key]))
        for other in waits_for(key, child)
    }
    assert {(a, b) for a, b in target_edges(plan) if a in failed and b in failed} <= waits
