"""When each target ran, on which slot, and which chain of targets determined how long it took."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun.model import NeedKind
from rvrun.observe.snapshot import PAUSE_SECONDS, Snapshot, StageTargets, TargetState
from rvrun.rundir.attempts import Attempt
from rvrun.rundir.history import Session, session_at


@attrs.frozen(kw_only=True)
class Span:
    """The last attempt of a target.

    - `stage`, `index`: of its stage in the snapshot, and of the target in the stage.
    - `ended`: for a target that is running, the time of the snapshot.
    - `lane`: the slot that it ran on, from 0: targets on one lane never overlap.
    - `burst`: in which part of the timeline it is.
    - `is_critical`: whether it is on the critical path.
    """

    stage: int
    index: int
    target: TargetState
    attempt: Attempt
    began: float
    ended: float
    lane: int = 0
    burst: int = 0
    is_critical: bool = False

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@attrs.frozen(kw_only=True)
class Burst:
    """A time in which targets ran; long pauses between two runs are not part of the timeline.

    - `lanes`: how many targets ran at the same time at most. `jobs`: how many could have; None if
      nobody recorded it.
    """

    began: float
    ended: float
    lanes: int
    jobs: int | None

    @property
    def slots(self) -> int:
        return max(self.lanes, self.jobs or 0)


@attrs.frozen(kw_only=True)
class Timeline:
    """The last attempts of all targets, in the order in which they began.

    - `critical`: the positions in `spans` of the longest chain of targets in the last burst of
      which each needs the one before.
    """

    spans: tuple[Span, ...]
    bursts: tuple[Burst, ...]
    critical: tuple[int, ...]

    @property
    def critical_seconds(self) -> float:
        return sum(self.spans[position].seconds for position in self.critical)

    def of_burst(self, number: int) -> list[Span]:
        return [span for span in self.spans if span.burst == number]

    def busy_seconds(self, number: int) -> float:
        """How long the targets of a burst took, all together."""
        return sum(span.seconds for span in self.of_burst(number))

    def idle_share(self, number: int) -> float:
        """How much of the time of all slots nothing ran on them, from 0 to 1."""
        burst = self.bursts[number]
        available = (burst.ended - burst.began) * burst.slots
        return max(1 - self.busy_seconds(number) / available, 0.0) if available > 0 else 0.0


def make_timeline(snapshot: Snapshot, now: float) -> Timeline:
    """Return the timeline of a run directory; `now` is the time of the snapshot."""
    spans = sorted(_spans(snapshot, now), key=lambda span: (span.began, span.stage, span.index))
    bursts: list[Burst] = []
    placed: list[Span] = []
    for number, (group, session) in enumerate(_group(spans, snapshot.sessions)):
        lanes, own = _place(group, number)
        bursts.append(_burst(own, lanes, session))
        placed += own
    critical = _critical_path(snapshot, placed, len(bursts) - 1) if bursts else ()
    marked = set(critical)
    return Timeline(
        spans=tuple(
            attrs.evolve(span, is_critical=True) if position in marked else span
            for position, span in enumerate(placed)
        ),
        bursts=tuple(bursts),
        critical=critical,
    )


def _spans(snapshot: Snapshot, now: float) -> Iterator[Span]:
    for number, stage in enumerate(snapshot.stages):
        for index, one in enumerate(stage.targets):
            attempt = one.attempt
            if attempt is None:
                continue
            # A target that was killed without a witness has no end.
            ended = attempt.ended if attempt.ended is not None else attempt.began
            if attempt.is_running:
                ended = max(now, attempt.began)
            yield Span(
                stage=number,
                index=index,
                target=one,
                attempt=attempt,
                began=attempt.began,
                ended=max(ended, attempt.began),
            )


def _group(
    spans: Sequence[Span], sessions: Sequence[Session]
) -> Iterator[tuple[list[Span], Session | None]]:
    """Yield the spans between long pauses, with the run that they are part of.

    A pause within a run is idle time, and stays.
    """
    group: list[Span] = []
    until, last = 0.0, None
    for span in spans:
        session = session_at(sessions, span.began)
        is_same = session is not None and session is last
        if group and not is_same and span.began > until + PAUSE_SECONDS:
            yield group, last
            group = []
        group.append(span)
        until, last = max(until, span.ended), session
    if group:
        yield group, last


def _place(spans: Sequence[Span], burst: int) -> tuple[int, list[Span]]:
    """Place each span on the first lane that is free; return the number of lanes and the spans."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    num_lanes = 0
    placed = []
    for span in spans:
        while busy and busy[0][0] <= span.began:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, num_lanes = num_lanes, num_lanes + 1
        heapq.heappush(busy, (span.ended, lane))
        placed.append(attrs.evolve(span, lane=lane, burst=burst))
    return num_lanes, placed


def _burst(spans: Sequence[Span], lanes: int, session: Session | None) -> Burst:
    began = min(span.began for span in spans)
    ended = max(span.ended for span in spans)
    return Burst(began=began, ended=ended, lanes=lanes, jobs=session.jobs if session else None)


def _critical_path(snapshot: Snapshot, spans: Sequence[Span], burst: int) -> tuple[int, ...]:
    """The longest chain, by the time that its targets took; `burst` is where it has to be."""
    positions = {(s.stage, s.index): i for i, s in enumerate(spans) if s.burst == burst}
    numbers = {stage.name: number for number, stage in enumerate(snapshot.stages)}
    length: dict[int, float] = {}
    before: dict[int, int | None] = {}
    longest: dict[int, int] = {}
    # A stage comes after those that it needs, so their lengths are complete.
    for number, stage in enumerate(snapshot.stages):
        for index in range(len(stage.targets)):
            position = positions.get((number, index))
            if position is None:
                continue
            needed = _needed(stage, index, numbers, positions, longest)
            last = max(needed, key=lambda place: length[place], default=None)
            before[position] = last
            length[position] = spans[position].seconds + (0.0 if last is None else length[last])
            if number not in longest or length[position] > length[longest[number]]:
                longest[number] = position
    chain: list[int] = []
    position = max(length, key=lambda place: length[place], default=None)
    while position is not None:
        chain.append(position)
        position = before[position]
    return tuple(reversed(chain))


def _needed(
    stage: StageTargets,
    index: int,
    numbers: Mapping[str, int],
    positions: Mapping[tuple[int, int], int],
    longest: Mapping[int, int],
) -> list[int]:
    """The positions of what a target needs: of a whole stage, only the end of its longest chain."""
    needed = []
    for need in stage.stage.needs:
        number = numbers[f"{stage.pipeline}/{need.command}"]
        is_aligned = need.kind is NeedKind.ALIGNED
        place = positions.get((number, index)) if is_aligned else longest.get(number)
        if place is not None:
            needed.append(place)
    return needed
