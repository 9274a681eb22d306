"""When targets would start and end: list scheduling over the dependencies of a plan. Pure.

Targets start in the order of the plan as soon as what they need is done and a job is free, as make
starts them. A target that then waits for a GPU slot, CPUs or memory keeps its job, as it does on a
real machine.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

import attrs

from rvrun.model import Need, NeedKind


@attrs.frozen(kw_only=True)
class Work:
    """A stage to schedule.

    - `seconds`: how long each of its targets that run takes, by index.
    - `interval`: seconds from the start of another target to the start of one, at least: whoever
      starts them starts one after the other.
    - `needs`: of stages with a `Work` of the same pipeline; others count as done.
    - `width`: how many of its targets run in parallel at most; None for no limit.
    - `gpu_slots`, `vcpus`, `memory_mib`: what each target holds while it runs, and
      `busy_millicpus`: thousandths of a CPU that it keeps busy.
    """

    name: str
    seconds: Mapping[int, float]
    interval: float = 0.0
    needs: Sequence[Need] = ()
    width: int | None = None
    gpu_slots: int = 0
    vcpus: int = 0
    memory_mib: int = 0
    busy_millicpus: int = 0

    @property
    def amounts(self) -> tuple[int, ...]:
        return self.gpu_slots, self.vcpus, self.memory_mib, self.busy_millicpus


@attrs.frozen(kw_only=True)
class Capacity:
    """What targets share; None for no limit.

    - `vcpus`: limits what targets declare. `millicpus`: thousandths of CPUs, which limit what
      targets keep busy.
    """

    jobs: int | None = None
    gpu_slots: int | None = None
    vcpus: int | None = None
    memory_mib: int | None = None
    millicpus: int | None = None

    @property
    def amounts(self) -> tuple[int | None, ...]:
        return self.gpu_slots, self.vcpus, self.memory_mib, self.millicpus


@attrs.frozen(kw_only=True)
class Schedule:
    """The schedule of some work.

    - `makespan`: when all is done, in seconds. `begins`, `ends`: of each stage that runs, by name.
    """

    makespan: float
    begins: Mapping[str, float]
    ends: Mapping[str, float]


def schedule(works: Sequence[Work], capacity: Capacity) -> Schedule:
    """Schedule work, each stage after the stages it needs."""
    simulation = _Simulation(works, capacity)
    simulation.run()
    begins, ends = simulation.begins, simulation.ends
    return Schedule(makespan=max(ends.values(), default=0.0), begins=begins, ends=ends)


def critical_path(works: Sequence[Work], times: Schedule) -> tuple[str, ...]:
    """Return the stages on whose end the end of all depends, in their order."""
    needs = {work.name: [_full(work.name, need) for need in work.needs] for work in works}
    path: list[str] = []
    ends = dict(times.ends)
    name = max(ends, key=ends.__getitem__, default=None)
    while name is not None:
        if name in times.ends:
            path.append(name)
        needed = [other for other in needs[name] if other in needs]
        name = max(needed, key=lambda other: ends.get(other, 0.0), default=None)
    return tuple(reversed(path))


def _full(name: str, need: Need) -> str:
    return f"{name.rpartition('/')[0]}/{need.command}"


class _Simulation:
    """The state of a schedule that is being made: a clock, what runs, and what is ready."""

    def __init__(self, works: Sequence[Work], capacity: Capacity) -> None:
        self.works, self.capacity = works, capacity
        self.now = self.last_begin = 0.0
        self.begins: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.ready: list[tuple[int, int]] = []
        #: Targets with a job that wait for something else.
        self.waiting: list[tuple[int, int]] = []
        self.running: list[tuple[float, int, int]] = []
        #: How many targets of each stage may still start, and those that wait for that.
        self.room = [math.inf if work.width is None else work.width for work in works]
        self.held: list[list[tuple[int, int]]] = [[] for _ in works]
        self.used = [0] * len(capacity.amounts)
        self.is_limited = [any(work.amounts) for work in works]
        self.left = [len(work.seconds) for work in works]
        orders = {work.name: order for order, work in enumerate(works)}
        self.wholes: list[set[int]] = []
        self.aligned: list[set[int]] = []
        for work in works:
            pairs = [(orders.get(_full(work.name, need)), need.kind) for need in work.needs]
            kinds = [(order, kind) for order, kind in pairs if order is not None]
            self.wholes.append({order for order, kind in kinds if kind is NeedKind.ALL})
            self.aligned.append({order for order, kind in kinds if kind is NeedKind.ALIGNED})
        self.dependents: list[list[int]] = [[] for _ in works]
        for order in range(len(works)):
            for needed in self.wholes[order] | self.aligned[order]:
                self.dependents[needed].append(order)
        self.open = [
            {i: sum(i in works[n].seconds for n in self.aligned[o]) for i in works[o].seconds}
            for o in range(len(works))
        ]

    def run(self) -> None:
        """Run until no target is left."""
        for order in range(len(self.works)):
            if not self.wholes[order]:
                self._release(order)
        for order in range(len(self.works)):
            if not self.left[order] and not self.wholes[order]:
                self._complete(order)
        self._start()
        while self.running:
            self.now, order, index = heapq.heappop(self.running)
            self._end(order, index)
            # What ends at the same time ends before anything starts.
            while self.running and self.running[0][0] <= self.now:
                self._end(*heapq.heappop(self.running)[1:])
            self._start()

    def _release(self, order: int) -> None:
        """Make the targets of a stage ready, once the stages that it needs as a whole are done."""
        for index, number in self.open[order].items():
            if number == 0:
                heapq.heappush(self.ready, (order, index))

    def _complete(self, order: int) -> None:
        for dependent in self.dependents[order]:
            if order in self.wholes[dependent]:
                self.wholes[dependent].discard(order)
                if not self.wholes[dependent]:
                    self._release(dependent)
                    if not self.left[dependent]:
                        self._complete(dependent)

    def _end(self, order: int, index: int) -> None:
        work = self.works[order]
        if self.is_limited[order]:
            self.used = [a - b for a, b in zip(self.used, work.amounts, strict=True)]
        self.room[order] += 1
        if self.held[order]:
            heapq.heappush(self.ready, heapq.heappop(self.held[order]))
        self.left[order] -= 1
        self.ends[work.name] = self.now
        for dependent in self.dependents[order]:
            if order in self.aligned[dependent] and index in self.open[dependent]:
                self.open[dependent][index] -= 1
                if not self.open[dependent][index] and not self.wholes[dependent]:
                    heapq.heappush(self.ready, (dependent, index))
        if not self.left[order]:
            self._complete(order)

    def _start(self) -> None:
        limit = self.capacity.jobs
        waiting, self.waiting = self.waiting, []
        for order, index in waiting:
            self._start_or_wait(order, index)
        while self.ready and (limit is None or len(self.running) + len(self.waiting) < limit):
            order, index = heapq.heappop(self.ready)
            if self.room[order] < 1:
                heapq.heappush(self.held[order], (order, index))
                continue
            self.room[order] -= 1
            self._start_or_wait(order, index)

    def _start_or_wait(self, order: int, index: int) -> None:
        work = self.works[order]
        if self.is_limited[order] and not self._take(work):
            self.waiting.append((order, index))
            return
        is_first = not self.running and not self.ends
        begin = self.now if is_first else max(self.now, self.last_begin + work.interval)
        self.last_begin = begin
        self.begins.setdefault(work.name, begin)
        heapq.heappush(self.running, (begin + work.seconds[index], order, index))

    def _take(self, work: Work) -> bool:
        """Take what a target holds while it runs, unless it has to wait for it."""
        totals = [a + b for a, b in zip(self.used, work.amounts, strict=True)]
        # A target that needs more than there is runs alone, and does not wait for ever.
        fits = all(
            not amount or limit is None or total <= limit or not used
            for total, limit, used, amount in zip(
                totals, self.capacity.amounts, self.used, work.amounts, strict=True
            )
        )
        # Who waits longer comes first.
        if not fits or self.waiting:
            return False
        self.used = totals
        return True
