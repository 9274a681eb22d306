"""How much longer a run takes while it goes on, from its events and earlier records."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from rvrun.observe.attempts import AttemptReader
from rvrun.observe.left import Left, seconds_left
from rvrun.rundir.freshness import StageStatus

#: How many targets of a stage are enough to know how long one takes.
SAMPLES = 100


@attrs.define
class _Stage:
    """A stage while it runs.

    - `recorded`: how long targets took in earlier runs. `taken`: in this one.
    """

    name: str
    needs: tuple[str, ...]
    number: int
    recorded: list[float]
    taken: list[float] = attrs.field(factory=list)

    @property
    def seconds(self) -> float | None:
        sample = self.taken or self.recorded
        return statistics.median(sample[-SAMPLES:]) if sample else None


@attrs.define
class Forecast:
    """Follows a run, and tells how long the rest of it takes.

    - `jobs`: how many targets run in parallel.
    """

    reader: AttemptReader
    jobs: int
    stages: dict[str, _Stage] = attrs.field(factory=dict, init=False)

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        for status in statuses:
            needs = tuple(f"{status.pipeline}/{need.command}" for need in status.stage.needs)
            recorded = self._recorded(status)
            number = len(status.stale)
            self.stages[status.name] = _Stage(status.name, needs, number, recorded)

    def ended(self, stage: str, seconds: float | None) -> None:
        """Count a target of a stage that is done after `seconds`, or failed: then None."""
        if (own := self.stages.get(stage)) is not None:
            own.number = max(own.number - 1, 0)
            if seconds is not None:
                own.taken.append(seconds)

    def seconds_left(self, elapsed: dict[str, float]) -> float | None:
        """Return about how long the rest takes; None without records of a stage that is left.

        - `elapsed`: for how long the running targets of each stage have run, all together.
        """
        lefts = [
            Left(
                name=stage.name,
                needs=stage.needs,
                number=stage.number,
                elapsed=elapsed.get(stage.name, 0.0),
                seconds=stage.seconds,
            )
            for stage in self.stages.values()
        ]
        return seconds_left(lefts, self.jobs)

    def _recorded(self, status: StageStatus) -> list[float]:
        stage = status.stage
        indices = range(0, stage.num_targets, max(stage.num_targets // SAMPLES, 1))
        attempts = (self.reader.read(stage.target(status.pipeline, index)) for index in indices)
        return [a.seconds for a in attempts if a is not None and a.seconds is not None]
