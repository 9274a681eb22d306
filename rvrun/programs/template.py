"""Placeholders in the strings of a `pipeline.toml`: `{config.scale}`, `{root}`, `{item.stem}`.

Light on purpose: the worker fills them in.
"""

from __future__ import annotations

from rvrun.errors import Problem, RvrunError, closest
from rvrun.path_parts import path_parts
from rvrun.text import shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: Placeholders without parts.
PLAIN = ("root", "name", "split", "splits")
#: Placeholders for all items of a split: as arguments, as lines of a file, as a file with NULs.
ITEMS, ITEMS_FILE, ITEMS_FILE0 = "items...", "items_file", "items_file0"
OF_ALL_ITEMS = (ITEMS, ITEMS_FILE, ITEMS_FILE0)
ITEM = "item"
#: What can follow `item.` if the item is a string: parts of a path.
PATH_PARTS = ("name", "stem", "suffix", "parent")
CONFIG = "config."


class BadTemplate(Problem):
    """A string whose placeholders cannot be read; the problem ends with the fix."""


class Placeholder(str):
    """The name of a placeholder, without its braces."""

    __slots__ = ()


def parse(text: str) -> list[str]:
    """Split `text` into literal strings and `Placeholder`s.

    `{{` and `}}` are literal braces. Raises `BadTemplate`.
    """
    parts: list[str] = []
    literal: list[str] = []
    position, end = 0, len(text)
    while position < end:
        character = text[position]
        if character not in "{}":
            literal.append(character)
            position += 1
        elif text[position : position + 2] == character * 2:
            literal.append(character)
            position += 2
        else:
            closing = text.find("}", position) if character == "{" else -1
            if closing < 0:
                raise BadTemplate(f"has a single `{character}`; write `{character * 2}`")
            if literal:
                parts.append("".join(literal))
                literal = []
            parts.append(Placeholder(text[position + 1 : closing]))
            position = closing + 1
    if literal:
        parts.append("".join(literal))
    return parts


def placeholders(text: str) -> list[str]:
    """Return the names of the placeholders in `text`. Raises `BadTemplate`."""
    return [part for part in parse(text) if isinstance(part, Placeholder)]


def check(text: str, names: Sequence[str], fields: Sequence[str] | None = None) -> None:
    """Raise `BadTemplate` unless all placeholders in `text` exist.

    - `names`: the names that may be used here, `config.scale` among them; `item` for `item.x`, too.
    - `fields`: the columns of the items; None if they are strings or numbers.
    """
    for name in placeholders(text):
        if name in names or (ITEM in names and _is_part_of_item(name, fields)):
            continue
        if f"${{{name}}}" in text:
            problem = f"has an unknown placeholder `{{{_shown(name)}}}`"
            raise BadTemplate(f"{problem}; for a variable of the shell, write `${{{{{name}}}}}`")
        raise BadTemplate(_unknown(name, _all_names(names, fields)))


def _is_part_of_item(name: str, fields: Sequence[str] | None) -> bool:
    item, _, part = name.partition(".")
    return item == ITEM and part in (PATH_PARTS if fields is None else fields)


def _all_names(names: Sequence[str], fields: Sequence[str] | None) -> list[str]:
    parts = PATH_PARTS if fields is None else fields
    return [*names, *(f"{ITEM}.{part}" for part in parts if ITEM in names)]


def _shown(name: str) -> str:
    """A name in a message, which is one line."""
    return shorten(name if name.isprintable() else repr(name)[1:-1])


def _unknown(name: str, names: Sequence[str]) -> str:
    """Say that there is no such placeholder, and what was probably meant."""
    problem = f"has an unknown placeholder `{{{_shown(name)}}}`"
    # Names that the user made up are compared without what all of them begin with.
    near = closest(name, names) or next((n for n in names if n.rpartition(".")[2] == name), None)
    if near:
        return f"{problem}; did you mean `{{{near}}}`?"
    if not name.replace(".", "").replace("_", "").isalnum():
        return f"{problem}; for literal braces, write `{{{{` and `}}}}`"
    return f"{problem}; known here: {', '.join(f'`{{{n}}}`' for n in names)}"


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with its placeholders replaced by `values`, which has all of them."""
    return "".join(look_up(values, p) if isinstance(p, Placeholder) else p for p in parse(text))


def fill_some(text: str, templates: Mapping[str, str]) -> str:
    """Return `text` with placeholders replaced by `templates`; those that it lacks are left."""
    parts = (
        templates.get(part, f"{{{part}}}") if isinstance(part, Placeholder) else escape(part)
        for part in parse(text)
    )
    return "".join(parts)


def escape(text: str) -> str:
    """Return a template that stands for `text` itself."""
    return text.replace("{", "{{").replace("}", "}}")


def to_text(value: object) -> str:
    """Return a string, number or boolean as programs get it: `true`, `0.5`, `a b`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class NoValue(RvrunError):
    """A placeholder without a value: a saved config that was changed by hand."""

    name: str
    template = "the saved config has no value for `{{{name}}}`; save it again with `rvrun render`"
    fix = "save the config again with `rvrun render`"


def item_values(item: Any) -> dict[str, str]:
    """Return the values of the placeholders for one item."""
    if isinstance(item, dict):
        return {f"{ITEM}.{key}": to_text(value) for key, value in item.items()}
    text = to_text(item)
    return {ITEM: text, **{f"{ITEM}.{key}": value for key, value in path_parts(text).items()}}


def config_values(config: Mapping[str, Any], prefix: str = CONFIG) -> dict[str, str]:
    """Return the values of the placeholders for a config, without lists."""
    values: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            values |= config_values(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            values[f"{prefix}{key}"] = to_text(value)
    return values


def look_up(values: Mapping[str, str], name: str) -> str:
    """Return the value of a placeholder. Raises `NoValue`."""
    if name not in values:
        raise NoValue(name)
    return values[name]
