"""The times of fingerprints that are written, by which make and rvrun know what is stale."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable
from time import time_ns

from rvrun import item_list, paths
from rvrun.code import fingerprint as code
from rvrun.data import fingerprint as data


class FingerprintTimes:
    """Chooses the times of fingerprints; looks at the stamps of each pipeline at most once.

    A changed fingerprint is newer than all stamps of its pipeline, also those from the future: if
    the clock was set back since, the change would go unnoticed. A stage's first fingerprint is
    older, as nobody knows what its targets ran with: that of its code is as old as its oldest
    stamp, so that nothing runs again, and that of its inputs as old as the newest of these files.
    And a list of the same items in another order keeps its time.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.stamps: dict[str, list[tuple[str, int]]] = {}

    def choose(self, path: str, text: str) -> int | None:
        """Return the time of the file with `text` at `path`; None for the current time."""
        kind, _, rest = path.partition("/")
        pipeline = rest.partition("/")[0].removesuffix(".json")
        if kind == paths.CODE and not self._has(path, code.is_comparable):
            command = rest.rpartition("/")[2].removesuffix(".txt")
            stamps = self._stamps_of(pipeline)
            times = [time for name, time in stamps if name.partition(".")[0] == command]
            return min(times, default=None)
        if kind == paths.INPUTS and not self._has(path, data.is_comparable):
            newest = data.newest(text)
            if newest is not None and not data.missing(text):
                return newest
        if is_reordered(self.folder, path, text):
            return (self.folder / path).stat().st_mtime_ns
        if kind not in (paths.CODE, paths.CONFIGS, paths.INPUTS, paths.ITEMS):
            return None
        newest = max((time for _, time in self._stamps_of(pipeline)), default=0)
        return newest + 1 if newest >= time_ns() else None

    def _has(self, path: str, is_comparable: Callable[[str], bool]) -> bool:
        """Whether a fingerprint exists that new ones can be compared with."""
        text = read_text(self.folder, path)
        return text is not None and is_comparable(text)

    def _stamps_of(self, pipeline: str) -> list[tuple[str, int]]:
        """Return the time of each stamp and mark, with its name or that of its folder."""
        if pipeline not in self.stamps:
            self.stamps[pipeline] = _read_stamps(self.folder / paths.DONE / pipeline)
        return self.stamps[pipeline]


def newest_stamp(run_dir: str, pipeline: str) -> int:
    """Return the time of the newest stamp or mark of a pipeline, in ns; 0 without any."""
    stamps = _read_stamps(pathlib.Path(run_dir) / paths.DONE / pipeline)
    return max((time for _, time in stamps), default=0)


def _read_stamps(folder: pathlib.Path) -> list[tuple[str, int]]:
    times: list[tuple[str, int]] = []
    # Twice as fast as `rglob`: there may be 100,000 marks.
    todo = [("", str(folder))]
    while todo:
        name, place = todo.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as files:
            for file in files:
                if file.is_dir(follow_symlinks=False):
                    todo.append((name or file.name, file.path))
                    continue
                with contextlib.suppress(FileNotFoundError):
                    times.append((name or file.name, file.stat().st_mtime_ns))
    return times


def is_reordered(folder: pathlib.Path, path: str, text: str) -> bool:
    """Whether `text` lists the same items as the file in another order, or with other labels.

    Such a list is written, as targets read positions from it, but makes nothing stale.
    """
    if not path.startswith(f"{paths.ITEMS}/"):
        return False
    old = read_text(folder, path)
    return old is not None and old != text and item_list.is_same(old, text)


def read_text(folder: pathlib.Path, path: str) -> str | None:
    """Return the text of the file at `path` in `folder`; None if there is none."""
    try:
        return (folder / path).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
