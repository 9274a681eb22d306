"""Declared outputs that do not exist although their targets are done."""

from __future__ import annotations

from collections.abc import Sequence

from rvrun.data.find import Objects, exists
from rvrun.model import Stage
from rvrun.patterns import is_glob, is_per_split, output_path

#: The time of a target that was never done, as in `freshness`.
NEVER = -1


def lost_outputs(stage: Stage, done: Sequence[int]) -> dict[int, str]:
    """Return the first missing output of each target that is done and lacks one, by its index.

    - `done`: when each target was done.

    An output that all splits share counts only if all of them are done: until then, the one that
    completes the stage may still write it. Raises `CannotReach`.
    """
    objects = Objects()
    lost: dict[int, str] = {}
    indices = [index for index, then in enumerate(done) if then > NEVER]
    is_whole = len(indices) == len(done)
    for output in stage.outputs:
        if stage.num_splits is not None and is_per_split(output):
            listed = _common_beginning(output, stage.num_splits)
            for index in indices:
                path = output_path(output, index, stage.num_splits)
                if index not in lost and not exists(path, objects, listed):
                    lost[index] = path
        elif is_whole:
            path = output_path(output, None, stage.num_splits)
            if not exists(path, objects):
                lost = {index: lost.get(index, path) for index in indices}
    return lost


def _common_beginning(output: str, num_splits: int) -> str:
    """Return how the paths of an output begin for all splits: what to list on S3."""
    mark = "*"
    path = output_path(output, None, num_splits).replace("None", mark)
    first = min((path.index(c) for c in "*?[" if c in path), default=len(path))
    return path[:first] if is_glob(path) else path
