"""Replace the placeholders of declared inputs and outputs by values of the config. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rvrun.aws.storage import S3, is_on_s3, scheme
from rvrun.errors import RvrunError, check_known
from rvrun.path_parts import path_parts
from rvrun.patterns import (
    NUM_SPLITS,
    SPLIT_IND,
    escape,
    fill,
    is_item_name,
    placeholders,
)
from rvrun.text import quoted

#: The placeholder of the root, and the beginning of those of config fields.
ROOT, CONFIG = "root", "config"


class BadPath(RvrunError):
    """A declared input or output that cannot be the path of a file.

    - `place`: where it is declared. `problem`: continues the path.
    """

    place: str
    path: str
    problem: str
    template = "{place}: `{path}` {problem}"
    fix = "correct {place}"


def resolve(
    template: str,
    config: Mapping[str, Any],
    place: str,
    *,
    is_output: bool,
    is_split: bool,
    items: Sequence[Any] | str | None = None,
) -> tuple[str, ...]:
    """Return the paths and globs that a declared input or output stands for.

    A field that is a list gives a path for each of its items. The paths of outputs, and of inputs
    of items, are templates: they keep the placeholders of splits and items, and all other braces
    are doubled.

    - `config`: the saved config. `place`: where it is declared, for messages.
    - `items`: the JSON values of the command's items, or why files cannot be named by them; None
      if it declares none.

    Raises `BadPath` or `UnknownName`.
    """
    try:
        names = placeholders(template)
    except ValueError as error:
        raise BadPath(place, template, f"cannot be read: {error}") from None
    own = [SPLIT_IND, NUM_SPLITS] if is_output and is_split and items is None else []
    if items is not None:
        own = [name for name in names if is_item_name(name)]
        _check_items(template, own, items, place)
    for name in names:
        if name in (SPLIT_IND, NUM_SPLITS) and name not in own:
            reason = _why_no_split(is_output=is_output, is_split=is_split)
            raise BadPath(place, template, f"must not have `{{{name}}}`: {reason}")
    values = {
        name: [f"{{{name}}}"] if name in own else _values(name, config, template, place, own)
        for name in dict.fromkeys(names)
    }
    if is_output or own:
        values |= {n: list(map(escape, v)) for n, v in values.items() if n not in own}
        template = _keep_doubled(template)
    paths = (
        _normalise(fill(template, dict(zip(values, combination, strict=True))), place, template)
        for combination in itertools.product(*values.values())
    )
    return tuple(dict.fromkeys(paths))


def names_items(template: str) -> bool:
    """Whether a declared input or output, which may be wrong, names an item."""
    try:
        return any(map(is_item_name, placeholders(template)))
    except ValueError:
        return False


def _keep_doubled(template: str) -> str:
    """Double the doubled braces once more: filling in the values halves them."""
    return template.replace("{{", "{{{{").replace("}}", "}}}}")


def _why_no_split(*, is_output: bool, is_split: bool) -> str:
    if not is_output:
        return "all splits share the inputs"
    if not is_split:
        return "the command is not in `split_commands`"
    return "the command declares `items`, so name outputs by `{item}`"


def _check_items(
    template: str, names: Sequence[str], items: Sequence[Any] | str, place: str
) -> None:
    """Raise `BadPath` unless all items have the fields that a template names."""
    for name in names:
        if isinstance(items, str):
            raise BadPath(place, template, f"must not have `{{{name}}}`: {items}")
        for item in _distinct_kinds(items):
            parts = name.split(".")[1:]
            is_path = parts and isinstance(item, str)
            values = _look_up(path_parts(item) if is_path else item, parts, place)
            if len(values) != 1 or not _is_part(values[0]):
                value = values[0] if len(values) == 1 else values
                problem = f"needs a string or a number for `{name}`, got {quoted(value)}"
                raise BadPath(place, template, problem)


def _distinct_kinds(items: Sequence[Any]) -> Iterator[Any]:
    """Yield one of the strings, as placeholders can name the same of each, and all other items."""
    yield from itertools.islice((item for item in items if isinstance(item, str)), 1)
    yield from (item for item in items if not isinstance(item, str))


def _is_part(value: object) -> bool:
    """Whether a value can be a part of a path."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _values(
    name: str, config: Mapping[str, Any], template: str, place: str, own: Sequence[str]
) -> list[str]:
    """Return the values of a placeholder, as the parts of paths."""
    if name == ROOT:
        return [str(config["root_uri"]).rstrip("/") or ("/" if config["root_uri"] else ".")]
    head, _, key = name.partition(".")
    if head != CONFIG or not key:
        fields = tuple(f"{CONFIG}.{field}" for field in _fields(config))
        check_known("placeholder", name, (ROOT, *own, *fields), place)
    values = _look_up(config, key.split("."), place)
    for value in values:
        if not _is_part(value):
            problem = f"needs a string or a number for `{name}`, got {value!r}"
            raise BadPath(place, template, problem)
    return [str(value) for value in values]


def _fields(value: Any) -> tuple[str, ...]:
    return tuple(k for k in value if not k.startswith("$")) if isinstance(value, Mapping) else ()


def _look_up(value: Any, parts: Sequence[str], place: str) -> list[Any]:
    """Return the values of a dotted key; a list on the way has one for each of its items."""
    if isinstance(value, list | tuple):
        return [part for item in value for part in _look_up(item, parts, place)]
    if not parts:
        return [value]
    check_known("config field", parts[0], _fields(value), place)
    return _look_up(value[parts[0]], parts[1:], place)


def _normalise(path: str, place: str, template: str) -> str:
    """Return a path as all that name the same file are spelled. Raises `BadPath`."""
    if not path.strip("/"):
        raise BadPath(place, template, "must name a file or folder, got an empty path")
    if not path.isprintable():
        raise BadPath(place, template, f"must not have line breaks or other controls, got {path!r}")
    if (kind := scheme(path)) and not is_on_s3(path):
        raise BadPath(place, template, f"must be a path or an {S3} URI, got {kind}")
    start = f"{kind}" if kind else "/" if path.startswith("/") else ""
    parts = [part for part in path[len(kind) :].split("/") if part not in ("", ".")]
    return start + "/".join(parts) if parts else "."
