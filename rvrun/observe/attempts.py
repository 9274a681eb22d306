"""The last attempts of all targets of a run directory, read again only where a record changed."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import attrs

from rvrun import paths
from rvrun.errors import DONE
from rvrun.model import Target
from rvrun.rundir import records
from rvrun.rundir.target_lock import is_locked

#: No file, as the identity of a record that does not exist.
ABSENT = (0, 0)


@attrs.frozen(kw_only=True)
class LastAttempt:
    """The last attempt of a target, and how long its last successful one took.

    - `began`, `ended`: in seconds since 1970; `ended` is None if it recorded no end.
    - `exit_code`, `signal`: None if that is unknown.
    - `is_running`: whether a process runs it now.
    - `timeout_seconds`: its time limit, if it was ended because of that.
    - `log_offset`: where its output begins in its log, in bytes; None without a log.
    - `seconds`: of the last attempt that succeeded; None if there was none.
    """

    number: int
    began: float
    ended: float | None
    exit_code: int | None
    signal: int | None
    is_running: bool
    peak_memory_kib: int | None
    timeout_seconds: int | None
    log_offset: int | None
    seconds: float | None
    host: str

    @property
    def has_succeeded(self) -> bool:
        return self.exit_code == DONE


@attrs.define
class AttemptReader:
    """Reads last attempts, and keeps them until their records change.

    - `cache`: the time and the size of each record that was read, and what it had.
    """

    run_dir: pathlib.Path
    cache: dict[str, tuple[tuple[int, int], LastAttempt | None]] = attrs.field(factory=dict)

    def read(self, target: Target) -> LastAttempt | None:
        """Return the last attempt of a target; None if it was never started."""
        path = os.path.join(self.run_dir, paths.record(target.path))
        identity = _identity(path)
        kept = self.cache.get(path)
        if kept is not None and kept[0] == identity:
            attempt = kept[1]
            # A process that is killed leaves its record as it is.
            if attempt is None or not attempt.is_running or is_locked(path):
                return attempt
        attempt = None if identity == ABSENT else _read(path)
        self.cache[path] = (identity, attempt)
        return attempt


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return ABSENT
    return status.st_mtime_ns, status.st_size


def _read(path: str) -> LastAttempt | None:
    lines: list[dict[str, Any]] = []
    end: dict[str, Any] | None = None
    seconds = None
    for line in records.read_attempts(path):
        if line["event"] == "start":
            lines, end = [line], None
        elif lines and line["event"] in ("end", "killed"):
            end = line
            if line.get("exit_code") == DONE:
                seconds = max(line["time"] - lines[0]["time"], 0.0)
    if not lines:
        return None
    (start,) = lines
    return LastAttempt(
        number=start["attempt"],
        began=float(start["time"]),
        ended=None if end is None else float(end["time"]),
        exit_code=None if end is None else _integer(end.get("exit_code")),
        signal=None if end is None else _integer(end.get("signal")),
        is_running=end is None and is_locked(path),
        peak_memory_kib=None if end is None else records.memory_of(end),
        timeout_seconds=None if end is None else records.timeout_of(end),
        log_offset=records.log_offset_of(start),
        seconds=seconds,
        host=str(start.get("host", "")),
    )


def _integer(value: object) -> int | None:
    return value if type(value) is int else None


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
