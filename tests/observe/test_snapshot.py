"""The state of a run directory: from plans, records, stamps and the history of runs."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
from typing import Any

import pytest

from rvrun import paths
from rvrun.cli.status import state_to_dict
from rvrun.observe.attempts import AttemptReader
from rvrun.observe.left import Left, seconds_left
from rvrun.observe.local_run import LocalRun, state_of
from rvrun.observe.snapshot import read_snapshot
from rvrun.remote.state import State
from rvrun.report.timeline import make_timeline
from rvrun.rundir.freshness import StageStatus, plan_status
from rvrun.rundir.lock import locked
from tests.report.made import BEGAN, Made, made, plan_of


def states(folder: pathlib.Path) -> dict[str, str]:
    return {one.target.name: str(one.state) for one in read_snapshot(folder).targets}


def append(folder: pathlib.Path, path: str, *lines: dict[str, object]) -> None:
    with (folder / path).open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def test_a_run_that_succeeded(tmp_path: pathlib.Path) -> None:
    """All targets are done, and times are those of the records."""
    state = LocalRun(made(tmp_path, 3)).state()
    assert (state.word, state.runner, state.began) == ("succeeded", "local", BEGAN)
    assert state.count(State.SUCCEEDED) == 12
    assert state.failure is None
    chip = next(stage for stage in state.stages if stage.name == "land/chip")
    assert chip.began is not None
    assert chip.ended is not None
    assert BEGAN < chip.began < chip.ended
    assert chip.median_seconds is not None
    assert chip.peak_memory_kib == 400_000


def test_a_failure_and_what_depends_on_it(tmp_path: pathlib.Path) -> None:
    """The failure names its end; what needs it is pending."""
    folder = made(tmp_path, 3, failing=[("land/predict/1", 3), ("land/predict/2", -9)])
    state = LocalRun(folder).state()
    assert state.word == "failed"
    failures = [state.failure, *state.other_failures]
    assert [f.target for f in failures if f] == ["land/predict/1", "land/predict/2"]
    assert [f.exit_code for f in failures if f] == [3, None]
    assert failures[1] is not None
    assert failures[1].reason.startswith("killed by SIGKILL (137) after ")
    assert "out of memory? its process used at least" in failures[1].reason
    assert states(folder)["land/eval"] == "pending"


def test_a_changed_config_makes_targets_stale(tmp_path: pathlib.Path) -> None:
    """They are done, but no longer up to date, and so is what needs them."""
    folder = made(tmp_path, 3)
    os.utime(folder / paths.config("land"))
    assert set(states(folder).values()) == {"stale"}
    assert LocalRun(folder).state().word == "incomplete"


@pytest.mark.parametrize(
    ("session", "code", "state", "word"),
    [
        ({"exit_code": 130}, 143, "stopped", "interrupted"),
        ({"exit_code": 1}, 143, "failed", "failed"),
        ({"exit_code": 130}, 1, "failed", "failed"),
    ],
)
def test_a_target_that_was_stopped_has_not_failed(
    tmp_path: pathlib.Path, session: dict[str, int], code: int, state: str, word: str
) -> None:
    """Unless the run was not interrupted, or it ended in another way."""
    folder = made(tmp_path, 3)
    later = BEGAN + 1000
    append(
        folder,
        paths.RUNS,
        {"event": "begin", "time": later, "runner": "local", "jobs": 2, "workdir": "."},
        {"event": "end", "time": later + 9, "began": later, **session},
    )
    append(
        folder,
        "records/land/train.jsonl",
        {"event": "start", "attempt": 2, "time": later + 1, "host": "a", "pid": 1},
        {"event": "end", "attempt": 2, "time": later + 8, "exit_code": code},
    )
    assert states(folder)["land/train"] == state
    run = LocalRun(folder).state()
    assert (run.word, run.began, run.ended) == (word, later, later + 9)


def test_a_stamp_that_is_newer_than_a_failure_counts(tmp_path: pathlib.Path) -> None:
    """Somebody touched it, or `accept` did."""
    folder = made(tmp_path, 3, failing=[("land/eval", 1)])
    assert states(folder)["land/eval"] == "failed"
    (folder / "done/land/eval").touch()
    assert states(folder)["land/eval"] == "succeeded"


def test_a_record_without_an_end(tmp_path: pathlib.Path) -> None:
    """Nobody holds the record's lock, so the target was killed."""
    folder = made(tmp_path, 3)
    start = {"event": "start", "attempt": 2, "time": BEGAN + 5000, "host": "a", "pid": 1}
    append(folder, "records/land/eval.jsonl", start)
    state = LocalRun(folder).state()
    assert state.failure is not None
    assert (state.failure.target, state.failure.reason) == ("land/eval", "killed")


def test_a_target_that_ends_while_it_is_looked_at(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its record is read, and before its lock is tried. It was not killed."""
    folder = made(tmp_path, 3, failing=[("land/eval", 3)])
    path = "records/land/eval.jsonl"
    start, end = (folder / path).read_text(encoding="utf-8").splitlines()
    (folder / path).write_text(f"{start}\n", encoding="utf-8")

    def is_locked(record: str) -> bool:
        if record == str(folder / path):
            (folder / path).write_text(f"{start}\n{end}\n", encoding="utf-8")
        return False

    monkeypatch.setattr("rvrun.rundir.attempts.is_locked", is_locked)
    failure = LocalRun(folder).state().failure
    assert failure is not None
    assert (failure.target, failure.exit_code) == ("land/eval", 3)


def test_a_run_that_ends_while_it_is_looked_at(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its stamps are read. It is not over yet then, nor incomplete."""
    folder = made(tmp_path, 3)
    stamp = folder / "done/land/eval"
    stamp.unlink()
    with contextlib.ExitStack() as run:
        run.enter_context(locked(folder))

        def read_stamps(*args: Any) -> list[StageStatus]:
            statuses = plan_status(*args)
            stamp.touch()
            run.close()
            return statuses

        monkeypatch.setattr("rvrun.observe.snapshot.plan_status", read_stamps)
        assert LocalRun(folder).state().word == "running"
    assert LocalRun(folder).state().word == "succeeded"


def test_a_run_without_history(tmp_path: pathlib.Path) -> None:
    """Plain make leaves records only: the run begins with its first target."""
    folder = made(tmp_path, 3)
    (folder / paths.RUNS).unlink()
    state = LocalRun(folder).state()
    assert (state.runner, state.word) == ("make", "succeeded")
    assert BEGAN < state.began < BEGAN + 1


@pytest.mark.parametrize("was_killed", [False, True])
@pytest.mark.parametrize("code", [1, 130])
def test_plain_make_after_a_run(tmp_path: pathlib.Path, was_killed: bool, code: int) -> None:
    """It is a run of its own: neither part of the run before nor of how that ended."""
    folder = made(tmp_path, 3)
    if was_killed:
        begin, *_ = (folder / paths.RUNS).read_text(encoding="utf-8").splitlines()
        (folder / paths.RUNS).write_text(f"{begin}\n", encoding="utf-8")
    later = BEGAN + 10_000
    append(
        folder,
        "records/land/eval.jsonl",
        {"event": "start", "attempt": 2, "time": later, "host": "a", "pid": 1},
        {"event": "end", "attempt": 2, "time": later + 8, "exit_code": code},
    )
    state = LocalRun(folder).state()
    assert (state.runner, state.began, state.ended) == ("make", later, later + 8)
    assert states(folder)["land/eval"] == ("failed" if code == 1 else "stopped")
    spans = {stage.name: (stage.began, stage.ended) for stage in state.stages}
    assert spans["land/eval"] == (later, later + 8)
    timeline = make_timeline(read_snapshot(folder), later + 8)
    assert [burst.began for burst in timeline.bursts][1:] == [later]


def test_a_stage_that_was_done_in_several_runs(tmp_path: pathlib.Path) -> None:
    """The time between them is not part of how long it took."""
    folder = made(tmp_path, 3)
    for later, path in ((BEGAN + 1000, "predict.3/1"), (BEGAN + 1050, "eval")):
        append(
            folder,
            paths.RUNS,
            {"event": "begin", "time": later, "runner": "local", "jobs": 2, "workdir": "."},
            {"event": "end", "time": later + 9, "began": later, "exit_code": 0},
        )
        append(
            folder,
            f"records/land/{path}.jsonl",
            {"event": "start", "attempt": 2, "time": later + 1, "host": "a", "pid": 1},
            {"event": "end", "attempt": 2, "time": later + 3, "exit_code": 0},
        )
    spans = {s.name: (s.began, s.ended) for s in LocalRun(folder).state().stages}
    assert spans["land/predict"] == (BEGAN + 1001, BEGAN + 1003)
    assert spans["land/eval"] == (BEGAN + 1051, BEGAN + 1053)


def test_what_was_read_before_is_read_again_when_it_changed(tmp_path: pathlib.Path) -> None:
    """`--watch` reads only records that changed."""
    folder = made(tmp_path, 3)
    reader = AttemptReader(folder)
    first = read_snapshot(folder, reader)
    assert [one.attempt for one in read_snapshot(folder, reader).targets] == [
        one.attempt for one in first.targets
    ]
    start = {"event": "start", "attempt": 2, "time": BEGAN + 5000, "host": "a", "pid": 1}
    end = {"event": "end", "attempt": 2, "time": BEGAN + 5001, "exit_code": 7}
    append(folder, "records/land/eval.jsonl", start, end)
    second = {one.target.name: one.attempt for one in read_snapshot(folder, reader).targets}
    eval_attempt = second["land/eval"]
    assert eval_attempt is not None
    assert (eval_attempt.number, eval_attempt.exit_code) == (2, 7)


@pytest.mark.parametrize("path", ["records/land/eval.jsonl", paths.RUNS])
def test_damaged_lines_are_skipped(tmp_path: pathlib.Path, path: str) -> None:
    """A full disk may have cut them off; the rest stays readable."""
    folder = made(tmp_path, 3)
    before = state_to_dict(LocalRun(folder).state())
    generator = random.Random(4)
    with (folder / path).open("a", encoding="utf-8") as file:
        for line in ('{"event": "end"', "[]", "7", '{"event": 3}', '{"event": "end", "began": []}'):
            file.write(f"{line}\n")
        file.write(str(generator.random()))
    assert state_to_dict(LocalRun(folder).state()) == before


def test_the_rest_of_a_run() -> None:
    """The work, shared out, or the longest chain; nothing without records."""

    def left(
        name: str, number: int, seconds: float | None, *needs: str, elapsed: float = 0
    ) -> Left:
        return Left(name=name, needs=needs, number=number, elapsed=elapsed, seconds=seconds)

    assert seconds_left([left("a", 8, 2.0)], 4) == 4.0
    assert seconds_left([left("a", 8, 2.0, elapsed=4.0)], 4) == 4.0
    assert seconds_left([left("a", 1, 2.0), left("b", 1, 5.0, "a")], 4) == 7.0
    assert seconds_left([left("a", 4, 2.0), left("b", 1, 5.0)], 4) == 5.0
    assert seconds_left([left("a", 0, None), left("b", 1, 5.0, "a")], 4) == 5.0
    assert seconds_left([left("a", 1, None)], 4) is None
    assert seconds_left([], 4) == 0.0


def test_an_estimate_while_something_runs(tmp_path: pathlib.Path) -> None:
    """From the medians of the stages that are left, for as many targets as run in parallel."""
    folder = Made(tmp_path, plan_of(4), jobs=2).write()
    snapshot = read_snapshot(folder)
    assert state_of(snapshot, "x").seconds_left is None
