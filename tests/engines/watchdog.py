"""End the daemons of a test, with all that they have started, when the tests are killed.

    python watchdog.py FOLDER

It waits for the end of its stdin, a pipe that only the process of the tests holds open. Daemons and
jobs are recognized by the folder in their environment, as they have sessions of their own.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import sys


def end_all(folder: pathlib.Path) -> None:
    """Kill all processes with `folder` in their environment, and remove it."""
    # Again, because one that dies may have started another one meanwhile.
    while pids := list(processes_of(folder)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: pathlib.Path) -> list[int]:
    """Return the processes with `folder` in their environment, without zombies and this one."""
    pids = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # That of a zombie is empty.
            is_own = f"{folder}/".encode() in (path / "environ").read_bytes()
            if is_own and int(path.name) != os.getpid():
                pids.append(int(path.name))
    return pids


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_all(pathlib.Path(sys.argv[1]))
