"""Which declared inputs of a command are outputs of others. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rvrun.errors import RvrunError
from rvrun.model import Command, DeclaredPipeline, Need
from rvrun.patterns import any_split, by_folder, find_overlap


class Unordered(RvrunError):
    """An input that a command writes which may run at the same time, or later."""

    pipeline: str
    command: str
    path: str
    writer: str
    output: str
    template = (
        "`{command}` of pipeline `{pipeline}` reads {path}, which `{writer}` writes ({output}), so "
        "`{command}` must need `{writer}`, directly or through others"
    )
    fix = "add `{writer}` to `needs` of `{command}`, or correct `inputs` or `outputs`"


class ReadsOwnOutput(RvrunError):
    """An input that its own command writes: it would change with every run."""

    pipeline: str
    command: str
    path: str
    output: str
    template = (
        "`{command}` of pipeline `{pipeline}` must not have {path} in `inputs`, which it writes "
        "itself ({output})"
    )
    fix = "remove it from `inputs` or `outputs` of `{command}`"


def produced_inputs(
    pipeline: DeclaredPipeline, graph: Mapping[str, tuple[Need, ...]]
) -> dict[str, tuple[str, ...]]:
    """Return, for each command, the outputs of commands it needs that are among its inputs.

    - `graph`: what each command needs, of all commands, sorted.

    Raises `Unordered` or `ReadsOwnOutput`.
    """
    outputs = {c.name: list(map(any_split, c.outputs)) for c in pipeline.commands if c.outputs}
    commands = {command.name: command for command in pipeline.commands}
    reached: dict[str, set[str]] = {}
    for name, needs in graph.items():
        near = {need.command for need in needs}
        reached[name] = near.union(*(reached[needed] for needed in near))
    return {
        name: _produced(pipeline.name, commands[name], outputs, reached[name]) for name in graph
    }


def _produced(
    pipeline: str, command: Command, outputs: Mapping[str, list[str]], reached: set[str]
) -> tuple[str, ...]:
    produced: dict[str, None] = {}
    for paths in (*((path,) for path in command.inputs), command.item_paths):
        folders = by_folder(paths)
        for writer, written in outputs.items():
            for output in written:
                if find_overlap(folders, output) is None:
                    continue
                if writer in reached:
                    produced[output] = None
                elif path := find_overlap(folders, output, is_likely=True):
                    raise (
                        ReadsOwnOutput(pipeline, command.name, path, output)
                        if writer == command.name
                        else Unordered(pipeline, command.name, path, writer, output)
                    )
    return tuple(produced)
