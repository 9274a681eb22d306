"""How an end is explained."""

from __future__ import annotations

import signal

import pytest

from rvrun.rundir import exits
from rvrun.rundir.exits import describe_exit, explain_exit

KIB = 2**20


@pytest.mark.parametrize(
    ("code", "number", "text"),
    [
        (1, None, "exit 1"),
        (137, None, "exit 137, SIGKILL"),
        (None, signal.SIGKILL, "killed by SIGKILL (137)"),
        (None, None, "killed"),
        (255, None, "exit 255"),
    ],
)
def test_describe(code: int | None, number: int | None, text: str) -> None:
    """An exit code above 128 is that of a child that a signal killed."""
    assert describe_exit(code, number) == text


@pytest.mark.parametrize(
    ("limit", "peak", "is_here", "text"),
    [
        (8 * KIB, 2 * KIB, True, "used at least 2.0 GiB of this machine's 8.0 GiB;"),
        (4 * KIB, 2 * KIB, True, "used at least 2.0 GiB of the 4.0 GiB that its control group"),
        (8 * KIB, None, True, "out of memory? processes here share this machine's 8.0 GiB;"),
        # The memory of this machine says nothing about another one.
        (8 * KIB, 2 * KIB, False, "used at least 2.0 GiB; `dmesg`"),
        (8 * KIB, None, False, "out of memory?; `dmesg`"),
    ],
)
def test_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, limit: int, peak: int | None, is_here: bool, text: str
) -> None:
    """The memory it was seen to use, and what the machine or the control group has."""
    monkeypatch.setattr(exits, "machine_memory_kib", lambda: 8 * KIB)
    monkeypatch.setattr(exits, "memory_limit_kib", lambda: limit)
    assert text in explain_exit(None, signal.SIGKILL, peak, is_here=is_here)


def test_a_time_limit_of_rvrun_is_named() -> None:
    """Also if the target had to be killed: it is not out of memory then."""
    for code, number in ((124, None), (None, signal.SIGKILL)):
        text = explain_exit(code, number, 1, timeout_seconds=3600)
        assert text == "ended after its time limit of 3,600 s (timeout_seconds)"
    assert "exit code of `timeout`" in explain_exit(124, None, None)
