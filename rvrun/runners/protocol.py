"""The contract of a runner's module. mypy checks every built-in runner against it in `builtin`.

A runner is a module that is installed under the entry point `rvrun.runners`; the entry's name is
what users type, and the name of its section in `rvrun.toml`. The module should import what its
functions need inside of them: rvrun loads every runner's module to know its settings.
`rvrun.testing` checks a runner against this contract.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from rvrun.finding import Finding
    from rvrun.remote.ledger import Ledger
    from rvrun.remote.state import Progress, RunState, TargetReports
    from rvrun.rundir.freshness import StageStatus
    from rvrun.rundir.summary import Outcome
    from rvrun.runners.capabilities import Capabilities
    from rvrun.runners.run import Reporter, Run
    from rvrun.settings.schema import Settings
    from rvrun.worker.torchrun import Hosts


class Runner(Protocol):
    """The contract of every runner."""

    @property
    def TITLE(self) -> str:  # noqa: N802 - a constant of the module
        """What the runner is called in a sentence."""

    @property
    def SETTINGS(self) -> type[attrs.AttrsInstance] | None:  # noqa: N802
        """The class of its section in `rvrun.toml`, with `setting` fields; None for no section."""

    @property
    def CAPABILITIES(self) -> Capabilities:  # noqa: N802
        """What it can do."""

    @property
    def TEMPLATES(self) -> tuple[str, ...]:  # noqa: N802
        """The names of its templates, which users can replace with `--templates`."""

    @property
    def OWNS(self) -> tuple[str, ...]:  # noqa: N802
        """The files and folders of the run directory that contain only what it renders."""

    def render(self, run: Run) -> dict[str, str]:
        """Return the files that it adds to the run directory, by relative path. Pure."""

    def check_machine(self, settings: Settings) -> Iterator[Finding]:
        """Yield what `rvrun check` finds about this machine, without a config."""

    def split_index(self, environ: Mapping[str, str]) -> int | None:
        """Return the index of this job among those of its stage, from 0; None if it is alone."""

    def attempt(self, environ: Mapping[str, str]) -> int | None:
        """Return which attempt of its job this is, from 1; None if the engine does not say."""


class LocalRunner(Runner, Protocol):
    """A runner that runs the plan itself, while this process waits."""

    def run(self, run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
        """Run the targets that `statuses` list as missing or stale; the files are rendered."""


class DetachedRunner(Runner, Protocol):
    """A runner whose runs continue without this process. What it submitted is in the ledger."""

    def check(self, run: Run) -> Iterator[Finding]:
        """Yield what prevents the run, by asking the service; change nothing there."""

    def risks(self, files: Mapping[str, str]) -> Iterator[str]:
        """Yield a warning for each job that may be attempted twice although it should not be."""

    def submit(self, run: Run, progress: Progress) -> Ledger | None:
        """Submit all of `run`, or continue an identical submission that was interrupted.

        A runner that keeps stamps submits what is stale, and returns None if nothing is. Raises
        `StillRunning` while an earlier run of the run directory is.
        """

    def state(self, ledger: Ledger) -> RunState:
        """Return the state of a run and its stages."""

    def logs(self, ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a target's last attempt; with `follow` as they come, to its end."""

    def cancel(self, ledger: Ledger, progress: Progress) -> int:
        """End everything that waits or runs; return the number of jobs."""

    def retry(self, ledger: Ledger, settings: Settings, progress: Progress) -> int:
        """Submit failed targets and their dependents again; return their number."""


class RecoveringRunner(DetachedRunner, Protocol):
    """A detached runner that finds its runs without their ledgers."""

    def recover(self, run_id: str, settings: Settings, folder: pathlib.Path) -> Ledger:
        """Write a ledger of the run below `folder`, from what the service knows of the run."""


class ReportingRunner(DetachedRunner, Protocol):
    """A detached runner that tells when each target ran, for `rvrun report`.

    One that keeps stamps need not: its targets leave records in the run directory.
    """

    def targets(self, ledger: Ledger) -> TargetReports:
        """Return what the service reports of each target of a run, in its last attempt."""


class MultiHostRunner(DetachedRunner, Protocol):
    """A detached runner whose jobs may have several hosts."""

    def hosts(self, environ: Mapping[str, str]) -> Hosts:
        """Return all hosts of this job and which of them this one is. Raises `BadHosts`."""
