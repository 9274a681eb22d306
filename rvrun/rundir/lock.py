"""Lock a run directory, so that one rvrun at a time runs in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import IO

from rvrun import paths, signals
from rvrun.rundir.files import UnusableRunDir
from rvrun.rundir.own_files import open_own
from rvrun.rundir.target_lock import is_locked

#: How long to wait for the processes of a run that was killed, in seconds: make and the targets
#: get SIGTERM then, and end soon if they can.
LEFTOVER_SECONDS = 10.0
POLL_SECONDS = 0.1


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[int]:
    """Hold the lock of a run directory, creating the directory if it does not exist.

    Yields the descriptor of the lock. Processes that work in the directory inherit it: the kernel
    releases the lock when the last process ends that has it, so no run starts beside what a killed
    run left behind, and a crash leaves no stale lock.

    The lock file itself is never removed: a process could lock it just before it disappears, and
    another process would lock a new one.

    Raises `LinkInTheWay`, or `UnusableRunDir` if another process holds the lock.
    """
    # From here on, an interrupt has something to clean up.
    signals.raise_on_interrupt()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not truncated: opening the file must not erase the process id of its holder.
        descriptor = open_own(str(folder / paths.LOCK), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        problem = "it is a file" if folder.is_file() else str(error.strerror)
        raise UnusableRunDir(folder, problem) from None
    with open(descriptor, "r+", encoding="ascii", errors="replace") as lock:
        _wait(folder, lock)
        # Only names this process to those that fail to get the lock, so the disk may be full.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        try:
            yield descriptor
        finally:
            # Not only closed: a process that a target forked and left behind has it open, too.
            fcntl.flock(lock, fcntl.LOCK_UN)


@contextlib.contextmanager
def locked_if_writable(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock of a run directory, or nothing if the directory is read-only.

    For what must be possible there, too: nobody can submit anything from there meanwhile.
    Raises like `locked`.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except UnusableRunDir:
            if os.access(folder, os.W_OK):
                raise
        yield


def is_active(folder: pathlib.Path) -> bool:
    """Return whether a process of rvrun's runs in a run directory now."""
    path = folder / paths.LOCK
    try:
        holder = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return False
    # The lock is only touched while its holder lives: taking it even for a moment could make a run
    # that starts now believe that another one left something behind.
    return holder.isdigit() and _is_running(holder) and is_locked(str(path))


def _wait(folder: pathlib.Path, lock: IO[str]) -> None:
    """Take the lock, after waiting for what a killed run left behind."""
    deadline = None
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            if _is_running(holder):
                problem = f"another rvrun (process {holder or 'unknown'}) is running in it"
                raise UnusableRunDir(folder, problem) from None
        else:
            return
        if deadline is None:
            deadline = time.monotonic() + LEFTOVER_SECONDS
            message = f"rvrun: process {holder} was killed; waiting for what it left running"
            print(message, file=sys.stderr, flush=True)
        if time.monotonic() > deadline:
            raise UnusableRunDir(folder, _describe_leftovers(holder, lock))
        time.sleep(POLL_SECONDS)


def _is_running(holder: str) -> bool:
    """Return whether the process that took the lock still runs; True if that is unknown."""
    if not holder.isdigit():
        return True
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = pathlib.Path(f"/proc/{holder}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    # A process that was killed stays as a zombie until its parent has read its exit status.
    return not stat.rpartition(")")[2].lstrip().startswith("Z")


def _describe_leftovers(holder: str, lock: IO[str]) -> str:
    """Describe the processes that still have the lock of a run that was killed."""
    left = f"rvrun (process {holder}) was killed, but what it started still runs in it"
    inode = os.fstat(lock.fileno())
    pids = []
    # Linux tells which processes have a file open; elsewhere, `lsof` would.
    for entry in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.path.samestat(entry.stat(), inode):
                pids.append(int(entry.parts[2]))
    others = " ".join(map(str, sorted({*pids} - {os.getpid()})))
    return f"{left}; end it: kill {others}" if others else left
