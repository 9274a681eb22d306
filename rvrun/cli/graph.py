"""`rvrun graph`: the plan as Mermaid, DOT or SVG."""

from __future__ import annotations

import click

from rvrun.cli.messages import warn
from rvrun.cli.options import Common, Verb, config_argument, request_options, takes_request
from rvrun.plan.graph import to_dot, to_mermaid, to_svg
from rvrun.prepare import Request, prepare_plan

FORMATS = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}


@click.command(cls=Verb)
@config_argument
@request_options
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="mermaid",
    help="Mermaid, DOT, or SVG drawn by graphviz; default: mermaid.",
)
@takes_request
def graph(common: Common, request: Request, form: str) -> None:
    """Draw the plan as text.

    A split command is one node with its number of splits.

    - `rvrun graph my_config.py --splits 8`
    - `rvrun graph my_config.py -f svg > plan.svg`
    """
    prepared = prepare_plan(request)
    warn(*prepared.warnings)
    print(FORMATS[form](prepared.run.plan), end="")
