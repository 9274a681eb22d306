"""`rvrun tune`: splits, parallel targets, CPUs and memory, from the records of earlier runs."""

from __future__ import annotations

import functools
import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rvrun.cli.messages import say, warn
from rvrun.cli.options import (
    Args,
    AsJson,
    BadOption,
    Commands,
    Config,
    Out,
    Splits,
    check_jobs,
    make_request,
    option,
)
from rvrun.cli.tables import Column, print_table
from rvrun.plan.schedule import Capacity
from rvrun.plan.tune import Advice, Machine, Tuning
from rvrun.plugins import runner_names
from rvrun.runners.registry import DEFAULT
from rvrun.text import duration, enumerate_names

if TYPE_CHECKING:
    from rvrun.prepare import Prepared

COLUMNS = (
    Column("stage"),
    Column("splits", is_right=True),
    Column("vcpus", is_right=True),
    Column("memory_mib", is_right=True),
    Column("based on"),
)
TunedRunner = Annotated[
    str,
    option(
        "--runner",
        metavar="NAME",
        help=f"Tune for this runner; default: {DEFAULT}.",
        autocompletion=runner_names,
    ),
]
Jobs = Annotated[
    int | None,
    option(
        "-j",
        "--jobs",
        metavar="N",
        help="Targets that run in parallel; default: suggest a number for this machine.",
    ),
]


def tune(
    context: typer.Context,
    config: Config,
    commands: Commands = None,
    splits: Splits = None,
    args: Args = None,
    out: Out = None,
    runner: TunedRunner = DEFAULT,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Suggest splits, -j, CPUs and memory from earlier runs.

    Uses the records of the run directory, and estimates.json for stages without any. Predicts how
    long all targets take as planned and as suggested, and shows the critical path.

    - `rvrun tune my_config.py --splits 8`
    """
    from rvrun.cli.estimates import read_summaries
    from rvrun.plan.tune import tune as suggest
    from rvrun.prepare import prepare_plan
    from rvrun.runners.hardware import find_hardware

    check_jobs(jobs, is_estimate=True)
    request = make_request(
        context, config=config, runner=runner, commands=commands, splits=splits, args=args, out=out
    )
    prepared = prepare_plan(request)
    warn(*prepared.warnings)
    run = prepared.run
    summaries = read_summaries(run.settings, [run.run_dir])
    known_stages = {f"{p.name}/{s.command}" for p in run.plan.pipelines for s in p.stages}
    summaries = {name: item for name, item in summaries.items() if name in known_stages}
    if not summaries:
        raise BadOption(
            f"neither {run.out} nor estimates.json has records of these stages; run the config once"
        )
    machine, capacity = _limits(prepared, jobs)
    hardware = functools.partial(find_hardware, prepared.runner, run.settings)
    result = suggest(run.plan, summaries, capacity, machine, hardware)
    if as_json:
        print(json.dumps(to_dict(result), indent=2, ensure_ascii=False))
        return
    print_tuning(result)
    words = ["rvrun", "run", runner, config, *(commands or [])]
    options = ["--out", out] if out else []
    say(f"to use this: {command_line(result, words, options, args)}")


def _limits(prepared: Prepared, jobs: int | None) -> tuple[Machine | None, Capacity]:
    """The machine that targets share, None if they share none, and what limits how many run."""
    from rvrun.cli.estimates import capacity_of
    from rvrun.settings.schema import MachineSettings
    from rvrun.worker.machine import limits_of

    if prepared.runner.CAPABILITIES.detached:
        return None, Capacity(jobs=jobs)
    settings = prepared.run.settings
    cpus, memory = limits_of(settings.of(MachineSettings))
    slots = capacity_of(settings, jobs).gpu_slots
    capacity = Capacity(jobs=jobs, gpu_slots=slots, vcpus=cpus, memory_mib=memory)
    return Machine(cpus=cpus, memory_mib=memory), capacity


def print_tuning(result: Tuning) -> None:
    """Print a row for each stage, then the makespan and the critical path."""
    print_table(COLUMNS, [_row(advice) for advice in result.stages])
    at = "" if result.jobs is None else f" at -j{result.jobs} ({result.reason})"
    if any(advice.splits and advice.splits[0] != advice.splits[1] for advice in result.stages):
        after = f"{duration(result.after)} as suggested"
        print(f"estimate{at}: {duration(result.before)} as planned, {after}")
    else:
        print(f"estimate{at}: {duration(result.before)}; no other numbers of splits are faster")
    print(f"critical path: {' → '.join(result.critical_path)}")
    missing = [advice.name for advice in result.stages if not advice.samples]
    if missing:
        print(f"no data, so not part of these times: {enumerate_names(missing)}")


def _row(advice: Advice) -> tuple[str, ...]:
    resources = advice.resources
    return (
        advice.name,
        "" if advice.splits is None else _change(*advice.splits),
        _change(resources.vcpus, advice.vcpus),
        _change(resources.memory_mib, advice.memory_mib),
        f"{advice.samples:,} target{'' if advice.samples == 1 else 's'}"
        if advice.samples
        else "no data",
    )


def _change(old: int | None, new: int | None) -> str:
    if new is None or old == new:
        return "" if old is None else f"{old:,}"
    return f"{new:,}" if old is None else f"{old:,} → {new:,}"


def command_line(result: Tuning, words: list[str], options: list[str], args: Any) -> str:
    """Return the command line that runs what is suggested.

    - `words`: how it begins, up to its arguments. `options`: more of them.
    """
    pipelines = {advice.name.partition("/")[0] for advice in result.stages}
    for advice in result.stages:
        if advice.splits is not None and advice.splits != (1, 1):
            command = advice.name.partition("/")[2] if len(pipelines) == 1 else advice.name
            words = [*words, "--splits", f"{command}={advice.splits[1]}"]
    pairs = [word for pair in args or () for word in ("-a", *pair)]
    jobs = [f"-j{result.jobs}"] if words[2] == DEFAULT and result.jobs is not None else []
    return shlex.join([*words, *pairs, *options, *jobs])


def to_dict(result: Tuning) -> dict[str, Any]:
    """Return the suggestions as JSON values."""
    return {
        "rvrun_tuning": 1,
        "jobs": result.jobs,
        "reason": result.reason,
        "seconds": round(result.before, 3),
        "seconds_suggested": round(result.after, 3),
        "critical_path": list(result.critical_path),
        "stages": [
            {
                "name": advice.name,
                "splits": None if advice.splits is None else advice.splits[0],
                "splits_suggested": None if advice.splits is None else advice.splits[1],
                "vcpus": advice.resources.vcpus,
                "vcpus_suggested": advice.vcpus,
                "memory_mib": advice.resources.memory_mib,
                "memory_mib_suggested": advice.memory_mib,
                "samples": advice.samples,
            }
            for advice in result.stages
        ],
    }
