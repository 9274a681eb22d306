"""`rvrun plan`: the stages, and what would run and why."""

from __future__ import annotations

import attrs
import click

from rvrun.cli.differences import DiffFormat, check_saved, diff_options
from rvrun.cli.messages import warn
from rvrun.cli.options import (
    BadOption,
    Common,
    Verb,
    always_make_option,
    config_argument,
    out_option,
    request_options,
    takes_request,
    templates_option,
)
from rvrun.cli.plan_table import print_plan
from rvrun.prepare import Request, kept, prepare_all, prepare_plan
from rvrun.runners.registry import DEFAULT


@click.command(cls=Verb)
@config_argument
@request_options
@out_option
@click.option(
    "--runner",
    "runners",
    multiple=True,
    metavar="NAME",
    help=f"Render for this runner; repeatable; default: {DEFAULT}.",
)
@click.option(
    "--check",
    metavar="DIR",
    help="Compare with the plan saved in DIR and print the differences; exit 1 if there are any.",
)
@diff_options
@always_make_option
@templates_option
@takes_request
def plan(
    common: Common,
    request: Request,
    runners: tuple[str, ...],
    check: str | None,
    form: DiffFormat,
) -> int | None:
    """Show the stages, and what would run and why.

    With `--out DIR`, also write the plan and all rendered files there, to keep and compare. With
    `--check DIR`, compare instead: exit 0 if nothing differs, 1 if something does, 2 on errors.

    - `rvrun plan my_config.py --splits 8`
    - `rvrun plan my_config.py --splits 8 --out plans/big`
    - `rvrun plan my_config.py --splits 8 --check plans/big`
    """
    if check is not None and request.out is not None:
        raise BadOption("--check and --out name different directories; keep one")
    if check is None and form is not DiffFormat.TEXT:
        raise BadOption(f"--{form} formats differences; add --check DIR")
    is_shown_only = not (runners or check or request.out or request.flags["templates"])
    if check is not None:
        request = attrs.evolve(request, out=check)
    # What only shows the stages needs no rendered file, and does without the template engine.
    prepared = (
        prepare_plan(request) if is_shown_only else prepare_all(runners or [DEFAULT], request)
    )
    warn(*prepared.warnings)
    if check is not None:
        return check_saved(kept(prepared), form, quiet=common.quiet)
    print_plan(prepared)
    if request.out is not None:
        from rvrun.cli.render import write_files

        write_files(kept(prepared), quiet=common.quiet)
    return None
