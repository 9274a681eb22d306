"""Select parts of saved configs, and compare them key by key. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rvrun.pipelines.imports import TYPE

#: Keys that name a config's class: rvrun's, and those of other systems.
TYPES = (TYPE, "type_hint")


class Missing(enum.Enum):
    """The value of a key that a config does not have."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


def narrow(config: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return the part of a saved config that a command with these `config_keys` depends on.

    It always includes the class and `root_uri`: if either changes, so does the work. Keys that the
    config does not have are omitted.
    """
    part = {key: config[key] for key in (*TYPES, "root_uri") if key in config}
    for key in keys:
        value = look_up(config, key)
        if value is not MISSING:
            part[key] = value
    return part


def look_up(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key, or MISSING."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the old and new value of each dotted key that differs, or MISSING.

    Keys are in the order of `new`, followed by those that only `old` has. The key of a list's item
    is its index: `scenes.3.image`.
    """
    before, after = dict(_flatten(old, "")), dict(_flatten(new, ""))
    keys = [*after, *(key for key in before if key not in after)]
    pairs = {key: (before.get(key, MISSING), after.get(key, MISSING)) for key in keys}
    return {key: pair for key, pair in pairs.items() if not _equal(*pair)}


def _equal(old: Any, new: Any) -> bool:
    """Whether two values are the same JSON, in which 1, 1.0 and true differ."""
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
