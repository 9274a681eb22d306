"""Findings of checks, each with a fix."""

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
    """The result of a check.

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
    """Return a finding without a problem."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, fix: str) -> Finding:
    """Return a finding about something that the user may not intend."""
    return Finding(Level.WARNING, subject, text, fix)


def error(subject: str, problem: object, fix: str = "", details: str = "") -> Finding:
    """Return a finding about something that would fail; an error's own fix overrides `fix`."""
    own = problem.how_to_fix() if isinstance(problem, RvrunError) else ""
    return Finding(Level.ERROR, subject, str(problem), own or fix, details)
