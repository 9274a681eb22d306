"""From a checked `pipeline.toml` to the configs of its pipelines, one per combination."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rvrun.load.toml import commands, items
from rvrun.load.toml.arguments import override
from rvrun.load.toml.keys import PIPELINE, PIPELINE_RULE, PIPELINES_RESERVED
from rvrun.load.toml.kinds import Path
from rvrun.load.toml.needs import find_needs
from rvrun.load.toml.places import locating
from rvrun.load.toml.read import Source, read_source
from rvrun.programs import template
from rvrun.programs.pipeline import ProgramsConfig
from rvrun.text import quoted

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
    configs = [_build(source, combination) for combination in _combinations(source)]
    _check_distinct(source, configs)
    return configs


def _combinations(source: Source) -> Iterator[dict[str, Any]]:
    """Yield the values of `[matrix]` of each pipeline."""
    matrix = source.values.get("matrix", {})
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def _build(source: Source, combination: dict[str, Any]) -> ProgramsConfig:
    table = source.values
    config = {**table.get("config", {}), **combination}
    name = "-".join([_name(source), *map(_slug, combination.values())])
    _check_name(source, name)
    values = {"name": name, **template.config_values(config)}
    root = _fill(source, ("root",), table.get("root", ROOT), values)
    values = {"root": root, **values}
    names = list(table["commands"])
    with_items = [command for command in names if "items" in table["commands"][command]]
    resolved = {command: _items(source, command, values) for command in with_items}
    context = commands.Context(source, config, values, resolved)
    declared = {command: commands.declare(context, command) for command in names}
    planned = {command: commands.plan(context, command) for command in names}
    needs = find_needs(source, values)
    return ProgramsConfig(
        name=name,
        root_uri=root,
        config=config,
        commands=declared,
        items=resolved,
        options={command: {"needs": needs[command], **planned[command]} for command in names},
    )


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


def _check_name(source: Source, name: str) -> None:
    if name.casefold() in PIPELINES_RESERVED:
        names = ", ".join(PIPELINES_RESERVED)
        problem = f"`name` must not be a word that the Makefile uses ({names}), got {quoted(name)}"
        source.fail(("name",), problem, "set another `name`")
    if re.fullmatch(PIPELINE, name) is None:
        problem = f"`name` must be {PIPELINE_RULE}, got {quoted(name)}, the name of the file"
        source.fail(("name",), problem, 'add a line such as `name = "tiles"`')


def _items(source: Source, command: str, values: Mapping[str, str]) -> list[Any]:
    spec = source.values["commands"][command]["items"]
    path = ("commands", command, "items")
    with locating(source, path):
        return items.resolve(spec, lambda text: _fill(source, path, text, values))


def _check_distinct(source: Source, configs: list[ProgramsConfig]) -> None:
    """Refuse combinations that would have the same name, or write to the same place."""
    for attribute, key in (("name", "name"), ("root_uri", "root")):
        seen: dict[str, ProgramsConfig] = {}
        for config in configs:
            value = getattr(config, attribute)
            if seen.setdefault(value, config) is not config:
                problem = (
                    f"combinations of [matrix] must differ in `{key}`, got {quoted(value)} twice"
                )
                remedy = "add {name} to `root`" if key == "root" else "change [matrix]"
                source.fail(("matrix" if key == "name" else key,), problem, remedy)
