"""Select parts of saved configs, and compare them key by key. Pure."""

from __future__ import annotations

import enum
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rvrun.pipelines.imports import TYPE, VERSION

#: Keys that name a config's class: rvrun's, and those of other systems.
TYPES = (TYPE, "type_hint")
#: What users call the keys that rvrun adds to saved configs.
_WORDS = {TYPE: "class", VERSION: "config_version"}


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


def part_of(
    config: Mapping[str, Any], keys: Sequence[str] | None, items: str | None
) -> Mapping[str, Any]:
    """Return the part of a saved config on which a command depends, apart from its items.

    - `keys`: its `config_keys`; None for all. `items`: the path of its items; None without items.
    """
    rest = config if items is None else _without(config, items)
    return rest if keys is None else narrow(rest, keys)


def _without(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The same config without a dotted key; `config` itself if it does not have it."""
    first, _, rest = key.partition(".")
    if first not in config:
        return config
    if not rest:
        return {name: value for name, value in config.items() if name != first}
    nested = config[first]
    return {**config, first: _without(nested, rest)} if isinstance(nested, Mapping) else config


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

    Keys are in the order of `new`; in each object, those that only `old` has come last. The key of
    a list's item is its index: `scenes.3.image`. A list that only lost or only gained items has one
    key, with both lists as its values.
    """
    return dict(_changes(old, new, ""))


def words_of_key(key: str) -> str:
    """Return a dotted key as users know it: `class of model` for `model.$type`."""
    parent, _, last = key.rpartition(".")
    if last not in _WORDS:
        return key
    return f"{_WORDS[last]} of {parent}" if parent else _WORDS[last]


def words_of_items(old: Any, new: Any) -> str:
    """Return `2 added` or `1 removed` for two lists of which one has all items of the other.

    Empty for other values, and for lists of strings and numbers, which are shown instead.
    """
    if not (isinstance(old, list) and isinstance(new, list)):
        return ""
    if len(old) == len(new) or not any(isinstance(item, (list, dict)) for item in (*old, *new)):
        return ""
    number = len(new) - len(old)
    return f"{number:,} added" if number > 0 else f"{-number:,} removed"


def _changes(old: Any, new: Any, key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*new, *(name for name in old if name not in new)]
        for name in names:
            pair = (old.get(name, MISSING), new.get(name, MISSING))
            yield from _changes(*pair, f"{key}.{name}" if key else name)
    elif isinstance(old, list) and isinstance(new, list) and not _only_grew_or_shrank(old, new):
        pairs = itertools.zip_longest(old, new, fillvalue=MISSING)
        for index, (before, after) in enumerate(pairs):
            yield from _changes(before, after, f"{key}.{index}")
    elif old is MISSING and isinstance(new, Mapping) and new:
        yield from _changes({}, new, key)
    elif new is MISSING and isinstance(old, Mapping) and old:
        yield from _changes(old, {}, key)
    elif type(old) is not type(new) or old != new:
        # As JSON, in which 1, 1.0 and true differ.
        yield key, (old, new)


def _only_grew_or_shrank(old: list[Any], new: list[Any]) -> bool:
    """Whether one list has all items of the other in their order, and more."""
    if len(old) == len(new):
        return False
    few, many = (map(_canonical, items) for items in sorted((old, new), key=len))
    rest = iter(many)
    return all(item in rest for item in few)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
