"""`rvrun render`: the files of a run, without running it."""

from __future__ import annotations

import click

from rvrun.cli.messages import say, warn
from rvrun.cli.options import (
    Common,
    Verb,
    config_argument,
    out_option,
    request_options,
    runner_argument,
    takes_request,
    templates_option,
)
from rvrun.prepare import Prepared, Request, prepare
from rvrun.rundir import files as rundir
from rvrun.rundir.lock import locked


@click.command(cls=Verb)
@runner_argument
@config_argument
@request_options
@out_option
@templates_option
@takes_request
def render(common: Common, request: Request) -> None:
    """Write what a runner runs, without running it.

    That is the plan, the configs, and the runner's own files, such as the Makefile.

    - `rvrun render local my_config.py --splits 8 --out runs/big && make -j8 -C runs/big`
    """
    prepared = prepare(request)
    warn(*prepared.warnings)
    write_files(prepared, quiet=common.quiet)


def write_files(prepared: Prepared, *, quiet: bool) -> None:
    """Write the rendered files to the run directory, and list which of them changed."""
    run_dir = prepared.run.run_dir
    with locked(run_dir):
        changed = set(rundir.write(run_dir, prepared.files, prepared.owned))
    if not quiet:
        for path in prepared.files:
            state = "written" if path in changed else "unchanged"
            say(f"{state:9}  {prepared.run.out}/{path}")
