"""What the commands of a `pipeline.toml` need: as declared, else from their inputs and outputs."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from rvrun.errors import closest
from rvrun.load.toml.read import Source
from rvrun.programs.template import Placeholder, escape, look_up, parse

Need = str | dict[str, str]


def find_needs(source: Source, values: Mapping[str, str]) -> dict[str, list[Need]]:
    """Return the needs of each command, checked. Raises `BadFile`.

    A command that declares none needs those that write its inputs; one without inputs, nothing.

    - `values`: the values of placeholders.
    """
    commands = source.values["commands"]
    needs = {name: _declared(source, name) for name in commands}
    outputs = {name: _paths(table.get("outputs", ()), values) for name, table in commands.items()}
    result: dict[str, list[Need]] = {}
    for name, table in commands.items():
        declared = needs[name]
        inputs = _paths(table.get("inputs", ()), values)
        result[name] = _writers(name, inputs, outputs) if declared is None else declared
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
            names = ", ".join(f"`{other}`" for other in commands)
            remedy = f"write `{near}`" if near else f"name one of {names}"
            problem = f"`needs` of `{command}` must name commands, got `{name}`"
            source.fail(path, problem, remedy)
        if name == command:
            source.fail(path, f"`{command}` must not need itself", "remove it from `needs`")
    return needs


def name_of(need: Need) -> str:
    """Return the command that a need names."""
    return need if isinstance(need, str) else need["aligned"]


def _paths(texts: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Paths as templates in which only what belongs to items and splits is left."""
    return [
        posixpath.normpath(
            "".join(
                (escape(look_up(values, part)) if part in values else f"{{{part}}}")
                if isinstance(part, Placeholder)
                else escape(part)
                for part in parse(text)
            )
        )
        for text in texts
    ]


def _writers(
    command: str, inputs: Sequence[str], outputs: Mapping[str, Sequence[str]]
) -> list[Need]:
    return [
        other
        for other, paths in outputs.items()
        if other != command and any(_is_part(path, inp) for path in paths for inp in inputs)
    ]


def _is_part(output: str, path: str) -> bool:
    """Whether an output is an input, matches its pattern, or contains it or is in it."""
    if output == path or fnmatch.fnmatchcase(output, path) or fnmatch.fnmatchcase(path, output):
        return True
    return path.startswith(f"{output}/") or output.startswith(f"{path}/")


def _check_cycles(source: Source, needs: Mapping[str, Sequence[Need]]) -> None:
    try:
        TopologicalSorter({n: [name_of(need) for need in ns] for n, ns in needs.items()}).prepare()
    except CycleError as error:
        path = list(reversed(error.args[1]))
        problem = f"commands must not need each other in a cycle, got {' -> '.join(path)}"
        source.fail(("commands", path[0], "needs"), problem, "remove one of these needs")
