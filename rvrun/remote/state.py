"""The state of a detached run: what its runner reports and the verbs show."""

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
    - GONE: its service no longer knows it.
    """

    PENDING = "pending"
    RUNNABLE = "runnable"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"


#: The states of targets that will not change any more.
OVER = (State.SUCCEEDED, State.FAILED, State.GONE)


@attrs.frozen(kw_only=True)
class StageState:
    """How many targets of a stage are in which state.

    - `began`, `ended`: when its first target started and its last one stopped, in seconds since
      1970; None if that has not happened yet.
    - `stuck`: why a runnable target does not start, in the service's words.
    """

    name: str
    counts: Mapping[State, int]
    began: float | None = None
    ended: float | None = None
    stuck: str = ""

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
    """The first target that failed.

    - `reason`: the service's words. `exit_code`: None if its process did not even start.
    """

    target: str
    reason: str
    exit_code: int | None = None


@attrs.frozen(kw_only=True)
class RunState:
    """The state of a run.

    - `submitted`: whether all of it was submitted. `cancelled`: whether it was cancelled.
    - `began`: when it was submitted. `ended`: when its last target stopped; None while it runs.
      Both in seconds since 1970.
    """

    run_id: str
    runner: str
    stages: tuple[StageState, ...]
    began: float
    ended: float | None = None
    submitted: bool = True
    cancelled: bool = False
    failure: RemoteFailure | None = None

    @property
    def is_over(self) -> bool:
        """Whether none of its targets waits or runs."""
        done = all(stage.is_over for stage in self.stages)
        return done and (self.submitted or self.cancelled)

    @property
    def has_failed(self) -> bool:
        return any(stage.count(State.FAILED) for stage in self.stages)

    def count(self, *states: State) -> int:
        return sum(stage.count(*states) for stage in self.stages)

    @property
    def word(self) -> str:
        """The state of the whole run: `running`, `succeeded`, ..."""
        if not self.submitted and not self.cancelled:
            return "interrupted"
        if not self.is_over:
            return "running"
        if self.cancelled:
            return "cancelled"
        if self.has_failed:
            return "failed"
        return "gone" if self.count(State.GONE) else "succeeded"


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
    state = RunState(**{**values, "stages": tuple(stages), "failure": failure})
    for name in (state.run_id, state.runner, *(s.name for s in stages), *(s.stuck for s in stages)):
        if not isinstance(name, str):
            raise TypeError(f"must be a string, got {quoted(name)}")
    return state


def timestamp(text: str) -> float:
    """Parse a ledger's time; return seconds since 1970."""
    return dt.datetime.fromisoformat(text).timestamp()
