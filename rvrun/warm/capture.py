"""What imports print, kept so that the log of each target has it, as if the target had imported."""

from __future__ import annotations

import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Captured:
    """What was printed to stdout and to stderr, as bytes."""

    def __init__(self) -> None:
        self.streams = {1: b"", 2: b""}

    def replay(self) -> None:
        """Print it again, to the streams that this process has now."""
        for number, text in self.streams.items():
            while text:
                text = text[os.write(number, text) :]  # noqa: PLW2901 - what is left


@contextlib.contextmanager
def capture() -> Iterator[Captured]:
    """Capture what this process and its children print, until the context ends."""
    captured = Captured()
    files = {number: os.memfd_create(f"stream-{number}") for number in captured.streams}
    kept = {number: os.dup(number) for number in captured.streams}
    for number, file in files.items():
        os.dup2(file, number)
    try:
        yield captured
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, file in files.items():
            os.dup2(kept[number], number)
            os.close(kept[number])
            captured.streams[number] = os.pread(file, os.fstat(file).st_size, 0)
            os.close(file)
