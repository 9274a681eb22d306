"""Remember fingerprints as long as nothing that they were made of has changed.

A fingerprint depends on the files that were read, and on which modules exist: a new file could be
what a name refers to. So the states of files and of the folders in which modules were looked for
are remembered. Looking at these is all that an unchanged project costs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rvrun import __version__

#: How long after its last change a file is remembered: another edit could leave its time as it is.
SETTLED_NS = 1_000_000_000
#: How many pipelines are remembered per project.
MAX_RESULTS = 50


def cache_folder(kind: str = "code") -> str | None:
    """Return the folder of this user's caches of a kind; None if there is no place for them."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "rvrun", kind) if os.path.isabs(base) else None


def state_of(path: str) -> list[int] | None:
    """Return the size, times and identity of a file or folder; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


class Results:
    """The fingerprints of a project's pipelines."""

    def __init__(self, folder: str | None) -> None:
        name = hashlib.sha256(os.fsencode(os.getcwd())).hexdigest()[:32]
        self.path = os.path.join(folder, f"{name}.results.json") if folder else ""
        own = os.path.dirname(__file__)
        modules = sorted(entry for entry in os.listdir(own) if entry.endswith(".py"))
        states = [state_of(os.path.join(own, module)) for module in modules]
        self.version = [__version__, list(sys.version_info[:2]), states]
        self.entries: dict[str, Any] = _read(self.path, self.version)

    def get(self, key: object) -> dict[str, str] | None:
        """Return the texts that were made from what `key` describes, if all is unchanged."""
        entry = self.entries.get(_digest(key))
        if not entry or any(state_of(path) != state for path, state in entry[0].items()):
            return None
        texts: dict[str, str] = entry[1]
        return texts

    def put(self, key: object, paths: Iterable[str], texts: Mapping[str, str]) -> None:
        """Remember `texts`, which were made from the files and folders at `paths`."""
        states = {path: state_of(path) for path in paths}
        newest = max((max(state[1:3]) for state in states.values() if state), default=0)
        if not self.path or time.time_ns() - newest < SETTLED_NS:
            return
        self.entries[_digest(key)] = [states, dict(texts)]
        write_json(self.path, [self.version, dict(list(self.entries.items())[-MAX_RESULTS:])])


def _digest(key: object) -> str:
    return hashlib.sha256(repr(key).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _read(path: str, version: object) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            written, entries = json.load(file)
    except (OSError, ValueError, TypeError):
        return {}
    return entries if written == version and isinstance(entries, dict) else {}


def write_json(path: str, document: object) -> None:
    """Write a cache file, and nothing if that is not possible: then rvrun is only slower."""
    unfinished = f"{path}.{os.getpid()}"
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump(document, file, separators=(",", ":"))
        os.replace(unfinished, path)
