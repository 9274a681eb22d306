"""Which part of the work a job on AWS is to do, as its environment tells. Light on purpose."""

from __future__ import annotations

import os

from rvrun import indices
from rvrun.errors import RvrunError

#: Runners whose jobs run in containers of their own, on other machines.
REMOTE = ("batch",)
#: The splits that the children of an array run, where these are not all of 0..N-1.
SPLITS = "RVRUN_SPLITS"
#: What AWS Batch tells a job (AWS Batch User Guide, "Job environment variables").
ARRAY_INDEX, ATTEMPT = "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ATTEMPT"


class Misplaced(RvrunError):
    """A job whose environment does not say which split is its own."""


def split_of(runner: str, num_splits: int) -> int:
    """The index of the split that this job of `runner` is to run."""
    return _batch_split(num_splits)


def _batch_split(num_splits: int) -> int:
    """By its place in the array, a plain job being the first; `SPLITS` lists what they run."""
    index, splits = os.environ.get(ARRAY_INDEX, "0"), os.environ.get(SPLITS, "")
    try:
        split = indices.read(splits)[int(index)] if splits else int(index)
    except (ValueError, IndexError):
        problem = f"{SPLITS}={splits!r} has no index {index!r} of {ARRAY_INDEX}"
        raise Misplaced(f"cannot tell which split to run: {problem}") from None
    if not 0 <= split < num_splits:
        problem = f"{ARRAY_INDEX}={index} gives split {split} of {num_splits}"
        raise Misplaced(f"cannot tell which split to run: {problem}")
    return split


def attempt() -> int:
    """Which try of the job this is, from 1."""
    text = os.environ.get(ATTEMPT, "1")
    return int(text) if text.isdigit() else 1
