"""Remember the summaries of source files, so that unchanged files are not parsed again.

They are kept in one file per project, below the user's cache folder. A file that was written less
than a moment before it was read is not remembered: another edit could leave its time as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any

from rvrun import __version__
from rvrun.code.results import SETTLED_NS, state_of, write_json
from rvrun.code.summary import ClassShape, Definition, Summary, summarise

DIGITS = 32


class Cache:
    """The summaries of a project's files, by path."""

    def __init__(self, project: str, folder: str | None = None) -> None:
        self.path = ""
        if folder is not None:
            name = hashlib.sha256(os.fsencode(project)).hexdigest()[:DIGITS]
            self.path = os.path.join(folder, f"{name}.json")
        self.version = [__version__, *sys.version_info[:2], _own_state()]
        self.entries: dict[str, Any] = self._read()
        self.is_changed = False

    def summarise(self, name: str, path: str) -> Summary | None:
        """Return the summary of the file at `path`, the module `name`; None if it is not there."""
        state = state_of(path)
        if state is None:
            return None
        try:
            entry = self.entries.get(path)
            if entry and entry[0] == [name, *state]:
                return _from_json(entry[1])
            with open(path, "rb") as file:
                text = file.read()
        except OSError:
            return None
        is_package = os.path.basename(path) == "__init__.py"
        summary = summarise(name, text, is_package=is_package)
        if time.time_ns() - max(state[1], state[2]) > SETTLED_NS:
            self.entries[path] = [[name, *state], summary]
            self.is_changed = True
        return summary

    def save(self) -> None:
        """Write what was learned. A cache that cannot be written is only slower."""
        if not self.path or not self.is_changed:
            return
        write_json(self.path, [self.version, self.entries])

    def _read(self) -> dict[str, Any]:
        if not self.path:
            return {}
        try:
            with open(self.path, encoding="utf-8") as file:
                version, entries = json.load(file)
        except (OSError, ValueError, TypeError):
            return {}
        return entries if version == self.version and isinstance(entries, dict) else {}


def _own_state() -> list[list[int] | None]:
    """The state of what makes summaries: another rvrun may see something else in the same file."""
    folder = os.path.dirname(__file__)
    names = ("names.py", "normalise.py", "summary.py")
    return [state_of(os.path.join(folder, name)) for name in names]


def _from_json(values: Any) -> Summary:
    if isinstance(values, Summary):
        return values
    summary = Summary(*values)
    return summary._replace(
        definitions={name: Definition(*item) for name, item in summary.definitions.items()},
        classes={name: ClassShape(*item) for name, item in summary.classes.items()},
        stars=tuple(summary.stars),
        modules=tuple(summary.modules),
        public=None if summary.public is None else tuple(summary.public),
    )
