"""`rvrun schema`: the JSON Schemas of the formats that rvrun reads and writes."""

from __future__ import annotations

import enum
import sys
from typing import Annotated

from rvrun.cli.options import argument


class SchemaName(enum.StrEnum):
    """The formats with a schema, `NAME.schema.json` in one of `PACKAGES`."""

    PLAN = "plan"
    ESTIMATES = "estimates"
    PIPELINE = "pipeline"
    STATUS = "status"
    LIST = "list"
    CONFIG = "config"


#: The packages with the schemas that are not beside the verbs that print them.
PACKAGES = {
    SchemaName.PLAN: "rvrun.plan",
    SchemaName.ESTIMATES: "rvrun.plan",
    SchemaName.PIPELINE: "rvrun.load.toml",
}
VERBS = "rvrun.cli"

Name = Annotated[
    SchemaName,
    argument(
        metavar="NAME",
        help="The format: `plan` is plan.json, which `rvrun plan --json` prints; `estimates` is "
        "estimates.json; `pipeline` is pipeline.toml; `status`, `list` and `config` are what these "
        "verbs print with --json.",
    ),
]


def schema(name: Name) -> None:
    """Print the JSON Schema of a format that rvrun reads or writes.

    - `rvrun schema plan > plan.schema.json`
    """
    sys.stdout.buffer.write(read_schema(name))


def read_schema(name: SchemaName) -> bytes:
    """Return a schema exactly as it is shipped."""
    from importlib import resources

    package = PACKAGES.get(name, VERBS)
    return (resources.files(package) / f"{name}.schema.json").read_bytes()
