"""One look at a run: what Slurm says of its jobs, and its stamps of their targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from rvrun.remote.ledger import CANCELLED, Ledger
from rvrun.remote.state import State
from rvrun.runners.slurm.commands import NoAccounting
from rvrun.runners.slurm.done import done_targets, missing_targets
from rvrun.runners.slurm.jobs import Job, Submission
from rvrun.runners.slurm.queue import Task
from rvrun.runners.slurm.rounds import Round, has_event, read_jobs, read_rounds
from rvrun.runners.slurm.submit import (
    accounted_tasks,
    end_duplicates,
    known_tasks,
    listed_tasks,
    oldest_ids,
)

#: Stands for all tasks of a submission.
WHOLE = -1
#: What stands for a task of a cancelled run that was not submitted.
NEVER = Task(name="", job_id=0, index=None, state="CANCELLED")
#: The name and the id of a job, and the index in its array.
Place = tuple[str, int, int | None]


@attrs.frozen(kw_only=True)
class Look:
    """A stage as one look at a run found it.

    - `targets`: the state of each target. `tasks`: those of its jobs that Slurm knows.
    - `waiting`: the tasks that wait, but not only for other jobs.
    - `failed`: the tasks with failed targets, each with what Slurm says about it, if anything.
    - `submitted`: the targets of the tasks that were submitted, in any round.
    """

    job: Job
    targets: Sequence[State]
    tasks: Sequence[Task] = ()
    waiting: Sequence[Task] = ()
    failed: Mapping[int, Task | None] = attrs.field(factory=dict)
    submitted: Collection[int] = frozenset()


def look(ledger: Ledger) -> tuple[list[Look], list[str]]:
    """Look at all stages of a run; also return a sentence for each job submitted twice."""
    looks = {job.stage: _untouched(job) for job in read_jobs(ledger)}
    warnings: list[str] = []
    for round_ in read_rounds(ledger):
        tasks = _known(round_)
        ids = {**oldest_ids(round_, tasks), **round_.ids}
        for key, id_ in end_duplicates(round_, ids, tasks):
            warnings.append(f"job {id_} repeated job {ids[key]} ({key}) and was cancelled")
        # A round that was cancelled is not continued.
        is_cancelled = has_event(ledger, CANCELLED, round_.number)
        absent = State.FAILED if is_cancelled else State.PENDING
        by_place = {(task.name, task.job_id, task.index): task for task in tasks}
        by_place = _forgotten(round_, ids, by_place) | by_place
        succeeded: dict[str, set[int]] = {}
        for call in round_.submissions:
            own = _tasks_of(call, round_, ids.get(call.key), by_place)
            done, stage = done_targets(ledger.run_dir, call.job), call.job.stage
            blocked = _blocked(call, succeeded)
            looks[stage] = _updated(looks[stage], call, own, done, absent=absent, blocked=blocked)
            succeeded[call.key] = _succeeded(call, looks[stage])
    return list(looks.values()), warnings


def _known(round_: Round) -> list[Task]:
    """The tasks of a round, of which accounting must know only those that stamps do not show done.

    So a run can be looked at while accounting is down and its jobs run.
    """
    try:
        return known_tasks(round_)
    except NoAccounting:
        tasks = listed_tasks(round_)
        names = {task.name for task in tasks}
        for call in round_.submissions:
            is_done = call.key in round_.ids and not missing_targets(round_.ledger.run_dir, call)
            if round_.names[call.key] not in names and not is_done:
                raise
        return tasks


def _forgotten(
    round_: Round, ids: Mapping[str, int], by_place: Mapping[Place, Task]
) -> dict[Place, Task]:
    """The tasks of arrays in accounting of which the controller knows others, but not all.

    It keeps no task that was cancelled before it began, and forgets those that ended early.
    """
    ledger, names = round_.ledger, round_.names
    partly = {name for name, _, _ in by_place}
    missing = []
    for call in round_.submissions:
        if names[call.key] not in partly:
            continue
        own = _tasks_of(call, round_, ids.get(call.key), by_place) or {}
        absent = {
            target for t, task in own.items() if task is None for target in call.job.targets(t)
        }
        if absent - done_targets(ledger.run_dir, call.job):
            missing.append(names[call.key])
    tasks = accounted_tasks(round_, missing)
    return {(task.name, task.job_id, task.index): task for task in tasks}


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
    by_place: Mapping[Place, Task],
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
    targets, failed, waiting = list(before.targets), dict(before.failed), list(before.waiting)
    for index in call.tasks:
        task = (tasks or {}).get(index)
        state = absent if tasks is None else _task_state(task, is_blocked=index in blocked)
        if task is not None and (state is State.RUNNABLE or task.is_held):
            waiting.append(task)
        failed.pop(index, None)
        for target in call.job.targets(index):
            is_done = target in done or state is State.SUCCEEDED
            targets[target] = State.SUCCEEDED if is_done else state
            if targets[target] is State.FAILED:
                failed[index] = NEVER if tasks is None else task
    own = [task for task in (tasks or {}).values() if task is not None]
    submitted = {target for index in call.tasks for target in call.job.targets(index)}
    return attrs.evolve(
        before,
        targets=targets,
        tasks=[*before.tasks, *own],
        waiting=waiting,
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
