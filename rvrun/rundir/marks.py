"""The marks of the items of a stage that are done: a file per item, named by its digest.

It holds what the item read if its command declares that (`item_inputs`), and is empty otherwise.
Its time is that of the start of the target that did the item, or of the newest thing that the
target depends on, so that what changes while the target runs makes the item stale. Nothing else
knows where marks are.

This module imports little, because the worker of every target with items imports it.
"""

from __future__ import annotations

import contextlib
import os

from rvrun import paths
from rvrun.rundir.own_files import touch
from rvrun.rundir.times import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Marks:
    """The marks of the items of a stage in the run directory `run_dir`."""

    def __init__(self, run_dir: str, pipeline: str, command: str) -> None:
        self.folder = os.path.join(run_dir, paths.marks_folder(pipeline, command))

    def read(self) -> dict[str, int]:
        """Return the time of each mark, in ns since 1970, by the digest of its item."""
        times: dict[str, int] = {}
        # One scan instead of a `stat` by path for each of up to 100,000 items.
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with missing, os.scandir(self.folder) as entries:
            for entry in entries:
                if (time_ns := _time_of(entry)) != NEVER:
                    times[entry.name] = time_ns
        return times

    def read_some(self, digests: Iterable[str]) -> list[int]:
        """Return the time of each of these items, NEVER without a mark."""
        return [self._time(digest) for digest in digests]

    def _time(self, digest: str) -> int:
        try:
            return os.stat(f"{self.folder}/{digest}", follow_symlinks=False).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return NEVER

    def read_texts(self, digests: Iterable[str]) -> list[str]:
        """Return what each of these items read; empty without a mark, or if that is unknown."""
        return [self._text(digest) for digest in digests]

    def _text(self, digest: str) -> str:
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with missing, open(f"{self.folder}/{digest}", encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""

    def add(self, digest: str, time_ns: int, text: str = "") -> None:
        """Mark an item as done at a time. Raises `LinkInTheWay`, and OSError.

        - `text`: what it read.
        """
        os.makedirs(self.folder, exist_ok=True)
        touch(f"{self.folder}/{digest}", time_ns, text)

    def remove(self, digests: Iterable[str]) -> None:
        """Remove the marks of these items, as far as there are any."""
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.folder}/{digest}")

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove the marks of all other items."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.remove(set(os.listdir(self.folder)).difference(digests))


def _time_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        # Removed meanwhile, as its item runs.
        return NEVER
