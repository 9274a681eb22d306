"""When the inputs of items changed, by what the marks of the items say that they were.

A mark holds the fingerprint of what its item read. One without, from before that was declared, is
compared with the times of the files, as make does.

This module imports little, because workers of commands with inputs of items import it.
"""

from __future__ import annotations

import os

from rvrun.data.fingerprint import join_items, missing, paths_of, split_items
from rvrun.rundir.times import NEVER, NOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ItemInputs:
    """What the items of a stage read, in the order of the items.

    - `texts`: the lines of the input fingerprint of each item, as they are now.
    - `recorded`: the same, as its mark has them; empty without a mark, or if it has none.
    - `times`: when it changed; NOW if the item has to run again.
    """

    __slots__ = ("recorded", "texts", "times")

    def __init__(self, texts: Sequence[str], recorded: Sequence[str]) -> None:
        self.texts, self.recorded = tuple(texts), tuple(recorded)
        self.times = tuple(map(_changed_at, self.recorded, self.texts))

    def is_recorded(self, position: int) -> bool:
        """Whether the mark of an item says what the item reads now."""
        return self.recorded[position] == self.texts[position]

    @property
    def absent(self) -> list[str]:
        """The paths and globs where nothing is."""
        return [path for text in self.texts for path in missing(text)]


def refresh(run_dir: str, path: str, name: str, texts: Mapping[str, str]) -> None:
    """Let the fingerprints of items at `path` in `run_dir` say what a target reads.

    Plain make also starts targets of items whose inputs changed since rvrun wrote them.

    - `name`: the stage, for the heading. `texts`: the lines of some items by their digest.

    Raises `UnusableRunDir`.
    """
    file = os.path.join(run_dir, path)
    if _has(file, texts):
        return
    from rvrun.rundir.declared_files import locked_beside

    with locked_beside(file):
        import pathlib

        from rvrun.rundir.files import write

        text = join_items(name, {**_read(file), **texts})
        write(pathlib.Path(run_dir), {path: text})


def _has(file: str, texts: Mapping[str, str]) -> bool:
    texts_by_digest = _read(file)
    return all(texts_by_digest.get(digest) == text for digest, text in texts.items())


def _read(file: str) -> dict[str, str]:
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            return split_items(lines.read())
    except OSError:
        return {}


def _changed_at(recorded: str, text: str) -> int:
    if recorded:
        return NEVER if recorded == text else NOW
    return NOW if missing(text) else max(map(_mtime, paths_of(text)), default=NEVER)


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        # On S3.
        return NEVER
