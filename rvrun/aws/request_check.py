"""Check a request offline against botocore's service models, and collect all problems.

botocore's own validator checks keys, types and minima. This one also checks maxima, patterns and
enumerations. Limits of a service that its model does not contain are checked by its runner.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import botocore
import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StringShape, StructureShape

from rvrun.text import count

#: The Python types of a model's types, and how a message calls them.
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "structure": (Mapping, "an object"),
    "map": (Mapping, "an object"),
    "list": ((list, tuple), "a list"),
    "string": (str, "a string"),
    "boolean": (bool, "true or false"),
    "integer": (int, "an integer"),
    "long": (int, "an integer"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
    "blob": ((bytes, bytearray, str), "bytes"),
    "timestamp": ((datetime, str, int, float), "a time"),
}
#: The longest value that a message repeats in full.
MAX_SHOWN = 60
#: How many members of an enumeration a message lists.
MAX_LISTED = 5


def problems(
    service: str, operation: str, params: Mapping[str, Any], *, without: Collection[str] = ()
) -> list[str]:
    """Return what `operation` of `service` would refuse in `params`; empty if it would accept them.

    Each is a sentence: the path in the request, the rule, the value.

    - `without`: required members of the request that are added later.
    """
    shape = _model(service).operation_model(operation).input_shape
    assert shape is not None
    return list(_structure(shape, params, "", without))


@functools.cache
def _model(service: str) -> ServiceModel:
    """The model of a service in botocore's own data; reads no AWS configuration, makes no call."""
    model: ServiceModel = botocore.session.Session().get_service_model(service)
    return model


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """The problems of one value at `path`, and of all below it."""
    if not _has_type(shape, value):
        yield f"{path} must be {_TYPES[shape.type_name][1]}, got {_shown(value)}"
    elif isinstance(shape, StructureShape):
        yield from _structure(shape, value, path, ())
    elif isinstance(shape, MapShape):
        yield from _map(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _range(shape, len(value), path, "item")
        for index, item in enumerate(value):
            yield from _problems(shape.member, item, f"{path}[{index}]")
    elif isinstance(shape, StringShape):
        yield from _string(shape, value, path)
    elif isinstance(value, int | float):
        yield from _range(shape, value, path, "")


def _has_type(shape: Shape, value: object) -> bool:
    # To Python a bool is an int, to AWS it is not a number.
    if isinstance(value, bool):
        return shape.type_name == "boolean"
    return isinstance(value, _TYPES[shape.type_name][0])


def _structure(
    shape: StructureShape, value: Mapping[str, Any], path: str, without: Collection[str]
) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value and name not in without:
            yield f"{_join(path, name)} is required"
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield f"{path} must have exactly one of {_listed(shape.members)}, got {len(value)} members"
    for name, member in value.items():
        if name not in shape.members:
            yield f"{_join(path, name)} is unknown{_suggestion(name, shape.members)}"
        else:
            yield from _problems(shape.members[name], member, _join(path, name))


def _map(shape: MapShape, value: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _range(shape, len(value), path, "item")
    for key, item in value.items():
        yield from _problems(shape.key, key, f"{path} key {_shown(key)}")
        yield from _problems(shape.value, item, _join(path, key))


def _string(shape: StringShape, value: str, path: str) -> Iterator[str]:
    yield from _range(shape, len(value), path, "character", value)
    if shape.enum and value not in shape.enum:
        # The version, because a newer one may know more values.
        values = f"{_listed(shape.enum)} (botocore {botocore.__version__})"
        suggestion = _suggestion(value, shape.enum)
        yield f"{path} must be one of {values}, got {_shown(value)}{suggestion}"
    pattern = shape.metadata.get("pattern")
    if pattern is not None and not _matches(pattern, value):
        yield f"{path} must match {pattern}, got {_shown(value)}"


def _range(
    shape: Shape, number: float, path: str, unit: str, value: str | None = None
) -> Iterator[str]:
    """The minimum and maximum of a number, or of how many `unit`s `value` has."""

    def rule(bound: str, limit: int) -> str:
        return f"have {bound} {count(limit, unit)}" if unit else f"be {bound} {limit}"

    shown = "" if value is None else f" ({_shown(value)})"
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and number < least:
        yield f"{path} must {rule('at least', least)}, got {number}{shown}"
    if most is not None and number > most:
        yield f"{path} must {rule('at most', most)}, got {number}{shown}"


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def _listed(names: Collection[str]) -> str:
    """All names if they are few, else how many there are and the first ones."""
    first = ", ".join(list(names)[:MAX_LISTED])
    return first if len(names) <= MAX_LISTED else f"{len(names)} values such as {first}"


def _suggestion(name: object, names: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


#: A class of characters that Python's regular expressions lack, such as `\p{L}`.
_PROPERTY = re.compile(r"\\p\{(\w+)\}")
_ALNUM = "Alnum"


def _matches(pattern: str, value: str) -> bool:
    """Whether `pattern`, a regular expression of Java, matches all of `value`.

    A pattern that Python cannot express counts as matching: AWS has the last word.
    """
    try:
        expression = _compiled(_PROPERTY.sub(lambda match: _members(match[1], value), pattern))
    except re.error:
        return True
    return expression.fullmatch(value) is not None


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _members(name: str, value: str) -> str:
    r"""The characters of `value` that are in `\p{name}`, to be put into brackets.

    For that value they are equivalent to the class, without a table of all of Unicode.
    """
    if name == _ALNUM:
        return "a-zA-Z0-9"
    inside = {char for char in value if unicodedata.category(char).startswith(name)}
    # Brackets must not be empty; this character occurs in no string.
    return "".join(re.escape(char) for char in sorted(inside)) or r"\U0010FFFF"
