"""Lines on stderr; stdout is for data."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print a line about progress or a result."""
    print(text, file=sys.stderr)


def warn(*texts: str) -> None:
    """Print warnings, a line each."""
    for text in texts:
        say(f"warning: {text}")
