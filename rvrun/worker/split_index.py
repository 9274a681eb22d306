"""Which part of the work a job on AWS is to do, as its environment tells. Light on purpose."""

from __future__ import annotations

import os

from rvrun import split_ranges as indices
from rvrun.errors import RvrunError

#: Runners whose jobs run in containers of their own, on other machines.
BATCH, SAGEMAKER = "batch", "sagemaker"
REMOTE = (BATCH, SAGEMAKER)
#: The splits that the children of an array, or the instances of a step, run, where these are not
#: all of 0..N-1.
SPLITS = "RVRUN_SPLITS"
#: Where the list of a SageMaker job's instances is, if not in its usual place.
RESOURCE_CONFIG = "RVRUN_RESOURCE_CONFIG"
#: What AWS Batch tells a job (AWS Batch User Guide, "Job environment variables").
ARRAY_INDEX, ATTEMPT = "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ATTEMPT"


class Misplaced(RvrunError):
    """A job whose environment does not say which split is its own."""


def split_of(runner: str, num_splits: int) -> int:
    """The index of the split that this job of `runner` is to run."""
    if runner == SAGEMAKER:
        from rvrun.worker.torchrun import read_hosts

        hosts = read_hosts(os.environ)
        return _split_at(hosts.rank, num_splits, f"host {hosts.current}")
    index = os.environ.get(ARRAY_INDEX)
    source = f"{ARRAY_INDEX} is not set" if index is None else f"{ARRAY_INDEX}={index}"
    return _split_at(index, num_splits, source)


def _split_at(index: int | str | None, num_splits: int, source: str) -> int:
    """What is at `index` of what `SPLITS` lists, or of all splits; `source` is where it is from.

    Without an index there must be one split only.
    """
    said = os.environ.get(SPLITS, "")
    try:
        splits = indices.read(said) if said else range(num_splits)
    except ValueError:
        raise _misplaced(f"{SPLITS}={said!r} is no list of splits") from None
    if index is None and len(splits) != 1:
        raise _misplaced(f"{source}, though there are {len(splits)}")
    try:
        number = int(index or 0)
    except ValueError:
        raise _misplaced(f"{source} is no index") from None
    if said and not 0 <= number < len(splits):
        raise _misplaced(f"{SPLITS}={said!r} has no index {number} of {source}")
    split = splits[number] if said else number
    if not 0 <= split < num_splits:
        raise _misplaced(f"{source} gives split {split} of {num_splits}")
    return split


def _misplaced(problem: str) -> Misplaced:
    return Misplaced(f"cannot tell which split to run: {problem}")


def attempt(runner: str) -> int | None:
    """Which try of the job this is, from 1; None where the runner's jobs are not told."""
    text = os.environ.get(ATTEMPT, "1")
    return None if runner != BATCH else int(text) if text.isdigit() else 1
