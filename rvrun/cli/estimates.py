"""Estimates of what would run: where the data, the prices and the limits come from."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rvrun.cli.messages import say
from rvrun.cpus import num_cpus
from rvrun.inputs import CannotRead, read_text
from rvrun.plan.durations import StageSummary
from rvrun.plan.estimate import Estimate, Prices, estimate, stage_works
from rvrun.plan.schedule import Capacity
from rvrun.plan.summaries import NotSummaries, summaries_from_json
from rvrun.rundir.durations import summarize_records
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.times import NOW
from rvrun.runners.hardware import find_hardware
from rvrun.runners.registry import find_runner
from rvrun.settings.schema import MachineSettings, Settings
from rvrun.settings.sources import project_folder

if TYPE_CHECKING:
    from rvrun.model import Plan, Stage
    from rvrun.plan.estimate import Hardware
    from rvrun.prepare import Prepared

#: The file with summaries of records, in the project's directory.
FILE = "estimates.json"


def estimate_plan(
    prepared: Prepared,
    statuses: Sequence[StageStatus],
    jobs: int | None,
    run_dirs: Sequence[pathlib.Path],
) -> Estimate:
    """Estimate what would run of a plan in its run directory as it is now.

    - `run_dirs`: those with records, as in `estimate_stages`.
    """
    indices = {status.name: status.stale for status in statuses}
    parts = {status.name: unfinished_parts(status) for status in statuses}
    run = prepared.run
    return estimate_stages(
        run.plan, indices, run.settings, prepared.runners[0], jobs, run_dirs, parts
    )


def unfinished_parts(status: StageStatus) -> dict[int, float]:
    """Return which part of its items each split that would run has left to do."""
    if status.items is None:
        return {}
    times = status.items.times
    shares = {index: status.items.shares[index] for index in status.stale}
    return {
        index: sum(time_ns >= NOW for time_ns in times[part.start : part.stop]) / len(part)
        for index, part in shares.items()
        if part
    }


def estimate_changed(
    plan: Plan,
    names: Iterable[str],
    settings: Settings,
    runner: str,
    jobs: int | None,
    run_dirs: Sequence[pathlib.Path],
) -> Estimate:
    """Estimate all targets of the stages of a plan that a change affects."""
    sizes = {f"{p.name}/{s.command}": s.num_targets for p in plan.pipelines for s in p.stages}
    indices = {name: range(sizes[name]) for name in names}
    return estimate_stages(plan, indices, settings, runner, jobs, run_dirs)


def estimate_stages(
    plan: Plan,
    indices: Mapping[str, Sequence[int]],
    settings: Settings,
    runner: str,
    jobs: int | None,
    run_dirs: Sequence[pathlib.Path],
    parts: Mapping[str, Mapping[int, float]] | None = None,
) -> Estimate:
    """Estimate targets of a plan.

    - `indices`: of the targets that run, by stage.
    - `run_dirs`: whose records come before the file of estimates, the most important first.
    - `parts`: of its share that a target has left to do, by stage and index.
    """
    module = find_runner(runner)

    def hardware(name: str, stage: Stage) -> Hardware:
        return find_hardware(module, settings, name, stage)

    summaries = read_summaries(settings, run_dirs)
    prices = prices_of(settings)
    works = stage_works(plan, indices, summaries, prices, hardware, parts=parts)
    is_detached = module.CAPABILITIES.detached
    capacity = Capacity(jobs=jobs) if is_detached else capacity_of(settings, jobs)
    return estimate(works, capacity, prices, has_gaps=not is_detached)


def prices_of(settings: Settings) -> Prices:
    """Return the prices in the settings."""
    prices = settings.prices
    return Prices(
        instances=prices.instances,
        vcpu=prices.vcpu_hour,
        gpu=prices.gpu_hour,
        gib=prices.gib_hour,
        spot_factor=prices.spot_factor,
        currency=prices.currency,
    )


def capacity_of(settings: Settings, jobs: int | None) -> Capacity:
    """Return what targets on one machine share, as far as options and settings tell.

    What this machine has besides does not count, so that all machines estimate the same.
    """
    machine = settings.of(MachineSettings)
    return Capacity(
        jobs=jobs or machine.jobs or num_cpus(),
        gpu_slots=machine.gpu_slots or len(machine.gpus) or None,
        vcpus=machine.vcpus,
        memory_mib=machine.memory_mib,
    )


def read_summaries(settings: Settings, run_dirs: Iterable[pathlib.Path]) -> dict[str, StageSummary]:
    """Return what is known of each stage: from the first run directory that has it, or the file.

    Raises `NotSummaries`.
    """
    summaries = read_file(settings)
    for run_dir in reversed(list(run_dirs)):
        summaries |= summarize_records(run_dir)
    return summaries


def file_of(settings: Settings) -> str:
    """Return the path of the file of estimates, which need not exist."""
    return os.path.relpath(settings.estimates or os.path.join(project_folder(), FILE))


def read_file(settings: Settings) -> dict[str, StageSummary]:
    """Read the file of estimates, which may be missing unless a setting names it.

    Raises `NotSummaries`.
    """
    path = file_of(settings)
    if settings.estimates is None and not os.path.lexists(path):
        return {}
    try:
        return summaries_from_json(read_text(path), path)
    except CannotRead as error:
        raise NotSummaries(path, f"it {error.problem}") from None


def print_estimate(result: Estimate, sign: str = "") -> None:
    """Print an estimate for people: a row for each stage, and the sum."""
    from rvrun.cli.tables import Column, print_table
    from rvrun.plan.estimate_formats import HEADINGS, headline, rows

    columns = [
        Column(heading, is_right=0 < place < 4, wraps=place == 4)
        for place, heading in enumerate(HEADINGS)
    ]
    table = rows(result)
    kept = [place for place in range(len(columns)) if any(row[place] for row in table)]
    if table:
        print()
        print_table([columns[i] for i in kept], [[row[i] for i in kept] for row in table])
    print(f"estimate: {headline(result, sign)}")
    if len(result.without_data) == len(result.stages) > 0:
        say("run it once, or add estimates.json, which `rvrun records summary` writes")
    elif result.without_price and result.cost is None:
        say(
            "no stage has a price: set the price of its instance in [prices.instances], or declare "
            "what has a price (`vcpus`, `memory_mib`, `gpus`) in its `resources`"
        )
