"""What a run shows while it goes on: failures, what is running, and how much is left."""

from __future__ import annotations

import io
import pathlib

import attrs
import pytest
from rich.console import Console

from rvrun.cli.failure_lines import FailureLines
from rvrun.cli.progress import Bars, Lines
from rvrun.observe.attempts import AttemptReader
from rvrun.observe.forecast import Forecast
from rvrun.observe.snapshot import read_saved_plan, saved_configs
from rvrun.rundir.freshness import StageStatus, plan_status
from tests.report.made import made


@attrs.define
class Clock:
    """Replaces the clock that only goes forward."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


@pytest.fixture
def statuses(tmp_path: pathlib.Path) -> list[StageStatus]:
    """All targets of a run that has records of all of them, as with `-B`."""
    folder = made(tmp_path, 3)
    return plan_status(read_saved_plan(folder), folder, saved_configs(folder), force=True)


def console() -> Console:
    return Console(file=io.StringIO(), width=200, highlight=False, markup=False)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_bars_show_what_runs_and_how_long_it_takes(
    tmp_path: pathlib.Path, statuses: list[StageStatus], clock: Clock
) -> None:
    """The estimate uses records; a target that took longer than ever is not negative time."""
    bars = Bars(console(), FailureLines("runs/x"), Forecast(AttemptReader(tmp_path), jobs=2))
    bars.begin(statuses)
    try:
        assert bars.describe_running() == ""
        bars.started("land/analyze")
        clock.now += 2
        line = bars.describe_running()
        assert line.startswith("running: land/analyze for 2.0 s; 0 of 12 done, about ")
        clock.now += 1000
        assert "about " in bars.describe_running()
        bars.ended("land/analyze", 0)
        for split in range(3):
            bars.started(f"land/chip/{split}")
        clock.now += 3
        assert bars.describe_running().startswith(
            "running: land/chip/0 for 3.0 s, land/chip/1 for 3.0 s, land/chip/2 for 3.0 s; 1 of 12 "
            "done, about "
        )
        bars.ended("land/chip/1", 3)
        assert "land/chip/1 failed (exit 3) after 3.0 s; log: runs/x/logs/land/chip.3/1.log" in (
            output(bars.console)
        )
    finally:
        bars.finish()


def test_there_is_no_estimate_without_records(
    tmp_path: pathlib.Path, statuses: list[StageStatus], clock: Clock
) -> None:
    """Of a stage that is left."""
    (tmp_path / "records/land/train.jsonl").unlink()
    bars = Bars(console(), FailureLines("runs/x"), Forecast(AttemptReader(tmp_path), jobs=2))
    bars.begin(statuses)
    bars.started("land/analyze")
    assert bars.describe_running() == "running: land/analyze for 0 ms; 0 of 12 done"
    bars.finish()


def test_lines_name_failures_with_their_logs(statuses: list[StageStatus], clock: Clock) -> None:
    """Also those that a signal killed, and targets without a log."""
    lines = Lines(console(), FailureLines("runs/x"))
    lines.begin(statuses)
    lines.started("land/train")
    clock.now += 200
    lines.ended("land/train", 137)
    lines.ended("land/eval", 1)
    assert output(lines.console) == (
        "land/train failed (exit 137, SIGKILL) after 3 min 20 s; log: runs/x/logs/land/train.log\n"
        "land/eval failed (exit 1); log: runs/x/logs/land/eval.log\n"
    )
    assert (
        FailureLines(None).format("land/train", 1, 2.0) == "land/train failed (exit 1) after 2.0 s"
    )
