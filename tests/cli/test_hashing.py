"""The line that shows the progress of hashing."""

from __future__ import annotations

import io
import sys
import time

import pytest

from rvrun.cli.hashing import ERASE, HashingLine, hashing_line

MIB = 2**20


def test_the_line_appears_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes at most ten times a second, and is erased in the end."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    line = HashingLine()
    for now, done in ((0, 1), (0.9, 2), (1.01, 3), (1.05, 4), (1.2, 2000)):  # noqa: B007 - a clock
        line(done * MIB, 4000 * MIB)
    line(1, 1)
    line(1, 1)
    assert stream.getvalue() == (
        f"{ERASE}hashing inputs: 3 MiB of 3.9 GiB{ERASE}hashing inputs: 2.0 GiB of 3.9 GiB{ERASE}"
    )


def test_no_line_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor with --quiet."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert hashing_line(is_quiet=False) is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert hashing_line(is_quiet=True) is None
    assert hashing_line(is_quiet=False) is not None
