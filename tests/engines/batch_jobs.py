"""AWS Batch's jobs as a state machine: dependencies, arrays, attempts. No threads, no network.

A plain job is one unit. An array job is a head, which never runs, and children. The head creates
them when the jobs that it waits for as a whole are done; each child has its own index-wise
dependencies.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import attrs

from tests.engines.attempts import Attempt, Outcome, Stop
from tests.engines.batch_rules import Spec
from tests.engines.logs import now

SUBMITTED = "SUBMITTED"
PENDING = "PENDING"
RUNNABLE = "RUNNABLE"
STARTING = "STARTING"
RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
STATES = (SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED)
TERMINAL = frozenset({SUCCEEDED, FAILED})
UNDER_WAY = frozenset({STARTING, RUNNING})

DEPENDENCY_FAILED = "Dependent Job failed"
CHILD_FAILED = "Array Child Job failed"
TIMED_OUT = "Job attempt duration exceeded timeout"


@attrs.define(eq=False)
class Unit:
    """A plain job, the head of an array, or a child of one."""

    job: Job = attrs.field(repr=False)
    index: int | None = None
    created: int = attrs.field(factory=now)
    #: Seconds; the clock of `created` may be set back, and then a job would be listed too late.
    created_monotonic: float = attrs.field(factory=time.monotonic, kw_only=True)
    status: str = SUBMITTED
    reason: str = ""
    open: int = 0  # dependencies that have not ended
    doomed: bool = False  # one of them failed
    announced: bool = False  # its end has been passed on to those that wait for it
    stop: str = ""  # why it was cancelled or terminated
    cancelled: bool = False
    terminated: bool = False
    started: int | None = None
    stopped: int | None = None
    attempt: Attempt | None = None
    attempts: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def id(self) -> str:
        return self.job.id if self.index is None else f"{self.job.id}:{self.index}"

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


@attrs.define(eq=False)
class Queue:
    """A job queue. `blocked`: the reason why no job leaves it; `frozen`: whether none does."""

    name: str
    arn: str
    fair_share: bool = False
    state: str = "ENABLED"
    priority: int = 1
    details: dict[str, Any] = attrs.field(factory=dict)
    waiting: deque[Unit] = attrs.field(factory=deque, repr=False)
    blocked: str = ""
    frozen: bool = False

    def head(self) -> Unit | None:
        """The unit whose turn it is. Cancelled ones before it are dropped."""
        while self.waiting and self.waiting[0].status != RUNNABLE:
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None


@attrs.define(eq=False)
class Job:
    """One accepted SubmitJob request."""

    id: str
    request: dict[str, Any]
    spec: Spec = attrs.field(repr=False)
    definition: dict[str, Any] = attrs.field(repr=False)
    queue: Queue = attrs.field(repr=False)
    tags: dict[str, str] = attrs.field(factory=dict, repr=False)
    children: list[Unit] = attrs.field(factory=list, repr=False)
    counts: Counter[str] = attrs.field(factory=Counter)
    left: int = 0  # children that have not ended
    aligned: list[Job] = attrs.field(factory=list, repr=False)  # its N_TO_N dependencies
    whole_waiters: list[Job] = attrs.field(factory=list, repr=False)
    aligned_waiters: list[Job] = attrs.field(factory=list, repr=False)
    head: Unit = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.head = Unit(self)

    @property
    def name(self) -> str:
        return str(self.request["jobName"])

    @property
    def size(self) -> int | None:
        array = self.request.get("arrayProperties")
        return array["size"] if array else None

    @property
    def sequential(self) -> bool:
        return any(need.get("type") == "SEQUENTIAL" for need in self.request.get("dependsOn", ()))

    @property
    def status(self) -> str:
        return self.head.status

    @property
    def reason(self) -> str:
        return self.head.reason

    @property
    def units(self) -> list[Unit]:
        """What runs: the job itself, or the children created so far."""
        return [self.head] if self.size is None else self.children


class Scheduler:
    """All jobs, and the changes of their states. Callers hold a lock."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.transitions: list[tuple[str, str]] = []
        self._ended: deque[Unit] = deque()

    def find(self, unit_id: str) -> Unit | None:
        """A job by its id, a child by `parent:index`."""
        parent, colon, index = unit_id.partition(":")
        job = self.jobs.get(parent)
        if job is None or not colon:
            return job.head if job else None
        if not index.isdecimal() or int(index) >= len(job.children):
            return None
        return job.children[int(index)]

    def add(self, job: Job) -> None:
        """Add a job whose dependencies exist."""
        self.jobs[job.id] = job
        self.transitions.append((job.id, SUBMITTED))
        for need in job.request.get("dependsOn", ()):
            if need.get("type") == "SEQUENTIAL":
                continue
            needed = self.jobs[need["jobId"]]
            if need.get("type") == "N_TO_N":
                job.aligned.append(needed)
                needed.aligned_waiters.append(job)
            else:
                needed.whole_waiters.append(job)
                _wait_for(job.head, needed.head)
        self._evaluate(job.head)
        self._propagate()

    def start(self, unit: Unit, attempt: Attempt | None) -> None:
        """Start a unit that has left its queue."""
        self._move(unit, STARTING)
        unit.attempt = attempt
        unit.started = now()
        self._move(unit, RUNNING)

    def refuse(self, unit: Unit, reason: str) -> None:
        """Fail a unit that cannot be started; it is not retried."""
        self._end(unit, FAILED, reason)
        self._propagate()

    def finish(self, unit: Unit, outcome: Outcome, detail: dict[str, Any]) -> None:
        """End a unit's attempt: it is done, or queued again for another attempt."""
        why = unit.attempt.why if unit.attempt else None
        unit.attempt = None
        unit.attempts.append(detail)
        if outcome.succeeded and why is None:
            self._end(unit, SUCCEEDED, outcome.status_reason)
        elif (
            not unit.stop
            and why in {None, Stop.RECLAIMED}
            and unit.job.spec.retry.again(len(unit.attempts), outcome)
        ):
            self._queue(unit)
        else:
            self._end(unit, FAILED, outcome.status_reason)
        self._propagate()

    def stop(self, unit: Unit, reason: str, *, terminate: bool) -> None:
        """Cancel a unit that has not started; with `terminate`, also end one that has."""
        for part in self._stoppable(unit):
            if part.status in UNDER_WAY and not terminate:
                continue
            part.stop = reason
            part.terminated, part.cancelled = terminate, not terminate
            if part.attempt:
                part.attempt.stop(Stop.TERMINATED)
            elif part.status == RUNNABLE:
                self._end(part, FAILED, reason)
            elif not part.job.children or part.index is not None:
                self._evaluate(part)
        self._propagate()

    @staticmethod
    def _stoppable(unit: Unit) -> Iterator[Unit]:
        if unit.index is None:
            yield from (child for child in unit.job.children if not child.ended)
        if not unit.ended:
            yield unit

    def _evaluate(self, unit: Unit) -> None:
        """Move a waiting unit on as far as its dependencies allow.

        A cancelled one still waits for them to end.
        """
        if unit.status not in {SUBMITTED, PENDING}:
            return
        if unit.doomed and not unit.stop:
            self._end(unit, FAILED, DEPENDENCY_FAILED)
        elif unit.open:
            if unit.status == SUBMITTED:
                self._move(unit, PENDING)
        elif unit.stop:
            self._end(unit, FAILED, unit.stop)
        elif unit.index is None and unit.job.size is not None:
            self._spawn(unit.job)
        else:
            self._queue(unit)

    def _spawn(self, job: Job) -> None:
        if job.children:
            return
        job.left = job.size or 0
        job.children = [Unit(job, index, status=PENDING) for index in range(job.left)]
        job.counts[PENDING] = job.left
        if job.status == SUBMITTED:
            self._move(job.head, PENDING)
        sequential = job.sequential
        for index, child in enumerate(job.children):
            self.transitions.append((child.id, PENDING))
            for needed in job.aligned:
                _wait_for(child, needed.children[index] if needed.children else needed.head)
            child.open += sequential and index > 0
        for child in job.children:
            self._evaluate(child)

    def _queue(self, unit: Unit) -> None:
        self._move(unit, RUNNABLE)
        unit.job.queue.waiting.append(unit)

    def _move(self, unit: Unit, status: str) -> None:
        if unit.index is not None:
            unit.job.counts[unit.status] -= 1
            unit.job.counts[status] += 1
        unit.status = status
        self.transitions.append((unit.id, status))

    def _end(self, unit: Unit, status: str, reason: str) -> None:
        self._move(unit, status)
        unit.reason = reason
        unit.stopped = now()
        self._ended.append(unit)

    def _propagate(self) -> None:
        """Pass ends on to those that wait for them.

        With a queue, because a chain of 10,000 children is too deep for recursion.
        """
        while self._ended:
            unit = self._ended.popleft()
            unit.announced = True
            if unit.index is None:
                self._head_ended(unit)
            else:
                self._child_ended(unit, unit.index)

    def _head_ended(self, unit: Unit) -> None:
        job = unit.job
        for waiter in job.whole_waiters:
            self._dependency_ended(waiter.head, unit.status)
        if job.size is not None and not job.children:  # it failed before it had children
            for waiter in job.aligned_waiters:
                for child in waiter.children:
                    self._dependency_ended(child, unit.status)

    def _child_ended(self, unit: Unit, index: int) -> None:
        job = unit.job
        for waiter in job.aligned_waiters:
            if waiter.children:
                self._dependency_ended(waiter.children[index], unit.status)
        if job.sequential and index + 1 < len(job.children):
            self._dependency_ended(job.children[index + 1], unit.status)
        job.left -= 1
        if job.left == 0:
            failed = job.counts[FAILED] > 0
            self._end(
                job.head,
                FAILED if failed else SUCCEEDED,
                (job.head.stop or CHILD_FAILED) if failed else "",
            )

    def _dependency_ended(self, unit: Unit, status: str) -> None:
        unit.open -= 1
        unit.doomed |= status == FAILED
        self._evaluate(unit)


def _wait_for(unit: Unit, needed: Unit) -> None:
    """Add a dependency on `needed`: a child, or the head of an array without children."""
    if not needed.announced:
        unit.open += 1
    elif needed.status == FAILED:
        unit.doomed = True


def all_ended(jobs: dict[str, Job]) -> bool:
    return all(job.head.ended for job in jobs.values())
