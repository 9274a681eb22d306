"""A line for each target that fails, while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from rvrun import paths
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
        log = self._log(target)
        how = f"failed ({describe_exit(exit_code, None)})"
        return f"{target} {how}{after}" + ("" if log is None else f"; log: {log}")

    def _log(self, target: str) -> str | None:
        pipeline, command, *split = target.split("/")
        status = self.stages.get(f"{pipeline}/{command}")
        if self.out is None or status is None:
            return None
        path = status.stage.target(pipeline, int(split[0]) if split else 0).path
        return f"{self.out}/{paths.log(path)}"
