"""Records of attempts: a line of JSON when an attempt of a target starts, and one when it ends.

Lines are only appended, so earlier attempts stay, and a killed attempt has a start without an end.
This module imports little, because the worker of every target imports it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from rvrun import paths
from rvrun.cpus import num_cpus
from rvrun.inputs import CannotRead, parse_json, read_bytes, writing
from rvrun.rundir.own_files import open_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


#: The event of a warning; its `text` is shown at the end of the run.
WARNING = "warning"


#: The size of a page of memory, in KiB.
PAGE_KIB = os.sysconf("SC_PAGESIZE") // 1024
#: More bytes than any log has; what is larger, no file can be read from.
MAX_OFFSET = 1 << 62
#: Seconds since 1970 of a time that is certainly wrong.
MAX_TIME = 1e12


class Recorder:
    """Writes the record of one attempt of the target at `target` (see `paths.target`)."""

    def __init__(self, run_dir: str, target: str) -> None:
        self.run_dir = run_dir
        self.path = os.path.join(run_dir, paths.record(target))
        self.attempt = 1 + sum(line["event"] == "start" for line in read_attempts(self.path))
        #: CPU time of this process before the attempt, which another target may have used.
        self.cpu_before = cpu_seconds()
        self.wait_before = cpu_wait_seconds()

    def start(self, **facts: object) -> None:
        """Record the start, and in which folder, relative to the run directory.

        - `facts`: `log_offset`, in bytes, if the output goes to a log; `shared_memory_kib`, what
          the process shares with others that were forked from the same one.
        """
        with writing(self.path):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
        workdir = os.path.relpath(os.getcwd(), os.path.realpath(self.run_dir))
        self.note("start", host=os.uname().nodename, pid=os.getpid(), workdir=workdir, **facts)

    def end(self, exit_code: int, **facts: object) -> None:
        """Record the end, with the peak memory of the largest process, and the CPU time of all.

        `num_cpus` is how many CPUs targets share there, and `cpu_wait_seconds` how long this
        process waited for one of them; missing where that is unknown.

        - `facts`: `timeout_seconds`, the time limit, if the attempt was ended because of that.
        """
        before, after = self.wait_before, cpu_wait_seconds()
        if before is not None and after is not None:
            facts["cpu_wait_seconds"] = round(after - before, 3)
        self.note(
            "end",
            exit_code=exit_code,
            peak_memory_kib=peak_memory_kib(),
            cpu_seconds=round(cpu_seconds() - self.cpu_before, 3),
            num_cpus=num_cpus(),
            **facts,
        )

    def note(self, event: str, **facts: object) -> None:
        """Append a line: the event, the attempt, the time in seconds since 1970, and `facts`."""
        line = {"event": event, "attempt": self.attempt, "time": round(time.time(), 3), **facts}
        with writing(self.path):
            append(self.path, line)


def append(path: str, line: dict[str, Any], *, sync: bool = False) -> None:
    """Append a line of JSON to the file at `path`; `sync` waits until it is on the disk.

    One `write` with O_APPEND adds the whole line at the end, also if other processes append.

    Raises `LinkInTheWay`, or OSError unless all of the line was written.
    """
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        # A full disk may have cut off the last line. It is ended first, to keep this line apart.
        size = os.fstat(descriptor).st_size
        lead = "\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else ""
        left = f"{lead}{json.dumps(line)}\n".encode()
        # On a full disk, or at a size limit, `write` writes a part and reports no error; only the
        # next call does (write(2)).
        while left:
            left = left[os.write(descriptor, left) :]
        if sync:
            os.fsync(descriptor)
            # A new file's entry is in its directory, which must reach the disk too (fsync(2)).
            if size == 0:
                sync_folder(os.path.dirname(path))
    finally:
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Wait until the entries of a directory are on the disk."""
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: str) -> None:
    """Wait until all files in a directory, and all directories, are on the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(parent)


def read(path: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of JSON at `path` that have an `event`; none if the file does not exist.

    Other lines are skipped: a full disk may have cut them off, and what is readable must not be
    lost with them. Raises `CannotRead` if the file as a whole cannot be read.
    """
    if not os.path.lexists(path):
        return
    for content in read_bytes(path, "remove it").splitlines():
        with contextlib.suppress(CannotRead):
            line = parse_json(content, path)
            if isinstance(line, dict) and isinstance(line.get("event"), str):
                yield line


def read_attempts(path: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a target's record that are as `Recorder` writes them; see `read`."""
    for line in read(path):
        is_counted = is_time(line.get("time")) and type(line.get("attempt")) is int
        is_end = line["event"] == "end"
        if is_counted and (not is_end or type(line.get("exit_code")) is int):
            yield line


def is_time(value: Any) -> bool:
    """Return whether a value is a time in seconds since 1970; not NaN or infinite, either."""
    return type(value) in (int, float) and abs(value) < MAX_TIME


def last_attempt(path: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the lines of the last attempt in the record at `path`, and the one that is its end.

    The end is None if none was recorded. It has the event `end`, or `killed` if `rvrun run` saw
    that the target was killed, and so could not record its end itself.
    """
    lines: list[dict[str, Any]] = []
    end = None
    for line in read_attempts(path):
        if line["event"] == "start":
            lines, end = [line], None
        elif lines:
            lines.append(line)
            end = line if line["event"] in ("end", "killed") else end
    return lines, end


def memory_of(end: dict[str, Any]) -> int | None:
    """Return the peak memory in the line of an end, in KiB; None if it has none."""
    peak = end.get("peak_memory_kib")
    return peak if type(peak) is int else None


def timeout_of(end: Mapping[str, Any]) -> int | None:
    """Return the time limit that ended an attempt, in seconds; None if none did."""
    seconds = end.get("timeout_seconds")
    return seconds if type(seconds) is int else None


def shared_memory_of(start: dict[str, Any]) -> int | None:
    """Return the shared memory in the line of a start, in KiB; None if it has none."""
    shared = start.get("shared_memory_kib")
    return shared if type(shared) is int else None


def log_offset_of(start: dict[str, Any]) -> int | None:
    """Return where in its log the output of an attempt begins, in bytes; None if it has no log."""
    offset = start.get("log_offset")
    return offset if type(offset) is int and 0 <= offset < MAX_OFFSET else None


def workdir_of(start: dict[str, Any]) -> str | None:
    """Return where an attempt ran, relative to the run directory; None if the line lacks it."""
    workdir = start.get("workdir")
    return workdir if isinstance(workdir, str) else None


def resident_kib() -> int:
    """Return the resident memory of this process, in KiB: that of proc_pid_statm(5)."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pages = int(os.read(descriptor, 256).split()[1])
    finally:
        os.close(descriptor)
    return pages * PAGE_KIB


def process_peak_kib(pid: int | str) -> int | None:
    """Return the peak resident memory of a running process, in KiB, without its children.

    That is VmHWM (proc(5)). None if the process has ended, or where there is no Linux.

    - `pid`: its id, or `self`.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            # A process that has ended keeps its entry for a while, without its memory.
            return int(status.read().split(b"VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return None


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children that have ended, in seconds."""
    children = os.times()[2:4]
    # `times` counts in hundredths of a second, which is long for this process.
    return time.process_time() + sum(children)


def cpu_wait_seconds() -> float | None:
    """Return how long the main thread was ready to run but had no CPU; None if that is unknown.

    From Linux's schedstat: `Documentation/scheduler/sched-stats.rst` of the kernel.
    """
    try:
        with open("/proc/self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def peak_memory_kib() -> int:
    """Return the peak resident memory, in KiB, of this process or of its largest ended child.

    On Linux, `ru_maxrss` (getrusage(2)) is kept across exec and would count the program that
    started this one; VmHWM (proc(5)) counts this program alone. macOS has only `ru_maxrss`, in
    bytes.
    """
    import resource
    import sys

    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    own = process_peak_kib("self")
    if own is None:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1024 if sys.platform == "darwin" else 1
    return max(own, children) // unit
