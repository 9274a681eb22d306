"""Lines on stderr; stdout is for data."""

from __future__ import annotations

import contextlib
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
