"""Lock a run directory, so that one rvrun at a time runs in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from rvrun import paths
from rvrun.rundir.files import UnusableRunDir


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a run directory, creating the directory if it does not exist.

    The kernel releases the lock when its process ends, so a crash leaves no stale lock. The lock
    file itself is never removed: a process could lock it just before it disappears, and another
    process would lock a new one.

    Raises `UnusableRunDir` if another process holds the lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # "a+" and not "w": opening the file must not erase the process id of its holder.
        lock = open(folder / paths.LOCK, "a+", encoding="ascii", errors="replace")  # noqa: SIM115 - closed below
    except OSError as error:
        problem = "it is a file" if folder.is_file() else str(error.strerror)
        raise UnusableRunDir(folder, problem) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            problem = f"another rvrun (process {holder}) is running in it"
            raise UnusableRunDir(folder, problem) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        # Flushed, so that a process that fails to get the lock can name this one.
        lock.flush()
        yield
