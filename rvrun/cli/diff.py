"""`rvrun diff`: what differs between two plans."""

from __future__ import annotations

import attrs
import click

from rvrun.cli.differences import DiffFormat, diff_options, print_diff
from rvrun.cli.messages import say
from rvrun.cli.options import Argument, Common, Verb, request_options, takes_request
from rvrun.cli.sides import read_side
from rvrun.plan.diff import diff_plans
from rvrun.prepare import Request

SIDE = "A plan.json, a run directory, or a CONFIG as in `rvrun plan`."


@click.command(cls=Verb)
@click.argument("old", cls=Argument, metavar="OLD", help=SIDE)
@click.argument("new", cls=Argument, metavar="NEW", help=SIDE)
@request_options
@diff_options
@takes_request
def diff(common: Common, request: Request, old: str, new: str, form: DiffFormat) -> int:
    """Show what differs between two plans.

    Also shows which stages would run again because of it. A CONFIG is compiled with the options
    given. Exit code 0 if nothing differs, 1 if something does, 2 on errors.

    - `rvrun diff plans/big/plan.json my_config.py --splits 8 -a lr 0.01`
    - `rvrun diff runs/monday runs/tuesday --markdown`
    """
    sides = [read_side(attrs.evolve(request, config=config)) for config in (old, new)]
    plan_diff = diff_plans(*sides)
    code = print_diff(plan_diff, form)
    if plan_diff.same and not common.quiet:
        say("the plans are the same")
    return code
