"""What the page's script draws: a column per fact, as a page may have many thousands of targets."""

from __future__ import annotations

from typing import Any

from rvrun.observe.snapshot import Snapshot
from rvrun.remote.state import State
from rvrun.report.timeline import Burst, Timeline
from rvrun.rundir.exits import describe_exit

#: The states by the numbers that stand for them.
STATES = tuple(State)


def span_columns(snapshot: Snapshot, timeline: Timeline) -> dict[str, Any]:
    """Return the timeline and the targets as JSON values; times are in milliseconds.

    Spans refer to targets by their position. Times are relative to the beginning of their burst.
    """
    targets = [one for stage in snapshot.stages for one in stage.targets]
    return {
        "stages": [stage.name for stage in snapshot.stages],
        "split": [stage.stage.num_splits is not None for stage in snapshot.stages],
        "states": [str(state) for state in STATES],
        "bursts": [_burst(burst) for burst in timeline.bursts],
        "span": _spans(snapshot, timeline),
        "critical": list(timeline.critical),
        "target": {
            "stage": [n for n, stage in enumerate(snapshot.stages) for _ in stage.targets],
            "index": [i for stage in snapshot.stages for i in range(len(stage.targets))],
            "state": [STATES.index(one.state) for one in targets],
            "memory": [one.attempt and one.attempt.peak_memory_kib for one in targets],
            "attempt": [one.attempt.number if one.attempt else 0 for one in targets],
        },
        "ends": {
            position: describe_exit(one.attempt.exit_code, one.attempt.signal)
            for position, one in enumerate(targets)
            if one.attempt and one.state is State.FAILED
        },
    }


def _burst(burst: Burst) -> dict[str, Any]:
    return {
        "began": round(burst.began, 3),
        "ms": _ms(burst.ended - burst.began),
        "slots": burst.slots,
    }


def _spans(snapshot: Snapshot, timeline: Timeline) -> dict[str, list[int]]:
    # The position of each stage's first target.
    first = [0]
    for stage in snapshot.stages:
        first.append(first[-1] + len(stage.targets))
    began = [burst.began for burst in timeline.bursts]
    spans = timeline.spans
    return {
        "target": [first[span.stage] + span.index for span in spans],
        "at": [_ms(span.began - began[span.burst]) for span in spans],
        "ms": [_ms(span.seconds) for span in spans],
        "lane": [span.lane for span in spans],
        "burst": [span.burst for span in spans],
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
