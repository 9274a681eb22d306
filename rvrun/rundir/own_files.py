"""Open the files that rvrun writes in a run directory, never through a symbolic link.

This module imports little, because the worker of every target imports it.
"""

from __future__ import annotations

import errno
import os

from rvrun.errors import RvrunError


class LinkInTheWay(RvrunError):
    """A symbolic link at the path of a file that rvrun writes.

    Another user who may write to the run directory could plant one, and rvrun would overwrite a
    file of this user's elsewhere.
    """

    path: str
    template = "{path} must be a regular file, got a symbolic link; remove the link"
    fix = "remove the link {path}"


def open_own(path: str, flags: int) -> int:
    """Open the file at `path` with `flags`; return a descriptor that `exec` closes.

    Raises `LinkInTheWay`, and OSError.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        # ELOOP also stands for a chain of links in the folders, which are the user's to choose.
        if error.errno == errno.ELOOP and os.path.islink(path):
            raise LinkInTheWay(path) from None
        raise


def touch(path: str, time_ns: int | None = None, text: str = "") -> None:
    """Create a file at `path` if there is none, and set its time, by default to now.

    - `text`: what the file gets as its content; if it is empty, the content stays.

    Raises `LinkInTheWay`, and OSError.
    """
    descriptor = open_own(path, os.O_WRONLY | os.O_CREAT)
    try:
        if text:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, text.encode())
        if time_ns is None:
            os.utime(descriptor)
        else:
            os.utime(descriptor, ns=(time_ns, time_ns))
    finally:
        os.close(descriptor)
