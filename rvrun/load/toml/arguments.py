"""`-a KEY VALUE` for a `pipeline.toml`: overrides a value of `[config]`, typed like the value."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from rvrun.errors import RvrunError, UnknownName
from rvrun.load.arguments import convert
from rvrun.load.toml.keys import CONFIG_RESERVED, FILE
from rvrun.programs.template import CONFIG, to_text
from rvrun.text import quoted


class BadOverride(RvrunError):
    """A value for `-a` that does not fit the one that it replaces."""

    key: str
    value: str
    rule: str
    template = "-a {key} must be {rule}, got {value!r}"
    fix = "change -a {key}"


class UnknownOverride(UnknownName):
    """A key that the file does not have."""

    def __str__(self) -> str:
        key = self.name.removeprefix(CONFIG)
        if key in self.names and key != self.name:
            return f"unknown config key `{self.name}` in {self.place}; write -a {key}"
        return super().__str__()

    def how_to_fix(self) -> str:
        return f"remove -a {self.name}, or add it to [config]"


def override(values: dict[str, Any], args: Mapping[str, str], path: str) -> None:
    """Change `config`, `matrix`, `name` and `root` in the `values` of the file at `path`.

    A key of `[matrix]` gets only the given value. Raises `UnknownOverride` or `BadOverride`.
    """
    config, matrix = values.setdefault("config", {}), values.get("matrix", {})
    for key, string in args.items():
        *parents, last = key.split(".")
        if key in CONFIG_RESERVED:
            _check(key, string, FILE.keys[key].kind.accepts(string), FILE.keys[key].kind.rule)
            values[key] = string
        elif key in matrix:
            matrix[key] = [_typed_as_any(key, string, matrix[key])]
        else:
            table = config
            for name in (*parents, last):
                if not isinstance(table, dict) or name not in table:
                    names = (*_keys(config), *matrix, *CONFIG_RESERVED)
                    raise UnknownOverride("config key", key, tuple(names), path)
                table, parent = table[name], table
            parent[last] = typed(key, string, table)


def _typed_as_any(key: str, string: str, values: Sequence[Any]) -> Any:
    """Convert to the type of one of the values: 3 for `[0.5, 1]` is as exact as what was typed."""
    for value in values:
        with contextlib.suppress(BadOverride):
            converted = typed(key, string, value)
            if to_text(converted) == string:
                return converted
    return typed(key, string, values[0])


def _keys(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in config.items():
        keys += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def typed(key: str, string: str, old: object) -> Any:
    """Convert the value of `-a KEY` to the type of the value that it replaces.

    Lists and tables are written as in TOML. Raises `BadOverride`.
    """
    if isinstance(old, list | dict):
        return _parse_toml(key, string, old)
    kind = {bool: "a boolean", int: "an integer", float: "a number"}.get(type(old), "a string")
    try:
        value = convert(string, type(old))
    except ValueError:
        value = None
    is_fine = value is not None and not any(FILE.keys["config"].kind.faults({"x": value}, ()))
    _check(key, string, is_fine and "\0" not in string, f"{kind}, as {quoted(old)} is")
    return value


def _parse_toml(key: str, string: str, old: object) -> Any:
    import tomllib

    kind = f"a {'list' if isinstance(old, list) else 'table'} in TOML, as {quoted(old)} is"
    try:
        values = tomllib.loads(f"x = {string}")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        values = {}
    value = values.get("x")
    is_fine = type(value) is type(old) and len(values) == 1
    config = FILE.keys["config"].kind
    _check(key, string, is_fine and not any(config.faults({"x": value}, ("config",))), kind)
    return value


def _check(key: str, string: str, is_fine: bool, rule: str) -> None:  # noqa: FBT001
    if not is_fine:
        raise BadOverride(key, string, rule)
