"""What a run on this machine says at its end, and what a plan says about it afterwards."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from rvrun import paths
from rvrun.observe.snapshot import read_saved_plan
from rvrun.rundir.explain import why_not_done
from rvrun.rundir.freshness import plan_status
from rvrun.rundir.summary import FULL_BYTES, read_outcome
from tests.report.made import BEGAN, made


@pytest.mark.parametrize("is_full", [False, True])
def test_a_full_disk_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    """A target cannot log that it could not write its log."""
    folder = made(tmp_path, 3, failing=[("land/predict/1", 1)])
    free = 0 if is_full else FULL_BYTES
    disk = os.statvfs_result((1, 1, 1, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    statuses = plan_status(read_saved_plan(folder), folder, {}, force=True)
    outcome = read_outcome(folder, "runs/land", statuses, since=BEGAN, until=BEGAN + 99)
    text = "the disk of runs/land is full, so logs and records may be incomplete; free space on it"
    assert outcome.warnings == ((text,) if is_full else ())


def test_a_clock_that_was_set_back(tmp_path: pathlib.Path) -> None:
    """A target took no negative time."""
    folder = made(tmp_path, 3, failing=[("land/eval", 1)])
    record = folder / "records/land/eval.jsonl"
    start, end = map(json.loads, record.read_text(encoding="utf-8").splitlines())
    end["time"] = start["time"] - 3600
    record.write_text(f"{json.dumps(start)}\n{json.dumps(end)}\n", encoding="utf-8")
    statuses = plan_status(read_saved_plan(folder), folder, {}, force=True)
    outcome = read_outcome(folder, "runs/land", statuses, since=BEGAN, until=BEGAN + 99)
    assert [failure.seconds for failure in outcome.failures] == [0.0]


def test_what_was_stopped_has_not_failed(tmp_path: pathlib.Path) -> None:
    """`plan` says so, as `status` does, unless another target of the stage has failed."""
    folder = made(tmp_path, 3, failing=[("land/predict/1", 143)])
    runs = folder / paths.RUNS
    begin, end = map(json.loads, runs.read_text(encoding="utf-8").splitlines())
    end["exit_code"] = 130
    runs.write_text(f"{json.dumps(begin)}\n{json.dumps(end)}\n", encoding="utf-8")
    plan = read_saved_plan(folder)

    def why() -> str:
        statuses = plan_status(plan, folder, {}, force=True)
        return why_not_done(folder, next(s for s in statuses if s.name == "land/predict"))

    assert why().startswith("split 1 stopped 2026-01-02 ")
    assert why().endswith(", when the run was interrupted")
    start = {"event": "start", "attempt": 2, "time": BEGAN + 1, "host": "a", "pid": 1}
    failed = {"event": "end", "attempt": 2, "time": BEGAN + 2, "exit_code": 7}
    with (folder / "records/land/predict.3/2.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in (start, failed))
    assert why().startswith("split 2 failed 2026-01-02 ")
    assert why().endswith(" (exit 7), 1 more")
