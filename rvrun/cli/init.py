"""`rvrun init`: a first pipeline, with comments, that runs as it is."""

from __future__ import annotations

import os
import re
from typing import Annotated

from rvrun.cli.options import DEFAULT_CONFIG, BadOption, option
from rvrun.inputs import writing
from rvrun.model import BadName, check_pipeline_name

#: What a pipeline is called where the folder has no suitable name.
NAME = "hello"
#: The most characters of the folder's name that a pipeline gets.
MAX_NAME = 100
#: What the files have instead of the pipeline's name.
PLACEHOLDER = "NAME"

Python = Annotated[
    bool, option("--python", help="Write `pipeline.py`, a pipeline of methods in Python.")
]


def init(python: Python = False) -> None:
    """Write a first pipeline that runs as it is.

    Writes `pipeline.toml`, a pipeline of programs with comments, into the current directory. Asks
    nothing, and overwrites nothing.

    - `rvrun init`
    - `rvrun init --python`
    """
    path = "pipeline.py" if python else DEFAULT_CONFIG
    text = read_template(path).replace(PLACEHOLDER, _name())
    if os.path.lexists(path):
        raise BadOption(f"{path} exists already; edit it, or remove it first")
    with writing(path), open(path, "x", encoding="utf-8") as file:
        file.write(text)
    config = f" {path}" if python else ""
    print(f"wrote {path}; next:\n  rvrun plan{config}\n  rvrun run local{config}")


def read_template(name: str) -> str:
    """Return a template of `templates/init`."""
    from importlib import resources

    return (resources.files("rvrun.templates") / "init" / name).read_text(encoding="utf-8")


def _name() -> str:
    """Return the folder's name, as far as a pipeline can have it."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(os.getcwd()))
    name = name.strip("-_")[:MAX_NAME]
    try:
        check_pipeline_name(name)
    except BadName:
        return NAME
    return name
