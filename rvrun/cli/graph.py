"""`rvrun graph`: the plan as Mermaid, DOT or SVG."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from rvrun.cli.messages import warn
from rvrun.cli.options import Args, Commands, Config, Splits, make_request, option
from rvrun.plan.graph import to_dot, to_mermaid, to_svg
from rvrun.prepare import prepare_plan


class GraphFormat(enum.StrEnum):
    """The formats that a plan is drawn in."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


FORMATS = {GraphFormat.MERMAID: to_mermaid, GraphFormat.DOT: to_dot, GraphFormat.SVG: to_svg}
Format = Annotated[
    GraphFormat,
    option(
        "-f",
        "--format",
        metavar="FORMAT",
        help="`mermaid`, `dot`, or `svg`, which graphviz draws; default: mermaid.",
    ),
]


def graph(
    context: typer.Context,
    config: Config,
    commands: Commands = None,
    splits: Splits = None,
    args: Args = None,
    form: Format = GraphFormat.MERMAID,
) -> None:
    """Draw the plan as text.

    A split command is one node with its number of splits.

    - `rvrun graph my_config.py --splits 8`
    - `rvrun graph my_config.py -f svg > plan.svg`
    """
    request = make_request(context, config=config, commands=commands, splits=splits, args=args)
    prepared = prepare_plan(request)
    warn(*prepared.warnings)
    print(FORMATS[form](prepared.run.plan), end="")
