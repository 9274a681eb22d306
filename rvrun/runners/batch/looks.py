"""Looks at a run that tell the user about duplicates: for verbs that are about something else."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from rvrun.aws.client import Client
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import RunState
from rvrun.runners.batch.inventory import Report
from rvrun.runners.batch.state import read_state
from rvrun.runners.batch.submit import report_on_stderr
from rvrun.runners.batch.tracked import TrackedRun, track_jobs


@attrs.frozen
class Looks:
    """Looks at a run: each ends duplicates, and reports those that no earlier one has."""

    ledger: Ledger
    batch: Client
    report: Report = report_on_stderr
    _told: set[str] = attrs.field(factory=set, init=False)

    def jobs(self) -> TrackedRun:
        """Look at the jobs of all rounds."""
        run = track_jobs(self.ledger, self.batch)
        self._tell(run.warnings)
        return run

    def state(self) -> RunState:
        """Look at the state of the run."""
        state = read_state(self.ledger, self.batch)
        self._tell(state.warnings)
        return state

    def _tell(self, warnings: Iterable[str]) -> None:
        for text in warnings:
            if text not in self._told:
                self._told.add(text)
                self.report(f"warning: {text}")
