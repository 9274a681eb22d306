"""Suggest splits, parallel targets, CPUs and memory from what earlier runs needed. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from rvrun.model import NeedKind, Plan, PlannedPipeline, Resources, Stage
from rvrun.plan.durations import StageSummary
from rvrun.plan.estimate import Hardware, Prices, StageWork, num_items, predict, stage_works
from rvrun.plan.schedule import Capacity

#: What is suggested beyond the largest target's memory, and to what MiB it is rounded up.
MEMORY_FACTOR, MEMORY_STEP = 1.25, 64
#: Splits are suggested for these numbers of rounds of parallel targets.
ROUNDS = (1, 2, 3, 4, 6, 8)
#: How much shorter a run must be for another suggestion: less is noise.
WORTH = 0.05
#: How much finer than the recorded splits the suggestions are, where no items are known.
FINER = 4
#: Of targets that are jobs of their own, none shorter than these seconds is suggested: a job takes
#: about as long to start.
LEAST_SECONDS = 60.0
#: Targets that mostly wait may run in this multiple of the number of CPUs.
MAX_PER_CPU = 4


@attrs.frozen(kw_only=True)
class Machine:
    """Where targets run: its CPUs and memory, or what a limit leaves of them."""

    cpus: int
    memory_mib: int


@attrs.frozen(kw_only=True)
class Advice:
    """The suggestion for a stage.

    - `splits`: now and suggested; None if it cannot be split.
    - `vcpus`, `memory_mib`: suggested; None without data.
    """

    name: str
    splits: tuple[int, int] | None
    resources: Resources
    vcpus: int | None
    memory_mib: int | None
    samples: int


@attrs.frozen(kw_only=True)
class Tuning:
    """Suggestions for a plan.

    - `jobs`: how many targets to run in parallel; None without a limit. `reason`: why so many.
    - `before`, `after`: the makespan as planned and as suggested, in seconds, both with `jobs`.
    """

    stages: tuple[Advice, ...]
    jobs: int | None
    reason: str
    before: float
    after: float
    critical_path: tuple[str, ...]


def tune(
    plan: Plan,
    summaries: Mapping[str, StageSummary],
    capacity: Capacity,
    machine: Machine | None,
    find_hardware: Callable[[str, Stage], Hardware],
) -> Tuning:
    """Return suggestions; stages without data keep what they have.

    - `capacity`: its `jobs` are kept, unless they are None and there is a `machine`.
    - `machine`: None if each target has a machine of its own.
    - `find_hardware`: what a target of a stage, such as `tiny/chip`, runs on.
    """
    jobs, reason = capacity.jobs, "as given"
    if machine is None:
        reason = "each target has its own machine" if jobs is None else reason
    elif jobs is None:
        jobs, reason = choose_jobs(summaries, machine)
    limits = attrs.evolve(capacity, jobs=jobs)

    def makespan(candidate: Plan) -> tuple[float, tuple[str, ...]]:
        works = _works(candidate, summaries, find_hardware)
        return predict(works, limits, has_gaps=machine is not None)

    before, _ = makespan(plan)
    least = LEAST_SECONDS if machine is None else 0.0
    better = choose_splits(plan, summaries, jobs, least, lambda other: makespan(other)[0])
    after, path = makespan(better)
    return Tuning(
        stages=tuple(_advise(plan, better, summaries)),
        jobs=jobs,
        reason=reason,
        before=before,
        after=after,
        critical_path=path,
    )


def _works(
    plan: Plan,
    summaries: Mapping[str, StageSummary],
    find_hardware: Callable[[str, Stage], Hardware],
) -> list[StageWork]:
    indices = {
        f"{pipeline.name}/{stage.command}": range(stage.num_targets)
        for pipeline in plan.pipelines
        for stage in pipeline.stages
    }
    return stage_works(plan, indices, summaries, Prices(), find_hardware)


def choose_jobs(summaries: Mapping[str, StageSummary], machine: Machine) -> tuple[int, str]:
    """Return how many targets should run in parallel on a machine, and why.

    So many that they keep its CPUs busy, if the memory is enough for as many of the largest.
    """
    jobs, reason = machine.cpus, f"one per CPU ({machine.cpus})"
    timed = [s for s in summaries.values() if s.cpus is not None]
    seconds = sum(summary.seconds for summary in timed)
    if seconds:
        cpus = sum((s.cpus or 0.0) * s.seconds for s in timed) / seconds
        most = machine.cpus * MAX_PER_CPU
        jobs = max(1, min(most, round(machine.cpus / cpus) if cpus else most))
        reason = f"a target keeps {cpus:.1f} of {machine.cpus} CPUs busy"
    peak = max((summary.peak_memory_mib or 0 for summary in summaries.values()), default=0)
    if peak and jobs * peak > machine.memory_mib:
        jobs = max(1, machine.memory_mib // peak)
        reason = f"the largest target takes {peak:,} of {machine.memory_mib:,} MiB"
    return jobs, reason


def choose_splits(
    plan: Plan,
    summaries: Mapping[str, StageSummary],
    jobs: int | None,
    least_seconds: float,
    makespan: Callable[[Plan], float],
) -> Plan:
    """Return the plan with numbers of splits for which it takes the shortest time.

    - `least_seconds`: how long targets should take at least.

    One group of stages after another; of two numbers that are about as good, the one that is
    planned, or else the smaller one.
    """
    best, shortest = plan, makespan(plan)
    for pipeline in plan.pipelines:
        for group in split_groups(pipeline):
            names = [f"{pipeline.name}/{command}" for command in group]
            if not all(name in summaries for name in names):
                continue
            stages = [pipeline.stage(command) for command in group]
            group_summaries = [summaries[name] for name in names]
            for number in _candidates(stages, group_summaries, jobs, least_seconds):
                candidate = with_splits(best, pipeline.name, group, number)
                if (length := makespan(candidate)) < shortest * (1 - WORTH):
                    best, shortest = candidate, length
    return best


def split_groups(pipeline: PlannedPipeline) -> list[frozenset[str]]:
    """Return the stages that can be split, in groups that must have the same number of splits."""
    groups: dict[str, set[str]] = {s.command: {s.command} for s in pipeline.stages if s.num_splits}
    for stage in pipeline.stages:
        for need in stage.needs:
            if need.kind is NeedKind.ALIGNED:
                merged = groups[stage.command] | groups[need.command]
                groups |= dict.fromkeys(merged, merged)
    return list(dict.fromkeys(frozenset(group) for group in groups.values()))


def _candidates(
    stages: Sequence[Stage],
    summaries: Sequence[StageSummary],
    jobs: int | None,
    least_seconds: float,
) -> list[int]:
    """Numbers of splits that records tell something about, the smallest first."""
    counts = [num_items(stage) for stage in stages]
    recorded = max(round(1 / summary.by_split.amount) for summary in summaries)
    most = min(recorded * FINER if count is None else count for count in counts)
    if least_seconds:
        most = min(most, int(max(s.seconds for s in summaries) / least_seconds))
    parallel = jobs or recorded
    numbers = {1, *(parallel * rounds for rounds in ROUNDS), most}
    return sorted(number for number in numbers if 1 <= number <= max(1, most))


def with_splits(plan: Plan, pipeline: str, commands: frozenset[str], number: int) -> Plan:
    """Return the plan with another number of splits for some commands of a pipeline."""

    def changed(planned: PlannedPipeline) -> PlannedPipeline:
        stages = tuple(
            attrs.evolve(s, num_splits=number) if s.command in commands else s
            for s in planned.stages
        )
        return attrs.evolve(planned, stages=stages) if planned.name == pipeline else planned

    return Plan(tuple(changed(planned) for planned in plan.pipelines))


def _advise(old: Plan, new: Plan, summaries: Mapping[str, StageSummary]) -> Iterator[Advice]:
    for before, after in zip(old.pipelines, new.pipelines, strict=True):
        for stage, other in zip(before.stages, after.stages, strict=True):
            name = f"{before.name}/{stage.command}"
            summary = summaries.get(name)
            pair = (stage.num_splits, other.num_splits)
            yield Advice(
                name=name,
                splits=None if pair[0] is None or pair[1] is None else (pair[0], pair[1]),
                resources=stage.resources,
                vcpus=None if summary is None else _cpus(summary),
                memory_mib=None if summary is None else _memory(summary),
                samples=0 if summary is None else summary.targets,
            )


def _cpus(summary: StageSummary) -> int | None:
    return None if summary.cpus is None else max(1, round(summary.cpus))


def _memory(summary: StageSummary) -> int | None:
    if summary.peak_memory_mib is None:
        return None
    return math.ceil(summary.peak_memory_mib * MEMORY_FACTOR / MEMORY_STEP) * MEMORY_STEP
