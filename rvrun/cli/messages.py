"""Lines on stderr; stdout is for data. Either may be closed or full: `2>/dev/full`, `| head`."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import sys
from collections.abc import Iterator


def say(text: str) -> None:
    """Print a line about progress or a result."""
    print(text, file=sys.stderr)


@contextlib.contextmanager
def shown_as(run_dir: str | None) -> Iterator[None]:
    """Let errors about the run directory show it as the user typed it; None if they did not."""
    from rvrun.rundir.files import UnusableRunDir

    try:
        yield
    except UnusableRunDir as error:
        if run_dir is None:
            raise
        raise UnusableRunDir(pathlib.Path(run_dir), error.problem) from None


def warn(*texts: str) -> None:
    """Print warnings, a line each."""
    for text in texts:
        say(f"warning: {text}")


class _Lossy(io.FileIO):
    """A file that drops what cannot be written, from the first failure on."""

    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            _discard(self.fileno())
            return super().write(data)  # type: ignore[arg-type]


def protect_stderr() -> None:
    """Let writing to stderr never fail: progress and messages are not worth a run.

    A run that goes on for hours must not end because its terminal has gone. Everything that prints
    to `sys.stderr` uses the file that this sets, unless the stream is someone else's already.
    """
    stream = sys.__stderr__
    if stream is None or stream is not sys.stderr:
        return
    raw = _Lossy(stream.fileno(), "w", closefd=False)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def drop_stdout() -> None:
    """Drop what stdout could not write yet: Python flushes it at exit, which must not fail."""
    with contextlib.suppress(OSError, ValueError):
        _discard(sys.stdout.fileno())


def _discard(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
