"""What an interrupt (SIGINT, Ctrl-C) does to this process, from its first line to its last.

Python raises KeyboardInterrupt wherever it is. Where that is an import, or the end of the
interpreter, the user sees a traceback, or the exception is lost in a callback of Python's. So a
process of rvrun's ends immediately where there is nothing to clean up, and raises only in between.

Light: the worker of every target imports this module.
"""

from __future__ import annotations

# The part of `signal` that is in C. Importing `signal` itself takes a millisecond, in which an
# interrupt would show a traceback.
import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Exit codes of processes that a signal ended are this plus its number.
SIGNALLED = 128
#: How long processes may take to end after SIGTERM before they are killed, in seconds.
GRACE_SECONDS = 5.0


def end_on_interrupt() -> None:
    """Let an interrupt end this process without a word, unless interrupts are ignored."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _end)


def raise_on_interrupt() -> None:
    """Let an interrupt raise KeyboardInterrupt again, after `end_on_interrupt`."""
    if _signal.getsignal(_signal.SIGINT) is _end:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def _end(signum: int, frame: object) -> NoReturn:
    os._exit(SIGNALLED + signum)


def name_of(signum: int) -> str:
    """Return the name of a signal: `SIGKILL`."""
    import signal

    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"
