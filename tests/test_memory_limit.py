"""The memory that processes can have: of the machine, and of the control groups they are in."""

from __future__ import annotations

import pathlib

import pytest

from rvrun.memory_limit import machine_memory_kib, memory_limit_kib

MIB = 2**20
#: What version 1 has where there is no limit.
UNLIMITED = 9223372036854771712


@pytest.mark.parametrize(
    ("groups", "limits", "mib"),
    [
        ("0::/\n", {"memory.max": "max"}, None),
        ("0::/\n", {"memory.max": 512 * MIB}, 512),
        # The group of a job on a cluster, in one with a smaller limit.
        ("0::/a/job 1\n", {"a/memory.max": 64 * MIB, "a/job 1/memory.max": 128 * MIB}, 64),
        ("0::/a/job\n", {"a/memory.max": "max", "a/job/memory.max": 128 * MIB}, 128),
        # A sibling's limit is not its own.
        ("0::/a\n", {"b/memory.max": 64 * MIB}, None),
        # In a container, the group may be named as its host sees it.
        ("0::/docker/0c8a\n", {"memory.max": 96 * MIB}, 96),
        (
            "5:devices:/x\n4:cpu,memory:/x\n0::/\n",
            {"memory/memory.limit_in_bytes": UNLIMITED, "memory/x/memory.limit_in_bytes": 8 * MIB},
            8,
        ),
        ("4:memory:/x\n", {"memory/memory.limit_in_bytes": UNLIMITED}, None),
        ("damaged\n\n", {"memory.max": 1}, None),
        ("0::/\n", {"memory.max": "damaged"}, None),
        (None, {}, None),
    ],
)
def test_the_least_limit_counts(
    tmp_path: pathlib.Path, groups: str | None, limits: dict[str, object], mib: int | None
) -> None:
    """That of the machine, of the group of this process, and of all groups that it is in."""
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups, encoding="utf-8")
    for path, limit in limits.items():
        file = tmp_path / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n", encoding="ascii")
    expected = machine_memory_kib() if mib is None else mib * 1024
    assert memory_limit_kib(str(tmp_path)) == expected
