"""Lock a target, so that only one process at a time runs it, and see whether another has done it.

Several processes may want the same target: two `make`s in one directory, or `make` beside
`rvrun run`. Each of them decides on its own that the target is stale. So the process that runs the
target locks it, and looks again once it has the lock.

The lock is `flock` on the target's record, whose last line names the process that runs it. The
kernel releases the lock when its holder is gone, however that ended. Programs that a target starts
do not inherit the lock, as `exec` closes the file; a process that it forks without `exec` does,
and holds the lock of a target that was killed until it ends, too. A target that ends in order
releases the lock for all of them, so what it leaves running blocks nobody.

This module imports little, because the worker of every target imports it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from rvrun import paths
from rvrun.inputs import writing
from rvrun.rundir.own_files import open_own, touch
from rvrun.rundir.records import read_attempts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rvrun.rundir.planned_stage import PlannedStage

#: By how many seconds the start of a process and the time of a file may disagree: the kernel
#: counts the one in hundredths of a second, the other in its ticks.
CLOCK_SECONDS = 0.02


@contextlib.contextmanager
def target_locked(run_dir: str, target: str, announce: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the target at `target` (see `paths.target`), after waiting for it.

    - `announce`: is called once with what this process waits for, if it has to wait.

    Raises `LinkInTheWay` or `CannotWrite`.
    """
    descriptor = lock_target(run_dir, target, announce)
    try:
        yield
    finally:
        release(descriptor)


def lock_target(run_dir: str, target: str, announce: Callable[[str], None]) -> int:
    """Lock a target as `target_locked` does, and return the descriptor to `release`."""
    path = os.path.join(run_dir, paths.record(target))
    with writing(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    while True:
        with writing(path):
            descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f"waiting for {_describe_holder(path)}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # `make clean` may have removed the file meanwhile; others would lock a new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def release(descriptor: int) -> None:
    """Release the lock of a target."""
    # Not only closed: a process that the target forked and left behind has it open, too.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _describe_holder(path: str) -> str:
    """Describe the process that runs a target, from the target's record at `path`."""
    starts = [line for line in read_attempts(path) if line["event"] == "start"]
    if not starts:
        return "another process, which is about to run it"
    host, pid = starts[-1].get("host"), starts[-1].get("pid")
    if host != os.uname().nodename:
        return f"process {pid} on {host}, which runs it"
    if os.path.isdir("/proc/self") and not os.path.isdir(f"/proc/{pid}"):
        return f"what process {pid} left behind, which ran it"
    return f"process {pid}, which runs it"


def is_locked(path: str) -> bool:
    """Return whether a process runs the target with the record at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def was_done_since(run_dir: str, stage: PlannedStage, since: Callable[[], float]) -> bool:
    """Return whether a target was done since `since()`, in seconds since 1970, and is up to date.

    Call it with the lock of the target. make starts this process for a stale target. If the target
    is up to date now, another process has done it meanwhile. `since` returns the earliest time at
    which make may have decided: a target that was up to date even then runs for another reason,
    such as `make -W FILE`.
    """
    stamp = _mtime_ns(os.path.join(run_dir, stage.stamp))
    # Most targets have no stamp yet, and pay for nothing else.
    if stamp is None or stamp / 1e9 < since() - CLOCK_SECONDS:
        return False
    return bool(stage.prerequisites) and is_up_to_date(run_dir, stage)


def is_up_to_date(run_dir: str, stage: PlannedStage) -> bool:
    """Return whether a target has a stamp that is as new as all of its prerequisites."""
    stamp = _mtime_ns(os.path.join(run_dir, stage.stamp))
    times = (_mtime_ns(os.path.join(run_dir, file)) for file in stage.prerequisites)
    return stamp is not None and all(time is not None and time <= stamp for time in times)


def newest(run_dir: str, files: Iterable[str]) -> int:
    """Return the time of the newest of some files, in ns since 1970; 0 if there is none.

    - `files`: absolute paths, or those in the run directory.

    A stamp must not be older than the prerequisites that its target started with. It would be if
    the clock was set back since, and the target would then run again and again, and what needs it
    would not.
    """
    times = (_mtime_ns(os.path.join(run_dir, file)) for file in files)
    return max((time_ns for time_ns in times if time_ns is not None), default=0)


def touch_stamp(run_dir: str, stage: PlannedStage, least: int) -> None:
    """Touch the stamp of a target that is done.

    - `least`: the time that it has at least: that of the newest prerequisite, from before the
      target ran. If a prerequisite has changed since, it is the time of the stamp, so that the
      target is stale.

    Raises `LinkInTheWay`, and OSError.
    """
    path = os.path.join(run_dir, stage.stamp)
    touch(path)
    if least > os.stat(path).st_mtime_ns or newest(run_dir, stage.prerequisites) > least:
        touch(path, least)


def renew_stamp(run_dir: str, stage: PlannedStage, least: int) -> None:
    """Give the stamp of a target that had nothing to do the time `least`, if that is newer.

    So what needs it stays up to date. Raises `LinkInTheWay`, and OSError.
    """
    path = os.path.join(run_dir, stage.stamp)
    if (_mtime_ns(path) or 0) < least:
        touch(path, least)


def _mtime_ns(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def start_of(pid: int) -> float:
    """Return when process `pid` started, in seconds since 1970; 0 if unknown.

    That of the make that decided to run a target. See proc_pid_stat(5), `starttime`.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
    return _time_of_boot() + ticks / os.sysconf("SC_CLK_TCK")


def _time_of_boot() -> float:
    """Return when the machine started, in seconds since 1970, as its clock has it now."""
    while True:
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        now = time.time()
        # This process may have been stopped in between for longer than the clocks may differ.
        if time.clock_gettime(time.CLOCK_BOOTTIME) - before < CLOCK_SECONDS / 2:
            return now - before


def is_always_make(makeflags: str) -> bool:
    """Return from make's MAKEFLAGS whether it also runs what is up to date (`-B`)."""
    flags = makeflags.split(" ", maxsplit=1)[0]
    return "B" in flags and "=" not in flags and not flags.startswith("-")
