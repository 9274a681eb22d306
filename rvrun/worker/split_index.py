"""Determine which split a job runs: its index from the engine, its splits from the job's spec."""

from __future__ import annotations

import os

from rvrun import plugins, split_ranges
from rvrun.environment import SPLITS
from rvrun.errors import RvrunError
from rvrun.text import quoted


class UnknownSplit(RvrunError):
    """A job whose environment does not determine its split."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot determine which split to run: {self.problem}"


def split_of(runner: str, num_splits: int) -> int:
    """Determine the split, of `num_splits`, that this job of `runner` runs.

    A job that is one of several has an index among them, which its runner reads from the engine's
    own variables. RVRUN_SPLITS lists the splits of such jobs where these are not all splits.

    Raises `UnknownSplit`: a job must never run another job's split, not even the first.
    """
    index = plugins.load_runner(runner).split_index(os.environ)
    text = os.environ.get(SPLITS, "")
    try:
        splits = split_ranges.read(text) if text else range(num_splits)
    except ValueError:
        raise UnknownSplit(f"{SPLITS}={quoted(text)} is not a list of splits") from None
    if index is None and len(splits) != 1:
        raise UnknownSplit(f"`{runner}` gave this job no index, but it has {len(splits)} splits")
    if not 0 <= (index or 0) < len(splits):
        of = f"{SPLITS}={quoted(text)}" if text else f"{num_splits} splits"
        raise UnknownSplit(f"index {index} of `{runner}` is out of range for {of}")
    split = splits[index or 0]
    if not 0 <= split < num_splits:
        raise UnknownSplit(
            f"{SPLITS}={quoted(text)} gives split {split}, but there are {num_splits}"
        )
    return split
