"""Escape strings for the shell, for make and for JSON.

A word of a recipe is quoted for the shell first and then for make, because make expands the recipe
before the shell reads it. A recipe kept in a variable is escaped once more, for the definition.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from rvrun.errors import RvrunError
from rvrun.inputs import check_utf8


class Unquotable(RvrunError):
    """A string that a recipe cannot contain, however it is quoted."""

    string: str
    template = "a Makefile recipe cannot contain a line break, got {string!r}"
    fix = "rename {string!r}"


def for_shell(word: str) -> str:
    """Quote `word` as one word of a POSIX shell, if it needs quotes."""
    return shlex.quote(word)


def for_make(line: str) -> str:
    """Escape a line for a recipe; quote its words for the shell first. Raises `Unquotable`."""
    _check_word(line)
    return line.replace("$", "$$")


def for_recipe(word: str) -> str:
    """Quote `word` as one shell word of a recipe. Raises `Unquotable`."""
    # Checked here too, so that the error shows the word as it was before it was quoted.
    _check_word(word)
    return for_make(for_shell(word))


def _check_word(string: str) -> None:
    if "\n" in string or "\r" in string:
        raise Unquotable(string)
    check_utf8("a path in a Makefile", string)


def for_definition(recipe: str) -> str:
    r"""Escape a recipe line for the right-hand side of `NAME = ...`.

    A `#` starts a comment there, unlike in a recipe. make removes the backslash of `\#`, and halves
    the backslashes before it, so these are doubled. (GNU make manual, "What Makefiles Contain".)
    """
    return re.sub(r"(\\*)#", r"\1\1\\#", recipe)


def for_json(value: object) -> str:
    """Format `value` as JSON on one line, without escaping non-ASCII letters."""
    return json.dumps(value, ensure_ascii=False)


def without_none(value: Any) -> Any:
    """Return JSON values without members that are None, nor objects that are empty without them."""
    if isinstance(value, Mapping):
        members = {key: without_none(member) for key, member in value.items()}
        return {
            key: member
            for key, member in members.items()
            if member is not None and (member != {} or value[key] == {})
        }
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


def indented_json(value: Any, indent: str = "") -> str:
    """Format `value` as JSON, with objects and lists of plain values on one line.

    A short request stays short, and a change of one item changes one line.
    """
    is_object = isinstance(value, Mapping)
    items = list(value.values()) if is_object else value if isinstance(value, list | tuple) else []
    if not any(isinstance(item, Mapping | list | tuple) for item in items):
        return for_json(value)
    inner = indent + "  "
    keys = [f"{for_json(key)}: " for key in value] if is_object else [""] * len(items)
    members = (
        f"{inner}{key}{indented_json(item, inner)}" for key, item in zip(keys, items, strict=True)
    )
    opening, closing = "{}" if is_object else "[]"
    body = ",\n".join(members)
    return f"{opening}\n{body}\n{indent}{closing}"
