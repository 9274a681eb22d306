"""The `inputs` and `outputs` of a `pipeline.toml`, checked where the place in the file is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter
from typing import Any, NoReturn

import attrs

from rvrun.load.toml.kinds import Path, name_of
from rvrun.load.toml.needs import name_of as command_of
from rvrun.load.toml.read import Source
from rvrun.patterns import any_split, by_folder, find_overlap, item_path
from rvrun.pipelines.placeholders import BadPath, names_items, resolve
from rvrun.programs.pipeline import Programs, ProgramsConfig, declared_paths
from rvrun.text import quoted


@attrs.frozen
class _File:
    """A declared input or output with the values of the config, and where it is declared.

    - `paths`: its path, in which everything that belongs to items and splits matches; of an input
      of items, the paths of all items.
    """

    command: str
    place: Path
    paths: Sequence[str]


def check_paths(source: Source, config: ProgramsConfig) -> None:
    """Refuse paths that no file can have, and inputs that are not written before they are read.

    Raises `BadFile`.
    """
    pipeline = config.build()
    outputs = [*_files(source, pipeline, "outputs")]
    inputs = [*_files(source, pipeline, "inputs")]
    reached = _reached(config)
    for file in inputs:
        folders = by_folder(file.paths)
        for output in outputs:
            if output.command in reached[file.command]:
                continue
            (pattern,) = output.paths
            path = find_overlap(folders, pattern, is_likely=True)
            if path is not None:
                _refuse_flow(source, file, path, output.command)


def _files(source: Source, pipeline: Programs, key: str) -> Iterator[_File]:
    config = pipeline.config
    document = {"root_uri": config.root_uri}
    for command in getattr(pipeline, key):
        options: dict[str, Any] = {"is_output": key == "outputs"}
        options["items"] = config.items.get(command)
        options["is_split"] = command in pipeline.split_commands
        for index, text in enumerate(declared_paths(pipeline, command, key)):
            place = ("commands", command, key, index)
            try:
                (path,) = resolve(text, document, "", **options)
            except BadPath as error:
                problem = (
                    f"{name_of(place)} must be a path, but {quoted(error.path)} {error.problem}"
                )
                source.fail(place, problem, f"correct `{key}`")
            if options["is_output"]:
                paths = [any_split(path)]
            elif names_items(text):
                paths = [item_path(path, item) for item in config.items[command]]
            else:
                paths = [path]
            yield _File(command, place, paths)


def _reached(config: ProgramsConfig) -> dict[str, set[str]]:
    """Return the commands that each command needs, directly or through others."""
    graph = {name: list(map(command_of, o["needs"])) for name, o in config.options.items()}
    reached: dict[str, set[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        reached[name] = set(graph[name]).union(*(reached[needed] for needed in graph[name]))
    return reached


def _refuse_flow(source: Source, file: _File, path: str, writer: str) -> NoReturn:
    """Refuse a path that its own command writes, or one that may run at the same time."""
    reader = file.command
    if reader == writer:
        problem = f"must not be a file that `{writer}` writes itself, got {quoted(path)}"
        remedy = "remove it from `inputs` or `outputs`"
    else:
        problem = f"is {quoted(path)}, which `{writer}` writes, so `{reader}` must need it"
        remedy = f'add "{writer}" to `needs`, or correct the path'
    source.fail(file.place, f"{name_of(file.place)} {problem}", remedy)
