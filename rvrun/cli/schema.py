"""`rvrun schema`: the JSON Schemas of the formats that rvrun writes."""

from __future__ import annotations

import enum
import sys

import click

from rvrun.cli.options import Argument, Verb


class SchemaName(enum.StrEnum):
    """The formats with a schema, `rvrun/plan/NAME.schema.json`."""

    PLAN = "plan"


@click.command(cls=Verb)
@click.argument(
    "name",
    cls=Argument,
    type=click.Choice([name.value for name in SchemaName]),
    metavar="NAME",
    help="The format: `plan` is plan.json.",
)
def schema(name: str) -> None:
    """Print the JSON Schema of a format that rvrun writes.

    - `rvrun schema plan > plan.schema.json`
    """
    sys.stdout.buffer.write(read_schema(SchemaName(name)))


def read_schema(name: SchemaName) -> bytes:
    """Return a schema exactly as it is shipped."""
    from importlib import resources

    return (resources.files("rvrun.plan") / f"{name}.schema.json").read_bytes()
