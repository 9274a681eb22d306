"""Declared outputs that several stages, or several items of a stage, write. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rvrun.item_list import make_list
from rvrun.model import Plan, Stage
from rvrun.patterns import ITEM, fill, is_glob, is_of_stage, is_per_item, item_path, placeholders
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.pipelines.items import saved_items
from rvrun.plan.select import with_needed
from rvrun.text import name_some


def shared_outputs(pipelines: Sequence[LoadedPipeline], plan: Plan) -> list[str]:
    """Return a warning for each path that several stages or items write, in whatever order."""
    configs = {pipeline.name: pipeline.document.get("config") for pipeline in pipelines}
    warnings = [
        f"{name_some(names)} write {path} and may overwrite each other's files"
        for path, names in _shared(plan)
    ]
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            for path, items in _clashes(stage, configs[pipeline.name]):
                both = " and ".join(make_list(items).labels)
                warnings.append(f"{pipeline.name}/{stage.command}: items {both} write {path}")
    return warnings


def _shared(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """Yield each path that several stages write of which none needs another."""
    writers: dict[str, list[str]] = {}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            name = f"{pipeline.name}/{stage.command}"
            for output in stage.outputs:
                if is_of_stage(output) and not is_glob(output):
                    writers.setdefault(fill(output, {}), []).append(name)
    for path, stages in writers.items():
        names: list[str] = []
        for name in stages if len(stages) > 1 else ():
            if with_needed(plan, [name]).isdisjoint(names):
                names.append(name)
        if len(names) > 1:
            yield path, names


def _clashes(stage: Stage, config: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield a path of each output that two items share, with these; equal items may do that."""
    items = None if stage.items is None else saved_items(config, stage.items.field)
    for output in stage.outputs:
        # Different items have different paths if these contain all of the item.
        is_safe = not is_per_item(output) or ITEM in placeholders(output)
        if items is None or is_safe or is_glob(output):
            continue
        first: dict[str, Any] = {}
        for item in items:
            path = item_path(output, item)
            if first.setdefault(path, item) != item:
                yield path, (first[path], item)
                break
