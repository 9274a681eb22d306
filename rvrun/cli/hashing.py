"""A line on the terminal while large input files are hashed."""

from __future__ import annotations

import sys
import time

import attrs

from rvrun.text import memory

#: Seconds that hashing may take without a word, and between two changes of the line.
PATIENCE, PAUSE = 1.0, 0.1
#: Moves to the beginning of the line and erases it (ECMA-48).
ERASE = "\r\x1b[K"


@attrs.define
class HashingLine:
    """Shows how much of the inputs is hashed, once it takes a second; see `data.hashes.Advance`."""

    began: float | None = None
    shown: float | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.began is None:
            self.began = now
        if done >= total:
            if self.shown is not None:
                print(ERASE, end="", file=sys.stderr, flush=True)
            self.began = self.shown = None
            return
        last = self.began + PATIENCE - PAUSE if self.shown is None else self.shown
        if now - last >= PAUSE:
            self.shown = now
            text = f"hashing inputs: {memory(done // 1024)} of {memory(total // 1024)}"
            print(f"{ERASE}{text}", end="", file=sys.stderr, flush=True)


def hashing_line(*, is_quiet: bool) -> HashingLine | None:
    """Return what shows the progress of hashing; None unless stderr is a terminal."""
    return None if is_quiet or not sys.stderr.isatty() else HashingLine()
