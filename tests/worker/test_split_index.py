"""Which split a job runs: its index from the runner, its splits from RVRUN_SPLITS."""

from __future__ import annotations

import pytest

from rvrun.runners.array_index import BadIndex
from rvrun.runners.batch.environment import attempt, split_index
from rvrun.worker.split_index import UnknownSplit, split_of

INDEX, SPLITS = "AWS_BATCH_JOB_ARRAY_INDEX", "RVRUN_SPLITS"


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A job whose engine and spec set no variable yet."""
    for name in (INDEX, SPLITS):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def set_up(job: pytest.MonkeyPatch, index: str | None, splits: str | None) -> None:
    for name, value in ((INDEX, index), (SPLITS, splits)):
        if value is not None:
            job.setenv(name, value)


@pytest.mark.parametrize(
    ("index", "splits", "num_splits", "split"),
    [
        ("3", None, 4, 3),
        ("0", "10000-19999", 20_000, 10_000),
        ("9999", "10000-19999", 20_000, 19_999),
        ("2", "0-1,7", 8, 7),
        (None, "7", 8, 7),
        (None, None, 1, 0),
    ],
)
def test_the_split_of_a_child(
    job: pytest.MonkeyPatch, index: str | None, splits: str | None, num_splits: int, split: int
) -> None:
    """The child's index counts the splits of its array; a plain job has just one."""
    set_up(job, index, splits)
    assert split_of("batch", num_splits) == split


@pytest.mark.parametrize(
    ("index", "splits", "num_splits", "problem"),
    [
        ("4", None, 4, "index 4 of `batch` is out of range for 4 splits"),
        ("2", "0-1", 4, "index 2 of `batch` is out of range for RVRUN_SPLITS='0-1'"),
        ("0", "1-", 4, "RVRUN_SPLITS='1-' is not a list of splits"),
        ("1", "0,9", 4, "RVRUN_SPLITS='0,9' gives split 9, but there are 4"),
        (None, None, 4, "`batch` gave this job no index, but it has 4 splits"),
        (None, "2-3", 4, "`batch` gave this job no index, but it has 2 splits"),
    ],
)
def test_a_child_without_a_split_of_its_own(
    job: pytest.MonkeyPatch, index: str | None, splits: str | None, num_splits: int, problem: str
) -> None:
    """It must not run another job's split, not even the first."""
    set_up(job, index, splits)
    with pytest.raises(UnknownSplit) as caught:
        split_of("batch", num_splits)
    assert str(caught.value) == f"cannot determine which split to run: {problem}"


@pytest.mark.parametrize("text", ["x", "-1", "", "1.5", "½"])
def test_an_index_that_is_not_an_integer(text: str) -> None:
    """The message has the variable and its value."""
    with pytest.raises(BadIndex) as caught:
        split_index({INDEX: text})
    assert str(caught.value) == f"{INDEX} must be an integer of at least 0, got {text!r}"


@pytest.mark.parametrize(("text", "number"), [(None, 1), ("1", 1), ("3", 3), ("x", 1)])
def test_the_attempt_of_a_job(text: str | None, number: int) -> None:
    """As Batch counts it, from 1."""
    assert attempt({} if text is None else {"AWS_BATCH_JOB_ATTEMPT": text}) == number
