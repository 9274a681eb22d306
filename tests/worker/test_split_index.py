"""Which split a job on AWS Batch runs, by its environment; for SageMaker see `test_hosts`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rvrun.worker.split_index import Misplaced, attempt, split_of

NAMES = ("AWS_BATCH_JOB_ARRAY_INDEX", "RVRUN_SPLITS", "AWS_BATCH_JOB_ATTEMPT")
Tell = Callable[..., None]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Sets what Batch and the spec say to a job; None is not said."""

    def said(index: str | None = None, splits: str | None = None, tries: str | None = None) -> None:
        for name, value in zip(NAMES, (index, splits, tries), strict=True):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return said


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
    tell: Tell, index: str | None, splits: str | None, num_splits: int, split: int
) -> None:
    """The child's index counts the splits of its array; a plain job has just one."""
    tell(index, splits)
    assert split_of("batch", num_splits) == split


@pytest.mark.parametrize(
    ("index", "splits", "num_splits", "problem"),
    [
        ("4", None, 4, "AWS_BATCH_JOB_ARRAY_INDEX=4 gives split 4 of 4"),
        ("-1", None, 4, "AWS_BATCH_JOB_ARRAY_INDEX=-1 gives split -1 of 4"),
        ("x", None, 4, "AWS_BATCH_JOB_ARRAY_INDEX=x is no index"),
        ("2", "0-1", 4, "RVRUN_SPLITS='0-1' has no index 2 of AWS_BATCH_JOB_ARRAY_INDEX=2"),
        ("-1", "0-1", 4, "RVRUN_SPLITS='0-1' has no index -1 of AWS_BATCH_JOB_ARRAY_INDEX=-1"),
        ("0", "1-", 4, "RVRUN_SPLITS='1-' is no list of splits"),
        ("1", "0,9", 4, "AWS_BATCH_JOB_ARRAY_INDEX=1 gives split 9 of 4"),
        (None, None, 4, "AWS_BATCH_JOB_ARRAY_INDEX is not set, though there are 4"),
        (None, "2-3", 4, "AWS_BATCH_JOB_ARRAY_INDEX is not set, though there are 2"),
    ],
)
def test_a_child_that_cannot_tell(
    tell: Tell, index: str | None, splits: str | None, num_splits: int, problem: str
) -> None:
    """It must not run another split than its own, not even the first."""
    tell(index, splits)
    with pytest.raises(Misplaced) as caught:
        split_of("batch", num_splits)
    assert str(caught.value) == f"cannot tell which split to run: {problem}"


@pytest.mark.parametrize(("told", "number"), [(None, 1), ("1", 1), ("3", 3), ("x", 1)])
def test_the_try_of_a_job(tell: Tell, told: str | None, number: int) -> None:
    """As Batch counts it, from 1."""
    tell(tries=told)
    assert attempt("batch") == number


def test_no_try_where_the_runner_tells_none(tell: Tell) -> None:
    """SageMaker's containers are not told."""
    tell(tries="3")
    assert attempt("sagemaker") is None
