"""What imports print, kept so that each target prints it, as if the target had imported."""

from __future__ import annotations

import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rvrun.warm.streams import Layout


class Captured:
    """What was printed, as bytes.

    - `written`: to stdout and to stderr, by their numbers; all under 1 if they are the same file.
    - `unwritten`: what was left in the buffer of stdout.
    """

    def __init__(self) -> None:
        self.written: dict[int, bytes] = {}
        self.unwritten = b""

    def replay(self) -> None:
        """Print it again, to the streams that this process has now."""
        for number, text in self.written.items():
            while text:
                text = text[os.write(number, text) :]  # noqa: PLW2901 - what is left
        if self.unwritten:
            sys.stdout.buffer.write(self.unwritten)


@contextlib.contextmanager
def capture(layout: Layout) -> Iterator[Captured]:
    """Capture what this process and its children print, until the context ends.

    - `layout`: that of the streams to which targets will print it.
    """
    is_joined, is_by_line = layout
    captured, stdout, stderr = Captured(), sys.stdout, sys.stderr
    kept = {number: os.dup(number) for number in (1, 2)}
    written = [_memory() for _ in range(1 if is_joined else 2)]
    unwritten = _memory()
    stdout.reconfigure(line_buffering=is_by_line)  # type: ignore[union-attr]
    os.dup2(written[0], 1)
    os.dup2(written[-1], 2)
    try:
        yield captured
    finally:
        os.dup2(unwritten, 1)
        for stream in (stderr, stdout):
            # An import may have closed it.
            with contextlib.suppress(ValueError):
                stream.flush()
        for number, file in kept.items():
            os.dup2(file, number)
            os.close(file)
        captured.written = {number: _content(file) for number, file in enumerate(written, 1)}
        captured.unwritten = _content(unwritten)


def _memory() -> int:
    return os.memfd_create("stream")


def _content(file: int) -> bytes:
    """Return what a file contains, and close it."""
    content = os.pread(file, os.fstat(file).st_size, 0)
    os.close(file)
    return content
