"""What the plan of a run directory says about a target, for the worker of that target.

Reads the plan itself: `model.Plan` takes longer to import than a target takes to start.
"""

from __future__ import annotations

import os

from rvrun import paths
from rvrun.inputs import CannotRead, parse_integer, read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How the plan marks stages that depend on their code fingerprint: `model.CodeMode.RERUN`.
CODE_COUNTS = "rerun"


class PlannedStage:
    """The stage of the target at `target` (see `paths.target`), as the plan has it.

    Paths are relative to the run directory, or absolute.

    - `split_ind`, `num_splits`: None if the target is not a split.
    - `items`: what the plan says about the stage's items; None if it has none.
    - `stamp`: the path of the target's stamp. `prerequisites`: those in the Makefile.
    - `inputs`, `item_inputs`, `produced`, `outputs`: as in `model.Stage`.
    - `own`: the prerequisites that all targets of the stage have.
    - `aligned`: the commands whose items the stage's items need one by one.
    """

    def __init__(self, pipeline: str, stages: dict[str, Any], target: str) -> None:
        stage_name, _, split = target.partition("/")[2].partition("/")
        command, _, number = stage_name.partition(".")
        stage = stages[command]
        self.pipeline, self.command = pipeline, command
        self._stages = stages
        self.split_ind, self.num_splits = parse_integer(split), parse_integer(number)
        self.items = stage.get("items")
        self.inputs = _strings(stage, "inputs")
        self.item_inputs = _strings(stage, "item_inputs")
        self.produced = _strings(stage, "produced")
        self.outputs = _strings(stage, "outputs")
        self.stamp = f"{paths.DONE}/{target}"
        if self.items and self.num_splits is not None:
            self.stamp = f"{_splits_folder(pipeline, command, number, self.items)}/{split}"
        aligned = [need["command"] for need in stage["needs"] if need["kind"] == "aligned"]
        wholes = [need["command"] for need in stage["needs"] if need["kind"] != "aligned"]
        is_whole = stage["config_keys"] is None and not self.items
        is_code_counted = stage.get("code") == CODE_COUNTS
        self.own = [
            *(_stamp(pipeline, name, stages[name]) for name in wholes),
            paths.config(pipeline) if is_whole else paths.narrowed_config(pipeline, command),
            *([paths.code(pipeline, command)] if is_code_counted else []),
            *self._input_files(),
        ]
        self.aligned = aligned if self.items else []
        self.prerequisites = [
            *(f"{_folder(pipeline, name, stages[name])}/{split}" for name in aligned),
            *self.own,
        ]

    @property
    def inputs_file(self) -> str | None:
        """The path of the fingerprint of its inputs; None if stages it needs write all."""
        has_own = any(path not in self.produced for path in self.inputs)
        return paths.inputs(self.pipeline, self.command) if has_own else None

    def _input_files(self) -> list[str]:
        fingerprint = self.inputs_file
        if fingerprint is None:
            return []
        from rvrun.patterns import own_files

        return [fingerprint, *map(os.path.abspath, own_files(self.inputs, self.produced))]

    def split(self, index: int) -> PlannedStage:
        """Return the same for another split of the stage."""
        target = paths.target(self.pipeline, self.command, index, self.num_splits)
        return PlannedStage(self.pipeline, self._stages, target)

    @classmethod
    def read(cls, run_dir: str, target: str) -> PlannedStage:
        """Read the stage of a target; without prerequisites and items if the plan is unreadable."""
        pipeline = target.partition("/")[0]
        try:
            plan = read_object(os.path.join(run_dir, paths.PLAN))
            planned = next(plan for plan in plan["pipelines"] if plan["name"] == pipeline)
            return cls(pipeline, {s["command"]: s for s in planned["stages"]}, target)
        except (CannotRead, KeyError, TypeError, AttributeError, StopIteration):
            command = target.partition("/")[2].partition("/")[0].partition(".")[0]
            nothing: dict[str, Any] = {"needs": [], "config_keys": None}
            stage = cls(pipeline, {command: nothing}, target)
            stage.own = stage.prerequisites = []
            return stage


def _strings(stage: dict[str, Any], key: str) -> list[str]:
    """Return a list of strings. Raises TypeError if it is something else."""
    values = stage.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"`{key}` must be a list of strings")
    return values


def _folder(pipeline: str, command: str, stage: dict[str, Any]) -> str:
    return _splits_folder(pipeline, command, stage["splits"], stage.get("items"))


def _splits_folder(
    pipeline: str, command: str, num_splits: int | str, items: dict[str, Any] | None
) -> str:
    return paths.splits_folder(
        pipeline, command, int(num_splits), None if items is None else items["digest"]
    )


def _stamp(pipeline: str, command: str, stage: dict[str, Any]) -> str:
    return paths.stamp(pipeline, command, is_split=stage["splits"] is not None)
