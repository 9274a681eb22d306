"""Ties between processes that Linux offers; elsewhere there are none. See prctl(2)."""

from __future__ import annotations

# The part of `signal` in C, without enums: a forked target has to copy all memory that it touches.
import _signal  # type: ignore[import-not-found]
import ctypes
import functools
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


@functools.cache
def system_call() -> Callable[[int, int], int] | None:
    """Return the system call prctl(2); None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    function: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return function


def ending_with_parent() -> Callable[[], None] | None:
    """Return what a new process calls before `exec`, to get SIGTERM when this thread ends.

    The signal is tied to the thread that starts the process, not to the whole parent, so that must
    be the main thread. None where the system cannot do it (Linux can).
    """
    if system_call() is None:
        return None
    parent = os.getpid()
    return lambda: end_with(parent)


def end_with(parent: int) -> None:
    """Get SIGTERM, which ends this process by default, when its parent ends.

    - `parent`: the parent, which may have ended before.
    """
    function = system_call()
    assert function is not None, "called on Linux only"
    # This process has its parent's handlers, which would swallow the signal.
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    function(PR_SET_PDEATHSIG, _signal.SIGTERM)
    # The parent may have ended before that call, and then no signal comes.
    if os.getppid() != parent:
        os._exit(128 + _signal.SIGTERM)
