"""The state of a run, on this machine or elsewhere: what is reported of it and the verbs show."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from rvrun.text import quoted


class State(enum.StrEnum):
    """What a target waits for, or how it ended.

    - PENDING: waits for what it needs. RUNNABLE: waits for a machine.
    - STALE: is done, but something that it depends on has changed since.
    - STOPPED: was running when the run was interrupted.
    - GONE: its service no longer knows it.
    """

    PENDING = "pending"
    RUNNABLE = "runnable"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STALE = "stale"
    STOPPED = "stopped"
    GONE = "gone"


#: The states of targets that will not change any more.
OVER = (State.SUCCEEDED, State.FAILED, State.GONE)
#: The states that are only worth a word if a target is in them.
RARE = (State.STALE, State.STOPPED, State.GONE)


@attrs.frozen(kw_only=True)
class StageState:
    """How many targets of a stage are in which state.

    - `began`, `ended`: when its first target started and its last one stopped, in seconds since
      1970; None if that has not happened yet.
    - `stuck`: why a runnable target does not start, in the service's words.
    - `median_seconds`: how long a target of it took. `peak_memory_kib`: of its largest process.
      Both are None if no target recorded it.
    """

    name: str
    counts: Mapping[State, int]
    began: float | None = None
    ended: float | None = None
    stuck: str = ""
    median_seconds: float | None = None
    peak_memory_kib: int | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def count(self, *states: State) -> int:
        return sum(self.counts.get(state, 0) for state in states)

    @property
    def is_over(self) -> bool:
        return self.count(*OVER) == self.total


@attrs.frozen(kw_only=True)
class RemoteFailure:
    """A target that failed.

    - `reason`: the service's words, or how its process ended.
    - `exit_code`: None if its process did not even start, or was killed.
    """

    target: str
    reason: str
    exit_code: int | None = None


@attrs.frozen
class RunningTarget:
    """A target that is running, and when it started, in seconds since 1970."""

    target: str
    began: float


@attrs.frozen(kw_only=True)
class RunState:
    """The state of a run.

    - `submitted`: whether all of it was submitted. `cancelled`: whether it was cancelled.
    - `began`: when it was submitted. `ended`: when its last target stopped; None while it runs.
      Both in seconds since 1970.
    - `failure`: the first target that failed.
    - `warnings`: sentences about jobs that should not be there.
    - `active`: whether a process works on it now; None for detached runs, of which the states of
      their targets tell.
    - `running`: which targets are, if that is known. `other_failures`: those after the first.
    - `seconds_left`: how much longer it will take; None without records of all that is left.
    """

    run_id: str
    runner: str
    stages: tuple[StageState, ...]
    began: float
    ended: float | None = None
    submitted: bool = True
    cancelled: bool = False
    failure: RemoteFailure | None = None
    warnings: tuple[str, ...] = ()
    active: bool | None = None
    running: tuple[RunningTarget, ...] = ()
    other_failures: tuple[RemoteFailure, ...] = ()
    seconds_left: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether none of its targets waits or runs, or nobody works on them any more."""
        if self.active is not None:
            return not self.active
        done = all(stage.is_over for stage in self.stages)
        return done and (self.submitted or self.cancelled)

    @property
    def total(self) -> int:
        return sum(stage.total for stage in self.stages)

    @property
    def has_failed(self) -> bool:
        return any(stage.count(State.FAILED) for stage in self.stages)

    def count(self, *states: State) -> int:
        return sum(stage.count(*states) for stage in self.stages)

    @property
    def word(self) -> str:
        """The state of the whole run: `running`, `succeeded`, ..."""
        if self.active is not None:
            return self._word_here
        if not self.submitted and not self.cancelled:
            return "interrupted"
        if not self.is_over:
            return "running"
        # All may have succeeded by then.
        if self.cancelled and self.count(State.SUCCEEDED) < self.total:
            return "cancelled"
        if self.has_failed:
            return "failed"
        return "gone" if self.count(State.GONE) else "succeeded"

    @property
    def _word_here(self) -> str:
        """The state of a run on this machine, which can end before all its targets are done."""
        if self.active:
            return "running"
        if self.has_failed:
            return "failed"
        if self.count(State.STOPPED):
            return "interrupted"
        return "succeeded" if self.count(State.SUCCEEDED) == self.total else "incomplete"


@attrs.frozen(kw_only=True)
class TargetReport:
    """A target of a detached run, as its service reports it.

    - `attempt`: the number of its last attempt, from 1.
    - `began`, `ended`: of that attempt, in seconds since 1970; None if that has not happened yet,
      or is not known.
    - `exit_code`: None if its process did not end by itself, or that is not known.
    - `reason`: why it failed, in the service's words.
    """

    name: str
    state: State
    attempt: int = 1
    began: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class TargetReports:
    """The targets of a detached run.

    - `notes`: sentences for the reader about what the service does not report.
    """

    targets: tuple[TargetReport, ...]
    notes: tuple[str, ...] = ()


class Progress(Protocol):
    """A callback for the progress of work on a run's jobs."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` jobs are done."""


#: Seconds since 1970 of a time that is certainly wrong.
MAX_TIME = 1e12


def state_from_json(values: Mapping[str, Any]) -> RunState:
    """Return the state whose `attrs.asdict` was stored as JSON.

    Raises ValueError, TypeError, LookupError, AttributeError or OverflowError for anything else.
    """
    for times in (values, *values["stages"]):
        for name in ("began", "ended"):
            time = times[name]
            # Not NaN or infinite, either.
            if time is not None and not (type(time) in (int, float) and abs(time) < MAX_TIME):
                raise TypeError(f"`{name}` must be a time or null")
    stages = [
        StageState(**{**stage, "counts": {State(k): int(n) for k, n in stage["counts"].items()}})
        for stage in values["stages"]
    ]
    failure = RemoteFailure(**values["failure"]) if values["failure"] else None
    warnings = tuple(str(text) for text in values.get("warnings", ()))
    own = {
        "stages": tuple(stages),
        "failure": failure,
        "warnings": warnings,
        "running": tuple(RunningTarget(**one) for one in values.get("running", ())),
        "other_failures": tuple(RemoteFailure(**one) for one in values.get("other_failures", ())),
    }
    state = RunState(**{**values, **own})
    for name in (state.run_id, state.runner, *(s.name for s in stages), *(s.stuck for s in stages)):
        if not isinstance(name, str):
            raise TypeError(f"must be a string, got {quoted(name)}")
    return state


def timestamp(text: str) -> float:
    """Parse a ledger's time; return seconds since 1970."""
    return dt.datetime.fromisoformat(text).timestamp()
