"""The last attempt of a target, as its record has it."""

from __future__ import annotations

from typing import Any

import attrs

from rvrun.errors import DONE
from rvrun.rundir import records
from rvrun.rundir.target_lock import is_locked


@attrs.frozen(kw_only=True)
class Attempt:
    """The last attempt of a target, and how long its last successful one took.

    - `number`: from 1.
    - `began`, `ended`: in seconds since 1970. `ended` is never before `began`; None if no end was
      recorded, because it was killed or is still running.
    - `exit_code`, `signal`: None if that is unknown.
    - `has_process`: whether there is a process of it. Threads, and what runs at exit, belong to an
      attempt whose end is recorded already.
    - `peak_memory_kib`: of its largest process.
    - `shared_memory_kib`: what it shared with other targets when it started; None if that is
      unknown, or if it was not forked.
    - `timeout_seconds`: its time limit, if it was ended because of that.
    - `log_offset`: where its output begins in its log, in bytes; None without a log.
    - `seconds`: of the last attempt that succeeded; None if there was none.
    """

    number: int
    began: float
    ended: float | None
    exit_code: int | None
    signal: int | None = None
    has_process: bool
    peak_memory_kib: int | None = None
    shared_memory_kib: int | None = None
    timeout_seconds: int | None = None
    log_offset: int | None = None
    seconds: float | None
    host: str = ""

    @property
    def has_succeeded(self) -> bool:
        return self.exit_code == DONE

    @property
    def is_running(self) -> bool:
        return self.has_process and self.ended is None

    @property
    def was_lost(self) -> bool:
        """Whether it has neither an end nor a process."""
        return not self.has_process and self.ended is None


def read_attempt(path: str) -> Attempt | None:
    """Return the last attempt in the record at `path`; None if there was none."""
    attempt, before = _read_once(path), None
    # One without an end and without a process may have ended after its record was read: its end is
    # recorded before its lock is released. It was killed if the record still has no end.
    while attempt is not None and attempt.was_lost and attempt != before:
        attempt, before = _read_once(path), attempt
    return attempt


def _read_once(path: str) -> Attempt | None:
    start: dict[str, Any] | None = None
    end: dict[str, Any] = {}
    seconds = None
    for line in records.read_attempts(path):
        if line["event"] == "start":
            start, end = line, {}
        elif start is not None and line["event"] in ("end", "killed"):
            end = line
            if line.get("exit_code") == DONE:
                seconds = _ended(start, line) - start["time"]
    if start is None:
        return None
    return Attempt(
        number=start["attempt"],
        began=float(start["time"]),
        ended=_ended(start, end) if end else None,
        exit_code=_integer(end.get("exit_code")),
        signal=_integer(end.get("signal")),
        has_process=is_locked(path),
        peak_memory_kib=records.memory_of(end),
        shared_memory_kib=records.shared_memory_of(start),
        timeout_seconds=records.timeout_of(end),
        log_offset=records.log_offset_of(start),
        seconds=seconds,
        host=str(start.get("host", "")),
    )


def _ended(start: dict[str, Any], end: dict[str, Any]) -> float:
    """When an attempt ended: not before it began, also if someone has set the clock back."""
    return float(max(end["time"], start["time"]))


def _integer(value: object) -> int | None:
    return value if type(value) is int else None
