"""How a run on AWS Batch stands: jobs described a hundred a call, arrays by their summaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from rvrun import split_ranges as indices
from rvrun.aws.client import Client
from rvrun.environment import SPLITS
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger
from rvrun.remote.state import RemoteFailure, RunState, StageState, State, timestamp
from rvrun.runners.batch.submit import Ticket, describe, read_ids, read_tickets

#: Of events in the ledger.
ENDED = "ended"
#: What Batch is told, and tells, of jobs that were cancelled.
CANCEL_REASON = "cancelled by rvrun cancel"
#: What Batch calls a job's state (AWS Batch User Guide, "Job states").
STATES = {
    "SUBMITTED": State.PENDING,
    "PENDING": State.PENDING,
    "RUNNABLE": State.RUNNABLE,
    "STARTING": State.RUNNING,
    "RUNNING": State.RUNNING,
    "SUCCEEDED": State.SUCCEEDED,
    "FAILED": State.FAILED,
}
#: How a reason begins why a job is stuck (AWS Batch User Guide, "Jobs stuck in RUNNABLE").
STUCK = ("CAPACITY:", "MISCONFIGURATION:")


@attrs.frozen(kw_only=True)
class Known:
    """A job of a run with what Batch says of it: `id` and `job` are None where that is nothing.

    `cancelled`: whether its round was, so that it is not submitted any more if it is not yet.
    """

    ticket: Ticket
    id: str | None
    job: Mapping[str, Any] | None
    cancelled: bool = False

    @property
    def is_join(self) -> bool:
        return self.ticket.is_join

    @property
    def stage(self) -> str:
        return stage_of(self.ticket.key)

    @property
    def num_targets(self) -> int:
        return self.ticket.size or 1

    @property
    def state(self) -> State:
        """Of the job itself; that of an array is no more than its children's together."""
        if self.job is not None:
            return STATES[self.job["status"]]
        if self.id is not None:
            return State.GONE
        return State.FAILED if self.cancelled else State.PENDING

    @property
    def counts(self) -> dict[State, int]:
        """How many of its targets are in which state."""
        summary = (self.job or {}).get("arrayProperties", {}).get("statusSummary") or {}
        counts: dict[State, int] = {}
        for word, number in summary.items():
            if number and word in STATES:
                counts[STATES[word]] = counts.get(STATES[word], 0) + int(number)
        # An array has no children yet, or never will, before what it depends on is done.
        missing = self.num_targets - sum(counts.values())
        if missing > 0:
            counts[self.state] = counts.get(self.state, 0) + missing
        return counts

    @property
    def splits(self) -> list[int] | None:
        """The splits that its children run, in their order; None for what is not split."""
        command = self.ticket.request["containerOverrides"].get("command", ())
        if "--num-splits" not in command:
            return None
        environment = self.ticket.request["containerOverrides"].get("environment", ())
        said = [each["value"] for each in environment if each["name"] == SPLITS]
        return indices.read(said[0]) if said else list(range(self.num_targets))

    def target(self, child: int) -> str:
        """The name of the target that its child of that index runs."""
        splits = self.splits
        return self.stage if splits is None else f"{self.stage}/{splits[child]}"


def stage_of(key: str) -> str:
    """The stage of the job of that key: `tiny/chip` of `tiny/chip.1`."""
    pipeline, _, rest = key.partition("/")
    return f"{pipeline}/{rest.partition('.')[0]}"


def known_jobs(ledger: Ledger, reader: Client) -> dict[int, list[Known]]:
    """The jobs of each round, in the order of submission."""
    rounds = {number: read_tickets(ledger, number) for number in ledger.rounds()}
    cancelled = rounds_of(ledger, CANCELLED)
    ids = {number: read_ids(ledger, number) for number in rounds}
    flat = [id_ for of_round in ids.values() for id_ in of_round.values()]
    described = {job["jobId"]: job for job in describe(reader, flat)}
    return {
        number: [
            Known(
                ticket=ticket,
                id=(id_ := ids[number].get(ticket.key)),
                job=described.get(id_) if id_ else None,
                cancelled=number in cancelled,
            )
            for ticket in tickets
        ]
        for number, tickets in rounds.items()
    }


def rounds_of(ledger: Ledger, event: str) -> set[int]:
    """The rounds of which such an event was noted."""
    return {each["round"] for each in ledger.events(event)}


def read_state(ledger: Ledger, reader: Client) -> RunState:
    """How the run stands; once it is over that is kept, for Batch forgets jobs after days."""
    if (kept := _kept(ledger)) is not None:
        return kept
    rounds = known_jobs(ledger, reader)
    last = max(rounds)
    state = RunState(
        run_id=ledger.run_id,
        runner=ledger.runner,
        stages=tuple(_stages(rounds, reader)),
        began=timestamp(ledger.facts["began"]),
        submitted=last in rounds_of(ledger, SUBMITTED),
        cancelled=last in rounds_of(ledger, CANCELLED),
        failure=_first_failure(rounds[last], reader),
    )
    if state.is_over:
        ended = max((stage.ended or 0 for stage in state.stages), default=0) or state.began
        state = attrs.evolve(state, ended=ended)
        ledger.note(ENDED, round=last, state=_to_json(state))
    return state


def _kept(ledger: Ledger) -> RunState | None:
    for event in ledger.events(ENDED):
        if event["round"] == ledger.num_rounds:
            return _from_json(event["state"])
    return None


def _to_json(state: RunState) -> dict[str, Any]:
    return attrs.asdict(state)


def _from_json(values: dict[str, Any]) -> RunState:
    stages = [
        StageState(**{**each, "counts": {State(k): v for k, v in each["counts"].items()}})
        for each in values["stages"]
    ]
    failure = values["failure"]
    return RunState(
        **{
            **values,
            "stages": tuple(stages),
            "failure": RemoteFailure(**failure) if failure else None,
        }
    )


def _stages(rounds: Mapping[int, Sequence[Known]], reader: Client) -> Iterable[StageState]:
    """Each stage: what its last round says, and of the rounds before what succeeded."""
    names = dict.fromkeys(job.stage for job in rounds[1] if not job.is_join)
    for name in names:
        of_stage = {
            number: [job for job in jobs if job.stage == name and not job.is_join]
            for number, jobs in rounds.items()
        }
        last = max(number for number, jobs in of_stage.items() if jobs)
        yield _stage(name, of_stage, last, reader)


def _stage(
    name: str, of_stage: Mapping[int, Sequence[Known]], last: int, reader: Client
) -> StageState:
    counts = dict.fromkeys(State, 0)
    for number, jobs in of_stage.items():
        for job in jobs:
            for state, many in job.counts.items():
                if number == last or state is State.SUCCEEDED:
                    counts[state] += many
    described = [job.job for jobs in of_stage.values() for job in jobs if job.job]
    # Batch tells of a plain job alone when it started.
    starts = [job.get("startedAt") or job["createdAt"] for job in described]
    started = counts[State.RUNNING] or counts[State.SUCCEEDED] or counts[State.FAILED]
    stops = [job["stoppedAt"] for job in described if job.get("stoppedAt")]
    is_stuck = counts[State.RUNNABLE] and not counts[State.RUNNING]
    return StageState(
        name=name,
        counts={state: many for state, many in counts.items() if many},
        began=min(starts) / 1000 if started and starts else None,
        ended=max(stops) / 1000 if stops else None,
        stuck=_stuck(of_stage[last], reader) if is_stuck else "",
    )


def _stuck(jobs: Iterable[Known], reader: Client) -> str:
    """Why the first of the runnable ones does not start, if Batch says so."""
    for job in jobs:
        if not job.counts.get(State.RUNNABLE) or job.id is None or job.job is None:
            continue
        reasons = [job.job.get("statusReason", "")]
        if job.ticket.size:
            answer = reader.call(
                "ListJobs", arrayJobId=job.id, jobStatus="RUNNABLE", maxResults=100
            )
            reasons += [child.get("statusReason", "") for child in answer["jobSummaryList"]]
        for reason in reasons:
            if reason.startswith(STUCK):
                return str(reason)
    return ""


def _first_failure(jobs: Sequence[Known], reader: Client) -> RemoteFailure | None:
    """The earliest of jobs that failed though all that they depend on did not.

    One that was cancelled did not fail.
    """
    failed = [job for job in jobs if job.counts.get(State.FAILED) and job.job is not None]
    keys = {job.ticket.key for job in failed}
    found = [
        failure
        for job in failed
        if keys.isdisjoint(job.ticket.depends)
        for failure in _failures(job, reader)
        if failure[1].get("statusReason") != CANCEL_REASON
    ]
    if not found:
        return None
    target, described = min(found, key=lambda failure: failure[1].get("stoppedAt", 0))
    return _told(target, described)


def _failures(job: Known, reader: Client) -> list[tuple[str, Mapping[str, Any]]]:
    """Its targets that failed, the first hundred, with what Batch says of each."""
    assert job.job is not None
    if job.ticket.size is None:
        return [(job.target(0), job.job)]
    answer = reader.call("ListJobs", arrayJobId=job.id, jobStatus="FAILED", maxResults=100)
    children = answer["jobSummaryList"]
    found = [(job.target(child["arrayProperties"]["index"]), child) for child in children]
    return found or [(job.stage, job.job)]


def _told(target: str, job: Mapping[str, Any]) -> RemoteFailure:
    container = job.get("container", {})
    reasons = (job.get("statusReason", ""), container.get("reason", ""))
    return RemoteFailure(
        target=target,
        reason="; ".join(dict.fromkeys(filter(None, reasons))),
        exit_code=container.get("exitCode"),
    )
