"""The state of a run: of its jobs, what Slurm says; of their targets, what their stamps say."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs

from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger
from rvrun.remote.state import (
    RemoteFailure,
    RunState,
    StageState,
    State,
    state_from_json,
    timestamp,
)
from rvrun.runners.slurm.done import done_targets
from rvrun.runners.slurm.jobs import Job, Submission
from rvrun.runners.slurm.measured import with_records
from rvrun.runners.slurm.queue import Task
from rvrun.runners.slurm.reasons import exit_code_of, why_ended, why_waiting
from rvrun.runners.slurm.rounds import Round, has_event, read_jobs, read_rounds
from rvrun.runners.slurm.submit import end_duplicates, known_tasks, oldest_ids

#: The event of the ledger that has the state of a round that is over.
ENDED = "ended"
#: Stands for all tasks of a submission.
WHOLE = -1
#: What parsing raises for a stored state that is damaged.
NOT_A_STATE = (ValueError, TypeError, LookupError, AttributeError, OverflowError)


@attrs.frozen(kw_only=True)
class Look:
    """A stage as one look at a run found it.

    - `targets`: the state of each target. `tasks`: those of its jobs that Slurm knows.
    - `runnable`: the tasks that wait, but not for other jobs.
    - `failed`: the tasks with failed targets, each with what Slurm says about it, if anything.
    - `submitted`: the targets of the tasks that were submitted, in any round.
    """

    job: Job
    targets: Sequence[State]
    tasks: Sequence[Task] = ()
    runnable: Sequence[Task] = ()
    failed: Mapping[int, Task | None] = attrs.field(factory=dict)
    submitted: Collection[int] = frozenset()


def read_state(ledger: Ledger) -> RunState:
    """Return the state of a run. When it is over, it is stored: Slurm forgets jobs.

    Jobs that were submitted twice are ended.
    """
    number = ledger.num_rounds
    if (stored := _read_stored(ledger, number)) is not None:
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
        ended = max((stage.ended or 0 for stage in state.stages), default=0) or state.began
        state = attrs.evolve(state, ended=ended)
        # Only saves calls later, so the directory may be read-only.
        ledger.note_if_possible(ENDED, round=number, state=attrs.asdict(state))
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


def _read_stored(ledger: Ledger, number: int) -> RunState | None:
    # A retry adds a round, so the state of an earlier one is no longer the run's.
    for event in ledger.intact_events(ENDED):
        if event.get("round") == number and isinstance(event.get("state"), dict):
            # Only a copy: if it is damaged, Slurm may still know the run.
            with contextlib.suppress(*NOT_A_STATE):
                return state_from_json(event["state"])
    return None


def look(ledger: Ledger) -> tuple[list[Look], list[str]]:
    """Look at all stages of a run; also return a sentence for each job submitted twice."""
    looks = {job.stage: _untouched(job) for job in read_jobs(ledger)}
    warnings: list[str] = []
    for round_ in read_rounds(ledger):
        tasks = known_tasks(round_)
        ids = {**oldest_ids(round_, tasks), **round_.ids}
        for key, id_ in end_duplicates(round_, ids, tasks):
            warnings.append(f"job {id_} repeated job {ids[key]} ({key}) and was cancelled")
        # A round that was cancelled is not continued.
        is_cancelled = has_event(ledger, CANCELLED, round_.number)
        absent = State.FAILED if is_cancelled else State.PENDING
        by_place = {(task.name, task.job_id, task.index): task for task in tasks}
        succeeded: dict[str, set[int]] = {}
        for call in round_.submissions:
            own = _tasks_of(call, round_, ids.get(call.key), by_place)
            done, stage = done_targets(ledger.run_dir, call.job), call.job.stage
            blocked = _blocked(call, succeeded)
            looks[stage] = _updated(looks[stage], call, own, done, absent=absent, blocked=blocked)
            succeeded[call.key] = _succeeded(call, looks[stage])
    return list(looks.values()), warnings


def _blocked(call: Submission, succeeded: Mapping[str, Collection[int]]) -> set[int]:
    """The tasks of a submission that wait for other jobs.

    The reason for which Slurm lets a job wait is not enough: it can name another one that would
    hold the job as well, such as drained nodes, and none before the scheduler has looked at it.

    - `succeeded`: by the keys of the submissions before it, the tasks that they do not wait for.
    """
    if not all(WHOLE in succeeded[key] for key in call.after):
        return set(call.tasks)
    return {t for t in call.tasks if not all(t in succeeded[key] for key in call.corresponding)}


def _succeeded(call: Submission, own: Look) -> set[int]:
    """The tasks of a submission all of whose targets succeeded, and `WHOLE` if all of them did."""
    tasks = {
        task
        for task in call.tasks
        if all(own.targets[index] is State.SUCCEEDED for index in call.job.targets(task))
    }
    return tasks | {WHOLE} if len(tasks) == len(call.tasks) else tasks


def _untouched(job: Job) -> Look:
    """A stage before any round: what was not submitted was up to date."""
    return Look(job=job, targets=[State.SUCCEEDED] * (job.num_splits or 1))


def _tasks_of(
    call: Submission,
    round_: Round,
    id_: int | None,
    by_place: Mapping[tuple[str, int, int | None], Task],
) -> dict[int, Task | None] | None:
    """What Slurm says of each task of a submission; None if it was not submitted."""
    if id_ is None:
        return None
    name, is_array = round_.names[call.key], call.array is not None
    return {
        task: by_place.get((name, id_, task - call.offset if is_array else None))
        for task in call.tasks
    }


def _updated(
    before: Look,
    call: Submission,
    tasks: Mapping[int, Task | None] | None,
    done: set[int],
    *,
    absent: State,
    blocked: Collection[int],
) -> Look:
    """The look at a stage after one more of its submissions.

    - `tasks`: None if it was not submitted, and `absent` the state of its targets then.
    - `blocked`: the tasks that wait for other jobs.
    """
    targets, failed, runnable = list(before.targets), dict(before.failed), list(before.runnable)
    for index in call.tasks:
        task = (tasks or {}).get(index)
        state = absent if tasks is None else _task_state(task, is_blocked=index in blocked)
        if task is not None and state is State.RUNNABLE:
            runnable.append(task)
        failed.pop(index, None)
        for target in call.job.targets(index):
            is_done = target in done or state is State.SUCCEEDED
            targets[target] = State.SUCCEEDED if is_done else state
            if targets[target] is State.FAILED:
                failed[index] = task
    own = [task for task in (tasks or {}).values() if task is not None]
    submitted = {target for index in call.tasks for target in call.job.targets(index)}
    return attrs.evolve(
        before,
        targets=targets,
        tasks=[*before.tasks, *own],
        runnable=runnable,
        failed=failed,
        submitted={*before.submitted, *submitted},
    )


def _task_state(task: Task | None, *, is_blocked: bool) -> State:
    """The state of those targets of a task that have no stamps.

    - `is_blocked`: whether it waits for other jobs, if it waits.
    """
    # A job that Slurm has forgotten has ended, so what is not done has failed.
    if task is None:
        return State.FAILED
    if task.is_over:
        return State.SUCCEEDED if task.is_done else State.FAILED
    if task.is_waiting:
        # A job that has just ended may hold it for a moment after the last stamp.
        return State.PENDING if is_blocked or task.waits_for_jobs else State.RUNNABLE
    return State.RUNNING


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
    reasons = collections.Counter(why_waiting(t.reason) for t in own.runnable if t.reason)
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
    return RemoteFailure(target=name, reason=why_ended(task, code), exit_code=code)


def _rank(task: Task | None) -> tuple[bool, float]:
    """A key that sorts tasks that failed themselves first, the earliest before the others."""
    # Accounting does not have every task that was ended before it began.
    is_known = task is not None and not task.was_pointless
    return not is_known, (task.ended if task else None) or 0.0


def _failed_in(own: Look, index: int) -> Iterator[int]:
    """The failed targets of a task."""
    return (t for t in own.job.targets(index) if own.targets[t] is State.FAILED)
