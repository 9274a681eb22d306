"""What each try of a target leaves in the run directory: a line when it starts, one when it ends.

Lines are only ever added, so a killed target shows as started and never ended, and earlier tries
stay to be read. Light on purpose: the worker of every target writes here.
"""

from __future__ import annotations

import json
import os
import time

from rvrun import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Recorder:
    """Writes the record of one try of the target at `target` (see `paths.target`)."""

    def __init__(self, run_dir: str, target: str) -> None:
        self.path = os.path.join(run_dir, paths.record(target))
        self.attempt = 1 + _count_starts(self.path)

    def start(self, **facts: object) -> None:
        """The try begins; `facts`: where in its log, if it has one (`log_offset`, in bytes)."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.note("start", host=os.uname().nodename, pid=os.getpid(), **facts)

    def end(self, exit_code: int) -> None:
        """The try ended so; the peak memory is that of its largest process, in KiB."""
        self.note("end", exit_code=exit_code, peak_memory_kib=peak_memory_kib())

    def note(self, event: str, **facts: object) -> None:
        """Add a line: what happened, at which try and time (seconds since 1970), and `facts`."""
        line = {"event": event, "attempt": self.attempt, "time": round(time.time(), 3), **facts}
        append(self.path, line)


def append(path: str, line: dict[str, Any], *, sync: bool = False) -> None:
    """Add a line of JSON to the file at `path`; with `sync` it is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        # A line cut short, as by a full disk, is ended before the next.
        size = os.fstat(descriptor).st_size
        lead = "\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else ""
        os.write(descriptor, f"{lead}{json.dumps(line)}\n".encode())
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _count_starts(path: str) -> int:
    return sum(line["event"] == "start" for line in read(path))


def read(path: str) -> Iterator[dict[str, Any]]:
    """The lines of the record at `path`; none where there is no such file.

    A line cut short, as by a full disk, is passed over.
    """
    try:
        with open(path, encoding="utf-8") as lines:
            text = lines.read()
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def peak_memory_kib() -> int:
    """The peak resident memory of this process or its largest ended child, in KiB.

    Linux keeps the peak across exec in `ru_maxrss` (getrusage(2)), so that of whatever started
    this process would be counted; VmHWM (proc(5)) is of this program alone.
    """
    import resource
    import sys

    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:
        with open("/proc/self/status", "rb") as status:
            own = int(status.read().split(b"VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1024 if sys.platform == "darwin" else 1
    return max(own, children) // unit
