"""The timeline: lanes, bursts, the critical path, and the trace of it."""

from __future__ import annotations

import itertools
import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun.observe.snapshot import read_snapshot
from rvrun.report.graph import draw
from rvrun.report.statistics import distribution_of, quantile, stragglers_of
from rvrun.report.timeline import Timeline, make_timeline
from rvrun.report.trace import to_trace
from tests.observe.test_snapshot import append
from tests.report.made import BEGAN, Made, made, plan_of

LATER = BEGAN + 7200


def timeline_of(folder: pathlib.Path) -> Timeline:
    return make_timeline(read_snapshot(folder), LATER)


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))
def test_lanes_and_the_critical_path(
    tmp_path_factory: pytest.TempPathFactory, splits: int, jobs: int, seed: int
) -> None:
    """No two targets on a lane overlap, and there are as few lanes as possible.

    The critical path is a chain of needs, and the longest one: longer than any single target, and
    not longer than the run.
    """
    folder = Made(tmp_path_factory.mktemp("run"), plan_of(splits), jobs=jobs, seed=seed).write()
    timeline = timeline_of(folder)
    (burst,) = timeline.bursts
    assert burst.lanes <= jobs == burst.jobs
    lanes: dict[int, float] = {}
    for span in timeline.spans:
        assert span.began >= lanes.get(span.lane, 0.0)
        lanes[span.lane] = span.ended
    chain = [timeline.spans[position] for position in timeline.critical]
    assert [span.target.target.command for span in chain] == [
        "analyze",
        "chip",
        "clean",
        "train",
        "predict",
        "eval",
    ]
    assert chain[1].index == chain[2].index
    for before, after in itertools.pairwise(chain):
        assert before.ended <= after.began
    longest = max(
        span.seconds for span in timeline.spans if span.target.target.command == "predict"
    )
    assert chain[4].seconds == longest
    assert timeline.critical_seconds <= burst.ended - burst.began
    assert 0 <= timeline.idle_share(0) < 1


def test_a_long_pause_between_two_runs_is_cut(tmp_path: pathlib.Path) -> None:
    """A pause within a run is idle time."""
    folder = made(tmp_path, 3)
    times = {"begin": LATER, "end": LATER + 300}
    append(
        folder,
        "records/.runs.jsonl",
        {"event": "begin", "time": LATER, "runner": "local", "jobs": 2, "workdir": "."},
        {"event": "end", "time": times["end"], "began": LATER, "exit_code": 0},
    )
    for name, at in (("train", LATER + 1), ("eval", LATER + 200)):
        start = {"event": "start", "attempt": 2, "time": at, "host": "a", "pid": 1}
        end = {"event": "end", "attempt": 2, "time": at + 5, "exit_code": 0}
        append(folder, f"records/land/{name}.jsonl", start, end)
    timeline = timeline_of(folder)
    assert [round(burst.ended - burst.began) for burst in timeline.bursts][1:] == [204]
    assert [timeline.spans[n].target.target.name for n in timeline.critical] == ["land/train"] or [
        timeline.spans[n].target.target.command for n in timeline.critical
    ] == ["train", "eval"]


def test_an_empty_timeline(tmp_path: pathlib.Path) -> None:
    """Nothing has run."""
    folder = made(tmp_path, 3)
    for record in (folder / "records/land").rglob("*.jsonl"):
        record.unlink()
    timeline = timeline_of(folder)
    assert timeline == Timeline(spans=(), bursts=(), critical=())
    assert json.loads(to_trace(read_snapshot(folder), timeline, "x"))["traceEvents"] == [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": "x"}}
    ]


def test_the_trace_has_the_documented_fields(tmp_path: pathlib.Path) -> None:
    """Those of "Trace Event Format", each event of the kind that has them; times do not go back."""
    folder = made(tmp_path, 3, failing=[("land/predict/1", 3)])
    trace = json.loads(to_trace(read_snapshot(folder), timeline_of(folder), "runs/x"))
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    required = {
        "X": {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"},
        "C": {"name", "ph", "ts", "pid", "args"},
        "M": {"name", "ph", "pid", "tid", "args"},
        "s": {"name", "cat", "id", "ph", "ts", "pid", "tid"},
        "f": {"name", "cat", "id", "ph", "ts", "pid", "tid", "bp"},
    }
    for event in trace["traceEvents"]:
        assert set(event) - {"cname"} == required[event["ph"]]
        assert all(
            type(event[key]) is int and event[key] >= 0 for key in ("ts", "dur") if key in event
        )
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(complete) == 11
    assert {e["name"]: e.get("cname") for e in complete if "cname" in e} == {
        "land/predict/1": "terrible"
    }
    counters = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    assert counters[-1]["args"] == {"targets": 0}
    assert min(event["args"]["targets"] for event in counters) == 0
    starts = [event for event in trace["traceEvents"] if event["ph"] == "s"]
    ends = {event["id"]: event for event in trace["traceEvents"] if event["ph"] == "f"}
    assert all(event["ts"] <= ends[event["id"]]["ts"] for event in starts)


def test_distributions_and_stragglers(tmp_path: pathlib.Path) -> None:
    """Quantiles between two values, bars that count all targets, and the slowest ones first."""
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([7.0], 0.95) == 7.0
    stage = read_snapshot(made(tmp_path, 300)).stages[1]
    distribution = distribution_of(stage)
    assert distribution is not None
    assert sum(distribution.bins) == 300
    assert distribution.least <= distribution.median <= distribution.p95 <= distribution.most
    stragglers = stragglers_of(stage, distribution)
    assert stragglers[0].seconds == distribution.most
    assert all(one.factor > 2 for one in stragglers)
    assert len(stragglers) <= 5


def test_boxes_do_not_overlap() -> None:
    """A stage is right of all that it needs."""
    (pipeline,) = plan_of(3).pipelines
    drawing = draw(pipeline)
    at = {node.command: (node.x, node.y) for node in drawing.nodes}
    assert len(set(at.values())) == 6
    for stage in pipeline.stages:
        assert all(at[need.command][0] < at[stage.command][0] for need in stage.needs)
    assert [edge.is_aligned for edge in drawing.edges].count(True) == 1
