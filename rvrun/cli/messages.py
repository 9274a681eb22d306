"""Plain lines to stderr, for verbs that need no more; `output` has tables and colours."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """A line about what goes on; stdout is for data."""
    print(text, file=sys.stderr)


def warn(text: str) -> None:
    """A line that the user should see."""
    say(f"warning: {text}")
