"""What becomes of a target's signal handlers in processes that the user's code forks.

Python's `multiprocessing.Pool` ends its processes by SIGTERM, and waits for each of them. Python
forgets a signal that comes while a process is being forked, if there is a handler for it; and a
handler's exception may be lost in what it interrupts. So such a process has no handler of rvrun's:
it ends immediately, as it would without rvrun.
"""

from __future__ import annotations

# The parts of `signal` and `threading` in C, which every target has imported.
import _signal  # type: ignore[import-not-found]
import _thread
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def keep_from_forks(handlers: Sequence[Callable[..., Any]], numbers: Sequence[int]) -> None:
    """Keep handlers of the signals `numbers` from all processes that this one forks from now on.

    Signals that come in between are blocked, and so reach the new process without a handler.
    """
    masks = {}

    def block() -> None:
        masks[_thread.get_ident()] = _signal.pthread_sigmask(_signal.SIG_BLOCK, numbers)

    def unblock() -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, masks.pop(_thread.get_ident()))

    def reset() -> None:
        for number in numbers:
            if _signal.getsignal(number) in handlers:
                _signal.signal(number, _signal.SIG_DFL)
        unblock()

    os.register_at_fork(before=block, after_in_child=reset, after_in_parent=unblock)
