"""What a pipeline declares about the items of a command, checked against its config and method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import attrs

from rvrun.errors import RvrunError, check_known
from rvrun.item_list import ItemList, make_list
from rvrun.model import ItemCall, StageItems
from rvrun.pipelines.imports import user_code
from rvrun.pipelines.items import saved_items, to_json
from rvrun.text import quoted

#: The parameters of a method by what it gets of its items.
PARAMETERS = {
    ItemCall.ITEM: ("item",),
    ItemCall.ITEMS: ("items",),
    ItemCall.SHARE: ("split_ind", "num_splits"),
}


class NotSplit(RvrunError):
    """A command with items that cannot be split."""

    class_name: str
    command: str
    template = (
        "`{class_name}.items` must only name commands in `split_commands`, got `{command}`; "
        "add `{command}` to `split_commands`, or remove it from `items`"
    )
    fix = "add `{command}` to `split_commands`, or remove it from `items`"


class NotItems(RvrunError):
    """A path that leads to something other than a list of items."""

    class_name: str
    command: str
    path: str
    problem: str
    template = "`{class_name}.items` names `{path}` for `{command}`, which {problem}"
    fix = "change `{path}`, or `items` of `{class_name}`"


class BadParameters(RvrunError):
    """A method that accepts nothing that a command with items gets."""

    method: str
    template = (
        "{method} must have exactly one of the parameters `item` (one item), `items` (the list of "
        "those that are not done), or `split_ind` and `num_splits`, because `items` declares "
        "what it shares out"
    )
    fix = "change the parameters of {method}"


def declare_items(
    pipeline: Any,
    command: str,
    path: str,
    config: Mapping[str, Any],
    owner: str,
) -> tuple[StageItems, ItemList]:
    """Return the items of a command, and how its method gets them.

    - `path`: that of the items in the config. `config`: the saved config.
    - `owner`: the pipeline, for messages.

    Raises `NotItems`, `BadParameters`, `UnknownName` or `UserCodeError`.
    """
    class_name = type(pipeline).__name__
    call = _find_call(pipeline, command)
    values = _read_values(pipeline.config, path, f"`items` of command `{command}` of {owner}")
    if not isinstance(values, list | tuple):
        problem = f"must be a list or tuple, got {quoted(values)}"
        raise NotItems(class_name, command, path, problem)
    saved = saved_items(config, path)
    try:
        # The saved values, if there are any: the worker of a target reads them, too.
        items = make_list(to_json(values if saved is None else saved))
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"has items that cannot be saved as JSON: {error}"
        raise NotItems(class_name, command, path, problem) from None
    declared = StageItems(field=path, count=len(items), digest=items.digest, call=call)
    return declared, items


def check_call(pipeline: Any, command: str, *, is_split: bool) -> None:
    """Raise `NotSplit` or `BadParameters` unless a command can share out items."""
    if not is_split:
        raise NotSplit(type(pipeline).__name__, command)
    _find_call(pipeline, command)


def _find_call(pipeline: Any, command: str) -> ItemCall:
    method = getattr(pipeline, command)
    signature = inspect.signature(method)
    calls = [
        call
        for call, names in PARAMETERS.items()
        if all(name in signature.parameters for name in names)
    ]
    try:
        (call,) = calls
        signature.bind(**dict.fromkeys(PARAMETERS[call]))
    except (ValueError, TypeError):
        raise BadParameters(f"`{type(pipeline).__name__}.{command}{signature}`") from None
    return call


def _read_values(config: Any, path: str, place: str) -> Any:
    value = config
    for name in path.split("."):
        check_known("config field", name, _fields(value, name), place)
        with user_code(f"reading `{path}`, the {place}"):
            value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


def _fields(value: Any, name: str) -> tuple[str, ...]:
    """The fields and properties of a config, among them `name` if it has an attribute of it."""
    if isinstance(value, dict):
        return tuple(value)
    cls = type(value)
    fields = [field.name for field in attrs.fields(cls)] if attrs.has(cls) else []
    properties = [key for key, _ in inspect.getmembers(cls, _is_property)]
    # Whatever else works, such as attributes of classes that are not attrs'.
    other = [name] if name not in (*fields, *properties) and _has(value, name) else []
    return (*fields, *(key for key in properties if not key.startswith("_")), *other)


def _has(value: Any, name: str) -> bool:
    try:
        return hasattr(value, name)
    except Exception:  # noqa: BLE001 - a property of the user's, whose error is shown later
        return True


def _is_property(value: object) -> bool:
    # functools.cached_property, too, whose instances are no `property`.
    return isinstance(value, property) or type(value).__name__ == "cached_property"
