"""The last attempts of all targets of a run directory, read again only where a record changed."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

import attrs

from rvrun import paths
from rvrun.model import Target
from rvrun.rundir.attempts import Attempt, read_attempt
from rvrun.rundir.target_lock import is_locked

#: No file, as the identity of a record that does not exist.
ABSENT = (0, 0)


@attrs.define
class AttemptReader:
    """Reads last attempts, and keeps them until their records change.

    - `cache`: the time and the size of each record that was read, and what it had.
    """

    run_dir: pathlib.Path
    cache: dict[str, tuple[tuple[int, int], Attempt | None]] = attrs.field(factory=dict)

    def read(self, target: Target) -> Attempt | None:
        """Return the last attempt of a target; None if it was never started."""
        path = os.path.join(self.run_dir, paths.record(target.path))
        identity = _identity(path)
        kept = self.cache.get(path)
        if kept is not None and kept[0] == identity:
            attempt = kept[1]
            # A process that is killed leaves its record as it is.
            if attempt is None or not attempt.is_running or is_locked(path):
                return attempt
        attempt = None if identity == ABSENT else read_attempt(path)
        self.cache[path] = (identity, attempt)
        return attempt


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return ABSENT
    return status.st_mtime_ns, status.st_size


def newest_record(run_dir: pathlib.Path) -> float | None:
    """Return when a target of a run directory last recorded something; None if none ever did."""
    newest: float | None = None
    for entry in _files(run_dir / paths.RECORDS):
        if entry.name.endswith(".jsonl"):
            newest = max(newest or 0.0, entry.stat().st_mtime)
    return newest


def _files(folder: pathlib.Path | str) -> Iterable[os.DirEntry[str]]:
    """Yield the files in a folder of records, without the hidden folders, which have versions."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield entry
