"""Escaping: for the shell and for make, in that order; for JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

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
    """Return `value` as JSON: what contains only plain values in one line, all else indented.

    So a short request is short, and a change of one item is a change of one line.
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


def _check(text: str) -> None:
    if "\n" in text or "\r" in text:
        raise Unquotable(text)
