"""`rvrun render`: the files of a run, without running it."""

from __future__ import annotations

import typer

from rvrun.cli.messages import say, shown_as, warn
from rvrun.cli.options import (
    Args,
    Commands,
    Config,
    Out,
    Runner,
    Splits,
    Templates,
    make_request,
    read_common,
)
from rvrun.cli.usage import check_runner
from rvrun.prepare import Prepared, check_local_roots, prepare
from rvrun.rundir.lock import locked


def render(
    context: typer.Context,
    runner: Runner,
    config: Config,
    commands: Commands = None,
    splits: Splits = None,
    args: Args = None,
    out: Out = None,
    templates: Templates = None,
) -> None:
    """Write what a runner runs, without running it.

    That is the plan, the configs, and the runner's own files, such as the Makefile.

    - `rvrun render local my_config.py --splits 8 --out runs/big && make -j8 -C runs/big`
    """
    check_runner(runner, context.command_path)
    request = make_request(
        context,
        config=config,
        runner=runner,
        commands=commands,
        splits=splits,
        args=args,
        out=out,
        templates=templates,
    )
    prepared = prepare(request)
    check_local_roots(prepared.run.planned, prepared.runner)
    warn(*prepared.warnings, *prepared.notices())
    write_files(prepared, quiet=read_common(context).quiet)


def write_files(prepared: Prepared, *, quiet: bool) -> None:
    """Write the rendered files to the run directory, and list which of them changed."""
    with shown_as(prepared.run.out_typed), locked(prepared.run.run_dir):
        changed = set(prepared.write())
    if not quiet:
        for path in prepared.files:
            state = "written" if path in changed else "unchanged"
            say(f"{state:9}  {prepared.run.out}/{path}")
