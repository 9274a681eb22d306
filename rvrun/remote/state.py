"""How a run on AWS stands, whatever runs it: what its runners tell and its verbs show."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from typing import Protocol

import attrs

from rvrun.errors import RvrunError


class State(enum.StrEnum):
    """What a target waits for, or how it ended.

    - PENDING: for what it needs. RUNNABLE: for a machine. GONE: AWS knows it no more.
    """

    PENDING = "pending"
    RUNNABLE = "runnable"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"


OVER = (State.SUCCEEDED, State.FAILED, State.GONE)


@attrs.frozen(kw_only=True)
class StageState:
    """How many targets of a stage are in which state.

    - `began`, `ended`: when its first target started and its last one stopped, in seconds since
      1970; None where that was not yet.
    - `stuck`: what AWS says about why a runnable one does not start.
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

    - `reason`: what AWS says about it. `exit_code`: None where its process did not even start.
    """

    target: str
    reason: str
    exit_code: int | None = None


@attrs.frozen(kw_only=True)
class RunState:
    """How a run stands.

    - `submitted`: whether all of it was submitted. `cancelled`: whether it was cancelled.
    - `began`: when it was submitted; `ended`: when its last target stopped, None while it runs.
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
        """Whether nothing of it waits or runs any more."""
        done = all(stage.is_over for stage in self.stages)
        return done and (self.submitted or self.cancelled)

    @property
    def has_failed(self) -> bool:
        return any(stage.count(State.FAILED) for stage in self.stages)

    def count(self, *states: State) -> int:
        return sum(stage.count(*states) for stage in self.stages)

    @property
    def word(self) -> str:
        """In one word."""
        if not self.submitted and not self.cancelled:
            return "cut off"
        if not self.is_over:
            return "running"
        if self.cancelled:
            return "cancelled"
        if self.has_failed:
            return "failed"
        return "gone" if self.count(State.GONE) else "succeeded"


class StillGoing(RvrunError):
    """A run that must have ended first; `run` is what to type for it."""

    def __init__(self, run: str) -> None:
        self.run = run

    def __str__(self) -> str:
        return (
            f"run {self.run} is still going; see `rvrun status {self.run}`, wait for it, or "
            f"`rvrun cancel {self.run}`"
        )


class CutOff(RvrunError):
    """A run that was cut off while it was submitted, in the way of another."""

    def __init__(self, run: str) -> None:
        self.run = run

    def __str__(self) -> str:
        return (
            f"run {self.run} was cut off while it was submitted, and what would be submitted "
            f"now is not the same; `rvrun cancel {self.run}` ends what is there of it"
        )


class NothingToRetry(RvrunError):
    """A run in which nothing failed."""

    def __init__(self, run: str) -> None:
        self.run = run

    def __str__(self) -> str:
        return f"nothing of run {self.run} failed, so there is nothing to retry"


class NotSubmitted(RvrunError):
    """A run that was cut off while it was submitted, to be retried."""

    def __init__(self, run: str) -> None:
        self.run = run

    def __str__(self) -> str:
        return (
            f"run {self.run} was cut off while it was submitted; type the command again that "
            f"submitted it to go on, or `rvrun cancel {self.run}` to end what is there of it"
        )


class Forgotten(RvrunError):
    """A run so old that AWS does not tell any more what of it failed."""

    def __init__(self, run: str) -> None:
        self.run = run

    def __str__(self) -> str:
        return f"AWS no longer knows all jobs of run {self.run}, so begin a new one: rvrun run"


class Told(Protocol):
    """Is told how the work on a run's jobs goes."""

    def __call__(self, done: int, total: int) -> None:
        """So many of so many are done."""


def moment(text: str) -> float:
    """A time as ledgers have it, in seconds since 1970."""
    return dt.datetime.fromisoformat(text).timestamp()
