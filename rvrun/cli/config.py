"""`rvrun config`: every setting, its value and its origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import typer

from rvrun.cli.options import AsJson, read_common
from rvrun.cli.tables import Column, print_table
from rvrun.settings import layers
from rvrun.settings.values import HIDDEN

COLUMNS = (
    Column("setting"),
    Column("value", wraps=True),
    Column("from", wraps=True),
    Column("environment variable", rank=2),
    Column("description", rank=1),
)


def config(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every setting, its value and its origin.

    - `rvrun config`
    - `rvrun -p cluster config`
    - `rvrun config --json`
    """
    options = layers.options(profile=read_common(context).profile)
    if as_json:
        print(json.dumps([to_dict(option) for option in options], indent=2, ensure_ascii=False))
        return
    rows = [
        (option.key, option.shown, option.origin, option.variable, option.help)
        for option in options
    ]
    print_table(COLUMNS, rows)


def to_dict(option: layers.Option) -> dict[str, Any]:
    """Return a setting as JSON values, without values that may be secrets."""
    return {
        "key": option.key,
        "value": _value(option.value, is_secret=option.secret),
        "origin": option.origin,
        "variable": option.variable or None,
        "description": option.help,
    }


def _value(value: Any, *, is_secret: bool) -> Any:
    """A setting's value as JSON; of a table that may have secrets, only the keys."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if is_secret else _value(item, is_secret=False)
            for key, item in value.items()
        }
    return attrs.asdict(value) if attrs.has(type(value)) else value
