"""The memory that processes here can have: that of the machine, or less in a container or a job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

#: Where the limits of control groups are, and in which files: of version 2, and of version 1.
UNIFIED = ("", "memory.max")
LEGACY = ("memory", "memory.limit_in_bytes")


def machine_memory_kib() -> int:
    """Return the memory of this machine, in KiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024


def memory_limit_kib(root: str = "/") -> int:
    """Return the memory that processes here can have, in KiB.

    A control group limits all groups in it, so the least of its own limit and those of the groups
    that it is in counts (cgroups(7)).

    - `root`: the folder that has `proc` and `sys`.
    """
    return max(min([machine_memory_kib(), *_group_limits(root)]), 1)


def _group_limits(root: str) -> Iterator[int]:
    for (controller, file), path in _groups(root):
        folder = os.path.join(root, "sys/fs/cgroup", controller)
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            # Without a limit it is `max`, or a number that no machine has. In a container, the
            # group may be named as its host sees it, and not exist.
            with (
                contextlib.suppress(OSError, ValueError),
                open(os.path.join(folder, *parts[:depth], file), encoding="ascii") as text,
            ):
                yield int(text.read()) // 1024


def _groups(root: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield where limits are, and the path of this process's group there."""
    with (
        contextlib.suppress(OSError, UnicodeDecodeError),
        open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8") as lines,
    ):
        for line in lines:
            number, controllers, path = [*line.rstrip("\n").split(":", 2), "", ""][:3]
            if number == "0" and not controllers:
                yield UNIFIED, path
            elif "memory" in controllers.split(","):
                yield LEGACY, path
