"""The standard streams of a process, made usable whatever this process was given.

Light on purpose: every process of rvrun begins here.
"""

from __future__ import annotations

import os
import sys


def open_streams() -> None:
    """Open the standard streams that are closed, and let them print every string.

    If `2>&-` closed one, Python has no object for it, and the next file that is opened, such as a
    log or a lock, would get its number and then the output of child processes.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number: those below are open by now.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        # A path that is not UTF-8, or a terminal that is not: what cannot be encoded is escaped.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
