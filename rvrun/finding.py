"""What checks find, with how to fix it."""

from __future__ import annotations

import enum

import attrs

from rvrun.errors import RvrunError


class Level(enum.StrEnum):
    """How bad a finding is: after a warning everything can run, after an error something fails."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@attrs.frozen
class Finding:
    """What a check found.

    - `subject`: what was checked, in a word or two. `text`: the finding, a sentence.
    - `fix`: what to type or change, as an imperative; empty if all is well.
    - `details`: the user's own traceback, if their code raised.
    """

    level: Level
    subject: str
    text: str
    fix: str = ""
    details: str = ""


def ok(subject: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, fix: str) -> Finding:
    """Return a finding of what may not be as the user intends."""
    return Finding(Level.WARNING, subject, text, fix)


def error(subject: str, problem: object, fix: str = "", details: str = "") -> Finding:
    """Return a finding of what would fail; an error that knows its own fix overrides `fix`."""
    own = problem.how_to_fix() if isinstance(problem, RvrunError) else ""
    return Finding(Level.ERROR, subject, str(problem), own or fix, details)
