"""What the page's script draws: a column per fact, as a page may have many thousands of targets."""

from __future__ import annotations

from typing import Any

from rvrun.observe.snapshot import Snapshot, TargetState
from rvrun.remote.state import State
from rvrun.report.timeline import Timeline
from rvrun.rundir.exits import describe_exit

#: The states by the numbers that stand for them.
STATES = tuple(State)


def span_columns(snapshot: Snapshot, timeline: Timeline) -> dict[str, Any]:
    """Return the timeline and the targets as JSON values; times are in milliseconds.

    Spans refer to targets by their position. Times are relative to the beginning of their burst.
    """
    positions: dict[tuple[int, int], int] = {}
    targets: list[tuple[int, int, TargetState]] = []
    for number, stage in enumerate(snapshot.stages):
        for index, one in enumerate(stage.targets):
            positions[number, index] = len(targets)
            targets.append((number, index, one))
    began = [burst.began for burst in timeline.bursts]
    spans = timeline.spans
    return {
        "stages": [stage.name for stage in snapshot.stages],
        "split": [stage.stage.num_splits is not None for stage in snapshot.stages],
        "states": [str(state) for state in STATES],
        "bursts": [
            {
                "began": round(burst.began, 3),
                "ms": _ms(burst.ended - burst.began),
                "slots": burst.slots,
            }
            for burst in timeline.bursts
        ],
        "span": {
            "target": [positions[span.stage, span.index] for span in spans],
            "at": [_ms(span.began - began[span.burst]) for span in spans],
            "ms": [_ms(span.seconds) for span in spans],
            "lane": [span.lane for span in spans],
            "burst": [span.burst for span in spans],
        },
        "critical": list(timeline.critical),
        "target": {
            "stage": [number for number, _, _ in targets],
            "index": [index for _, index, _ in targets],
            "state": [STATES.index(one.state) for _, _, one in targets],
            "memory": [one.attempt and one.attempt.peak_memory_kib for _, _, one in targets],
            "attempt": [one.attempt.number if one.attempt else 0 for _, _, one in targets],
        },
        "ends": {
            position: describe_exit(one.attempt.exit_code, one.attempt.signal)
            for position, (_, _, one) in enumerate(targets)
            if one.attempt and one.state is State.FAILED
        },
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
