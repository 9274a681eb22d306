"""The state of a run: of its jobs, what Slurm says; of their targets, what their stamps say."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import attrs

from rvrun.remote.ended import note_ended, read_ended
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger
from rvrun.remote.state import (
    RemoteFailure,
    RunState,
    StageState,
    State,
    timestamp,
)
from rvrun.runners.slurm.looks import Look, look
from rvrun.runners.slurm.measured import with_records
from rvrun.runners.slurm.queue import Task
from rvrun.runners.slurm.reasons import exit_code_of, why_ended, why_waiting
from rvrun.runners.slurm.rounds import has_event


def read_state(ledger: Ledger) -> RunState:
    """Return the state of a run. When it is over, it is stored: Slurm forgets jobs.

    Jobs that were submitted twice are ended.
    """
    number = ledger.num_rounds
    if (stored := read_ended(ledger)) is not None:
        return stored
    looks, warnings = look(ledger)
    state = RunState(
        run_id=ledger.run_id,
        runner=ledger.runner,
        stages=tuple(map(_stage_state, looks)),
        began=timestamp(ledger.facts["began"]),
        submitted=has_event(ledger, SUBMITTED, number),
        cancelled=has_event(ledger, CANCELLED, number),
        failure=_first_failure(ledger, looks),
        warnings=tuple(warnings),
    )
    if state.is_over:
        state = attrs.evolve(state, stages=_with_records(ledger, state, looks))
        # Slurm's times are whole seconds, so that they can be before the run began.
        ended = max([state.began, *(stage.ended or 0 for stage in state.stages)])
        state = attrs.evolve(state, ended=ended)
        note_ended(ledger, state)
    return state


def _with_records(ledger: Ledger, state: RunState, looks: Sequence[Look]) -> tuple[StageState, ...]:
    # Only once a run is over: reading the records of many targets takes time on shared storage.
    return tuple(
        with_records(stage, ledger.run_dir, own.job, sorted(own.submitted), state.began)
        for stage, own in zip(state.stages, looks, strict=True)
    )


def failed_tasks(ledger: Ledger) -> dict[str, tuple[int, ...]]:
    """Return the tasks with targets that did not succeed, by stage."""
    looks, _ = look(ledger)
    return {own.job.stage: tuple(sorted(own.failed)) for own in looks if own.failed}


def _stage_state(own: Look) -> StageState:
    began = [task.began for task in own.tasks if task.began is not None and not task.was_pointless]
    ended = [task.ended for task in own.tasks if task.ended is not None]
    counts = collections.Counter(own.targets)
    state = StageState(
        name=own.job.stage, counts=dict(counts), began=min(began, default=None), stuck=_stuck(own)
    )
    return attrs.evolve(state, ended=max(ended, default=None)) if state.is_over else state


def _stuck(own: Look) -> str:
    """Why tasks that could run do not; the reasons of most tasks first."""
    reasons = collections.Counter(why_waiting(t.reason) for t in own.waiting if t.reason)
    return "; ".join(reason for reason, _ in reasons.most_common(2))


def _first_failure(ledger: Ledger, looks: Sequence[Look]) -> RemoteFailure | None:
    """The first target that failed itself, else the first whose job was ended."""
    failures = [(own, index) for own in looks for index in own.failed]
    if not failures:
        return None
    # Of equal ones, `min` returns that of the earliest stage.
    own, index = min(failures, key=lambda failure: _rank(failure[0].failed[failure[1]]))
    target = next(_failed_in(own, index))
    task = own.failed[index]
    code = exit_code_of(ledger.run_dir, own.job, target)
    name = own.job.target_name(target)
    is_cancelled = has_event(ledger, CANCELLED, ledger.num_rounds)
    reason = why_ended(task, code, cancelled=is_cancelled)
    return RemoteFailure(target=name, reason=reason, exit_code=code)


def _rank(task: Task | None) -> tuple[bool, float]:
    """A key that sorts tasks that failed themselves first, the earliest before the others."""
    # Accounting does not have every task that was ended before it began.
    is_known = task is not None and not task.was_pointless
    return not is_known, (task.ended if task else None) or 0.0


def _failed_in(own: Look, index: int) -> Iterator[int]:
    """The failed targets of a task."""
    return (t for t in own.job.targets(index) if own.targets[t] is State.FAILED)
