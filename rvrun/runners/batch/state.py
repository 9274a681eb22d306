"""The state of a run on AWS Batch: jobs are described a hundred a call, arrays by their summary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from rvrun.aws.client import Client
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger
from rvrun.remote.state import (
    RemoteFailure,
    RunState,
    StageState,
    State,
    state_from_json,
    timestamp,
)
from rvrun.runners.batch.api import JobDetail, JobSummary, describe_jobs, list_some_children
from rvrun.runners.batch.spec_files import Spec, read_specs
from rvrun.runners.batch.submit import read_ids

#: What parsing raises for a stored state that is damaged.
NOT_A_STATE = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
#: The event of the ledger that has the state of a round that is over.
ENDED = "ended"
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
#: How the reason of a stuck job begins (AWS Batch User Guide, "Jobs stuck in RUNNABLE").
STUCK = ("CAPACITY:", "MISCONFIGURATION:")


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
            return STATES[self.detail["status"]]
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

    def count(self, state: State) -> int:
        return self.counts.get(state, 0)


def track_jobs(ledger: Ledger, batch: Client) -> dict[int, list[TrackedJob]]:
    """Return the jobs of each round, in the order of submission."""
    cancelled = rounds_with(ledger, CANCELLED)
    # Before anything is asked: a damaged spec should not wait for a reply.
    specs = {number: read_specs(ledger, number) for number in ledger.rounds()}
    ids = {number: read_ids(ledger, number) for number in specs}
    # One list for all rounds, so that small rounds share calls.
    all_ids = [id_ for ids_of_round in ids.values() for id_ in ids_of_round.values()]
    details = {detail["jobId"]: detail for detail in describe_jobs(batch, all_ids)}
    return {
        number: [
            TrackedJob(
                spec=spec,
                id=(id_ := ids[number].get(spec.key)),
                detail=None if id_ is None else details.get(id_),
                cancelled=number in cancelled,
            )
            for spec in specs_of_round
        ]
        for number, specs_of_round in specs.items()
    }


def rounds_with(ledger: Ledger, event: str) -> set[int]:
    """Return the rounds for which the ledger has an event of that kind."""
    return {line["round"] for line in ledger.events(event)}


def read_state(ledger: Ledger, batch: Client) -> RunState:
    """Return the state of a run. When it is over, it is stored: Batch forgets jobs after days."""
    if (stored := _read_stored(ledger)) is not None:
        return stored
    rounds = track_jobs(ledger, batch)
    last = max(rounds)
    state = RunState(
        run_id=ledger.run_id,
        runner=ledger.runner,
        stages=tuple(_stage_states(rounds, batch)),
        began=timestamp(ledger.facts["began"]),
        submitted=last in rounds_with(ledger, SUBMITTED),
        cancelled=last in rounds_with(ledger, CANCELLED),
        failure=_first_failure(rounds[last], batch),
    )
    if state.is_over:
        ended = max((stage.ended or 0 for stage in state.stages), default=0) or state.began
        state = attrs.evolve(state, ended=ended)
        ledger.note(ENDED, round=last, state=attrs.asdict(state))
    return state


def _read_stored(ledger: Ledger) -> RunState | None:
    # A retry adds a round, so the state of an earlier one is no longer the run's.
    number = ledger.num_rounds
    for event in ledger.events(ENDED):
        if event["round"] == number:
            # Only a copy: Batch may still know the run.
            with contextlib.suppress(*NOT_A_STATE):
                return state_from_json(event["state"])
    return None


def _stage_states(
    rounds: Mapping[int, Sequence[TrackedJob]], batch: Client
) -> Iterator[StageState]:
    """The state of each stage, in the order of the first round."""
    stages = dict.fromkeys(job.spec.stage for job in rounds[1] if not job.spec.is_join)
    for stage in stages:
        jobs_by_round = {
            number: [job for job in jobs if job.spec.stage == stage and not job.spec.is_join]
            for number, jobs in rounds.items()
        }
        yield _stage_state(stage, jobs_by_round, batch)


def _stage_state(
    name: str, rounds: Mapping[int, Sequence[TrackedJob]], batch: Client
) -> StageState:
    """The state of a stage, from its jobs in each round.

    The last round in which it has jobs contains all targets that had not succeeded before, so
    earlier rounds contribute only what succeeded in them.
    """
    last = max(number for number, jobs in rounds.items() if jobs)
    counts = dict.fromkeys(State, 0)
    for number, jobs in rounds.items():
        for job in jobs:
            for state, targets in job.counts.items():
                if number == last or state is State.SUCCEEDED:
                    counts[state] += targets
    details = [job.detail for jobs in rounds.values() for job in jobs if job.detail]
    # Batch says when a plain job started, but not when the first child of an array did.
    starts = [detail.get("startedAt") or detail["createdAt"] for detail in details]
    has_started = counts[State.RUNNING] or counts[State.SUCCEEDED] or counts[State.FAILED]
    stops = [detail["stoppedAt"] for detail in details if detail.get("stoppedAt")]
    may_be_stuck = counts[State.RUNNABLE] and not counts[State.RUNNING]
    return StageState(
        name=name,
        counts={state: targets for state, targets in counts.items() if targets},
        began=min(starts) / 1000 if has_started and starts else None,
        ended=max(stops) / 1000 if stops else None,
        stuck=_why_stuck(rounds[last], batch) if may_be_stuck else "",
    )


def _why_stuck(jobs: Iterable[TrackedJob], batch: Client) -> str:
    """Why the first runnable job does not start; empty if Batch does not say so."""
    for job in jobs:
        if not job.count(State.RUNNABLE) or job.detail is None:
            continue
        reasons = [job.detail.get("statusReason", "")]
        if job.spec.size:
            children = list_some_children(batch, job.detail["jobId"], "RUNNABLE")
            reasons += [child.get("statusReason", "") for child in children]
        for reason in reasons:
            if reason.startswith(STUCK):
                return reason
    return ""


def _first_failure(jobs: Sequence[TrackedJob], batch: Client) -> RemoteFailure | None:
    """The earliest failure that is not the consequence of another, and not of a cancelled job."""
    failed = [job for job in jobs if job.count(State.FAILED) and job.detail is not None]
    keys = {job.spec.key for job in failed}
    failures = [
        (target, summary)
        for job in failed
        if keys.isdisjoint(job.spec.depends)
        for target, summary in _failed_targets(job, batch)
        if summary.get("statusReason") != CANCEL_REASON
    ]
    if not failures:
        return None
    target, summary = min(failures, key=lambda failure: failure[1].get("stoppedAt", 0))
    container = summary.get("container", {})
    reasons = (summary.get("statusReason", ""), container.get("reason", ""))
    return RemoteFailure(
        target=target,
        reason="; ".join(dict.fromkeys(filter(None, reasons))),
        exit_code=container.get("exitCode"),
    )


def _failed_targets(job: TrackedJob, batch: Client) -> list[tuple[str, JobSummary]]:
    """Some targets of a job that failed, with what Batch says about each."""
    assert job.detail is not None
    if job.spec.size is None:
        return [(job.spec.target(0), job.detail)]
    children = list_some_children(batch, job.detail["jobId"], "FAILED")
    targets = [(job.spec.target(child["arrayProperties"]["index"]), child) for child in children]
    # Without children the array itself failed.
    return targets or [(job.spec.stage, job.detail)]
