"""What the saved plan says about a target, read once when it starts.

This module imports little, because the worker of every target imports it: `model.Plan` takes longer
to import than a target takes to start.
"""

from __future__ import annotations

import os

from rvrun import paths
from rvrun.inputs import CannotRead, read_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How the plan marks stages that depend on their code fingerprint: `model.CodeMode.RERUN`.
CODE_COUNTS = "rerun"


class PlannedTarget:
    """A target of a run directory as its plan has it; empty if the plan is unreadable.

    - `target`: its path (see `paths.target`).
    - `stage`: the values of its stage in the plan.
    - `prerequisites`: the paths of the files that it depends on in the Makefile.
    """

    def __init__(self, run_dir: str, target: str) -> None:
        self.run_dir, self.target = run_dir, target
        self.pipeline, _, rest = target.partition("/")
        stage_name, _, split = rest.partition("/")
        self.command = stage_name.partition(".")[0]
        self.stage: dict[str, Any] = {}
        self.prerequisites: list[str] = []
        try:
            plan = read_object(os.path.join(run_dir, paths.PLAN))
            planned = next(plan for plan in plan["pipelines"] if plan["name"] == self.pipeline)
            self._stages = {stage["command"]: stage for stage in planned["stages"]}
            self.stage = _checked(self._stages[self.command])
            self.prerequisites = self.prerequisites_of(split)
        except (CannotRead, KeyError, TypeError, StopIteration):
            self.stage = {}

    def prerequisites_of(self, split: int | str) -> list[str]:
        """Return the prerequisites of a split of the same stage."""
        needs = [self._need_stamp(need, split) for need in self.stage["needs"]]
        is_whole = self.stage["config_keys"] is None
        names = (self.pipeline, self.command)
        files = [paths.config(self.pipeline) if is_whole else paths.narrowed_config(*names)]
        if self.stage.get("code") == CODE_COUNTS:
            files.append(paths.code(*names))
        produced = self.stage.get("produced", ())
        inputs = [path for path in self.stage.get("inputs", ()) if path not in produced]
        if not inputs:
            return [f"{self.run_dir}/{file}" for file in (*needs, *files)]
        from rvrun.patterns import own_files

        files.append(paths.inputs(*names))
        own = own_files(inputs, produced)
        return [*(f"{self.run_dir}/{file}" for file in (*needs, *files)), *own]

    def _need_stamp(self, need: dict[str, Any], split: int | str) -> str:
        command = need["command"]
        num_splits = self._stages[command]["splits"]
        if need["kind"] == "aligned":
            name = paths.target(self.pipeline, command, str(split), num_splits)
            return f"{paths.DONE}/{name}"
        return paths.stamp(self.pipeline, command, is_split=num_splits is not None)

    def newest(self) -> int:
        """Return the time of its newest prerequisite, in ns since 1970; 0 if unknown.

        A stamp must not be older than what the target started with. It would be if the clock was
        set back since, and the target would then run again and again, and what needs it would not.
        """
        times = map(mtime_ns, self.prerequisites)
        return max((time_ns for time_ns in times if time_ns is not None), default=0)


def _checked(stage: dict[str, Any]) -> dict[str, Any]:
    """Return a stage as the plan has it. Raises TypeError unless its paths are strings."""
    for key in ("inputs", "produced", "outputs"):
        if not all(isinstance(path, str) for path in stage.get(key, ())):
            raise TypeError(f"`{key}` must be a list of strings")
    return stage


def is_up_to_date(stamp: str, prerequisites: list[str]) -> bool:
    """Whether a stamp exists and is not older than all of its prerequisites, which exist, too."""
    done = mtime_ns(stamp)
    times = map(mtime_ns, prerequisites)
    return done is not None and all(time is not None and time <= done for time in times)


def mtime_ns(path: str) -> int | None:
    """Return the modification time of a file in ns since 1970; None if it cannot be seen."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
