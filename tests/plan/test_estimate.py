"""Estimates: 20 random pipelines, and what an estimate may never do."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import attrs
import pytest

from rvrun.model import Plan, Resources, Stage
from rvrun.pipelines.base import share
from rvrun.plan import estimate as module
from rvrun.plan.compile import compile_plan
from rvrun.plan.durations import Rates, Sample, StageSummary, summarize
from rvrun.plan.estimate import Hardware, Prices, estimate, stage_works
from rvrun.plan.estimate_formats import headline, money, rows, to_dict, to_markdown
from rvrun.plan.schedule import Capacity, Work, schedule
from rvrun.plan.splits import parse_splits
from tests.build import pipeline
from tests.conftest import Project

NO_PRICES = Prices()


def everything(plan: Plan) -> dict[str, Sequence[int]]:
    return {f"{p.name}/{s.command}": range(s.num_targets) for p in plan.pipelines for s in p.stages}


def hardware(name: str, stage: Stage) -> Hardware:
    return Hardware(vcpus=stage.resources.vcpus, memory_mib=stage.resources.memory_mib, gpus=1)


def estimated(
    plan: Plan,
    summaries: Mapping[str, StageSummary],
    jobs: int | None = 2,
    prices: Prices = NO_PRICES,
) -> module.Estimate:
    works = stage_works(plan, everything(plan), summaries, prices, hardware)
    return estimate(works, Capacity(jobs=jobs), prices)


class Truth:
    """A random pipeline whose items take random times, of which records show only sums."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.names = [f"c{number}" for number in range(rng.randint(2, 6))]
        self.split = {name: rng.random() < 0.7 for name in self.names} | {"c0": True}
        self.needs = {
            name: rng.sample(self.names[:i], min(i, rng.randint(1, 2)))
            for i, name in enumerate(self.names)
        }
        number = rng.randint(20, 80)
        # Skewed, as real durations are: most items are quick, a few take many times as long.
        self.items = {
            name: [rng.lognormvariate(0, 0.8) for _ in range(2 * number)] for name in self.names
        }
        self.whole = {name: rng.uniform(2, 20) for name in self.names}

    def plan(self, splits: int) -> Plan:
        marked = [f"{name}*" if self.split[name] else name for name in self.names]
        declared = pipeline("p", *marked, needs=self.needs)
        return compile_plan([declared], splits=parse_splits([str(splits)]))

    def durations(self, stage: Stage, num_items: int) -> dict[int, float]:
        if stage.num_splits is None:
            return {0: self.whole[stage.command]}
        items = self.items[stage.command][:num_items]
        return {
            index: sum(share(items, index, stage.num_splits)) for index in range(stage.num_splits)
        }

    def makespan(self, plan: Plan, num_items: int, jobs: int) -> float:
        works = [
            Work(name=f"p/{s.command}", seconds=self.durations(s, num_items), needs=s.needs)
            for s in plan.pipelines[0].stages
        ]
        return schedule(works, Capacity(jobs=jobs)).makespan

    def summaries(self, plan: Plan, num_items: int, *, items: bool) -> dict[str, StageSummary]:
        summaries = {}
        for stage in plan.pipelines[0].stages:
            number = stage.num_splits or 1
            samples = [
                Sample(
                    seconds=seconds,
                    splits=number,
                    items=len(share(range(num_items), index, number))
                    if items and stage.num_splits
                    else None,
                )
                for index, seconds in self.durations(stage, num_items).items()
            ]
            summary = summarize(samples, "runs/p")
            assert summary is not None
            summaries[f"p/{stage.command}"] = summary
        return summaries


def median_error(choose_items: Callable[[random.Random, int], int], *, items: bool) -> float:
    """Print the errors of predictions for other splits, -j and items; return their median.

    Of the 20, at least 15 take no longer than the p90.
    """
    errors, num_within = [], 0
    for seed in range(20):
        truth, rng = Truth(seed), random.Random(f"choices {seed}")
        recorded, jobs = rng.randint(3, 12), rng.randint(2, 8)
        number = len(truth.items["c0"]) // 2
        summaries = truth.summaries(truth.plan(recorded), number, items=items)
        splits, other_items = rng.randint(1, 24), choose_items(rng, number)
        plan = truth.plan(splits)
        works = stage_works(plan, everything(plan), summaries, NO_PRICES, hardware)
        if items:
            works = [
                attrs.evolve(w, items=other_items if w.stage.num_splits else None) for w in works
            ]
        result = estimate(works, Capacity(jobs=jobs), NO_PRICES)
        actual, predicted = truth.makespan(plan, other_items, jobs), result.makespan
        assert predicted is not None
        assert result.makespan_p90 is not None
        num_within += actual <= result.makespan_p90
        errors.append(abs(predicted - actual) / actual)
        print(
            f"seed {seed:2}: {recorded:2} → {splits:2} splits, {number:2} → {other_items:3} items, "
            f"-j{jobs}: {predicted:6.1f} s, actual {actual:6.1f} s, error {errors[-1]:4.0%}"
        )
    print(f"median {statistics.median(errors):.1%}, largest {max(errors):.1%}")
    assert num_within >= 15
    return statistics.median(errors)


def test_errors_of_predictions_by_split() -> None:
    """Other splits and -j of the same items."""
    assert median_error(lambda rng, number: number, items=False) <= 0.15


def test_errors_of_predictions_by_item() -> None:
    """Other splits, -j, and half to twice as many items."""
    assert median_error(lambda rng, n: rng.randint(n // 2, 2 * n), items=True) <= 0.15


SUMMARY = summarize([Sample(seconds=s, splits=4) for s in (10, 11, 12, 20)], "runs/p")
PLAN = compile_plan([pipeline("p", "a*", "b", gpu=["b"])], splits=parse_splits(["4"]))


def test_no_number_without_data() -> None:
    """A stage without records is named, and gives no number; without any there is none at all."""
    assert SUMMARY is not None
    some = estimated(PLAN, {"p/a": SUMMARY}, prices=Prices(gpu=1.0))
    assert headline(some).endswith("; no data: p/b")
    assert rows(some)[1] == ("p/b", "1", "", "", "no data")
    none = estimated(PLAN, {}, prices=Prices(gpu=1.0))
    numbers = (none.makespan, none.makespan_p90, none.cost, none.cost_p90)
    assert numbers == (None, None, None, None)
    assert headline(none) == "no data: p/a and p/b"
    document = to_dict(none)
    assert {type(document[key]) for key in ("seconds", "cost", "gpu_hours")} == {type(None)}
    assert headline(estimated(PLAN, {"q/a": SUMMARY})) == "no data: p/a and p/b"


def test_a_stage_of_which_nothing_runs_has_no_estimate() -> None:
    assert SUMMARY is not None
    works = stage_works(PLAN, {"p/a": []}, {"p/a": SUMMARY}, NO_PRICES, hardware)
    assert headline(estimate(works, Capacity(jobs=1), NO_PRICES)) == "nothing would run"


def test_estimates_are_the_same_in_every_process(project: Project) -> None:
    """Whatever the seed of hashes is."""
    assert SUMMARY is not None
    code = "from tests.plan.test_estimate import *; print(json.dumps(to_dict(estimated("
    code += "PLAN, {'p/a': SUMMARY}, prices=Prices(gpu=3.0)))))"
    root = str(module.__file__).rpartition("/rvrun/")[0]
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    own = to_dict(estimated(PLAN, {"p/a": SUMMARY}, prices=Prices(gpu=3.0)))
    assert texts == {f"{json.dumps(own)}\n"}


@pytest.mark.parametrize("jobs", [1, 3, None])
def test_the_p90_is_not_below_the_estimate(jobs: int | None) -> None:
    """On random pipelines; and more jobs take no longer, apart from chance."""
    for seed in range(10):
        truth = Truth(seed)
        summaries = truth.summaries(truth.plan(5), 20, items=False)
        result = estimated(truth.plan(7), summaries, jobs)
        assert result.makespan is not None
        assert result.makespan_p90 is not None
        assert result.makespan <= result.makespan_p90


def test_one_record_is_repeated_exactly() -> None:
    """The same work takes the same time; the p90 assumes some chance, of which nothing is known."""
    summary = summarize([Sample(seconds=8.0, splits=1)], "x")
    assert summary is not None
    for splits, seconds in ((1, 8.0), (4, 2.0)):
        plan = compile_plan([pipeline("p", "a*")], splits=parse_splits([str(splits)]))
        result = estimated(plan, {"p/a": summary}, None)
        assert result.makespan == seconds
        assert 1.05 * seconds < (result.makespan_p90 or 0) < 1.3 * seconds


def test_all_work_in_one_split_takes_its_sum() -> None:
    """What was recorded as several targets takes as long as these did together."""
    truth = Truth(9)
    summaries, whole = truth.summaries(truth.plan(9), 20, items=False), truth.plan(1)
    result = estimated(whole, summaries, 6)
    assert result.makespan == pytest.approx(truth.makespan(whole, 20, 6), rel=0.001)


def test_targets_of_fewer_items_vary_more() -> None:
    """Deviations of a sum grow with the root of the number of summands."""
    rates = Rates(amount=4.0, mean=1.0, quantiles=tuple(0.5 + i / 10 for i in range(11)))
    pairs = [rates.seconds([(n, 1.5 / 11), (n, 9.5 / 11)], 11) for n in (1.0, 4.0, 16.0)]
    spread = [(high - low) / n for (low, high), n in zip(pairs, (1, 4, 16), strict=True)]
    assert spread == pytest.approx([1.6, 0.8, 0.4])
    assert rates.seconds([(0, 0.5)], 11) == [0]


@pytest.mark.parametrize("samples", [2, 5, 40])
def test_more_targets_have_more_extreme_durations(samples: int) -> None:
    """The slowest of many targets takes longer than the slowest of those that were recorded."""
    rates = Rates(amount=1.0, mean=1.0, quantiles=tuple(0.5 + i / 10 for i in range(11)))
    positions = [(i + 0.5) / samples for i in range(samples)]
    seen = rates.seconds([(1.0, position) for position in positions], samples)
    assert (seen[0], seen[-1]) == pytest.approx((0.5, 1.5))
    positions = [(i + 0.5) / 200 for i in range(200)]
    others = rates.seconds([(1.0, position) for position in positions], samples)
    assert others == sorted(others)
    assert 1.5 < others[-1] < 4
    assert others[0] < 0.5


def times(amounts: Sequence[int], fixed: float, rng: random.Random) -> list[Sample]:
    """Targets of so many items each, whose items take random times."""
    seconds = [fixed + sum(rng.lognormvariate(0, 0.5) for _ in range(n)) for n in amounts]
    return [Sample(seconds=s, items=n) for s, n in zip(seconds, amounts, strict=True)]


def test_what_a_target_takes_besides_its_items() -> None:
    """It is known if targets of different sizes were recorded, and else a part of the items."""
    rng = random.Random(1)
    fitted = [summarize(times([4] * 10 + [20] * 4, 8.0, rng)) for _ in range(50)]
    values = [s.by_item.fixed for s in fitted if s and s.by_item]
    assert statistics.median(values) == pytest.approx(8, rel=0.1)
    summary = summarize(times([4] * 10 + [20] * 4, 8.0, rng))
    assert summary is not None
    assert summary.by_item is not None
    assert summary.by_item.mean == pytest.approx(1.13, rel=0.2)
    [one, many] = summary.by_item.seconds([(1.0, 0.5), (100.0, 0.5)], summary.targets)
    assert one < 12
    assert many == pytest.approx(8 + 113, rel=0.2)
    without = [summarize(times([4] * 10 + [20] * 4, 0.0, rng)) for _ in range(50)]
    assert sum(1 for s in without if s and s.by_item and s.by_item.fixed) <= 3
    same = summarize(times([4] * 14, 8.0, rng))
    assert same is not None
    assert same.by_item is not None
    assert same.by_item.fixed == 0


def test_targets_start_one_after_the_other() -> None:
    """However many jobs there are, who starts them needs time for each."""
    summary = summarize([Sample(seconds=1.0, splits=10, interval=0.5)] * 10, "x")
    assert summary is not None
    plan = compile_plan([pipeline("p", "a*")], splits=parse_splits(["10"]))
    works = stage_works(plan, everything(plan), {"p/a": summary}, NO_PRICES, hardware)
    here, there = (
        estimate(works, Capacity(jobs=10), NO_PRICES, has_gaps=gaps).makespan
        for gaps in (True, False)
    )
    assert (here, there) == pytest.approx((5.5, 1.0))


def test_gaps_count_only_on_this_machine() -> None:
    """The time between two targets of a job is part of the makespan, but not of the costs."""
    summary = summarize([Sample(seconds=1.0, splits=2, gap=0.5)] * 2, "x")
    assert summary is not None
    plan = compile_plan([pipeline("p", "a*")], splits=parse_splits(["2"]))
    works = stage_works(plan, everything(plan), {"p/a": summary}, Prices(gpu=3600.0), hardware)
    here, there = (
        estimate(works, Capacity(jobs=1), NO_PRICES, has_gaps=gaps) for gaps in (True, False)
    )
    assert (here.makespan, there.makespan) == (3.0, 2.0)
    assert (here.cost, there.cost) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("busy", "jobs", "seconds"),
    [(1.0, 8, 4.0), (1.0, 2, 4.0), (1.0, 1, 8.0), (0.25, 8, 1.0), (0.5, 8, 2.0), (3.0, 8, 8.0)],
)
def test_targets_share_the_cpus_of_the_recorded_machine(
    busy: float, jobs: int, seconds: float
) -> None:
    """More jobs than its CPUs can serve are not faster; detached targets have a machine each."""
    sample = Sample(seconds=1.0, splits=8, cpu_seconds=busy, machine_cpus=2)
    summary = summarize([sample] * 8, "x")
    assert summary is not None
    plan = compile_plan([pipeline("p", "a*")], splits=parse_splits(["8"]))
    works = stage_works(plan, everything(plan), {"p/a": summary}, NO_PRICES, hardware)
    here = estimate(works, Capacity(jobs=jobs), NO_PRICES)
    assert here.makespan == pytest.approx(seconds)
    there = estimate(works, Capacity(jobs=jobs), NO_PRICES, has_gaps=False)
    assert there.makespan == pytest.approx(8 / jobs)


@pytest.mark.parametrize(
    ("prices", "machine", "hour"),
    [
        (Prices(), Hardware(vcpus=4, gpus=1), None),
        (Prices(vcpu=0.1), Hardware(vcpus=4), 0.4),
        (Prices(vcpu=0.1), Hardware(), None),
        (Prices(vcpu=0.1, gib=0.01), Hardware(vcpus=4), None),
        (Prices(vcpu=0.1, gib=0.01), Hardware(vcpus=4, memory_mib=2048), 0.42),
        (Prices(gpu=2.0), Hardware(gpus=0), 0.0),
        (Prices(instances={"ml.x": 3.0}), Hardware(instance="ml.x", count=2), 6.0),
        (Prices(instances={"ml.x": 3.0}, vcpu=1.0), Hardware(instance="ml.y", vcpus=1), None),
        (Prices(gpu=2.0, spot_factor=0.5), Hardware(gpus=1, is_spot=True), 1.0),
    ],
)
def test_the_price_of_an_hour(prices: Prices, machine: Hardware, hour: float | None) -> None:
    """None where any part of it is unknown."""
    assert prices.of(machine) == (None if hour is None else pytest.approx(hour))


def test_costs_without_a_price_are_named() -> None:
    """A sum that lacks a stage says so, and costs without any; without prices, nobody asked."""
    assert SUMMARY is not None
    both = {"p/a": SUMMARY, "p/b": SUMMARY}
    plan = Plan(
        tuple(
            attrs.evolve(
                p,
                stages=tuple(
                    attrs.evolve(s, resources=Resources(vcpus=4)) if s.command == "a" else s
                    for s in p.stages
                ),
            )
            for p in PLAN.pipelines
        )
    )
    assert estimated(plan, both).without_price == ()
    priced = estimated(plan, both, prices=Prices(vcpu=1.0))
    assert priced.without_price == ("p/b",)
    assert headline(priced).endswith("; no price: p/b")
    unknown = estimated(plan, both, prices=Prices(vcpu=1.0, gib=1.0))
    assert (unknown.cost, unknown.without_price) == (None, ("p/a", "p/b"))
    assert headline(unknown).endswith("); no price")


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "€0.00"), (0.004, "< €0.01"), (0.423, "€0.42"), (12.4, "€12"), (1204.4, "€1,204")],
)
def test_amounts(amount: float, text: str) -> None:
    assert money(amount, "€") == text


def test_markdown_of_an_estimate(golden: Callable[[str, str], None]) -> None:
    """The comment on a pull request."""
    assert SUMMARY is not None
    summaries = {"p/a": attrs.evolve(SUMMARY, source="estimates.json")}
    result = estimated(PLAN, summaries, 8, Prices(gpu=120.0))
    golden("estimate.md", to_markdown(result, "+"))
    golden("estimate.json", json.dumps(to_dict(result), indent=2, ensure_ascii=False) + "\n")


def test_large_plans_are_estimated_quickly() -> None:
    """The number of schedules falls with their size."""
    assert SUMMARY is not None
    plan = compile_plan([pipeline("p", "a*")], splits=parse_splits(["100000"]))
    result = estimated(plan, {"p/a": SUMMARY}, 1000)
    assert result.makespan is not None
