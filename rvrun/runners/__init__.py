"""What runs a plan. Each runner is a module that satisfies `Runner`, found by entry point."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

import attrs

from rvrun.errors import check_known
from rvrun.load import LoadedPipeline
from rvrun.model import Plan
from rvrun.outcome import Outcome
from rvrun.settings import Settings
from rvrun.status import StageStatus

GROUP = "rvrun.runners"


@attrs.frozen(kw_only=True)
class Run:
    """A plan on its way to a runner, with all that the user said about running it.

    - `out`: the run directory, relative to `workdir`, where commands run.
    - `force`: also what is up to date. `debug`: stop in the debugger where a command raises.
    - `verbosity`: how much is told, from 0. `profile`, `tmpdir`: as given on the command line.
    """

    plan: Plan
    pipelines: tuple[LoadedPipeline, ...]
    out: str
    settings: Settings
    workdir: pathlib.Path = attrs.field(factory=pathlib.Path.cwd)
    keep_going: bool = False
    force: bool = False
    debug: bool = False
    verbosity: int = 0
    profile: str | None = None
    tmpdir: str | None = None

    @property
    def run_dir(self) -> pathlib.Path:
        return self.workdir / self.out

    @property
    def workdir_from_run_dir(self) -> str:
        """The way back, through what symbolic links lead to."""
        return os.path.relpath(os.path.realpath(self.workdir), os.path.realpath(self.run_dir))


class Reporter(Protocol):
    """Is told how a run goes, while it goes."""

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        """The run begins with this to do."""

    def started(self, target: str) -> None:
        """A target's process started."""

    def ended(self, target: str, exit_code: int) -> None:
        """A target ended."""

    def finish(self) -> None:
        """No target runs any more."""


class Runner(Protocol):
    """What a runner's module offers."""

    def render(self, run: Run) -> dict[str, str]:
        """The files it adds to the run directory, by relative path. Pure."""

    def run(self, run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
        """Run what `statuses` say is to be done; the files are written already."""


def runner_names() -> tuple[str, ...]:
    """The runners that are installed."""
    return tuple(sorted(entry_points(group=GROUP).names))


def find_runner(name: str) -> Runner:
    """The runner called `name`. Raises `UnknownName`."""
    check_known("runner", name, runner_names())
    (found,) = entry_points(group=GROUP, name=name)
    return cast(Runner, found.load())
