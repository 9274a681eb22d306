"""How a process ended, in words: exit codes, signals, and what often causes them."""

from __future__ import annotations

import signal as signals

from rvrun.memory_limit import machine_memory_kib, memory_limit_kib
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


def explain_exit(
    exit_code: int | None,
    signal: int | None,
    peak_kib: int | None,
    *,
    timeout_seconds: int | None = None,
    is_here: bool = True,
) -> str:
    """Return what often causes such an end; empty if nothing is typical.

    - `peak_kib`: the most memory that its process was seen to use; None if nobody saw it.
    - `timeout_seconds`: its time limit, if it was ended because of that.
    - `is_here`: whether it ran on this machine.
    """
    number = signal_of(exit_code, signal)
    if timeout_seconds is not None:
        return f"ended after its time limit of {timeout_seconds:,} s (timeout_seconds)"
    if number == signals.SIGKILL:
        text = _memory(peak_kib, is_here=is_here)
        return f"out of memory?{text}; `dmesg` shows whether the kernel killed it"
    if number in (signals.SIGSEGV, signals.SIGBUS, signals.SIGILL, signals.SIGFPE):
        return "it crashed in compiled code, such as a library or a driver, not in Python"
    if number == signals.SIGABRT:
        return "compiled code stopped itself; the end of the log may tell why"
    if exit_code == TIMED_OUT:
        return "124 is the exit code of `timeout` when the time is over"
    return ""


def _memory(peak_kib: int | None, *, is_here: bool) -> str:
    """Return ` its process used at least 2.1 GiB of this machine's 7.8 GiB`."""
    limit, machine = memory_limit_kib(), machine_memory_kib()
    of = f"this machine's {memory(machine)}"
    if limit < machine:
        of = f"the {memory(limit)} that its control group allows"
    if peak_kib is None:
        return f" processes here share {of}" if is_here else ""
    return f" its process used at least {memory(peak_kib)}" + (f" of {of}" if is_here else "")
