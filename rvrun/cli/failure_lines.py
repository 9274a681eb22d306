"""A line for each target that fails, while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.rundir import records
from rvrun.rundir.exits import describe_exit
from rvrun.rundir.freshness import StageStatus
from rvrun.text import duration


@attrs.define
class FailureLines:
    """Knows since when targets run, and where their logs are.

    - `out`: the run directory, as messages name it; None for targets without logs.
    - `began`: when each running target started, by a clock that only goes forward.
    """

    out: str | None
    stages: dict[str, StageStatus] = attrs.field(factory=dict, init=False)
    began: dict[str, float] = attrs.field(factory=dict, init=False)

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        self.stages = {status.name: status for status in statuses}

    def started(self, target: str) -> None:
        self.began[target] = time.monotonic()

    def ended(self, target: str) -> float | None:
        """Return for how long a target that ended has run, in seconds; None if that is unknown."""
        began = self.began.pop(target, None)
        return None if began is None else time.monotonic() - began

    def format(self, target: str, exit_code: int, seconds: float | None) -> str:
        """Return `tiny/sum failed (exit 1) after 2.0 s; log: runs/tiny/logs/tiny/sum.log`."""
        after = "" if seconds is None else f" after {duration(seconds)}"
        path = self._path(target)
        if path is None:
            return f"{target} failed ({describe_exit(exit_code, None)}){after}"
        # Whoever reported the end has recorded it before.
        _, end = records.last_attempt(f"{self.out}/{paths.record(path)}")
        return (
            f"{target} {_describe(exit_code, end or {})}{after}; log: {self.out}/{paths.log(path)}"
        )

    def _path(self, target: str) -> str | None:
        """Return the path of a target with a log; see `paths.target`."""
        pipeline, command, *split = target.split("/")
        status = self.stages.get(f"{pipeline}/{command}")
        if self.out is None or status is None:
            return None
        return status.stage.target(pipeline, int(split[0]) if split else 0).path


def _describe(exit_code: int, end: Mapping[str, Any]) -> str:
    """Return `failed (exit 1)` or `was killed by SIGKILL (137)`, as the summary does."""
    if end.get("event") == "killed" and end.get("exit_code") is None:
        how = f"was {describe_exit(None, end.get('signal'))}"
    else:
        how = f"failed ({describe_exit(exit_code, None)})"
    is_late = records.timeout_of(end) is not None
    return f"{how} at its time limit" if is_late else how
