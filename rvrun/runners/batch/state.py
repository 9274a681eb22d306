"""The state of a run on AWS Batch: jobs are described a hundred a call, arrays by their summary."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import attrs

from rvrun.aws.client import Client
from rvrun.remote.ended import note_ended, read_ended
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import (
    OVER,
    RemoteFailure,
    RunState,
    StageState,
    State,
    timestamp,
)
from rvrun.runners.batch.api import JobSummary
from rvrun.runners.batch.children import STARTED as STARTED_STATES
from rvrun.runners.batch.children import (
    Children,
    about_failures,
    about_starts,
    about_stuck,
    ask,
    child_index,
    is_array,
)
from rvrun.runners.batch.inventory import is_certain
from rvrun.runners.batch.tracked import (
    CANCEL_REASON,
    STATES,
    TrackedJob,
    is_cancelled,
    is_submitted,
    track_jobs,
)

#: The events of the ledger that have the first failure of a round, and when a stage began.
FAILURE, STARTED = "failure", "started"
#: How the reason of a stuck job begins (AWS Batch User Guide, "Jobs stuck in RUNNABLE").
STUCK = ("CAPACITY:", "MISCONFIGURATION:")


def read_state(ledger: Ledger, batch: Client) -> RunState:
    """Return the state of a run. When it is over, it is stored: Batch forgets jobs after days."""
    stored = read_ended(ledger)
    if stored is not None and is_certain(ledger):
        return stored
    run = track_jobs(ledger, batch)
    if stored is not None:
        # A duplicate may be listed after the run is over.
        return attrs.evolve(stored, warnings=run.warnings)
    rounds, last = run.rounds, max(run.rounds)
    memory = Memory(ledger, last)
    stages = list(_group_by_stage(rounds))
    roots = root_failures(rounds[last])
    unfinished = {job.spec.key for job in rounds[last] if job.state not in OVER}
    failure = memory.failure
    children = ask(
        batch,
        [
            *(about_failures(roots) if failure is None else ()),
            *about_stuck(stage.latest for stage in stages if stage.may_be_stuck),
            *about_starts(job for stage in stages if not memory.knows(stage) for job in stage.jobs),
        ],
    )
    state = RunState(
        run_id=ledger.run_id,
        runner=ledger.runner,
        stages=tuple(_stage_state(stage, children, memory) for stage in stages),
        began=timestamp(ledger.facts["began"]),
        submitted=is_submitted(ledger, last, rounds[last]),
        cancelled=is_cancelled(ledger, last, rounds[last]),
        failure=failure or memory.keep_failure(first_failure(roots, unfinished, children)),
        warnings=run.warnings,
    )
    if state.is_over:
        ended = max((stage.ended or 0 for stage in state.stages), default=0) or state.began
        state = attrs.evolve(state, ended=ended)
        # Stored once it is complete. Only saves calls later, so the directory may be read-only.
        if all(memory.knows(stage) for stage in stages):
            note_ended(ledger, state)
    return state


class Memory:
    """What earlier looks have learned of a run, as events of its ledger, so that it is asked once.

    Nothing depends on it: where it cannot be written, each look asks again.
    """

    def __init__(self, ledger: Ledger, number: int) -> None:
        self._ledger, self._number = ledger, number
        self.failure = self._read_failure()
        self._starts: dict[str, float | None] = {}
        for event in ledger.intact_events(STARTED):
            stage, at = event.get("stage"), event.get("at")
            # That none of a stage has started holds only until the stage is retried.
            if isinstance(at, int | float) or (at is None and event.get("round") == number):
                self._starts[str(stage)] = at

    def _read_failure(self) -> RemoteFailure | None:
        names = ("target", "reason", "exit_code")
        for event in self._ledger.intact_events(FAILURE):
            facts = {name: event.get(name) for name in names}
            is_whole = isinstance(facts["target"], str) and isinstance(facts["reason"], str)
            if event.get("round") == self._number and is_whole:
                return RemoteFailure(**facts)  # type: ignore[arg-type]
        return None

    def keep_failure(self, failure: RemoteFailure | None) -> RemoteFailure | None:
        """Remember the first failure and return it."""
        if failure is not None:
            facts = attrs.asdict(failure)
            self._ledger.note_if_possible(FAILURE, round=self._number, **facts)
        return failure

    def knows(self, stage: Stage) -> bool:
        """Whether it is known when a stage began, or it has not begun."""
        return stage.name in self._starts or not stage.has_started

    def start_of(self, stage: Stage, children: Children) -> float | None:
        """Return when the first job of a stage started, in seconds; None if it is not known."""
        if not stage.has_started or stage.name in self._starts:
            return self._starts.get(stage.name)
        summaries: list[JobSummary] = [job.detail for job in stage.jobs if job.detail is not None]
        summaries += [
            child
            for job in stage.jobs
            for status in STARTED_STATES.values()
            for child in children.of(job, status)
        ]
        starts = [summary["startedAt"] for summary in summaries if summary.get("startedAt")]
        began = min(starts) / 1000 if starts else None
        # All targets of a stage may fail because of what they depend on.
        if began is not None or (stage.is_over and stage.was_asked(children)):
            self._starts[stage.name] = began
            self._ledger.note_if_possible(STARTED, stage=stage.name, round=self._number, at=began)
        return began


@attrs.frozen(kw_only=True)
class Stage:
    """A stage with its jobs in each round.

    The last round in which it has jobs contains all targets that had not succeeded before, so
    earlier rounds contribute only what succeeded in them.
    """

    name: str
    rounds: Mapping[int, Sequence[TrackedJob]]
    counts: Mapping[State, int]

    @property
    def jobs(self) -> list[TrackedJob]:
        return [job for jobs in self.rounds.values() for job in jobs]

    @property
    def latest(self) -> Sequence[TrackedJob]:
        return self.rounds[max(self.rounds)]

    @property
    def has_started(self) -> bool:
        return any(self.counts.get(state) for state in STARTED_STATES)

    @property
    def is_over(self) -> bool:
        return not self.counts.keys() - set(OVER)

    def was_asked(self, children: Children) -> bool:
        """Whether the children of all its arrays were asked for."""
        questions = [(job, status) for job in self.jobs for _, status in STARTED_STATES.items()]
        return all(
            children.were_asked(job, status)
            for job, status in questions
            if is_array(job) and job.counts.get(STATES[status])
        )

    @property
    def may_be_stuck(self) -> bool:
        return bool(self.counts.get(State.RUNNABLE)) and not self.counts.get(State.RUNNING)


def _group_by_stage(rounds: Mapping[int, Sequence[TrackedJob]]) -> Iterator[Stage]:
    """Yield each stage, in the order of the first round."""
    stages: dict[str, dict[int, list[TrackedJob]]] = {}
    for number, jobs in rounds.items():
        for job in jobs:
            if not job.spec.is_join:
                stages.setdefault(job.spec.stage, {}).setdefault(number, []).append(job)
    for name, jobs_by_round in stages.items():
        last = max(jobs_by_round)
        counts = dict.fromkeys(State, 0)
        for number, jobs in jobs_by_round.items():
            for job in jobs:
                for state, targets in job.counts.items():
                    if number == last or state is State.SUCCEEDED:
                        counts[state] += targets
        present = {state: targets for state, targets in counts.items() if targets}
        yield Stage(name=name, rounds=jobs_by_round, counts=present)


def _stage_state(stage: Stage, children: Children, memory: Memory) -> StageState:
    stops = [job.detail["stoppedAt"] for job in stage.jobs if job.detail and _has_stopped(job)]
    state = StageState(
        name=stage.name,
        counts=stage.counts,
        began=memory.start_of(stage, children),
        stuck=_why_stuck(stage.latest, children) if stage.may_be_stuck else "",
    )
    return attrs.evolve(state, ended=max(stops) / 1000 if stops and state.is_over else None)


def _has_stopped(job: TrackedJob) -> bool:
    return job.detail is not None and bool(job.detail.get("stoppedAt"))


def _why_stuck(jobs: Iterable[TrackedJob], children: Children) -> str:
    """Why the first runnable job does not start; empty if Batch does not say so."""
    for job in jobs:
        if not job.count(State.RUNNABLE) or job.detail is None:
            continue
        waiting: list[JobSummary] = [job.detail, *children.of(job, "RUNNABLE")]
        for summary in waiting:
            if summary.get("statusReason", "").startswith(STUCK):
                return summary["statusReason"]
    return ""


def root_failures(jobs: Sequence[TrackedJob]) -> list[TrackedJob]:
    """Return the failed jobs whose failure is not the consequence of another's."""
    failed = [job for job in jobs if job.count(State.FAILED) and job.detail is not None]
    keys = {job.spec.key for job in failed}
    return [job for job in failed if keys.isdisjoint(job.spec.depends)]


def first_failure(
    jobs: Sequence[TrackedJob], unfinished: Collection[str], children: Children
) -> RemoteFailure | None:
    """Return the earliest failure of `jobs` that is not that of a cancelled job.

    Jobs are described by several calls. One that failed before it started, while what it depends on
    was still running in an earlier call, has failed because of that, so the next look tells.

    - `unfinished`: the keys of jobs that are not over.
    """
    failures = [
        (target, summary)
        for job in jobs
        for target, summary in _failed_targets(job, children)
        if summary.get("statusReason") != CANCEL_REASON
        and (summary.get("startedAt") or set(job.spec.depends).isdisjoint(unfinished))
    ]
    if not failures:
        return None
    target, summary = min(failures, key=lambda failure: failure[1].get("stoppedAt", 0))
    exit_code = summary.get("container", {}).get("exitCode")
    return RemoteFailure(target=target, reason=reason_of(summary), exit_code=exit_code)


def reason_of(summary: JobSummary) -> str:
    """Return why a job is in its state, in Batch's words; empty if it does not say so."""
    reasons = (summary.get("statusReason", ""), summary.get("container", {}).get("reason", ""))
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def _failed_targets(job: TrackedJob, children: Children) -> list[tuple[str, JobSummary]]:
    """Some targets of a job that failed, with what Batch says about each."""
    assert job.detail is not None
    if job.spec.size is None:
        return [(job.spec.target(0), job.detail)]
    if not children.were_asked(job, "FAILED"):
        return []
    failed = children.of(job, "FAILED")
    targets = [(job.spec.target(child_index(child)), child) for child in failed]
    # Without children the array itself failed.
    return targets or [(job.spec.stage, job.detail)]
