"""Find what selected commands need that is neither selected nor done in a run directory."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from rvrun import paths
from rvrun.model import DeclaredPipeline, Plan
from rvrun.plan.compile import Graph, explicit_needs, sort
from rvrun.text import enumerate_names


def missing_needs(
    pipelines: Sequence[DeclaredPipeline], plan: Plan, run_dir: pathlib.Path
) -> list[str]:
    """Return a warning for each stage of `plan` that needs commands without which it may fail.

    A plan of some commands takes the others as done. That may be true although nothing here tells:
    their outputs may come from another machine.
    """
    warnings = []
    declared = {pipeline.name: pipeline for pipeline in pipelines}
    for planned in plan.pipelines:
        pipeline = declared[planned.name]
        graph = sort(pipeline.name, explicit_needs(pipeline))
        complete = {stage.command for stage in planned.stages} | _done(pipeline, run_dir)
        for stage in planned.stages:
            if missing := _missing(graph, stage.command, complete):
                names = enumerate_names(missing)
                are = "is" if len(missing) == 1 else "are"
                warnings.append(
                    f"{planned.name}/{stage.command} needs {names}, which {are} not selected and "
                    "never finished here"
                )
    return warnings


def _done(pipeline: DeclaredPipeline, run_dir: pathlib.Path) -> set[str]:
    """The commands that were done once, also if they are stale by now."""
    stamps = {
        command.name: paths.stamp(pipeline.name, command.name, is_split=command.is_split)
        for command in pipeline.commands
    }
    return {name for name, stamp in stamps.items() if (run_dir / stamp).exists()}


def _missing(graph: Graph, command: str, complete: set[str]) -> list[str]:
    """The commands that `command` needs, directly or through each other, in their order."""
    reached: set[str] = set()
    todo = [command]
    while todo:
        needed = {need.command for need in graph[todo.pop()]} - complete - reached
        reached |= needed
        todo.extend(needed)
    return [name for name in graph if name in reached]
