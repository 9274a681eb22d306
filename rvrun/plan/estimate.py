"""Estimate how long targets would take, and what they would cost, from what others took. Pure.

The same plan, summaries, prices and limits give the same estimate on every machine: what looks
random is drawn from generators with fixed seeds. There is no number without data.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence

import attrs

from rvrun.model import Plan, Stage
from rvrun.plan.durations import Rates, StageSummary
from rvrun.plan.schedule import Capacity, Schedule, Work, critical_path, schedule

#: How often a schedule is made: with durations in several orders, and with random durations.
NUM_ORDERS, NUM_RANDOM = 5, 40
#: Targets that are scheduled at most for an estimate; with more, it is made less often.
MAX_SCHEDULED = 200_000
HOUR = 3600.0


@attrs.frozen(kw_only=True)
class Hardware:
    """What a target runs on, as far as it is known.

    - `instance`, `count`: the type and the number of its instances, if it has them to itself.
    - `is_spot`: whether it has the price of spot machines.
    - `width`: how many targets of the stage run in parallel at most; None for no limit.
    """

    instance: str | None = None
    count: int = 1
    vcpus: int | None = None
    gpus: int | None = None
    memory_mib: int | None = None
    is_spot: bool = False
    width: int | None = None


@attrs.frozen(kw_only=True)
class Prices:
    """Prices per hour, of instances by type, and of parts of machines; None if not set."""

    instances: Mapping[str, float] = attrs.field(factory=dict)
    vcpu: float | None = None
    gpu: float | None = None
    gib: float | None = None
    spot_factor: float = 1.0
    currency: str = "$"

    @property
    def are_set(self) -> bool:
        """Whether anything has a price."""
        return bool(self.instances) or (self.vcpu, self.gpu, self.gib) != (None, None, None)

    def of(self, hardware: Hardware) -> float | None:
        """Return the price of an hour; None if it is not known completely."""
        factor = self.spot_factor if hardware.is_spot else 1.0
        if hardware.instance is not None:
            price = self.instances.get(hardware.instance)
            return None if price is None else price * hardware.count * factor
        gib = None if hardware.memory_mib is None else hardware.memory_mib / 1024
        parts = ((self.vcpu, hardware.vcpus), (self.gib, gib), (self.gpu, hardware.gpus))
        priced = [(price, amount) for price, amount in parts if price is not None]
        if not priced or any(amount is None for _, amount in priced):
            return None
        return sum(price * (amount or 0) for price, amount in priced) * factor


@attrs.frozen(kw_only=True)
class StageWork:
    """A stage of which something would run, with what is known of it.

    - `indices`: the targets that run. `hour`: the price of an hour of one; None if unknown.
    - `items`: how many items its splits share out; None if unknown, or if no rate of an item is.
    - `parts`: which part of its share a target has left to do, by index; all of it if missing.
    """

    name: str
    stage: Stage
    indices: Sequence[int]
    summary: StageSummary | None
    hardware: Hardware = Hardware()
    hour: float | None = None
    items: int | None = None
    parts: Mapping[int, float] = attrs.field(factory=dict)

    def amount(self, index: int) -> float:
        """Return the units that a target has to do: items, or a part of the stage."""
        num_splits, part = self.stage.num_splits or 1, self.parts.get(index, 1.0)
        if self.items is None:
            return part / num_splits
        size, larger = divmod(self.items, num_splits)
        return part * (size + (index < larger))

    @property
    def rates(self) -> Rates | None:
        if self.summary is None:
            return None
        return self.summary.by_split if self.items is None else self.summary.by_item


@attrs.frozen(kw_only=True)
class StageEstimate:
    """What the targets of a stage take together, in seconds, and cost.

    - `seconds`: None without data. `cost`: None without data or price.
    - `targets`: how many would run. `samples`: of how many others that is known. `source`: where
      these are recorded. `unit`: what was counted, `item` or `split`.
    """

    name: str
    targets: int
    seconds: float | None = None
    gpu_seconds: float = 0.0
    cost: float | None = None
    samples: int = 0
    unit: str = ""
    source: str = ""


@attrs.frozen(kw_only=True)
class Estimate:
    """An estimate of work.

    - `makespan`, `makespan_p90`: seconds until all is done; None without data of any stage.
    - `cost`, `cost_p90`: None if no stage has data and a price.
    - `critical_path`: the stages on which the makespan depends.
    - `has_prices`: whether costs were asked for, by prices in the settings.
    """

    stages: tuple[StageEstimate, ...]
    jobs: int | None
    has_prices: bool = False
    makespan: float | None = None
    makespan_p90: float | None = None
    cost: float | None = None
    cost_p90: float | None = None
    currency: str = "$"
    critical_path: tuple[str, ...] = ()

    @property
    def without_data(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages if stage.seconds is None)

    @property
    def without_price(self) -> tuple[str, ...]:
        """The stages with data but without a price; none if no prices are set."""
        timed = [stage for stage in self.stages if stage.seconds is not None]
        return tuple(s.name for s in timed if s.cost is None) if self.has_prices else ()

    @property
    def gpu_seconds(self) -> float:
        return sum(stage.gpu_seconds for stage in self.stages)


def stage_works(
    plan: Plan,
    indices: Mapping[str, Sequence[int]],
    summaries: Mapping[str, StageSummary],
    prices: Prices,
    find_hardware: Callable[[str, Stage], Hardware],
    *,
    parts: Mapping[str, Mapping[int, float]] | None = None,
) -> list[StageWork]:
    """Return the stages of which something runs, with what is known of each.

    - `indices`: the targets that run, by the stage's name.
    - `find_hardware`: what a target of a stage, such as `tiny/chip`, runs on.
    - `parts`: as in `StageWork`, by the stage's name.
    """
    works = []
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            name = f"{pipeline.name}/{stage.command}"
            if not (chosen := indices.get(name)):
                continue
            summary, hardware = summaries.get(name), find_hardware(name, stage)
            items = num_items(stage) if summary is not None and summary.by_item else None
            works.append(
                StageWork(
                    name=name,
                    stage=stage,
                    indices=chosen,
                    summary=summary,
                    hardware=hardware,
                    hour=prices.of(hardware),
                    items=items,
                    parts=(parts or {}).get(name, {}),
                )
            )
    return works


def num_items(stage: Stage) -> int | None:
    """Return how many items the splits of a stage share out; None if the plan does not tell."""
    return None if stage.items is None else stage.items.count


def estimate(
    works: Sequence[StageWork], capacity: Capacity, prices: Prices, *, has_gaps: bool = True
) -> Estimate:
    """Estimate how long work takes, and what it costs.

    - `prices`: those of the works.
    - `has_gaps`: whether targets start as long after others as they did before.
    """
    stages = tuple(_estimate_stage(work) for work in works)
    if all(stage.seconds is None for stage in stages):
        return Estimate(
            stages=stages,
            jobs=capacity.jobs,
            currency=prices.currency,
            has_prices=prices.are_set,
        )
    targets = sum(len(work.indices) for work in works)
    scale = min(1.0, MAX_SCHEDULED / (targets * (NUM_ORDERS + NUM_RANDOM)))
    num_orders = max(1, round(NUM_ORDERS * scale))
    makespan, path = predict(works, capacity, num_orders, has_gaps=has_gaps)
    random_makespans, costs = [], []
    for seed in range(max(2, round(NUM_RANDOM * scale))):
        drawn = [_draw(work, seed) for work in works]
        random_makespans.append(_schedule(works, drawn, capacity, has_gaps=has_gaps)[1].makespan)
        costs.append(_cost(works, drawn))
    priced = [stage.cost for stage in stages if stage.cost is not None]
    cost = sum(priced) if priced else None
    return Estimate(
        stages=stages,
        jobs=capacity.jobs,
        makespan=makespan,
        makespan_p90=max(makespan, _p90(random_makespans)),
        cost=cost,
        cost_p90=None if cost is None else max(cost, _p90(costs)),
        currency=prices.currency,
        critical_path=path,
        has_prices=prices.are_set,
    )


def predict(
    works: Sequence[StageWork], capacity: Capacity, num_orders: int = 1, *, has_gaps: bool = True
) -> tuple[float, tuple[str, ...]]:
    """Return the makespan of work, and its critical path.

    - `num_orders`: in how many orders the durations of a stage's targets are tried.
    """
    makespans = []
    for seed in range(num_orders):
        drawn = [_spread_out(work, seed) for work in works]
        scheduled = _schedule(works, drawn, capacity, has_gaps=has_gaps)
        makespans.append(scheduled[1].makespan)
    return statistics.median(makespans), critical_path(*scheduled)


def _p90(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(0.9 * len(values)) - 1]


def _estimate_stage(work: StageWork) -> StageEstimate:
    if work.rates is None or work.summary is None:
        return StageEstimate(name=work.name, targets=len(work.indices))
    seconds = sum(_spread_out(work, 0).values())
    gpus = work.hardware.gpus or (1 if work.stage.gpu else 0)
    return StageEstimate(
        name=work.name,
        targets=len(work.indices),
        seconds=seconds,
        gpu_seconds=seconds * gpus,
        cost=None if work.hour is None else seconds / HOUR * work.hour,
        samples=work.summary.targets,
        unit="split" if work.items is None else "item",
        source=work.summary.source,
    )


def _spread_out(work: StageWork, seed: int) -> dict[int, float]:
    """Durations as they were distributed, one for each target, in some order."""
    rates, summary = work.rates, work.summary
    if rates is None or summary is None:
        return dict.fromkeys(work.indices, 0.0)
    number = len(work.indices)
    positions = [(index + 0.5) / number for index in range(number)]
    _generator(work, "order", seed).shuffle(positions)
    amounts = [work.amount(index) for index in work.indices]
    seconds = rates.seconds(zip(amounts, positions, strict=True), summary.targets)
    # Together they take what the same work took before, however it is shared out.
    total = rates.mean * sum(amounts) + rates.fixed * sum(amount > 0 for amount in amounts)
    factor = total / sum(seconds) if sum(seconds) else 1.0
    return {i: took * factor for i, took in zip(work.indices, seconds, strict=True)}


def _draw(work: StageWork, seed: int) -> dict[int, float]:
    """Random durations: each target's, and the mean of all, which few records tell badly."""
    rates, summary = work.rates, work.summary
    if rates is None or summary is None:
        return dict.fromkeys(work.indices, 0.0)
    generator, number = _generator(work, "draw", seed), summary.targets
    factor = max(0.1, 1 + generator.gauss(0, 1) * rates.spread(number) / math.sqrt(number))
    # Neither 0 nor 1, which would be as far from the mean as possible.
    pairs = [(work.amount(index), 1 - generator.random() or 0.5) for index in work.indices]
    seconds = rates.seconds(pairs, number)
    return {i: took * factor for i, took in zip(work.indices, seconds, strict=True)}


def _generator(work: StageWork, use: str, seed: int) -> random.Random:
    # Strings are hashed with SHA-512, so the numbers are the same in every process.
    return random.Random(f"{work.name} {use} {seed}")  # noqa: S311 - not for security


def _schedule(
    works: Sequence[StageWork],
    drawn: Sequence[Mapping[int, float]],
    capacity: Capacity,
    *,
    has_gaps: bool,
) -> tuple[list[Work], Schedule]:
    capacity = attrs.evolve(capacity, millicpus=_millicpus(works) if has_gaps else None)
    interval = _interval(works) if has_gaps else 0.0
    scheduled = []
    for work, seconds in zip(works, drawn, strict=True):
        gap = work.summary.gap if work.summary and has_gaps else 0.0
        resources = work.stage.resources
        scheduled.append(
            Work(
                name=work.name,
                seconds={index: took + gap for index, took in seconds.items()},
                interval=interval,
                needs=work.stage.needs,
                width=work.hardware.width,
                gpu_slots=int(work.stage.gpu),
                vcpus=resources.vcpus or 0,
                memory_mib=resources.memory_mib or 0,
                busy_millicpus=_busy(work, capacity),
            )
        )
    return scheduled, schedule(scheduled, capacity)


def _interval(works: Sequence[StageWork]) -> float:
    """The seconds between two starts: of all stages together, as no stage changes them."""
    pairs = [(s.interval, s.targets) for work in works if (s := work.summary)]
    total = sum(targets for _, targets in pairs)
    return sum(interval * targets for interval, targets in pairs) / total if total else 0.0


def _millicpus(works: Sequence[StageWork]) -> int | None:
    """The CPUs of the machine of the records, in thousandths: the durations are of that machine."""
    numbers = [s.machine_cpus for work in works if (s := work.summary) and s.machine_cpus]
    return 1000 * max(numbers) if numbers else None


def _busy(work: StageWork, capacity: Capacity) -> int:
    """What a target keeps busy of the CPUs, in thousandths; 0 where all jobs together fit."""
    cpus = work.summary.mean_cpus if work.summary else None
    busy = round(1000 * cpus) if cpus and capacity.millicpus else 0
    is_enough = capacity.jobs is not None and busy * capacity.jobs <= (capacity.millicpus or 0)
    return 0 if is_enough else busy


def _cost(works: Sequence[StageWork], drawn: Sequence[Mapping[int, float]]) -> float:
    pairs = zip(works, drawn, strict=True)
    return sum(sum(d.values()) / HOUR * work.hour for work, d in pairs if work.hour is not None)
