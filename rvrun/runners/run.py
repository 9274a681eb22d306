"""A run on its way to a runner, and who receives its events."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Protocol

import attrs

from rvrun.model import Plan
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.rundir.freshness import StageStatus
from rvrun.settings.schema import Settings


@attrs.frozen(kw_only=True)
class Run:
    """A plan to be run, with everything that the user specified about running it.

    - `pipelines`: all loaded pipelines, also those without a stage in the plan.
    - `out`: the run directory, relative to `workdir`, where commands run. `out_typed`: as typed,
      for messages; None if the user did not name one.
    - `force`: also run what is up to date. `forced`: the same for the stages of these names.
    - `debug`: stop in the debugger where a command raises.
    - `name`: the name of a detached run; None names it after the run directory.
    - `verbosity`: how verbose other systems' pipelines are, from 0.
    - `lock`: the descriptor of the run directory's lock, for processes that work there to inherit;
      None if it is not locked.
    """

    plan: Plan
    pipelines: tuple[LoadedPipeline, ...]
    out: str
    settings: Settings
    workdir: pathlib.Path = attrs.field(factory=pathlib.Path.cwd)
    keep_going: bool = False
    force: bool = False
    forced: frozenset[str] = frozenset()
    debug: bool = False
    verbosity: int = 0
    name: str | None = None
    out_typed: str | None = None
    lock: int | None = None

    @property
    def planned(self) -> tuple[LoadedPipeline, ...]:
        """The pipelines that have a stage in the plan."""
        names = {pipeline.name for pipeline in self.plan.pipelines}
        return tuple(pipeline for pipeline in self.pipelines if pipeline.name in names)

    @property
    def command_names(self) -> tuple[str, ...]:
        """All commands of all pipelines, as `tiny/chip`, also those not selected."""
        return tuple(
            f"{pipeline.name}/{command.name}"
            for pipeline in self.pipelines
            for command in pipeline.declared.commands
        )

    @property
    def run_dir(self) -> pathlib.Path:
        return self.workdir / self.out

    @property
    def workdir_from_run_dir(self) -> str:
        """The relative path back to `workdir`, with symbolic links resolved as `cd` would."""
        return os.path.relpath(os.path.realpath(self.workdir), os.path.realpath(self.run_dir))


class Reporter(Protocol):
    """Receives the events of a run while it goes."""

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        """The run begins; `statuses` show which targets will run."""

    def started(self, target: str) -> None:
        """A target's process started."""

    def ended(self, target: str, exit_code: int) -> None:
        """A target ended."""

    def noted(self, text: str) -> None:
        """A target waits for something, which `text` says."""

    def finish(self) -> None:
        """No target runs any more."""
