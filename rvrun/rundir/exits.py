"""How a process ended, in words: exit codes, signals, and what often causes them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal as signals

from rvrun.signals import SIGNALLED, name_of
from rvrun.text import memory

#: What `timeout` of coreutils ends with.
TIMED_OUT = 124


def signal_of(exit_code: int | None, signal: int | None) -> int | None:
    """Return the signal that ended a process: the recorded one, or that of an exit code over 128.

    A shell, and code that runs another program, report a child's signal that way.
    """
    if signal is not None:
        return signal
    if exit_code is not None and SIGNALLED < exit_code <= SIGNALLED + signals.NSIG:
        return exit_code - SIGNALLED
    return None


def describe_exit(exit_code: int | None, signal: int | None) -> str:
    """Return `exit 1`, `exit 137, SIGKILL`, `killed by SIGKILL (137)` or `killed`."""
    number = signal_of(exit_code, signal)
    if exit_code is None:
        return "killed" if number is None else f"killed by {name_of(number)} ({SIGNALLED + number})"
    return f"exit {exit_code}" + ("" if number is None else f", {name_of(number)}")


def explain_exit(exit_code: int | None, signal: int | None, peak_kib: int | None) -> str:
    """Return what often causes such an end; empty if nothing is typical.

    - `peak_kib`: the most memory that its process was seen to use; None if nobody saw it.
    """
    number = signal_of(exit_code, signal)
    if number == signals.SIGKILL:
        return f"out of memory?{_memory(peak_kib)}; `dmesg` shows whether the kernel killed it"
    if number in (signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE):
        return "it crashed in compiled code, such as a library or a driver, not in Python"
    if number == signals.SIGABRT:
        return "compiled code stopped itself; the end of the log may tell why"
    if exit_code == TIMED_OUT:
        return "124 is the exit code of `timeout` when the time is over"
    return ""


def _memory(peak_kib: int | None) -> str:
    """Return ` its process used at least 2.1 GiB of this machine's 7.8 GiB`."""
    limit = memory_limit_kib()
    if peak_kib is None:
        return "" if limit is None else f" processes here can have {memory(limit)}"
    total = "" if limit is None else f" of this machine's {memory(limit)}"
    return f" its process used at least {memory(peak_kib)}{total}"


def memory_limit_kib() -> int | None:
    """Return the memory that processes here can have, in KiB: the machine's, or a container's."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = pathlib.Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdecimal():
            limits.append(int(text) // 1024)
    return min(limits, default=None)
