"""The verbs. Each reads its words, has the work done elsewhere, and ends with an exit code."""

from __future__ import annotations

import enum
import shlex
import sys
from typing import Annotated, cast

import typer

from rvrun import paths, prepare
from rvrun.cli import compare
from rvrun.cli import options as common
from rvrun.cli.detached import submit
from rvrun.cli.messages import say
from rvrun.cli.options import Common
from rvrun.errors import DONE, FAILED, INTERRUPTED
from rvrun.plan.graph import to_dot, to_mermaid, to_svg
from rvrun.prepare import Prepared, Request
from rvrun.rundir import files as rundir
from rvrun.rundir.lock import locked
from rvrun.rundir.summary import Outcome, program
from rvrun.runners.protocol import LocalRunner
from rvrun.runners.registry import DEFAULT, as_detached, find_runner
from rvrun.runners.run import Reporter
from rvrun.settings import layers
from rvrun.settings.schema import MachineSettings, key_of
from rvrun.worker import target as worker
from rvrun.worker.call import Call


def run(
    context: typer.Context,
    runner: common.RunnerName,
    config: common.Config,
    commands: common.Commands = None,
    splits: common.Splits = None,
    args: common.Args = None,
    out: common.Out = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", metavar="N", help="Targets that run at once.", show_default="one a CPU"
        ),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("-k", "--keep-going", help="Go on with what does not need a failed target."),
    ] = False,
    run_name: common.RunName = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="On AWS: wait for the end; the exit code tells how it was."),
    ] = False,
    always_make: common.AlwaysMake = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run; write and run nothing.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--pdb", help="With `inprocess`: stop in the debugger where a command raises."
        ),
    ] = False,
    gpu_slots: Annotated[
        int | None,
        typer.Option(
            "--gpu-slots",
            metavar="N",
            help="GPU targets that run at once, on all GPUs.",
            show_default="one a GPU",
        ),
    ] = None,
    templates: common.Templates = None,
) -> None:
    """Run pipelines: what is missing or out of date, in parallel.

    - `rvrun run local my_config.py --splits 8 -j4`
    - `rvrun run local my_config.py predict eval --splits predict=16 -a root_uri out/run1`
    - `rvrun run inprocess my_config.py --pdb`
    - `rvrun run batch my_config.py --splits 100 -a root_uri s3://bucket/run1 --wait`
    """
    from rvrun.cli.tables import print_outcome, print_plan

    found = find_runner(runner)
    if debug and not found.CAPABILITIES.has_debugger:
        raise common.BadOption(f"--pdb requires a runner with a debugger, and `{runner}` has none")
    request = common.request(
        context.obj,
        config=config,
        runner=runner,
        commands=commands,
        splits=splits,
        args=args,
        out=out,
        flags={
            key_of(MachineSettings, "jobs"): jobs,
            key_of(MachineSettings, "gpu_slots"): gpu_slots,
            "templates": templates,
        },
        keep_going=keep_going,
        force=always_make,
        debug=debug,
        name=run_name,
    )
    prepared = common.prepared(request)
    remote = as_detached(prepared.runner)
    given = (
        {"--wait": wait, "--run-name": run_name}
        if remote is None
        else {"--jobs": jobs, "--keep-going": keep_going, "--gpu-slots": gpu_slots}
    )
    kind = "detached runners" if remote is None else "runners on this machine"
    for option in (option for option, value in given.items() if value):
        raise common.BadOption(f"{option} only works with {kind}, and `{runner}` is not one")
    if context.obj.verbose:
        _say_settings(request, context.obj)
    if dry_run:
        statuses = prepared.statuses()
        print_plan(prepared.run.plan, statuses, compare.reasons(prepared, statuses))
        raise typer.Exit(DONE)
    if remote is not None:
        raise typer.Exit(submit(prepared, remote, context.obj, wait=wait))
    outcome = _carry_out(prepared, _reporter(found.CAPABILITIES.isolated, context.obj))
    if not context.obj.quiet or _exit_code(outcome) != DONE:
        logs = f"{prepared.run.out}/{paths.LOGS}" if found.CAPABILITIES.isolated else ""
        print_outcome(outcome, logs, again=shlex.join([*program(), *sys.argv[1:]]))
    raise typer.Exit(_exit_code(outcome))


def _say_settings(request: Request, said: Common) -> None:
    for option in layers.options(request.flags, said.profile):
        if option.origin != "default":
            say(f"{option.key} = {option.value} ({option.origin})")


def _carry_out(prepared: Prepared, reporter: Reporter) -> Outcome:
    run_dir = prepared.run.run_dir
    with locked(run_dir):
        statuses = prepared.statuses()
        rundir.write(run_dir, prepared.files, prepared.owned)
        return cast(LocalRunner, prepared.runner).run(prepared.run, statuses, reporter)


def _reporter(is_isolated: bool, said: Common) -> Reporter:
    from rvrun.cli.progress import Bars, Headings, Lines, Silent
    from rvrun.cli.tables import console

    err = console(err=True)
    if said.quiet:
        return Silent()
    if not is_isolated:
        return Headings(err)
    if said.verbose or not err.is_terminal:
        return Lines(err, starts=bool(said.verbose))
    return Bars(err)


def _exit_code(outcome: Outcome) -> int:
    if outcome.interrupted:
        return INTERRUPTED
    return FAILED if outcome.failures or outcome.trouble else DONE


def render(
    context: typer.Context,
    runner: common.RunnerName,
    config: common.Config,
    commands: common.Commands = None,
    splits: common.Splits = None,
    args: common.Args = None,
    out: common.Out = None,
    templates: common.Templates = None,
) -> None:
    """Write what a runner runs, without running it: the Makefile, the plan, the configs.

    - `rvrun render local my_config.py --splits 8 --out runs/big && make -j8 -C runs/big`
    """
    request = common.request(
        context.obj,
        config=config,
        runner=runner,
        commands=commands,
        splits=splits,
        args=args,
        out=out,
        flags={"templates": templates},
    )
    _write(common.prepared(request), context.obj)


def plan(
    context: typer.Context,
    config: common.Config,
    commands: common.Commands = None,
    splits: common.Splits = None,
    args: common.Args = None,
    out: common.Out = None,
    runners: Annotated[
        list[str] | None,
        typer.Option(
            "--runner",
            metavar="NAME",
            help="The runner to render for. Can be given several times.",
            show_default="local",
        ),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="DIR",
            help="Compare with the plan saved in DIR, and print what differs: exit 1 if it does.",
        ),
    ] = None,
    as_json: compare.AsJson = False,
    as_markdown: compare.AsMarkdown = False,
    as_github: compare.AsGithub = False,
    always_make: common.AlwaysMake = False,
    templates: common.Templates = None,
) -> None:
    """Show the stages, their splits and needs, and what would run in the run directory and why.

    With `--out DIR` also write the plan and all that is rendered there, to keep and compare. With
    `--check DIR` compare instead: exit 0 the same, 1 different, 2 trouble.

    - `rvrun plan my_config.py --splits 8`
    - `rvrun plan my_config.py --splits 8 --out plans/big`
    - `rvrun plan my_config.py --splits 8 --check plans/big`
    - `rvrun plan my_config.py --runner local --runner batch --out plans/big`
    """
    from rvrun.cli.tables import print_plan

    if check is not None and out is not None:
        raise common.BadOption("--check and --out go to different directories; give one of them")
    request = common.request(
        context.obj,
        config=config,
        commands=commands,
        splits=splits,
        args=args,
        out=check if check is not None else out,
        flags={"templates": templates},
        force=always_make,
    )
    form = compare.chosen_format(as_json, as_markdown, as_github)
    if check is None and form is not compare.Format.TEXT:
        raise common.BadOption(f"--{form} is for what differs; give --check DIR too")
    prepared = prepare.prepare_all(runners or [DEFAULT], request)
    common.warn_all(prepared)
    if check is not None:
        raise typer.Exit(compare.check_saved(prepare.kept(prepared), form, quiet=context.obj.quiet))
    statuses = prepared.statuses()
    print_plan(prepared.run.plan, statuses, compare.reasons(prepared, statuses))
    if out is not None:
        _write(prepare.kept(prepared), context.obj)


def _write(prepared: Prepared, said: Common) -> None:
    """Write what was rendered and say so."""
    run_dir = prepared.run.run_dir
    with locked(run_dir):
        changed = set(rundir.write(run_dir, prepared.files, prepared.owned))
    if not said.quiet:
        for path in prepared.files:
            state = "written" if path in changed else "unchanged"
            say(f"{state:9}  {prepared.run.out}/{path}")


class GraphFormat(enum.StrEnum):
    """What `rvrun graph` can write."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


def graph(
    context: typer.Context,
    config: common.Config,
    commands: common.Commands = None,
    splits: common.Splits = None,
    args: common.Args = None,
    form: Annotated[
        GraphFormat, typer.Option("-f", "--format", help="Mermaid, DOT, or SVG drawn by graphviz.")
    ] = GraphFormat.MERMAID,
) -> None:
    """Draw the plan as text; a split command is one node with its count.

    - `rvrun graph my_config.py --splits 8`
    - `rvrun graph my_config.py -f svg > plan.svg`
    """
    request = common.request(
        context.obj, config=config, commands=commands, splits=splits, args=args
    )
    drawn = {GraphFormat.MERMAID: to_mermaid, GraphFormat.DOT: to_dot, GraphFormat.SVG: to_svg}
    print(drawn[form](common.prepared(request).run.plan), end="")


def config(context: typer.Context) -> None:
    """Show each setting, its value and where that comes from.

    - `rvrun config`
    - `rvrun -p cluster config`
    """
    from rvrun.cli.tables import print_options

    print_options(layers.options(profile=context.obj.profile))


class Shell(enum.StrEnum):
    """Shells whose completion is known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the script that completes rvrun's words in a shell.

    - `rvrun completion bash >> ~/.bashrc`
    - `rvrun completion fish > ~/.config/fish/completions/rvrun.fish`
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(
        prog_name="rvrun", complete_var="_RVRUN_COMPLETE", shell=shell.value
    )
    print(script)


def run_command(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A saved config (`.json`).")],
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="The command to run.")],
    split_ind: Annotated[
        int | None, typer.Option("--split-ind", metavar="I", help="Which split, from 0.")
    ] = None,
    num_splits: Annotated[
        int | None, typer.Option("--num-splits", metavar="N", help="Of how many splits.")
    ] = None,
    runner: Annotated[
        str | None, typer.Option("--runner", metavar="NAME", help="The runner that started this.")
    ] = None,
    torchrun: Annotated[
        str | None,
        typer.Option(
            "--torchrun",
            metavar="P",
            help="Run under torchrun, with P processes on each host of the job, or `gpu`.",
        ),
    ] = None,
) -> None:
    """Run one target in this process: a command of a saved config, or one split of it.

    - `rvrun run_command runs/tiny/config/tiny.json count --split-ind 3 --num-splits 4`
    """
    call = Call(config, command, split_ind, num_splits, runner=runner, torchrun=torchrun)
    raise typer.Exit(worker.run_command(call))
