"""`rvrun run`: runs what is missing or stale, here or as a detached run."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from rvrun import paths, plugins
from rvrun.cli.messages import say, shown_as, warn
from rvrun.cli.options import (
    DEFAULT_CONFIG,
    Affected,
    AlwaysMake,
    Args,
    BadOption,
    Commands,
    Common,
    Force,
    From,
    Out,
    Runner,
    Splits,
    Templates,
    Until,
    argument,
    make_request,
    option,
    read_common,
)
from rvrun.cli.usage import check_runner, missing
from rvrun.errors import DONE, FAILED
from rvrun.prepare import Prepared, Request, check_local_roots, prepare
from rvrun.rundir.lock import locked
from rvrun.rundir.stamps import forget_stages
from rvrun.runners.registry import as_detached, as_local, find_runner
from rvrun.settings import layers
from rvrun.settings.schema import MachineSettings, key_of
from rvrun.signals import SIGNALLED
from rvrun.text import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvrun.rundir.freshness import StageStatus
    from rvrun.rundir.summary import Outcome
    from rvrun.runners.capabilities import Capabilities
    from rvrun.runners.protocol import LocalRunner
    from rvrun.runners.run import Reporter, Run


OptionalConfig = Annotated[
    str | None,
    argument(
        metavar="[CONFIG]",
        help="As in `rvrun plan`; default: `pipeline.toml` in the current directory. The plan of "
        "`--plan` names its own.",
    ),
]
SavedPlan = Annotated[
    str | None,
    option(
        "--plan",
        metavar="DIR",
        help="Run the plan that `rvrun plan --out DIR` saved, in DIR. Refuse if compiling now "
        "gives anything else.",
    ),
]
Jobs = Annotated[
    int | None,
    option(
        "-j",
        "--jobs",
        metavar="N",
        help="Targets that run in parallel on this machine; default: one per CPU.",
    ),
]
KeepGoing = Annotated[
    bool,
    option("-k", "--keep-going", help="Continue with targets that do not depend on a failed one."),
]
RunName = Annotated[
    str | None,
    option(
        "--run-name",
        "--pipeline-run-name",
        metavar="NAME",
        help="Name of a detached run, at the beginning of its jobs' names; default: the run "
        "directory's. The long name is Raster Vision's.",
    ),
]
Wait = Annotated[
    bool,
    option("--wait", help="Wait until a detached run has ended; exit 1 if a target failed."),
]
DryRun = Annotated[bool, option("--dry-run", help="Show what would run; write and run nothing.")]
Debug = Annotated[bool, option("--pdb", help="Stop in the debugger where a command raises.")]
ShowOutput = Annotated[
    bool | None,
    option(
        "--show-output/--no-show-output",
        help="Also print what targets print while they run, as `TARGET | LINE` if several run in "
        "parallel. Default: only with -j1, else the last lines of the last stage at the end.",
    ),
]
GpuSlots = Annotated[
    int | None,
    option(
        "--gpu-slots",
        metavar="N",
        help="GPU targets that run in parallel on this machine; default: one per GPU, and "
        "without GPUs no limit.",
    ),
]
Warm = Annotated[
    bool | None,
    option(
        "--warm/--no-warm",
        help="Fork targets from a process that has imported their code, where that is possible and "
        "worth it, or start each afresh; default: --warm.",
    ),
]


def run(
    context: typer.Context,
    runner: Runner,
    config: OptionalConfig = None,
    commands: Commands = None,
    splits: Splits = None,
    args: Args = None,
    out: Out = None,
    saved: SavedPlan = None,
    until: Until = None,
    start: From = None,
    forced: Force = None,
    affected: Affected = None,
    jobs: Jobs = None,
    keep_going: KeepGoing = False,
    show_output: ShowOutput = None,
    run_name: RunName = None,
    wait: Wait = False,
    force: AlwaysMake = False,
    dry_run: DryRun = False,
    debug: Debug = False,
    gpu_slots: GpuSlots = None,
    warm: Warm = None,
    templates: Templates = None,
) -> int:
    """Run what is missing or stale.

    Targets run in parallel, and those that are up to date are skipped.

    - `rvrun run local my_config.py --splits 8 -j4`
    - `rvrun run local my_config.py predict eval --splits predict=16 -a root_uri out/run1`
    - `rvrun run local my_config.py --affected origin/main`
    - `rvrun run local --plan plans/big`
    """
    common = read_common(context)
    check_runner(runner, context.command_path)
    check_options(
        runner,
        find_runner(runner).CAPABILITIES,
        detached={"--wait": wait, "--run-name": run_name},
        stamps={"--force": forced},
        local={
            "--jobs": jobs,
            "--gpu-slots": gpu_slots,
            "--show-output": show_output,
            "--warm": warm,
        },
        keep_going=keep_going,
        debug=debug,
    )
    if config is None and saved is None:
        if not os.path.isfile(DEFAULT_CONFIG):
            raise missing("CONFIG", context)
        config = DEFAULT_CONFIG
    check_saved_options(
        saved,
        config,
        {
            "--splits": splits,
            "-a": args,
            "--out": out,
            "--until": until,
            "--from": start,
            "--force": forced,
            "--affected": affected,
            "--templates": templates,
        },
    )
    flags = {"jobs": jobs, "gpu_slots": gpu_slots, "warm": warm}
    request = make_request(
        context,
        config=config or "",
        runner=runner,
        commands=commands,
        splits=splits,
        args=args,
        out=out,
        until=tuple(until or ()),
        start=tuple(start or ()),
        forced=tuple(forced or ()),
        force=force,
        templates=templates,
        flags={
            key_of(MachineSettings, name): flag for name, flag in flags.items() if flag is not None
        },
        keep_going=keep_going,
        debug=debug,
        name=run_name,
    )
    if affected is not None:
        from rvrun.cli.selection import select_affected

        request = select_affected(request, affected)
        if not request.commands:
            return DONE
    prepared = prepare(request) if saved is None else read_saved(saved, request)
    check_local_roots(prepared.run.planned, prepared.runner)
    warn(*prepared.warnings, *prepared.missing_needs(), *prepared.notices())
    if common.verbose:
        print_changed_settings(request)
    if dry_run:
        from rvrun.cli.plan_table import print_plan

        print_plan(prepared)
        return DONE
    if (detached := as_detached(prepared.runner)) is not None:
        from rvrun.cli.submit import submit

        return submit(prepared, detached, common, wait=wait)
    local = as_local(prepared.runner)
    assert local is not None, "a runner is detached or local"
    return run_here(prepared, local, common, show_output=show_output)


def check_options(
    runner: str,
    capabilities: Capabilities,
    *,
    detached: dict[str, object],
    local: dict[str, object],
    stamps: dict[str, object],
    keep_going: bool,
    debug: bool,
) -> None:
    """Refuse options that the runner cannot follow. Raises `BadOption`.

    - `detached`, `local`, `stamps`: the values of the options for only these runners, by option.
    """
    wrong, kind, fact = (
        (local, "runners on this machine", "runs are detached")
        if capabilities.detached
        else (detached, "detached runners", "runs on this machine")
    )
    for name, value in wrong.items():
        if value:
            raise BadOption(f"`{name}` only works with {kind}; `{runner}` {fact}")
    for name, value in stamps.items():
        if value and not capabilities.keeps_stamps:
            raise BadOption(
                f"`{name}` only works with runners that skip what is up to date; `{runner}` runs "
                "all that is selected"
            )
    if keep_going and not capabilities.keeps_going:
        names = runners_with("keeps_going")
        raise BadOption(
            f"`--keep-going` requires a runner that supports it ({names}); `{runner}` cannot"
        )
    if debug and not capabilities.has_debugger:
        names = runners_with("has_debugger")
        raise BadOption(f"`--pdb` requires a runner with a debugger ({names}); `{runner}` has none")


def runners_with(capability: str) -> str:
    """List the installed runners that have a capability."""
    names = plugins.runner_names()
    return ", ".join(n for n in names if getattr(find_runner(n).CAPABILITIES, capability)) or "none"


def check_saved_options(saved: str | None, config: str | None, others: dict[str, object]) -> None:
    """Refuse options that change a saved plan. Raises `BadOption`."""
    if saved is None:
        return
    if config is not None:
        raise BadOption(f"`--plan` runs what was saved; remove `{shorten(config)}`")
    for name, value in others.items():
        if value:
            raise BadOption(f"`--plan` runs what was saved; remove `{name}`")


def read_saved(saved: str, request: Request) -> Prepared:
    """Return a saved plan, prepared again. Raises `NotSaved` or `PlanDiffers`."""
    from rvrun.reviewed import prepare_saved, read_request

    original, runners = read_request(saved)
    return prepare_saved(original, runners, request)


def print_changed_settings(request: Request) -> None:
    """Print each setting that is not at its default, with its origin."""
    for setting in layers.options(request.flags, request.profile):
        if setting.origin != "default":
            say(f"{setting.key} = {setting.shown} ({setting.origin})")


def run_here(
    prepared: Prepared, runner: LocalRunner, common: Common, *, show_output: bool | None
) -> int:
    """Run on this machine, print the summary, and return the exit code.

    - `show_output`: whether to print the targets' output as it is written; None decides by the
      number of targets that run in parallel.
    """
    run = prepared.run
    with shown_as(run.out_typed), locked(run.run_dir) as lock:
        # Read before writing: a config that is written now makes what depends on it stale.
        statuses = prepared.statuses()
        prepared.write()
        forget_stages(run.run_dir, run.forced)
        run = attrs.evolve(run, lock=lock)
        return run_stages(
            run, prepared.runners[0], runner, statuses, common, show_output=show_output
        )


def run_stages(
    run: Run,
    name: str,
    runner: LocalRunner,
    statuses: Sequence[StageStatus],
    common: Common,
    *,
    show_output: bool | None = None,
) -> int:
    """Run what is stale in a run directory that is locked, print the summary, return the exit code.

    - `name`: the runner's, for the history of the run directory.
    """
    from rvrun.cli.last_output import print_last_output
    from rvrun.cli.summary import print_summary
    from rvrun.rundir.history import entered
    from rvrun.rundir.summary import program

    is_isolated = runner.CAPABILITIES.isolated
    jobs = jobs_of(run) if is_isolated else None
    reporter = make_reporter(common, run, is_isolated=is_isolated, output=show_output)
    with entered(run.run_dir, name, jobs, run.workdir_from_run_dir) as entry:
        outcome = runner.run(run, statuses, reporter)
        code = entry.exit_code = exit_code(outcome)
        entry.stopped = outcome.stopped
    # Not if the output was shown, or was not wanted.
    is_unseen = show_output is None and not is_output_shown(common, run, None)
    if is_isolated and is_unseen and code == DONE and not common.quiet:
        print_last_output(run, statuses)
    if not common.quiet or code != DONE:
        logs = f"{run.out}/{paths.LOGS}" if is_isolated else ""
        print_summary(outcome, logs, shlex.join([*program(), *sys.argv[1:]]))
    return code


def make_reporter(common: Common, run: Run, *, is_isolated: bool, output: bool | None) -> Reporter:
    """Return what shows the progress of a run on this machine, and its output if `output`."""
    from rvrun.cli.failure_lines import FailureLines
    from rvrun.cli.output import Output
    from rvrun.cli.progress import Bars, Headings, Lines, Silent
    from rvrun.cli.tables import make_console
    from rvrun.observe.attempts import AttemptReader
    from rvrun.observe.forecast import Forecast

    err = make_console(err=True)
    failures = FailureLines(run.out if is_isolated else None)
    is_parallel = jobs_of(run) > 1
    is_shown = is_output_shown(common, run, output)
    lines = Silent() if common.quiet else Lines(err, failures, shows_starts=bool(common.verbose))
    if not is_isolated:
        return lines if common.quiet else Headings(err)
    if is_shown:
        # Lines and not bars, which output between them would garble.
        return Output(run.run_dir, lines, has_prefixes=is_parallel)
    if common.quiet or common.verbose or not err.is_terminal:
        return lines
    return Bars(err, failures, Forecast(AttemptReader(run.run_dir), jobs_of(run)))


def jobs_of(run: Run) -> int:
    """Return how many targets run in parallel on this machine."""
    from rvrun.cpus import num_cpus

    return run.settings.of(MachineSettings).jobs or num_cpus()


def is_output_shown(common: Common, run: Run, output: bool | None) -> bool:
    """Whether to print what targets print while they run; by default only if one runs at a time."""
    return not (jobs_of(run) > 1 or common.quiet) if output is None else output


def exit_code(outcome: Outcome) -> int:
    """Return the exit code of a run."""
    if outcome.signal:
        return SIGNALLED + outcome.signal
    return FAILED if outcome.failures or outcome.trouble else DONE
