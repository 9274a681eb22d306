"""Escaping: for the shell and for make, in that order; for JSON."""

from __future__ import annotations

import json
import shlex

from rvrun.errors import RvrunError


class Unquotable(RvrunError):
    """A text that cannot stand in a Makefile's recipe at all."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"{self.text!r} holds a line break, which no Makefile recipe can; rename it"


def for_shell(text: str) -> str:
    """`text` as one word of a POSIX shell, quoted only where it must be."""
    return shlex.quote(text)


def for_make(text: str) -> str:
    """`text` as make reads it in a recipe; quote for the shell first. Raises `Unquotable`."""
    _check(text)
    return text.replace("$", "$$")


def for_recipe(text: str) -> str:
    """`text` as one shell word of a recipe. Raises `Unquotable`."""
    _check(text)
    return for_make(for_shell(text))


def for_json(value: object) -> str:
    """`value` as JSON in one line, letters as they are."""
    return json.dumps(value, ensure_ascii=False)


def _check(text: str) -> None:
    if "\n" in text or "\r" in text:
        raise Unquotable(text)
