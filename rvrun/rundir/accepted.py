"""The record of changes that someone declared not to matter: who, when, and which."""

from __future__ import annotations

import getpass
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rvrun import paths
from rvrun.inputs import writing
from rvrun.rundir.own_files import open_own
from rvrun.text import local_time

#: What can change, in the order in which it is shown.
KINDS = ("config", "code", "inputs")


def record_accepted(
    run_dir: pathlib.Path, pipeline: str, command: str, changes: Mapping[str, Sequence[str]]
) -> None:
    """Append that the user of this process accepted the changes of a stage.

    - `changes`: by kind: the keys of the `config`, for `code` the ways to the definitions, and the
      `inputs`.

    Raises `CannotWrite` or `LinkInTheWay`.
    """
    line = {
        "time": time.time(),
        "user": _user(),
        "host": os.uname().nodename,
        "command": command,
        **{kind: list(names) for kind, names in changes.items()},
    }
    path = run_dir / paths.accepted(pipeline)
    with writing(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_own(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user id without a name.
        return str(os.getuid())


def last_accepted(run_dir: pathlib.Path, pipeline: str, command: str) -> dict[str, Any] | None:
    """Return what was accepted last for a stage; None if nothing was."""
    try:
        text = (run_dir / paths.accepted(pipeline)).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    last = None
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            # A line that was cut off when its process was killed.
            continue
        if isinstance(values, dict) and values.get("command") == command and "time" in values:
            last = values
    return last


def describe_accepted(values: Mapping[str, Any]) -> str:
    """Return `2026-01-02 03:04:05 by ada@host: code: Land.chip → windows.share`."""
    changes = describe_changes({kind: values.get(kind) or () for kind in KINDS})
    summary = f": {changes}" if changes else ""
    return f"{local_time(values['time'])} by {values.get('user')}@{values.get('host')}{summary}"


def describe_changes(changes: Mapping[str, Sequence[str]]) -> str:
    """Return `config: lr; code: Land.chip → windows.share`."""
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in changes.items() if names)
