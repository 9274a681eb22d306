"""What checks find, each with its mend."""

from __future__ import annotations

import enum

import attrs


class Level(enum.StrEnum):
    """How bad a finding is. With a warning all can run; with an error something would fail."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@attrs.frozen
class Finding:
    """What a check found.

    - `mend`: what to type or change; empty if all is well.
    - `details`: the user's own traceback, where their code raised.
    """

    level: Level
    subject: str
    text: str
    mend: str = ""
    details: str = ""


def ok(subject: str, text: str) -> Finding:
    """What is as it should be."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, mend: str) -> Finding:
    """What may not be as the user means it."""
    return Finding(Level.WARNING, subject, text, mend)


def error(subject: str, text: object, mend: str, details: str = "") -> Finding:
    """What would fail."""
    return Finding(Level.ERROR, subject, str(text), mend, details)
