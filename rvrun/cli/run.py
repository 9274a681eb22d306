"""`rvrun run`: runs what is missing or stale, here or as a detached run."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import attrs
import click

from rvrun import paths, plugins
from rvrun.cli.messages import say, warn
from rvrun.cli.options import (
    BadOption,
    Common,
    Verb,
    always_make_option,
    config_argument,
    out_option,
    request_options,
    runner_argument,
    takes_request,
    templates_option,
)
from rvrun.errors import DONE, FAILED
from rvrun.prepare import Prepared, Request, prepare
from rvrun.rundir import files as rundir
from rvrun.rundir.lock import locked
from rvrun.runners.registry import as_detached, as_local, find_runner
from rvrun.settings import layers
from rvrun.settings.schema import MachineSettings, key_of
from rvrun.signals import SIGNALLED

if TYPE_CHECKING:
    from rvrun.rundir.summary import Outcome
    from rvrun.runners.capabilities import Capabilities
    from rvrun.runners.protocol import LocalRunner
    from rvrun.runners.run import Reporter


@click.command(cls=Verb)
@runner_argument
@config_argument
@request_options
@out_option
@click.option(
    "-j",
    "--jobs",
    type=int,
    metavar="N",
    help="Targets that run in parallel on this machine; default: one per CPU.",
)
@click.option(
    "-k", "--keep-going", is_flag=True, help="Continue with what does not need a failed target."
)
@click.option(
    "--run-name",
    metavar="NAME",
    help="Name of a detached run, at the beginning of its jobs' names; default: the run "
    "directory's.",
)
@click.option(
    "--wait", is_flag=True, help="Wait until a detached run has ended; exit 1 if a target failed."
)
@always_make_option
@click.option("--dry-run", is_flag=True, help="Show what would run; write and run nothing.")
@click.option("--pdb", "debug", is_flag=True, help="Stop in the debugger where a command raises.")
@click.option(
    "--gpu-slots",
    type=int,
    metavar="N",
    help="GPU targets that run in parallel on this machine; default: one per GPU, and "
    "without GPUs no limit.",
)
@templates_option
@takes_request
def run(
    common: Common,
    request: Request,
    *,
    jobs: int | None,
    keep_going: bool,
    run_name: str | None,
    wait: bool,
    dry_run: bool,
    debug: bool,
    gpu_slots: int | None,
) -> int:
    """Run what is missing or stale.

    Targets run in parallel, and those that are up to date are skipped.

    - `rvrun run local my_config.py --splits 8 -j4`
    - `rvrun run local my_config.py predict eval --splits predict=16 -a root_uri out/run1`
    """
    check_options(
        request.runner,
        find_runner(request.runner).CAPABILITIES,
        detached={"--wait": wait, "--run-name": run_name},
        local={"--jobs": jobs, "--gpu-slots": gpu_slots},
        keep_going=keep_going,
        debug=debug,
    )
    request = attrs.evolve(
        request,
        flags={
            **request.flags,
            key_of(MachineSettings, "jobs"): jobs,
            key_of(MachineSettings, "gpu_slots"): gpu_slots,
        },
        keep_going=keep_going,
        debug=debug,
        name=run_name,
    )
    prepared = prepare(request)
    warn(*prepared.warnings)
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
    return run_here(prepared, local, common)


def check_options(
    runner: str,
    capabilities: Capabilities,
    *,
    detached: dict[str, object],
    local: dict[str, object],
    keep_going: bool,
    debug: bool,
) -> None:
    """Refuse options that the runner cannot follow. Raises `BadOption`.

    - `detached`, `local`: the values of the options for only these runners, by option.
    """
    wrong, kind, fact = (
        (local, "runners on this machine", "runs are detached")
        if capabilities.detached
        else (detached, "detached runners", "runs on this machine")
    )
    for option, value in wrong.items():
        if value:
            raise BadOption(f"`{option}` only works with {kind}; `{runner}` {fact}")
    if keep_going and not capabilities.keeps_going:
        names = runners_with("keeps_going")
        raise BadOption(f"`--keep-going` requires a runner that can ({names}); `{runner}` cannot")
    if debug and not capabilities.has_debugger:
        names = runners_with("has_debugger")
        raise BadOption(f"`--pdb` requires a runner with a debugger ({names}); `{runner}` has none")


def runners_with(capability: str) -> str:
    """List the installed runners that have a capability."""
    names = plugins.runner_names()
    return ", ".join(n for n in names if getattr(find_runner(n).CAPABILITIES, capability)) or "none"


def print_changed_settings(request: Request) -> None:
    """Print each setting that is not at its default, with its origin."""
    for option in layers.options(request.flags, request.profile):
        if option.origin != "default":
            say(f"{option.key} = {option.value} ({option.origin})")


def run_here(prepared: Prepared, runner: LocalRunner, common: Common) -> int:
    """Run on this machine, print the summary, and return the exit code."""
    from rvrun.cli.summary import print_summary
    from rvrun.rundir.summary import program

    is_isolated = runner.CAPABILITIES.isolated
    reporter = make_reporter(common, is_isolated=is_isolated)
    run_dir = prepared.run.run_dir
    with locked(run_dir) as lock:
        # Read before writing: a config that is written now makes what depends on it stale.
        statuses = prepared.statuses()
        rundir.write(run_dir, prepared.files, prepared.owned)
        outcome = runner.run(attrs.evolve(prepared.run, lock=lock), statuses, reporter)
    code = exit_code(outcome)
    if not common.quiet or code != DONE:
        logs = f"{prepared.run.out}/{paths.LOGS}" if is_isolated else ""
        print_summary(outcome, logs, shlex.join([*program(), *sys.argv[1:]]))
    return code


def make_reporter(common: Common, *, is_isolated: bool) -> Reporter:
    """Return what shows the progress of a run on this machine."""
    from rvrun.cli.progress import Bars, Headings, Lines, Silent
    from rvrun.cli.tables import make_console

    err = make_console(err=True)
    if common.quiet:
        return Silent()
    if not is_isolated:
        return Headings(err)
    if common.verbose or not err.is_terminal:
        return Lines(err, shows_starts=bool(common.verbose))
    return Bars(err)


def exit_code(outcome: Outcome) -> int:
    """Return the exit code of a run."""
    if outcome.signal:
        return SIGNALLED + outcome.signal
    return FAILED if outcome.failures or outcome.trouble else DONE
