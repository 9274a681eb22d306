"""When a process started, by which a target tells whether another process has done it since."""

from __future__ import annotations

import os
import sys
import time
import types

import pytest

from rvrun.rundir import target_lock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


def test_a_pause_does_not_change_when_a_process_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may stop this process between the looks at its two clocks."""
    expected = target_lock.start_of(os.getpid())
    pauses = [0.3]

    def late() -> float:
        time.sleep(pauses.pop() if pauses else 0)
        return time.time()

    clocks = {"clock_gettime": time.clock_gettime, "CLOCK_BOOTTIME": time.CLOCK_BOOTTIME}
    monkeypatch.setattr(target_lock, "time", types.SimpleNamespace(time=late, **clocks))
    assert target_lock.start_of(os.getpid()) == pytest.approx(expected, abs=0.1)


def test_a_process_that_has_ended_has_no_start() -> None:
    assert target_lock.start_of(2**22 + 1) == 0
