"""The jobs of a run and what AWS Batch says about them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from rvrun.aws.client import Client
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger
from rvrun.remote.state import State
from rvrun.runners.batch.api import JobDetail
from rvrun.runners.batch.inventory import end_duplicates, take_inventory
from rvrun.runners.batch.spec_files import Spec, read_specs

#: The reason that `cancel` gives for ending jobs, by which they are recognized later.
CANCEL_REASON = "cancelled by rvrun cancel"
#: The states of Batch's jobs (AWS Batch User Guide, "Job states").
STATES = {
    "SUBMITTED": State.PENDING,
    "PENDING": State.PENDING,
    "RUNNABLE": State.RUNNABLE,
    "STARTING": State.RUNNING,
    "RUNNING": State.RUNNING,
    "SUCCEEDED": State.SUCCEEDED,
    "FAILED": State.FAILED,
}


def state_of(status: str) -> State:
    """Return the state for Batch's `status`; one that this version does not know is PENDING."""
    return STATES.get(status, State.PENDING)


@attrs.frozen(kw_only=True)
class TrackedJob:
    """A job of a run, and what Batch says about it.

    - `id`: None if it was not submitted. `detail`: None if Batch does not know it.
    - `cancelled`: whether its round was cancelled: if it has not been submitted, it never will be.
    """

    spec: Spec
    id: str | None
    detail: JobDetail | None
    cancelled: bool = False

    @property
    def state(self) -> State:
        """The state of the job itself; an array's says little about its children."""
        if self.detail is not None:
            return state_of(self.detail["status"])
        if self.id is not None:
            return State.GONE
        return State.FAILED if self.cancelled else State.PENDING

    @property
    def counts(self) -> dict[State, int]:
        """How many of its targets are in which state."""
        summary: Mapping[str, int] = {}
        if self.detail is not None:
            summary = self.detail.get("arrayProperties", {}).get("statusSummary") or {}
        counts: dict[State, int] = {}
        for status, number in summary.items():
            if number and status in STATES:
                counts[STATES[status]] = counts.get(STATES[status], 0) + int(number)
        # An array gets its children when its dependencies have succeeded, so maybe never. Until
        # then they are in the state of the array.
        missing = self.spec.num_targets - sum(counts.values())
        if missing > 0:
            counts[self.state] = counts.get(self.state, 0) + missing
        return counts

    @property
    def has_children(self) -> bool:
        """Whether Batch has created the children of its array."""
        properties = self.detail.get("arrayProperties", {}) if self.detail is not None else {}
        return any((properties.get("statusSummary") or {}).values())

    def count(self, state: State) -> int:
        return self.counts.get(state, 0)


@attrs.frozen(kw_only=True)
class TrackedRun:
    """The jobs of each round of a run, in the order of submission, and what the user should know.

    - `warnings`: a sentence about each duplicate; all of them have ended, if that was possible.
    """

    rounds: Mapping[int, Sequence[TrackedJob]]
    warnings: tuple[str, ...]


def track_jobs(ledger: Ledger, batch: Client) -> TrackedRun:
    """Look at the jobs of all rounds, end duplicates, and note jobs that the ledger lacked."""
    cancelled = rounds_with(ledger, CANCELLED)
    # Before anything is asked: a damaged spec should not wait for a reply.
    specs = {number: read_specs(ledger, number) for number in ledger.rounds()}
    inventory = take_inventory(ledger, batch, specs)
    rounds = {
        number: [
            TrackedJob(
                spec=spec,
                id=(id_ := inventory.ids[number].get(spec.key)),
                detail=None if id_ is None else inventory.details.get(id_),
                cancelled=number in cancelled,
            )
            for spec in specs_of_round
        ]
        for number, specs_of_round in specs.items()
    }
    return TrackedRun(rounds=rounds, warnings=tuple(end_duplicates(batch, inventory.duplicates)))


def rounds_with(ledger: Ledger, event: str) -> set[int]:
    """Return the rounds for which the ledger has an event of that kind."""
    return {
        line["round"] for line in ledger.intact_events(event) if isinstance(line.get("round"), int)
    }


def is_submitted(ledger: Ledger, number: int, jobs: Collection[TrackedJob]) -> bool:
    """Whether all jobs of a round were submitted: the ledger may have lost the event."""
    if number in rounds_with(ledger, SUBMITTED):
        return True
    return len(jobs) > 0 and all(job.id is not None for job in jobs)


def is_cancelled(ledger: Ledger, number: int, jobs: Iterable[TrackedJob]) -> bool:
    """Whether a round was cancelled: the ledger may have lost the event, or be read-only."""
    reasons = (job.detail.get("statusReason") for job in jobs if job.detail is not None)
    return number in rounds_with(ledger, CANCELLED) or CANCEL_REASON in reasons
