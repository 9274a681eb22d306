"""`rvrun config`: every setting, its value and its origin."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
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
        (option.key, format_value(option.value), option.origin, option.variable, option.help)
        for option in layers.options(profile=read_common(context).profile)
    ]
    print_table(COLUMNS, rows)


def format_value(value: object) -> str:
    """Return a setting's value as its environment variable spells it."""
    if isinstance(value, Mapping):
        pairs = value.items()
        return ",".join(key if attrs.has(type(item)) else f"{key}={item}" for key, item in pairs)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
