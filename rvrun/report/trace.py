"""A run in Chrome's trace event format, for Perfetto (ui.perfetto.dev) and chrome://tracing.

The fields are those of the document "Trace Event Format": complete events (`ph: X`), counters
(`C`), flows (`s`, `f`) and metadata (`M`); times are in microseconds.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from rvrun.observe.snapshot import Snapshot
from rvrun.remote.state import State
from rvrun.report.timeline import Span, Timeline
from rvrun.rundir.exits import describe_exit

#: The process that all events belong to; its threads are the slots.
PID = 1
#: Colours of the format for what failed and was stopped.
COLOURS = {State.FAILED: "terrible", State.STOPPED: "bad"}


def to_trace(snapshot: Snapshot, timeline: Timeline, title: str) -> str:
    """Return the timeline as a JSON document, with times relative to its beginning."""
    events = [*_metadata(timeline, title)]
    if timeline.spans:
        origin = timeline.spans[0].began
        events += [_event(snapshot, span, origin) for span in timeline.spans]
        events += _counters(timeline, origin)
        events += _flows(timeline, origin)
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"run": title, "began": str(snapshot.began)},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def _metadata(timeline: Timeline, title: str) -> Iterator[dict[str, Any]]:
    yield _named("process_name", 0, title)
    for lane in range(max((burst.slots for burst in timeline.bursts), default=0)):
        yield _named("thread_name", lane + 1, f"slot {lane + 1}")


def _named(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": PID, "tid": thread, "args": {"name": name}}


def _event(snapshot: Snapshot, span: Span, origin: float) -> dict[str, Any]:
    attempt, state = span.attempt, span.target.state
    arguments: dict[str, Any] = {"state": str(state), "attempt": attempt.number}
    if state is State.FAILED:
        arguments["end"] = describe_exit(attempt.exit_code, attempt.signal)
    if attempt.peak_memory_kib is not None:
        arguments["peak_memory_kib"] = attempt.peak_memory_kib
    if span.is_critical:
        arguments["critical_path"] = True
    colour = {"cname": COLOURS[state]} if state in COLOURS else {}
    return {
        "name": span.target.target.name,
        "cat": snapshot.stages[span.stage].name,
        "ph": "X",
        "ts": _microseconds(span.began - origin),
        "dur": _microseconds(span.seconds),
        "pid": PID,
        "tid": span.lane + 1,
        **colour,
        "args": arguments,
    }


def _counters(timeline: Timeline, origin: float) -> Iterator[dict[str, Any]]:
    """How many targets run, whenever that changes."""
    changes: dict[int, int] = {}
    for span in timeline.spans:
        for time, change in ((span.began, 1), (span.ended, -1)):
            at = _microseconds(time - origin)
            changes[at] = changes.get(at, 0) + change
    number = 0
    for at in sorted(changes):
        number += changes[at]
        counter = {"name": "running targets", "ph": "C", "ts": at, "pid": PID}
        yield {**counter, "args": {"targets": number}}


def _flows(timeline: Timeline, origin: float) -> Iterator[dict[str, Any]]:
    """Arrows along the critical path."""
    chain = [timeline.spans[position] for position in timeline.critical]
    for number, (first, second) in enumerate(itertools.pairwise(chain), start=1):
        flow = {"name": "critical path", "cat": "critical path", "id": number, "pid": PID}
        start = _microseconds(max(first.began, min(first.ended, second.began)) - origin)
        yield {**flow, "ph": "s", "ts": start, "tid": first.lane + 1}
        end = _microseconds(second.began - origin)
        yield {**flow, "ph": "f", "bp": "e", "ts": end, "tid": second.lane + 1}


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
