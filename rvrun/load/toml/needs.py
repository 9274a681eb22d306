"""What the commands of a `pipeline.toml` need: as declared, else from their inputs and outputs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from rvrun.errors import closest
from rvrun.load.toml.read import Source
from rvrun.patterns import any_split, by_folder, find_overlap, is_per_item, item_path
from rvrun.programs.pipeline import ProgramsConfig
from rvrun.programs.template import escape, fill_some

Need = str | dict[str, str]


def find_needs(
    source: Source, values: Mapping[str, str], items: Mapping[str, Sequence[Any]]
) -> dict[str, list[Need]]:
    """Return the needs of each command, checked. Raises `BadFile`.

    A command that declares none needs those that write its inputs; one without inputs, nothing.

    - `values`: the values of placeholders. `items`: those of each command that has some.
    """
    commands = source.values["commands"]
    needs = {name: _declared(source, name) for name in commands}
    templates = {name: escape(value) for name, value in values.items()}
    outputs = {
        name: [
            posixpath.normpath(any_split(fill_some(text, templates)))
            for text in table.get("outputs", ())
        ]
        for name, table in commands.items()
    }
    result: dict[str, list[Need]] = {}
    for name, table in commands.items():
        declared = needs[name]
        if declared is None:
            inputs = (fill_some(text, templates) for text in table.get("inputs", ()))
            read = [_paths(template, items.get(name, ())) for template in inputs]
            declared = _writers(name, read, outputs)
        result[name] = declared
    _check_cycles(source, result)
    return result


def _declared(source: Source, command: str) -> list[Need] | None:
    commands = source.values["commands"]
    needs: list[Need] | None = commands[command].get("needs")
    for index, need in enumerate(needs or ()):
        name = name_of(need)
        path = ("commands", command, "needs", index)
        if name not in commands:
            near = closest(name, tuple(commands))
            names = ", ".join(f"`{other}`" for other in commands if other != command)
            remedy = f"write `{near}`" if near else f"name one of {names}"
            problem = f"`needs` of `{command}` must name commands, got `{name}`"
            source.fail(path, problem, remedy)
        if name == command:
            source.fail(path, f"`{command}` must not need itself", "remove it from `needs`")
        if name in map(name_of, (needs or ())[:index]):
            problem = f"`needs` of `{command}` must name each command once, got `{name}` twice"
            source.fail(path, problem, "remove one of the two")
    return needs


def name_of(need: Need) -> str:
    """Return the command that a need names."""
    return need if isinstance(need, str) else need["aligned"]


def _paths(template: str, items: Sequence[Any]) -> Iterator[str]:
    """Yield the path of an input, or the paths of all items."""
    for item in items if is_per_item(template) else [None]:
        yield posixpath.normpath(item_path(template, item))


def _writers(
    command: str, inputs: Sequence[Iterable[str]], outputs: Mapping[str, Sequence[str]]
) -> list[Need]:
    folders = list(map(by_folder, inputs))
    return [
        other
        for other, paths in outputs.items()
        if other != command
        and any(find_overlap(read, path) is not None for path in paths for read in folders)
    ]


def _check_cycles(source: Source, needs: Mapping[str, Sequence[Need]]) -> None:
    try:
        TopologicalSorter({n: [name_of(need) for need in ns] for n, ns in needs.items()}).prepare()
    except CycleError as error:
        path = list(reversed(error.args[1]))
        problem = f"commands must not need each other in a cycle, got {' -> '.join(path)}"
        is_declared = all("needs" in source.values["commands"][name] for name in path)
        remedy = "remove one of these needs" if is_declared else "change their `inputs` or `needs`"
        source.fail(("commands", path[0], "needs"), problem, remedy)


def check_aligned(source: Source, config: ProgramsConfig) -> None:
    """Refuse aligned needs between commands whose splits do not correspond. Raises `BadFile`."""
    for command, options in config.options.items():
        for index, need in enumerate(options["needs"]):
            problem = isinstance(need, dict) and _why_not_aligned(config, command, need["aligned"])
            if problem:
                other = need["aligned"]
                path = ("commands", command, "needs", index)
                rule = f"`{command}` and `{other}` must have the same items and splits"
                remedy = f'give both the same, or write "{other}" to need all of it'
                source.fail(path, f"{rule}, as the need is aligned; got {problem}", remedy)


def _why_not_aligned(config: ProgramsConfig, command: str, other: str) -> str:
    """Say how the splits of two commands differ; nothing if they correspond."""
    ours, theirs = config.items.get(command), config.items.get(other)
    if ours != theirs:
        none = [f"no items of `{name}`" for name in (command, other) if name not in config.items]
        return none[0] if none else "different items"
    counts = [config.options[name].get("splits") for name in (command, other)]
    none = [f"no `splits` of `{n}`" for n, c in zip((command, other), counts, strict=True) if not c]
    if none:
        return none[0]
    return f"{counts[0]} and {counts[1]} splits" if counts[0] != counts[1] else ""
