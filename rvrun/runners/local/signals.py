"""Signals that ask a run to end, as events to wait for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

#: SIGQUIT (Ctrl-\\ at a terminal), too: it ends the run as SIGTERM does, without a core dump.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupted(BaseException):
    """A signal arrived. A BaseException, so that `except Exception` lets it pass."""


class Signals:
    """Counts the signals that ask a run to end. Signals that are ignored stay ignored.

    A handler that raises does so at any line, also between a `fork` and the assignment of its
    result, or while another exception is handled. So the signals are only counted, and `fileno()`
    becomes readable; they raise only inside of `interrupting`.

    - `first`: the number of the first signal; None before.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.count = 0
        self._raises = False

    def __enter__(self) -> Self:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._handlers = {
            number: signal.signal(number, self._handle)
            for number in ENDING
            # nohup ignores SIGHUP, and shells SIGINT and SIGQUIT for jobs in the background.
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._reading)
        os.close(self._writing)

    def fileno(self) -> int:
        """Return a descriptor that is readable after a signal; for selectors."""
        return self._reading

    def _handle(self, signum: int, frame: object) -> None:
        self.first = self.first or signum
        self.count += 1
        if self._raises:
            self._raises = False
            raise Interrupted

    def interrupting(self, function: Callable[..., None], *facts: object) -> None:
        """Call `function`, which may wait for a terminal that takes no output; a signal ends it."""
        # Not a context manager: a signal could arrive between its lines and the block's.
        try:
            self._raises = True
            function(*facts)
            self._raises = False
        except Interrupted:
            pass
        finally:
            self._raises = False
