"""Remember the hashes of files, so that none is read twice while it stays as it is.

A hash is remembered by the path, size, times and identity of its file, in one file per working
directory below the user's cache folder. A file that changed less than a moment before it was read
is not remembered: another change could leave its time as it is.

This module imports little, because workers of commands that declare inputs import it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time

from rvrun.code.results import SETTLED_NS, cache_folder, write_json
from rvrun.inputs import CannotRead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    #: A callback for the progress of hashing: bytes done, bytes in total.
    Advance = Callable[[int, int], None]

#: How many files of a working directory are remembered.
MAX_ENTRIES = 200_000
#: What to do about a file that cannot be read.
READABLE = "make it readable, or leave it out of `inputs`"
#: How much of a file is hashed between two reports, in bytes.
PIECE = 1 << 20
#: The version of the cache's format.
VERSION = 1


class Hashes:
    """The hashes of files, by their paths as a working directory has them.

    - `path`: of the cache; empty for none.
    - `advance`: is called with the bytes that are hashed and those that have to be, while files
      are; and in the end with the same number twice, whatever happens.
    """

    def __init__(self, path: str | None = None, advance: Advance | None = None) -> None:
        self.advance = advance
        self.path = _default_path() if path is None else path
        self.entries: dict[str, Any] = {}
        self.is_read = False

    def of(self, paths: Sequence[str]) -> dict[str, tuple[str, int, int]]:
        """Return SHA-256, size and modification time of each of `paths` that exists.

        Raises `CannotRead`.
        """
        states = {path: state for path in paths if (state := _state(path)) is not None}
        if states and not self.is_read:
            self._read()
        digests = {path: self._known(path, state) for path, state in states.items()}
        unknown = [path for path, digest in digests.items() if digest is None]
        if unknown:
            try:
                digests |= self._hash(unknown)
            finally:
                if self.advance is not None:
                    self.advance(1, 1)
        return {
            path: (digest, states[path][0], states[path][1])
            for path, digest in digests.items()
            if digest
        }

    def _known(self, path: str, state: list[int]) -> str | None:
        entry = self.entries.get(path)
        if not isinstance(entry, list) or entry[:-1] != state or not isinstance(entry[-1], str):
            return None
        return entry[-1]

    def _hash(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Hash files, one process at a time: the others then find the hashes in the cache."""
        digests: dict[str, str | None] = {}
        with self._locked():
            self._read()
            is_changed = False
            count = self._counter(paths)
            for path in paths:
                state = _state(path)
                digests[path] = None if state is None else self._known(path, state)
                if state is None or digests[path]:
                    continue
                now = time.time_ns()
                digests[path] = digest = _digest(path, count)
                # Unless it changed, or could change without a trace, while it was read.
                if _state(path) == state and now - max(state[1], state[2]) > SETTLED_NS:
                    self.entries.pop(path, None)
                    self.entries[path] = [*state, digest]
                    is_changed = True
            if self.path and is_changed:
                kept = dict(list(self.entries.items())[-MAX_ENTRIES:])
                write_json(self.path, [VERSION, kept])
        return digests

    def _counter(self, paths: Sequence[str]) -> Callable[[int], None] | None:
        """Return a function that reports bytes of `paths` that were hashed; None if nobody asks."""
        advance = self.advance
        if advance is None:
            return None
        states = {path: _state(path) for path in paths}
        sizes = [s[0] for path, s in states.items() if s and not self._known(path, s)]
        done, total = 0, sum(sizes)

        def count(number: int) -> None:
            nonlocal done
            done += number
            # A file may grow meanwhile; the end is reported in the end.
            advance(min(done, total - 1), total)

        return count

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                # Without a place for the cache, each process hashes for itself.
                if self.path:
                    os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
                    lock = stack.enter_context(open(f"{self.path}.lock", "w", encoding="ascii"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> None:
        self.is_read = True
        try:
            with open(self.path, encoding="utf-8") as file:
                version, entries = json.load(file)
        except (OSError, ValueError, TypeError, RecursionError):
            return
        if version == VERSION and isinstance(entries, dict):
            self.entries = entries


def _default_path() -> str:
    folder = cache_folder("inputs")
    name = hashlib.sha256(os.fsencode(os.getcwd())).hexdigest()[:32]
    return os.path.join(folder, f"{name}.json") if folder else ""


def _state(path: str) -> list[int] | None:
    """Return what changes with a file's content; None if there is no such file."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CannotRead(path, f"cannot be read: {error.strerror}", READABLE) from None
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return [status.st_size, *times, status.st_ino, status.st_dev]


def _digest(path: str, count: Callable[[int], None] | None) -> str | None:
    try:
        with open(path, "rb") as file:
            if count is None:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest = hashlib.sha256()
            while piece := file.read(PIECE):
                digest.update(piece)
                count(len(piece))
            return digest.hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CannotRead(path, f"cannot be read: {error.strerror}", READABLE) from None
