"""What runs a plan. Each runner is a module that satisfies `Runner`, found by entry point."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

import attrs

from rvrun.aws.client import Account
from rvrun.errors import check_known
from rvrun.finding import Finding
from rvrun.load.source import LoadedPipeline
from rvrun.model import Plan
from rvrun.remote.ledger import Ledger, run_name
from rvrun.remote.state import RunState, Told
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.summary import Outcome
from rvrun.settings.schema import Settings

GROUP = "rvrun.runners"


@attrs.frozen(kw_only=True)
class Run:
    """A plan on its way to a runner, with all that the user said about running it.

    - `out`: the run directory, relative to `workdir`, where commands run.
    - `force`: also what is up to date. `debug`: stop in the debugger where a command raises.
    - `name`: of runs that go on without this process; None for one after the run directory.
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
    name: str | None = None

    @property
    def planned(self) -> tuple[LoadedPipeline, ...]:
        """The pipelines that have a stage in the plan."""
        names = {pipeline.name for pipeline in self.plan.pipelines}
        return tuple(pipeline for pipeline in self.pipelines if pipeline.name in names)

    @property
    def account(self) -> Account:
        """Whose AWS account it is to run in, and where."""
        return Account(profile=self.settings.aws.profile, region=self.settings.aws.region)

    @property
    def run_name(self) -> str:
        return run_name(self.out, self.name)

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
    """What a runner's module offers.

    - `OWNS`: folders of the run directory that hold nothing but what it renders.
    """

    OWNS: tuple[str, ...]

    def render(self, run: Run) -> dict[str, str]:
        """The files it adds to the run directory, by relative path. Pure."""


class Local(Runner, Protocol):
    """A runner that runs the plan itself."""

    def run(self, run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
        """Run what `statuses` say is to be done; the files are written already."""


class Remote(Runner, Protocol):
    """A runner whose runs go on without this process.

    - `TITLE`: what it is called in a sentence.
    """

    TITLE: str

    def examine(self, run: Run) -> Iterator[Finding]:
        """Whether AWS would take the run, by asking it; nothing is changed there."""

    def risks(self, files: Mapping[str, str]) -> Iterator[str]:
        """What AWS may do twice of what was rendered, though it should not be; a sentence each."""

    def submit(self, run: Run, told: Told) -> Ledger:
        """Submit all of `run`; where one of the same was cut off, go on with that.

        Raises `StillGoing` while an earlier one of its run directory is.
        """

    def state(self, ledger: Ledger) -> RunState:
        """How a run stands."""

    def logs(self, ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
        """The lines of a target's last try; with `follow` as they come, until it ends."""

    def cancel(self, ledger: Ledger, told: Told) -> int:
        """End all that waits or runs; how many jobs that were."""

    def retry(self, ledger: Ledger, settings: Settings, told: Told) -> int:
        """Submit again what failed and what hung on it; how many targets that are."""


def runner_names() -> tuple[str, ...]:
    """The runners that are installed."""
    return tuple(sorted(entry_points(group=GROUP).names))


def find_runner(name: str) -> Runner:
    """The runner called `name`. Raises `UnknownName`."""
    check_known("runner", name, runner_names())
    (found,) = entry_points(group=GROUP, name=name)
    return cast(Runner, found.load())


def as_remote(runner: Runner) -> Remote | None:
    """The runner, if its runs go on without this process."""
    return cast(Remote, runner) if hasattr(runner, "submit") else None


def find_remote(name: str) -> Remote:
    """The runner called `name` of a run that was submitted."""
    runner = as_remote(find_runner(name))
    assert runner is not None
    return runner
