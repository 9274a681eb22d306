"""Declared outputs that do not exist although what writes them is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rvrun.data.find import Objects, exists
from rvrun.model import Stage
from rvrun.patterns import (
    any_split,
    is_of_stage,
    is_per_item,
    is_per_split,
    item_path,
    output_path,
)
from rvrun.rundir.times import NEVER

#: Stands for the index of a split, to find how the paths of all splits begin.
_MARK = "*"


def lost_outputs(stage: Stage, done: Sequence[int]) -> dict[int, str]:
    """Return the first missing output of each target that is done and lacks one, by its index.

    - `done`: when each target was done.

    An output that all splits share counts only if all of them are done: until then, the one that
    completes the stage may still write it. Raises `CannotReach`.
    """
    objects = Objects()
    lost: dict[int, str] = {}
    for output in stage.outputs:
        if stage.num_splits is None or not is_per_split(output):
            continue
        beginning = output_path(output, _MARK, stage.num_splits).partition(_MARK)[0]
        for index, then in enumerate(done):
            path = output_path(output, index, stage.num_splits)
            if then > NEVER and index not in lost and not exists(path, objects, beginning):
                lost[index] = path
    return {**_lost_by_all(stage, done, objects), **lost}


def lost_item_outputs(
    stage: Stage, read_values: Callable[[], Sequence[Any] | None], done: Sequence[int]
) -> dict[int, str]:
    """Return the first missing output of each item that is done and lacks one, by its position.

    - `read_values`: returns the JSON values of the items; None if they are unknown.
    - `done`: when each item was done.
    """
    objects = Objects()
    lost: dict[int, str] = {}
    outputs = [output for output in stage.outputs if is_per_item(output)]
    values = read_values() if outputs else None
    for output in outputs:
        beginning = any_split(output).partition("*")[0]
        for position, (value, then) in enumerate(zip(values or (), done, strict=False)):
            path = item_path(output, value)
            if then > NEVER and position not in lost and not exists(path, objects, beginning):
                lost[position] = path
    return {**_lost_by_all(stage, done, objects), **lost}


def _lost_by_all(stage: Stage, done: Sequence[int], objects: Objects) -> dict[int, str]:
    """Return a missing output that is not that of one split; all units have to write it again."""
    if NEVER in done:
        return {}
    for output in stage.outputs:
        if is_of_stage(output) or stage.num_splits is None:
            path = output_path(output, None, stage.num_splits)
            if not exists(path, objects):
                return dict.fromkeys(range(len(done)), path)
    return {}
