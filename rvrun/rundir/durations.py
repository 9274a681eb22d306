"""Read from the records of a run directory how long its targets took."""

from __future__ import annotations

import bisect
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.inputs import parse_integer
from rvrun.plan.durations import Sample, StageSummary, summarize
from rvrun.rundir import records

#: A longer gap than that, in seconds, is between two runs.
MAX_GAP = 10.0
#: Events after a target has waited for a GPU slot, or for CPUs and memory.
WAITED = ("gpu", "share")


@attrs.frozen
class _Success:
    """The last attempt of a target that succeeded."""

    stage: str
    splits: int
    began: float
    ended: float
    end: dict[str, Any]
    items: int | None


def summarize_records(run_dir: pathlib.Path) -> dict[str, StageSummary]:
    """Summarize the records of a run directory by stage, such as `tiny/chip`.

    Each target counts with the last attempt that succeeded. The result is empty if there are none.
    """
    return summarize_samples(read_samples(run_dir), os.path.relpath(run_dir))


def summarize_samples(
    samples: Iterable[tuple[str, Sample]], source: str = ""
) -> dict[str, StageSummary]:
    """Summarize samples, each with the name of its stage, by stage."""
    by_stage: dict[str, list[Sample]] = {}
    for name, sample in samples:
        by_stage.setdefault(name, []).append(sample)
    summaries = {name: summarize(items, source) for name, items in by_stage.items()}
    return {name: summary for name, summary in summaries.items() if summary is not None}


def read_samples(run_dir: pathlib.Path) -> Iterator[tuple[str, Sample]]:
    """Yield the stage and the duration of each target that succeeded."""
    successes = list(_successes(run_dir / paths.RECORDS))
    begins = sorted(success.began for success in successes)
    ends = sorted(success.ended for success in successes)
    for success in successes:
        since_begin = _since(begins, success.began, bisect.bisect_left(begins, success.began))
        since_end = _since(ends, success.began, bisect.bisect_right(ends, success.began))
        # It started because of the last thing that happened before: an end that made room for it,
        # or a start, if there was room already.
        follows_end = since_end <= since_begin
        # What it waited for a CPU depends on what else ran; a prediction adds that for its own.
        waited = _seconds(success.end, "cpu_wait_seconds") or 0.0
        yield (
            success.stage,
            Sample(
                seconds=max(0.0, success.ended - success.began - waited),
                splits=success.splits,
                items=success.items,
                gap=since_end if follows_end and since_end < MAX_GAP else None,
                interval=since_begin if not follows_end and since_begin < MAX_GAP else None,
                cpu_seconds=_seconds(success.end, "cpu_seconds"),
                machine_cpus=_num_cpus(success.end),
                peak_memory_kib=records.memory_of(success.end),
            ),
        )


def _since(times: Sequence[float], now: float, place: int) -> float:
    return now - times[place - 1] if place else math.inf


def _successes(folder: pathlib.Path) -> Iterator[_Success]:
    for pipeline in sorted(folder.glob("*/")):
        # A leading dot is for what is not a record of a target.
        if not pipeline.name.startswith("."):
            for record in sorted(pipeline.rglob("*.jsonl")):
                stage, num_splits = _stage_of(record.relative_to(folder))
                if stage and (success := _last_success(str(record), stage, num_splits)):
                    yield success


def _stage_of(record: pathlib.PurePath) -> tuple[str, int]:
    """The stage of `tiny/train.jsonl` or `tiny/chip.4/0.jsonl`, and its splits; else empty."""
    if len(record.parts) == 2:
        return f"{record.parts[0]}/{record.stem}", 1
    command, _, number = record.parts[1].partition(".")
    num_splits = parse_integer(number) if len(record.parts) == 3 else None
    return (f"{record.parts[0]}/{command}", num_splits) if num_splits else ("", 1)


def _last_success(path: str, stage: str, splits: int) -> _Success | None:
    success, start, items = None, None, None
    for line in records.read_attempts(path):
        if line["event"] == "start":
            start, items = line, None
        elif start is not None and line["event"] in WAITED:
            start = {**start, "time": line["time"]}
        elif line["event"] == "items":
            items = line["done"] if type(line.get("done")) is int else None
        elif line["event"] == "end" and start is not None and line["exit_code"] == 0:
            success = _Success(stage, splits, start["time"], line["time"], line, items)
    return success


def _seconds(end: dict[str, Any], fact: str) -> float | None:
    seconds: Any = end.get(fact)
    return seconds if type(seconds) in (int, float) and 0 <= seconds < 1e9 else None


def _num_cpus(end: dict[str, Any]) -> int | None:
    number: Any = end.get("num_cpus")
    return number if type(number) is int and 0 < number < 1e6 else None
