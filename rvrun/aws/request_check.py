"""A request against the service models of botocore, offline: everything in it that AWS refuses.

botocore's own validator knows keys, types and minima. This one also holds values to maxima,
patterns and enumerations, and tells of all that is wrong at once. Limits of a service that its
model does not hold are elsewhere.
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

#: What values of a type may be; a bool is an int to Python, but no number to AWS.
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "structure": (Mapping, "an object"),
    "map": (Mapping, "an object"),
    "list": ((list, tuple), "a list"),
    "string": (str, "a text"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "long": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
    "blob": ((bytes, bytearray, str), "bytes"),
    "timestamp": ((datetime, str, int, float), "a time"),
}
#: Longest value that a message repeats.
_SHOWN = 60


def problems(
    service: str, operation: str, params: Mapping[str, Any], *, without: Collection[str] = ()
) -> list[str]:
    """Each thing that `operation` of `service` refuses in `params`; empty where it takes them.

    A sentence each: the path in the request, the value there, the limit it breaks.

    - `without`: required members of the request that somebody else adds.
    """
    shape = _model(service).operation_model(operation).input_shape
    assert shape is not None
    return list(_structure(shape, params, "", without))


@functools.cache
def _model(service: str) -> ServiceModel:
    """The model of a service as botocore ships it; reads no config of AWS, makes no call."""
    model: ServiceModel = botocore.session.Session().get_service_model(service)
    return model


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """What is wrong with one value at `path`, and with all below it."""
    if not _is_of(shape, value):
        yield f"{path} is {_shown(value)}, not {_TYPES[shape.type_name][1]}"
    elif isinstance(shape, StructureShape):
        yield from _structure(shape, value, path, ())
    elif isinstance(shape, MapShape):
        yield from _map(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _range(shape, len(value), path, "items")
        for index, item in enumerate(value):
            yield from _problems(shape.member, item, f"{path}[{index}]")
    elif isinstance(shape, StringShape):
        yield from _text(shape, value, path)
    elif isinstance(value, int | float):
        yield from _range(shape, value, path, "")


def _is_of(shape: Shape, value: object) -> bool:
    if isinstance(value, bool):
        return shape.type_name == "boolean"
    return isinstance(value, _TYPES[shape.type_name][0])


def _structure(
    shape: StructureShape, value: Mapping[str, Any], path: str, without: Collection[str]
) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value and name not in without:
            yield f"{_join(path, name)} is missing"
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield f"{path} has {len(value)} members; it takes exactly one of {_listed(shape.members)}"
    for name, member in value.items():
        if name not in shape.members:
            yield f"{_join(path, name)} is unknown{_suggestion(name, shape.members)}"
        else:
            yield from _problems(shape.members[name], member, _join(path, name))


def _map(shape: MapShape, value: Mapping[str, Any], path: str) -> Iterator[str]:
    yield from _range(shape, len(value), path, "entries")
    for key, item in value.items():
        yield from _problems(shape.key, key, f"{path} key {_shown(key)}")
        yield from _problems(shape.value, item, _join(path, key))


def _text(shape: StringShape, value: str, path: str) -> Iterator[str]:
    yield from _range(shape, len(value), path, "characters", value)
    if shape.enum and value not in shape.enum:
        # New values come with new versions, so it says which one this is.
        known = f"botocore {botocore.__version__} knows {_listed(shape.enum)}"
        yield f"{path} is {_shown(value)}{_suggestion(value, shape.enum)}; {known}"
    pattern = shape.metadata.get("pattern")
    if pattern is not None and not _matches(pattern, value):
        yield f"{path} is {_shown(value)}, which does not match {pattern}"


def _range(
    shape: Shape, number: float, path: str, unit: str, value: str | None = None
) -> Iterator[str]:
    """The least and the most that the model allows: of a number, or of `unit`s."""
    has = f"has {number} {unit}" if unit else f"is {number}"
    shown = "" if value is None else f" ({_shown(value)})"
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and number < least:
        yield f"{path} {has}{shown}, fewer than {least}" if unit else f"{path} {has}, below {least}"
    if most is not None and number > most:
        yield f"{path} {has}{shown}, more than {most}"


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _listed(names: Collection[str]) -> str:
    """All names, or how many and which first."""
    first = ", ".join(list(names)[:5])
    return first if len(names) <= 5 else f"{len(names)} others, such as {first}"


def _suggestion(name: object, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


#: A class of characters that Python's expressions do not have, such as `\p{L}`.
_PROPERTY = re.compile(r"\\p\{(\w+)\}")
_ALNUM = "Alnum"


def _matches(pattern: str, value: str) -> bool:
    """Whether all of `value` is what `pattern`, an expression as Java reads it, says.

    A pattern that cannot be said in Python's expressions is taken to match.
    """
    try:
        found = _compiled(_PROPERTY.sub(lambda match: _members(match[1], value), pattern))
    except re.error:
        return True
    return found.fullmatch(value) is not None


@functools.lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _members(name: str, value: str) -> str:
    r"""Those characters of `value` that are in `\p{name}`, to stand inside of brackets.

    Equivalent for that value, and no table of all of Unicode is needed.
    """
    if name == _ALNUM:
        return "a-zA-Z0-9"
    inside = {char for char in value if unicodedata.category(char).startswith(name)}
    # A character that no text has, so that the brackets are not empty.
    return "".join(re.escape(char) for char in sorted(inside)) or r"\U0010FFFF"
