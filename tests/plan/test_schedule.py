"""Schedules: cases worked out by hand, and bounds that every schedule keeps."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from rvrun.model import Need, NeedKind
from rvrun.plan.schedule import Capacity, Work, critical_path, schedule
from tests.build import need


def work(name: str, seconds: Sequence[float], *needs: str, **amounts: int) -> Work:
    return Work(
        name=f"p/{name}",
        seconds=dict(enumerate(seconds)),
        needs=tuple(map(need, needs)),
        **amounts,
    )


CASES: Mapping[str, tuple[list[Work], Capacity, float]] = {
    "nothing": ([], Capacity(jobs=2), 0.0),
    "one after another": ([work("a", [1, 2, 3])], Capacity(jobs=1), 6.0),
    "in parallel": ([work("a", [1, 2, 3])], Capacity(), 3.0),
    # 3 + 1 | 2 + 2: in the order of the splits.
    "two jobs": ([work("a", [3, 2, 2, 1])], Capacity(jobs=2), 4.0),
    "a whole stage": ([work("a", [1, 4]), work("b", [1, 1], "a")], Capacity(jobs=2), 5.0),
    "aligned": ([work("a", [1, 4]), work("b", [4, 1], "=a")], Capacity(jobs=2), 5.0),
    "a GPU": ([work("a", [2, 2], gpu_slots=1)], Capacity(jobs=4, gpu_slots=1), 4.0),
    # The second waits for memory, and keeps its job; the third has one.
    "memory": (
        [work("a", [2, 2], memory_mib=6), work("b", [3])],
        Capacity(jobs=3, memory_mib=10),
        4.0,
    ),
    "more than there is": ([work("a", [1, 1], vcpus=9)], Capacity(jobs=2, vcpus=2), 2.0),
    "first in the queue": (
        [work("a", [4], vcpus=1), work("b", [1], vcpus=2), work("c", [1], vcpus=1)],
        Capacity(jobs=3, vcpus=2),
        6.0,
    ),
    # One target of `a` at a time; `b` does not wait for it.
    "a narrow stage": (
        [work("a", [2, 2, 2], width=1), work("b", [5])],
        Capacity(jobs=2),
        6.0,
    ),
    "needs that do not run": ([work("b", [2], "a", "=z")], Capacity(jobs=1), 2.0),
}


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_by_hand(name: str) -> None:
    """The makespan of small cases."""
    works, capacity, makespan = CASES[name]
    assert schedule(works, capacity).makespan == makespan


def test_the_critical_path() -> None:
    """The stages on which the end depends, and when each begins and ends."""
    works = [work("a", [1]), work("b", [5], "a"), work("c", [2], "a"), work("d", [1], "b", "c")]
    times = schedule(works, Capacity(jobs=2))
    assert critical_path(works, times) == ("p/a", "p/b", "p/d")
    assert times.begins == {"p/a": 0, "p/b": 1, "p/c": 1, "p/d": 6}
    assert times.ends == {"p/a": 1, "p/b": 6, "p/c": 3, "p/d": 7}


def random_works(rng: random.Random) -> list[Work]:
    works: list[Work] = []
    for number in range(rng.randint(1, 6)):
        size = rng.randint(1, 5)
        needs = [
            Need(
                other.name.partition("/")[2],
                NeedKind.ALIGNED
                if len(other.seconds) == size and rng.random() < 0.5
                else NeedKind.ALL,
            )
            for other in works
            if rng.random() < 0.4
        ]
        seconds = {index: rng.randint(1, 9) for index in range(size)}
        works.append(
            Work(name=f"p/c{number}", seconds=seconds, needs=needs, vcpus=rng.randint(0, 3))
        )
    return works


def longest_chain(works: Sequence[Work]) -> float:
    """The time that dependencies alone take, however many jobs there are."""
    ends: dict[str, dict[int, float]] = {}
    for item in works:
        ends[item.name] = {}
        for index, seconds in item.seconds.items():
            befores = [0.0]
            for needed in item.needs:
                others = ends[f"p/{needed.command}"]
                whole = needed.kind is NeedKind.ALL
                befores.append(max(others.values()) if whole else others[index])
            ends[item.name][index] = max(befores) + seconds
    return max(max(times.values()) for times in ends.values())


@pytest.mark.parametrize("jobs", [1, 2, 3, None])
def test_bounds_of_every_schedule(jobs: int | None) -> None:
    """At least the longest chain and the work per job; at most their sum (Graham's bound)."""
    for seed in range(200):
        works = random_works(random.Random(seed))
        total, chain = sum(sum(w.seconds.values()) for w in works), longest_chain(works)
        makespan = schedule(works, Capacity(jobs=jobs)).makespan
        least = max(chain, total / jobs if jobs else 0)
        assert least <= makespan + 1e-9, seed
        assert makespan <= chain + (total / jobs if jobs else 0), seed
        if jobs is None:
            assert makespan == chain, seed
        # With fewer CPUs it takes no less than the CPU time by the CPUs, and it ends.
        used = sum(sum(w.seconds.values()) * min(w.vcpus, 4) for w in works)
        limited = schedule(works, Capacity(jobs=jobs, vcpus=4)).makespan
        assert limited >= max(chain, used / 4) - 1e-9, seed
