"""From a checked `pipeline.toml` to the configs of its pipelines, one per combination."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rvrun.load.toml import commands, items
from rvrun.load.toml.arguments import override
from rvrun.load.toml.keys import PIPELINE, PIPELINE_RULE, PIPELINES_RESERVED
from rvrun.load.toml.kinds import Path, shown
from rvrun.load.toml.needs import check_aligned, find_needs
from rvrun.load.toml.paths import check_paths
from rvrun.load.toml.places import locating
from rvrun.load.toml.read import Source, read_source
from rvrun.programs import template
from rvrun.programs.pipeline import ProgramsConfig
from rvrun.text import quoted

#: The most pipelines of one file. Each has a saved config and rules of its own in the Makefile.
MAX_PIPELINES = 10_000
#: Where a pipeline writes by default.
ROOT = "out/{name}"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def load_toml(path: str, args: Mapping[str, str]) -> list[ProgramsConfig]:
    """Return the configs of the pipelines in the file at `path`.

    - `args`: the `-a` arguments, as typed.

    Raises `BadFile`, `CannotRead`, or an error about an argument.
    """
    source = read_source(path)
    override(source.values, args, path)
    _check_commands(source)
    combinations = list(_combinations(source))
    configs = [_build(source, combination) for combination in combinations]
    _check_distinct(source, configs, combinations)
    return configs


def _combinations(source: Source) -> Iterator[dict[str, Any]]:
    """Yield the values of `[matrix]` of each pipeline."""
    matrix = source.values.get("matrix", {})
    number = math.prod(map(len, matrix.values()))
    if number > MAX_PIPELINES:
        problem = f"[matrix] must have at most {MAX_PIPELINES:,} combinations, got {number:,}"
        remedy = "shorten its lists, or make their values the items of a command"
        source.fail(("matrix",), problem, remedy)
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def _build(source: Source, combination: dict[str, Any]) -> ProgramsConfig:
    table = source.values
    config = {**table.get("config", {}), **combination}
    name = "-".join([_name(source), *map(_slug, combination.values())])
    _check_name(source, name, combination)
    values = {"name": name, **template.config_values(config)}
    root = _fill(source, ("root",), table.get("root", ROOT), values)
    if not root.isprintable():
        problem = f"`root` must not have line breaks or other controls, got {quoted(root)}"
        source.fail(("root",), problem, "remove them")
    values = {"root": root, **values}
    names = list(table["commands"])
    with_items = [command for command in names if "items" in table["commands"][command]]
    resolved = {command: _items(source, command, values) for command in with_items}
    context = commands.Context(source, config, values, resolved)
    declared = {command: commands.declare(context, command) for command in names}
    planned = {command: commands.plan(context, command) for command in names}
    needs = find_needs(source, values, resolved)
    result = ProgramsConfig(
        name=name,
        root_uri=root,
        config=config,
        commands=declared,
        items=resolved,
        options={command: {"needs": needs[command], **planned[command]} for command in names},
    )
    check_aligned(source, result)
    check_paths(source, result)
    return result


def _fill(source: Source, path: Path, text: str, values: Mapping[str, str]) -> str:
    with locating(source, path):
        template.check(text, tuple(values))
        return template.fill(text, values)


def _name(source: Source) -> str:
    """The name in the file, else that of the file."""
    stem = os.path.basename(source.path).removesuffix(".toml")
    return str(source.values.get("name", stem))


def _slug(value: object) -> str:
    return _NOT_IN_NAMES.sub("-", template.to_text(value)).strip("-") or "empty"


def _check_name(source: Source, name: str, combination: Mapping[str, Any]) -> None:
    if name.casefold() in PIPELINES_RESERVED:
        names = ", ".join(PIPELINES_RESERVED)
        problem = f"`name` must not be a word that the Makefile uses ({names}), got {quoted(name)}"
        source.fail(("name",), problem, "set another `name`")
    is_valid = re.fullmatch(PIPELINE, name) is not None
    if not is_valid and combination:
        problem = f"`name` and the values of [matrix] must make {PIPELINE_RULE}, got {quoted(name)}"
        source.fail(("matrix",), problem, "change these values, or make them items of a command")
    if not is_valid:
        problem = f"`name` must be {PIPELINE_RULE}, got {quoted(name)}, the name of the file"
        source.fail(("name",), problem, 'add a line such as `name = "tiles"`')


def _items(source: Source, command: str, values: Mapping[str, str]) -> list[Any]:
    spec = source.values["commands"][command]["items"]
    path = ("commands", command, "items")
    with locating(source, path):
        return items.resolve(spec, lambda text: _fill(source, path, text, values))


def _check_commands(source: Source) -> None:
    """Refuse names that some file systems do not distinguish."""
    names = list(source.values["commands"])
    if twice := _find_equal(names):
        problem = f"commands must have distinct names, ignoring case, got {_both(names, twice)}"
        path = ("commands", names[twice[1]])
        source.fail(path, problem, "rename one of the two", is_key=True)


def _check_distinct(
    source: Source, configs: Sequence[ProgramsConfig], combinations: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse combinations that would have the same name, or write to the same place."""
    names = [config.name for config in configs]
    if twice := _find_equal(names):
        rule = "combinations of [matrix] must differ in `name`, ignoring case"
        values = _values(*(combinations[position] for position in twice))
        problem = f"{rule}, got {_both(names, twice)} for {values}"
        source.fail(("matrix",), problem, "change one of these values, or remove it")
    roots = [config.root_uri for config in configs]
    if twice := _find_equal(roots, str):
        problem = f"combinations of [matrix] must differ in `root`, got {_both(roots, twice)}"
        source.fail(("root",), problem, "add {name} to `root`")


def _find_equal(
    names: Iterable[str], key: Callable[[str], str] = str.casefold
) -> tuple[int, int] | None:
    """Return the positions of the first two names with the same key."""
    seen: dict[str, int] = {}
    for position, name in enumerate(map(key, names)):
        if name in seen:
            return seen[name], position
        seen[name] = position
    return None


def _both(names: Sequence[str], positions: tuple[int, int]) -> str:
    first, second = (quoted(names[position]) for position in positions)
    return f"{first} twice" if first == second else f"{first} and {second}"


def _values(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return how two combinations differ: `x = 'a b' and x = 'a-b'`; equal ones as a whole."""
    keys = [key for key in one if one[key] != other[key]] or list(one)
    return " and ".join(
        ", ".join(f"{key} = {shown(combination[key])}" for key in keys)
        for combination in (one, other)
    )
