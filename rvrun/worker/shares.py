"""Share the CPUs and the memory of this machine between targets that declare what they need.

As with GPU slots, targets limit themselves, so that the limit also holds under plain `make -j8` and
for several runs. Each target that runs holds the lock of a file whose name says how much it uses.
The kernel releases the lock of a process that dies, whatever killed it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from rvrun.rundir.own_files import open_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: How often the first process in the queue looks whether there is enough, in seconds.
POLL_SECONDS = 0.1
#: The lock of the process that is first in the queue.
QUEUE = "share-queue"
#: The beginning of the names of files of processes that run: `share-CPUS-MIB-PID-TIME`.
RUNNING = "share-run-"


@contextlib.contextmanager
def share(
    folder: str,
    needed: tuple[int, int],
    limits: tuple[int, int],
    announce: Callable[[str], None],
) -> Iterator[None]:
    """Wait until there are enough CPUs and memory, and hold them.

    Targets are served in the order of their arrival: a large one is not kept waiting by small ones.
    One that needs more than there is runs while no other does.

    - `folder`: where the lock files are.
    - `needed`, `limits`: CPUs and MiB that this target needs, and that all of them share; a target
      that needs 0 of one is not limited by it.
    - `announce`: is called once with what this process waits for, if it has to wait.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor, path = _wait(folder, needed, limits, announce)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # Not only closed: a process that the target forked and left behind has it open, too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _wait(
    folder: str, needed: tuple[int, int], limits: tuple[int, int], announce: Callable[[str], None]
) -> tuple[int, str]:
    shown = [limit if amount else 0 for amount, limit in zip(needed, limits, strict=True)]
    text = f"waiting for {_describe(needed)} (limit: {_describe((shown[0], shown[1]))})"
    queue = open_own(os.path.join(folder, QUEUE), os.O_RDWR | os.O_CREAT)
    is_announced = False
    try:
        try:
            fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(text)
            is_announced = True
            fcntl.flock(queue, fcntl.LOCK_EX)
        while not _fits(_used(folder), needed, limits):
            if not is_announced:
                announce(text)
                is_announced = True
            time.sleep(POLL_SECONDS)
        amounts = "-".join(map(str, needed))
        name = f"{RUNNING}{amounts}-{os.getpid()}-{time.monotonic_ns()}"
        path = os.path.join(folder, name)
        descriptor = open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        # Nobody else looks at it before: that takes the lock of the queue.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor, path
    finally:
        # Not only closed: the user's code may have forked already.
        fcntl.flock(queue, fcntl.LOCK_UN)
        os.close(queue)


def _fits(used: tuple[int, int], needed: tuple[int, int], limits: tuple[int, int]) -> bool:
    """Whether there is enough of each, or none of it is in use."""
    triples = zip(used, needed, limits, strict=True)
    return all(not need or not use or use + need <= limit for use, need, limit in triples)


def _used(folder: str) -> tuple[int, int]:
    """Add up what running targets use, and remove the files of those that were killed."""
    cpus = memory = 0
    for name in os.listdir(folder):
        if not name.startswith(RUNNING):
            continue
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
            descriptor = open_own(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                own = name.removeprefix(RUNNING).split("-")
                cpus, memory = cpus + int(own[0]), memory + int(own[1])
            else:
                os.unlink(path)
            finally:
                os.close(descriptor)
    return cpus, memory


def _describe(amounts: tuple[int, int]) -> str:
    """Return `4 CPUs and 8,000 MiB`."""
    cpus, memory = amounts
    parts = [f"{cpus} CPU{'' if cpus == 1 else 's'}"] if cpus else []
    return " and ".join([*parts, *([f"{memory:,} MiB"] if memory else [])])
