"""`rvrun schema`: the formats that rvrun writes, as the JSON Schemas that it ships."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class SchemaName(enum.StrEnum):
    """What there is a schema of: the `rvrun/plan/NAME.schema.json` of that name."""

    PLAN = "plan"


def schema(
    name: Annotated[
        SchemaName,
        typer.Argument(
            metavar="NAME", help="The format: `plan` is that of plan.json.", show_default=False
        ),
    ],
) -> None:
    """Print the JSON Schema of a format that rvrun writes.

    - `rvrun schema plan > plan.schema.json`
    """
    typer.echo(read_schema(name), nl=False)


def read_schema(name: SchemaName) -> bytes:
    """The schema as it is shipped, to the byte."""
    from importlib import resources

    return (resources.files("rvrun.plan") / f"{name}.schema.json").read_bytes()
