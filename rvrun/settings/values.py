"""Values of settings: parsed from environment variables, validated wherever they come from."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from rvrun.errors import RvrunError, UnknownName
from rvrun.inputs import parse_integer
from rvrun.settings.schema import Field, fields_of
from rvrun.text import quoted

#: What stands for a value that may be a secret.
HIDDEN = "***"
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class BadSetting(RvrunError):
    """A value that is not valid for its setting, or a settings file that cannot be read.

    - `origin`: the file, variable or command line it comes from. `hint`: how to fix it, if known.
    """

    origin: str
    problem: str
    hint: str = ""
    template = "{origin}: {problem}"
    fix = "{hint}"


def validate(origin: str, field: Field, value: Any) -> Any:
    """Return `value` as the setting's type, lists as tuples. Raises `BadSetting`, `UnknownName`."""
    if field.record is not None:
        return _validate_records(origin, field, field.record, value)
    is_valid, rule = _rule(field)
    if "\0" in spell(value):
        # Only a file can contain one; no path, variable or argument of a program can.
        raise BadSetting(origin, f"`{field.key}` must not contain a NUL character")
    if not is_valid(value):
        raise BadSetting(origin, f"`{field.key}` must be {rule}, got {_shown(value, field)}")
    return tuple(map(str, value)) if isinstance(value, list) else value


def _rule(field: Field) -> tuple[Callable[[Any], bool], str]:
    """What a value must be, as a predicate and in words."""
    if field.is_table:
        return _table_rule(field)
    members = (*typing.get_args(field.type), field.type)
    plain = next(member for member in members if member is not types.NoneType)
    if typing.get_origin(field.type) is tuple:
        return _is_list, "a list of strings"
    if choices := _choices(field.type):
        return lambda value: value in choices, f"one of {', '.join(choices)}"
    if plain is int:
        return lambda value: _is_in_range(value, field), _range(field)
    return _PLAIN.get(plain, _PLAIN[str])


def _table_rule(field: Field) -> tuple[Callable[[Any], bool], str]:
    if float in typing.get_args(field.type):
        return _is_price_table, "a table of numbers between 0 and 1e12"
    return _is_table, "a table of strings"


def _choices(type_: Any) -> tuple[str, ...]:
    """The values of a Literal, also of one that may be None."""
    for member in (type_, *typing.get_args(type_)):
        if typing.get_origin(member) is Literal:
            return typing.get_args(member)
    return ()


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str | int) for item in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_price(value: Any) -> bool:
    # Not NaN or infinite either, and nothing that would overflow.
    return type(value) in (int, float) and 0 <= value < 1e12


#: The rules of types that need no more than themselves.
_PLAIN: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    float: (_is_price, "a number between 0 and 1e12"),
    str: (lambda value: isinstance(value, str), "a string"),
}


def _is_price_table(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_price, value.values()))


def _is_in_range(value: Any, field: Field) -> bool:
    if type(value) is not int:
        return False
    return field.least <= value <= (value if field.most is None else field.most)


def _range(field: Field) -> str:
    if field.most is None:
        return f"an integer of at least {field.least}"
    return f"an integer between {field.least} and {field.most}"


def _validate_records(
    origin: str, field: Field, record: type[attrs.AttrsInstance], value: Any
) -> dict[str, Any]:
    """Validate a table of tables: the keys and values of each as those of a section."""
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        rule = f"tables, written as [{field.key}.NAME]"
        raise BadSetting(origin, f"`{field.key}` must be {rule}, got {quoted(_names(value))}")
    validated: dict[str, Any] = {}
    for name, items in value.items():
        section = f'{field.key}."{name}"'
        fields = {option.key: option for option in fields_of(record)}
        for key in items:
            if key not in fields:
                raise UnknownName("setting", key, tuple(fields), f"{origin} [{section}]")
        validated[name] = {
            key: validate(origin, attrs.evolve(fields[key], key=f"{section}.{key}"), item)
            for key, item in items.items()
        }
    return validated


def _shown(value: Any, field: Field) -> str:
    """A wrong value in a message; of a table that may hold secrets only the names."""
    if not field.secret:
        return quoted(value)
    return f"{spell(value, secret=True)!r}" if isinstance(value, dict) else HIDDEN


def _names(value: Any) -> Any:
    """The names of a table of tables, whose values may be secrets."""
    return dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else value


def spell(value: object, *, secret: bool = False) -> str:
    """Return a value as its environment variable spells it.

    - `secret`: whether to show only the names of a table.
    """
    if isinstance(value, Mapping):
        pairs = ((key, HIDDEN if secret else item) for key, item in value.items())
        return ",".join(key if attrs.has(type(item)) else f"{key}={item}" for key, item in pairs)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def parse(text: str, field: Field) -> Any:
    """Parse an environment variable; return a string that does not parse, for `validate` to refuse.

    A list is `A,B`, a table `KEY=VALUE,KEY=VALUE`.
    """
    kinds = (field.type, *typing.get_args(field.type))
    if field.is_table:
        pairs = _parse_table(text)
        is_numeric = float in typing.get_args(field.type) and isinstance(pairs, dict)
        return {k: _to_number(v) for k, v in pairs.items()} if is_numeric else pairs  # type: ignore[union-attr]
    if float in kinds:
        return _to_number(text)
    if typing.get_origin(field.type) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    if bool in kinds:
        return _BOOLEANS.get(text.lower(), text)
    number = parse_integer(text) if int in kinds else None
    return number if _is_in_range(number, field) else text


def _to_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _parse_table(text: str) -> dict[str, str] | str:
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        return text
    return {key.strip(): value.strip() for key, _, value in pairs}
