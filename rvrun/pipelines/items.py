"""Read the items of a command from a config, and convert them to JSON values.

Light on purpose, like `base`: the worker of every command with items imports it.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: Types whose values are JSON values already.
_PLAIN = (str, int, float, bool, type(None))


def read_path(config: Any, path: str) -> Any:
    """Return the value at a dotted path of fields, properties and keys.

    Raises `AttributeError` or `KeyError`.
    """
    value = config
    for name in path.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


def saved_items(config: Any, path: str) -> list[Any] | None:
    """Return the items at `path` of a saved config; None if the path leads to a property."""
    value = config
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    # A tuple before it was written.
    return list(value) if isinstance(value, list | tuple) else None


def to_json(values: Iterable[Any]) -> list[Any]:
    """Convert items to the JSON values that a file would have.

    Raises TypeError or ValueError for items that JSON cannot represent.
    """
    values = list(values)
    if all(type(value) in _PLAIN for value in values):
        return values
    # 50 ms, so only for items that are not JSON values already.
    from rvrun.pipelines.serialize import value_to_json

    # Through a text, as keys of dictionaries become strings, and floats what JSON makes of them.
    values = [value_to_json(value) for value in values]
    result: list[Any] = json.loads(json.dumps(values))
    return result
