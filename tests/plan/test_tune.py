"""Suggestions: what they promise is what an estimate of them says, and none is worse."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from rvrun.model import Plan, Stage
from rvrun.plan.compile import compile_plan
from rvrun.plan.durations import Sample, StageSummary, summarize
from rvrun.plan.estimate import Hardware, Prices, predict, stage_works
from rvrun.plan.schedule import Capacity
from rvrun.plan.splits import parse_splits
from rvrun.plan.tune import Machine, Tuning, choose_jobs, tune, with_splits
from tests.build import pipeline

MACHINE = Machine(cpus=8, memory_mib=16000)


def no_hardware(name: str, stage: Stage) -> Hardware:
    return Hardware()


def plan_of(*commands: str, splits: str = "4", **options: Mapping[str, list[str]]) -> Plan:
    declared = pipeline("p", *commands, needs=options.get("needs"))
    return compile_plan([declared], splits=parse_splits([splits]))


def summary(
    seconds: float, splits: int = 4, busy: float | None = None, peak_mib: int | None = None
) -> StageSummary:
    """Targets that take equally long, `seconds` together; each keeps CPUs busy for `busy`."""
    sample = Sample(
        seconds=seconds / splits,
        splits=splits,
        machine_cpus=8,
        cpu_seconds=busy,
        peak_memory_kib=None if peak_mib is None else peak_mib * 1024,
    )
    result = summarize([sample] * splits, "x")
    assert result is not None
    return result


def suggestion(result: Tuning) -> dict[str, int | None]:
    return {advice.name: advice.splits[1] if advice.splits else None for advice in result.stages}


def test_a_stage_is_split_into_what_runs_in_parallel() -> None:
    """And the prediction is that of the plan with these splits."""
    plan = plan_of("a*", "b", splits="1")
    summaries = {"p/a": summary(80.0, busy=20.0), "p/b": summary(5.0, 1)}
    result = tune(plan, summaries, Capacity(), MACHINE, no_hardware)
    assert (result.jobs, result.reason) == (8, "a target keeps 1.0 of 8 CPUs busy")
    assert suggestion(result) == {"p/a": 8, "p/b": None}
    assert (result.before, result.after) == pytest.approx((85.0, 15.0))
    assert result.critical_path == ("p/a", "p/b")
    better = with_splits(plan, "p", frozenset({"a"}), 8)
    indices = {"p/a": range(8), "p/b": range(1)}
    works = stage_works(better, indices, summaries, Prices(), no_hardware)
    assert predict(works, Capacity(jobs=8))[0] == result.after


def test_aligned_stages_keep_equal_numbers() -> None:
    """What one needs of the other is the same split."""
    plan = plan_of("a*", "b*", splits="2", needs={"b": ["=a"]})
    summaries = {"p/a": summary(64.0), "p/b": summary(32.0)}
    result = tune(plan, summaries, Capacity(jobs=8), MACHINE, no_hardware)
    assert suggestion(result) == {"p/a": 8, "p/b": 8}
    assert result.reason == "as given"


def test_stages_without_data_stay() -> None:
    """Nothing is suggested for what was never run."""
    plan = plan_of("a*", "b*", splits="2")
    result = tune(plan, {"p/a": summary(64.0)}, Capacity(jobs=8), MACHINE, no_hardware)
    a, b = result.stages
    assert (b.splits, b.vcpus, b.memory_mib, b.samples) == ((2, 2), None, None, 0)
    assert a.samples == 4


@pytest.mark.parametrize(
    ("busy", "peak_mib", "jobs", "reason"),
    [
        (10.0, 100, 8, "a target keeps 1.0 of 8 CPUs busy"),
        (5.0, 100, 16, "a target keeps 0.5 of 8 CPUs busy"),
        (40.0, 100, 2, "a target keeps 4.0 of 8 CPUs busy"),
        (200.0, 100, 1, "a target keeps 20.0 of 8 CPUs busy"),
        (0.001, 100, 32, "a target keeps 0.0 of 8 CPUs busy"),
        (10.0, 4000, 4, "the largest target takes 4,000 of 16,000 MiB"),
        (10.0, 40000, 1, "the largest target takes 40,000 of 16,000 MiB"),
        (None, 100, 8, "one per CPU (8)"),
    ],
)
def test_parallel_targets(busy: float | None, peak_mib: int, jobs: int, reason: str) -> None:
    """As many as keep the CPUs busy and fit into the memory."""
    one = summary(40.0, busy=busy, peak_mib=peak_mib)
    assert choose_jobs({"p/a": one}, MACHINE) == (jobs, reason)


def test_memory_and_cpus_have_room() -> None:
    """A quarter more memory than the largest target took, in steps."""
    one = summary(40.0, busy=19.0, peak_mib=100)
    result = tune(plan_of("a*"), {"p/a": one}, Capacity(), MACHINE, no_hardware)
    assert (result.stages[0].vcpus, result.stages[0].memory_mib) == (2, 128)


def test_jobs_of_their_own_are_not_short() -> None:
    """Each takes about a minute to start; one that the user wants shorter stays so."""
    plan = plan_of("a*", "b*", splits="2")
    summaries = {"p/a": summary(600.0, 40), "p/b": summary(40.0, 40)}
    result = tune(plan, summaries, Capacity(), None, no_hardware)
    assert suggestion(result) == {"p/a": 10, "p/b": 2}
    assert result.reason == "each target has its own machine"
    narrow = tune(plan, summaries, Capacity(), None, lambda *_: Hardware(width=3))
    assert narrow.after > 3 * result.after


def test_no_suggestion_is_slower() -> None:
    """On random pipelines; and a suggestion that changes nothing predicts the same."""
    for seed in range(20):
        rng = random.Random(seed)
        plan = plan_of("a*", "b*", "c", splits=str(rng.randint(1, 12)))
        summaries = {f"p/{name}": summary(rng.uniform(1, 100)) for name in "abc"}
        jobs = rng.choice([None, 1, 3, 8])
        result = tune(plan, summaries, Capacity(jobs=jobs), MACHINE, no_hardware)
        assert result.after <= result.before
        is_same = all(a.splits is None or a.splits[0] == a.splits[1] for a in result.stages)
        assert is_same == (result.after == result.before)
