"""The standard streams of a client, opened by the process that runs its target.

A process cannot inherit files from one that is not its parent, but can open them in /proc/PID/fd.
That gives the same file with a position of its own, which makes a difference to regular files that
are not opened to append: those that a client shares with others, such as `make < FILE`, are left to
fresh processes. (make itself opens its output to append, since 4.0.) Sockets cannot be opened.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    #: Whether stdout and stderr are the same file, and whether stdout is written line by line.
    Layout: TypeAlias = tuple[bool, bool]

NUM_STREAMS = 3
#: The descriptors at which a client keeps its streams: its shell uses 0 and 1 for FIFOs.
AT_CLIENT = (5, 6, 2)
#: The identity of a stream that is closed.
CLOSED = (0, 0)


def own() -> list[tuple[int, int]]:
    """Return the identities of this process's streams."""
    return [_identity(f"/proc/self/fd/{number}") for number in range(NUM_STREAMS)]


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return CLOSED
    return status.st_dev, status.st_ino


def others(pid: int, own: Sequence[tuple[int, int]]) -> list[int] | None:
    """Return the numbers of the streams of process `pid` that this process does not have, too.

    Returns None if `open_those_of` cannot open all of them. `own`: the streams of this process.
    """
    numbers = []
    for number in range(NUM_STREAMS):
        try:
            status = os.stat(_path(pid, number))
        except OSError:
            # It is closed.
            numbers.append(number)
            continue
        if stat.S_ISSOCK(status.st_mode):
            return None
        if stat.S_ISREG(status.st_mode) and not _appends(pid, number):
            return None
        if (status.st_dev, status.st_ino) != own[number]:
            numbers.append(number)
    return numbers


def _path(pid: int, number: int, folder: str = "fd") -> str:
    """Return the path in /proc of a stream of a client."""
    return f"/proc/{pid}/{folder}/{AT_CLIENT[number]}"


def layout(pid: int, *, has_log: bool) -> Layout:
    """Return the layout of the output of a client's target, whose stdout may be a terminal's.

    - `has_log`: whether the target's output goes to a log.
    """
    if has_log:
        return True, True
    output, errors = _path(pid, 1), _path(pid, 2)
    return _identity(output) == _identity(errors), _is_terminal(output)


def _is_terminal(path: str) -> bool:
    try:
        if not stat.S_ISCHR(os.stat(path).st_mode):
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _flags(pid: int, number: int) -> int:
    """Return the flags with which a process has a file open (proc_pid_fdinfo(5))."""
    with open(_path(pid, number, "fdinfo"), "rb") as file:
        return int(file.read().split(b"flags:")[1].split()[0], 8)


def _appends(pid: int, number: int) -> bool:
    return bool(_flags(pid, number) & os.O_APPEND)


def open_those_of(pid: int, numbers: Sequence[int]) -> None:
    """Make the streams of process `pid` with these numbers those of this process."""
    for number in numbers:
        path = _path(pid, number)
        is_closed = _identity(path) == CLOSED
        if is_closed:
            # As in `rvrun.streams`, for this process alone.
            descriptor = os.open(os.devnull, os.O_RDWR)
        else:
            theirs = _flags(pid, number)
            kept = theirs & (os.O_ACCMODE | os.O_APPEND)
            # O_NONBLOCK: opening a FIFO for one direction would wait for the other.
            descriptor = os.open(path, kept | os.O_NOCTTY | os.O_NONBLOCK)
            os.set_blocking(descriptor, not theirs & os.O_NONBLOCK)
        os.dup2(descriptor, number, inheritable=not is_closed)
        os.close(descriptor)
