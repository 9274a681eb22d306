"""Kinds of values in a `pipeline.toml`. Each checks values, and describes itself as JSON Schema.

The schema and the checks come from the same declarations, so that editors and rvrun agree.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import attrs

from rvrun.errors import closest
from rvrun.text import enumerate_names, quoted, shorten

Path = tuple[str | int, ...]


@attrs.frozen
class Fault:
    """What is wrong with the value at a path: a sentence, and its fix as an imperative.

    - `is_key`: whether the key itself is wrong, rather than its value.
    """

    path: Path
    problem: str
    remedy: str
    is_key: bool = False


class Kind(Protocol):
    """A kind of value; `rule` completes "must be ..."."""

    @property
    def rule(self) -> str: ...

    def accepts(self, value: object) -> bool:
        """Whether the value has the type of this kind, whatever is in it."""

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        """Yield what is wrong with a value that this kind accepts."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of this kind."""


def check(kind: Kind, value: object, path: Path, example: str) -> Iterator[Fault]:
    """Yield what is wrong with a value; `example` is an assignment that would be right."""
    if kind.accepts(value):
        yield from kind.faults(value, path)
    elif has_nul(value):
        problem = f"{name_of(path)} must not have a NUL, got {quoted(value)}"
        yield Fault(path, problem, "remove it; no program can get one")
    elif isinstance(value, dt.date | dt.time):
        problem = f"{name_of(path)} must be {kind.rule}, got the date or time {value.isoformat()}"
        yield Fault(path, problem, "put it in quotes")
    else:
        problem = f"{name_of(path)} must be {kind.rule}, got {shown(value)}"
        yield Fault(path, problem, f"write, for example, `{example}`")


def has_nul(value: object) -> bool:
    """Whether a value, or one in a table, is a string that no program can get as an argument."""
    if isinstance(value, dict):
        return any(map(has_nul, value.values()))
    return isinstance(value, str) and "\0" in value


def shown(value: object) -> str:
    """Return a value for a message, as TOML and JSON have it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else quoted(value)


def name_of(path: Path) -> str:
    """Return how messages name a value: `` `splits` of [commands.chip] ``."""
    keys = [key for key in path if isinstance(key, str)]
    numbers = path[
        len(path) - next((i for i, k in enumerate(path[::-1]) if isinstance(k, str)), 0) :
    ]
    name = f"`{shorten(keys[-1])}`"
    place = f" in [{'.'.join(map(shorten, keys[:-1]))}]" if keys[:-1] else ""
    item = f"item {int(numbers[0]) + 1} of " if numbers else ""
    return f"{item}{name}{place}"


def table_of(path: Path) -> str:
    """Return how messages name a table: `[commands.chip]`, or where it is in a list."""
    if all(isinstance(key, str) for key in path):
        return f"[{'.'.join(map(str, path))}]" if path else "the file"
    return name_of(path)


@attrs.frozen
class String:
    """A string that is not empty, with a pattern if it has one."""

    rule: str = "a string that is not empty"
    pattern: str = r"^[^\u0000]+$"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        yield from ()

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": self.pattern}


@attrs.frozen
class Boolean:
    rule: str = "true or false"

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        yield from ()

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@attrs.frozen
class Number:
    """A number from `least` to `most`; an integer, or any number above `least` if `is_real`."""

    rule: str
    least: int
    most: int
    is_real: bool = False

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float if self.is_real else int):
            return False
        is_enough = value > self.least if self.is_real else value >= self.least
        return is_enough and value <= self.most

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        yield from ()

    def schema(self) -> dict[str, Any]:
        if self.is_real:
            return {"type": "number", "exclusiveMinimum": self.least, "maximum": self.most}
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@attrs.frozen
class Constant:
    """One of some strings."""

    values: tuple[str, ...]

    @property
    def rule(self) -> str:
        *first, last = (f'"{value}"' for value in self.values)
        return f"{', '.join(first)} or {last}" if first else last

    def accepts(self, value: object) -> bool:
        return value in self.values

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        yield from ()

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


@attrs.frozen
class Scalar:
    """A string, also an empty one, a finite number or a boolean."""

    rule: str = "a string, a number or a boolean"

    def accepts(self, value: object) -> bool:
        if isinstance(value, float):
            return math.isfinite(value)
        return isinstance(value, int) or (isinstance(value, str) and "\0" not in value)

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        yield from ()

    def schema(self) -> dict[str, Any]:
        strings = {"type": "string", "pattern": r"^[^\u0000]*$"}
        return {"anyOf": [strings, {"type": ["number", "boolean"]}]}


@attrs.frozen
class List:
    """A list of values of one kind."""

    of: Kind
    things: str
    example: str
    least: int = 0

    @property
    def rule(self) -> str:
        return f"a list of {self.things}" + (" that is not empty" if self.least else "")

    def accepts(self, value: object) -> bool:
        return isinstance(value, list) and len(value) >= self.least

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        example = self.example.replace("{name}", _last_name(path))
        for index, item in enumerate(value):
            yield from check(self.of, item, (*path, index), example)

    def schema(self) -> dict[str, Any]:
        least = {"minItems": self.least} if self.least else {}
        return {"type": "array", "items": self.of.schema(), **least}


@attrs.frozen
class Key:
    """A key of a table: its kind, what it means, and an example of its value in TOML."""

    kind: Kind
    help: str
    example: str
    required: bool = False


@attrs.frozen
class Table:
    """A table with certain keys."""

    keys: Mapping[str, Key]
    rule: str = "a table"
    #: Keys of which exactly one must be there.
    one_of: tuple[str, ...] = ()
    #: Keys that belong to the table above this one.
    above: tuple[str, ...] = ()

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict)

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        for name, member in value.items():
            if name in self.keys:
                key = self.keys[name]
                yield from check(key.kind, member, (*path, name), f"{name} = {key.example}")
            else:
                yield self._unknown(name, path)
        for name, key in self.keys.items():
            if key.required and name not in value:
                remedy = f"add, for example, `{name} = {key.example}`"
                problem = f"{table_of(path)} must have a key `{name}`, got {_keys_of(value)}"
                yield Fault(path, problem, remedy)
        if value.keys() <= self.keys.keys():
            yield from self._check_one_of(value, path)

    def _check_one_of(self, value: Any, path: Path) -> Iterator[Fault]:
        given = [name for name in self.one_of if name in value]
        if self.one_of and len(given) != 1:
            names = enumerate_names([f"`{name}`" for name in self.one_of])
            problem = f"{name_of(path)} must have exactly one of {names}, got {_keys_of(value)}"
            yield Fault(path, problem, "keep one of them" if given else "add one of them")

    def _unknown(self, name: str, path: Path) -> Fault:
        place = f" in {table_of(path)}" if path else ""
        near = closest(name, tuple(self.keys))
        names = ", ".join(f"`{key}`" for key in self.keys)
        remedy = f"write `{near}`, or remove it" if near else f"remove it; known keys: {names}"
        if name in self.above:
            remedy = f"move it to {table_of(path[:-1])}"
        return Fault((*path, name), f"unknown key `{shorten(name)}`{place}", remedy, is_key=True)

    def schema(self) -> dict[str, Any]:
        required = [name for name, key in self.keys.items() if key.required]
        choice = [{"required": [name]} for name in self.one_of]
        return {
            "type": "object",
            "additionalProperties": False,
            **({"required": required} if required else {}),
            **({"oneOf": choice} if choice else {}),
            "properties": {
                name: {"description": key.help, **key.kind.schema()}
                for name, key in self.keys.items()
            },
        }


def _keys_of(value: Mapping[str, object]) -> str:
    return enumerate_names([f"`{shorten(name)}`" for name in value]) if value else "no keys"


@attrs.frozen
class Map:
    """A table with names of the user's own, whose values are of one kind.

    - `pattern`, `rule_of_names`: what names must match, as a regular expression and in words.
    """

    of: Kind
    things: str
    pattern: str
    rule_of_names: str
    example: str
    least: int = 0
    reserved: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        return f"a table of {self.things}" + (" that is not empty" if self.least else "")

    def accepts(self, value: object) -> bool:
        return isinstance(value, dict) and len(value) >= self.least

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        for name, member in value.items():
            place = (*path, name)
            owner = f"a name in {table_of(path)}"
            if re.fullmatch(self.pattern, name) is None:
                problem = f"{owner} must {self.rule_of_names}, got {quoted(name)}"
                yield Fault(place, problem, "rename it", is_key=True)
            elif name in self.reserved:
                names = ", ".join(f"`{word}`" for word in self.reserved)
                problem = f"{owner} must not be a word that rvrun uses ({names}), got `{name}`"
                yield Fault(place, problem, "rename it", is_key=True)
            else:
                yield from check(self.of, member, place, self.example.format(name=name))

    def schema(self) -> dict[str, Any]:
        names: dict[str, Any] = {"pattern": self.pattern}
        if self.reserved:
            names["not"] = {"enum": list(self.reserved)}
        least = {"minProperties": self.least} if self.least else {}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": self.of.schema(),
            **least,
        }


@attrs.frozen
class Either:
    """One of several kinds, told apart by the types of their values."""

    kinds: tuple[Kind, ...]
    words: str = ""

    @property
    def rule(self) -> str:
        return self.words or " or ".join(kind.rule for kind in self.kinds)

    def accepts(self, value: object) -> bool:
        return any(kind.accepts(value) for kind in self.kinds)

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        kind = next(kind for kind in self.kinds if kind.accepts(value))
        yield from kind.faults(value, path)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds]}


@attrs.frozen
class Value:
    """Any value that JSON has: scalars, lists and tables of them. Dates are strings in quotes."""

    pattern: str
    rule: str = "a string, a number, a boolean, a list or a table"

    def accepts(self, value: object) -> bool:
        return Scalar().accepts(value) or isinstance(value, list | dict)

    def faults(self, value: Any, path: Path) -> Iterator[Fault]:
        members: list[tuple[str | int, Any]] = []
        if isinstance(value, dict):
            for name in value:
                if re.fullmatch(self.pattern, name) is None:
                    rule = "contain only ASCII letters, digits and `_`, and not start with a digit"
                    problem = f"a key of {name_of(path)} must {rule}, got {quoted(name)}"
                    yield Fault((*path, name), problem, "rename it", is_key=True)
            members = list(value.items())
        elif isinstance(value, list):
            members = list(enumerate(value))
        for key, member in members:
            yield from check(self, member, (*path, key), f"{_last_name((*path, key))} = 1")

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/value"}


def _last_name(path: Path) -> str:
    return next(key for key in reversed(path) if isinstance(key, str))
