"""Config values as JSON has them: parts of them, and what differs between two. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rvrun.pipelines.imports import TYPE

#: Keys that say of which class a config is: rvrun's, and those of other systems.
TYPES = (TYPE, "type_hint")


class Missing(enum.Enum):
    """Where one of two configs has no such key."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def narrow(config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The part of a saved config that a command with these `config_keys` depends on.

    Its class and `root_uri` always are: another class or place means other work. A key that is
    not there is left out.
    """
    part = {key: config[key] for key in (*TYPES, "root_uri") if key in config}
    for key in keys:
        value = look_up(config, key)
        if value is not MISSING:
            part[key] = value
    return part


def look_up(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; MISSING where there is none."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each dotted key whose value differs, with both; in the order of `new`, what is gone last.

    An item of a list has its index for a key: `scenes.3.image`.
    """
    before, after = dict(_flatten(old, "")), dict(_flatten(new, ""))
    keys = [*after, *(key for key in before if key not in after)]
    pairs = {key: (before.get(key, MISSING), after.get(key, MISSING)) for key in keys}
    return {key: pair for key, pair in pairs.items() if not _equal(*pair)}


def _equal(old: Any, new: Any) -> bool:
    """Equal as JSON: 1, 1.0 and true are not the same there."""
    return type(old) is type(new) and old == new


def _flatten(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    items: Iterator[tuple[Any, Any]] | None = None
    if isinstance(value, Mapping):
        items = iter(value.items())
    elif isinstance(value, list) and value:
        items = iter(enumerate(value))
    if items is None or (key and not value):
        yield key, value
        return
    for name, item in items:
        yield from _flatten(item, f"{key}.{name}" if key else str(name))
