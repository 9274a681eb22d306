"""`rvrun config`: every setting, its value and its origin."""

from __future__ import annotations

import typer

from rvrun.cli.options import read_common
from rvrun.cli.tables import Column, print_table
from rvrun.settings import layers

COLUMNS = (
    Column("setting"),
    Column("value", wraps=True),
    Column("from", wraps=True),
    Column("environment variable", rank=2),
    Column("description", rank=1),
)


def config(context: typer.Context) -> None:
    """Show every setting, its value and its origin.

    - `rvrun config`
    - `rvrun -p cluster config`
    """
    rows = [
        (option.key, option.shown, option.origin, option.variable, option.help)
        for option in layers.options(profile=read_common(context).profile)
    ]
    print_table(COLUMNS, rows)
