"""Find what matches a glob on this machine.

Python's own `glob` follows a link to a folder that the link is in 40 times, and two of them for
ever. This module imports little, because workers of commands that declare files import it.
"""

from __future__ import annotations

import glob
import os

from rvrun.patterns import FOLDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def expand(pattern: str) -> Iterator[str]:
    """Yield the files and folders that match a glob, in any order, some of them several times.

    As `glob.iglob(pattern, recursive=True)`, but `**` does not come to a folder again in itself.
    """
    parts = pattern.split("/")
    if FOLDERS not in parts:
        yield from glob.iglob(pattern)
        return
    index = parts.index(FOLDERS)
    before = "".join(f"{part}/" for part in parts[:index])
    after = "/".join(parts[index + 1 :])
    for base in [""] if not before else glob.iglob(before):
        if index + 1 == len(parts) and base:
            yield base
        for folder in _folders(base, ()):
            if index + 1 < len(parts):
                yield from expand(glob.escape(folder) + after)
            else:
                yield from (f"{folder}{entry.name}" for entry in _entries(folder))


def _folders(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield a folder and all below it, each with a slash at its end; nothing for the current one.

    - `above`: what identifies the folders that it is in.
    """
    try:
        status = os.stat(folder or os.curdir)
    except OSError:
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    yield folder
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _folders(f"{folder}{entry.name}/", (*above, identity))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder and not hidden; nothing if it cannot be read."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []
