"""Runners by name, with their types."""

from __future__ import annotations

from typing import cast

from rvrun import plugins
from rvrun.errors import RvrunError
from rvrun.runners.protocol import (
    DetachedRunner,
    LocalRunner,
    RecoveringRunner,
    ReportingRunner,
    Runner,
)

#: The default runner of verbs that need one.
DEFAULT = "local"


class NotDetached(RvrunError):
    """A runner that submits no runs, in the ledger of one."""

    runner: str
    template = (
        "the ledger of a run must name a detached runner, got `{runner}`; restore its run.json"
    )
    fix = "restore its run.json"


class CannotRecover(RvrunError):
    """No runner, or more than one, that could find a run without its ledger."""

    names: tuple[str, ...]
    fix = "specify one that can with --runner, or use the machine that submitted the run"

    def __str__(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.names)
        return f"one runner must be able to find a run by its id, got {names}; {self.how_to_fix()}"


def find_runner(name: str) -> Runner:
    """Return the runner called `name`. Raises `UnknownName` or `BrokenRunner`."""
    return cast(Runner, plugins.load_runner(name))


def find_detached(name: str) -> DetachedRunner:
    """Return the runner called `name` of a run that was submitted.

    Raises `NotDetached`, `UnknownName` or `BrokenRunner`.
    """
    runner = as_detached(find_runner(name))
    if runner is None:
        raise NotDetached(name)
    return runner


def find_recovering(name: str | None) -> RecoveringRunner:
    """Return the runner called `name`, or the only one, that finds runs without their ledgers.

    Raises `CannotRecover`, `UnknownName` or `BrokenRunner`.
    """
    names = plugins.runner_names() if name is None else (name,)
    runners = {name: find_runner(name) for name in names}
    recovering = [name for name, runner in runners.items() if runner.CAPABILITIES.recovers]
    if len(recovering) != 1:
        raise CannotRecover(tuple(recovering or names))
    return cast(RecoveringRunner, runners[recovering[0]])


def as_detached(runner: Runner) -> DetachedRunner | None:
    """Return `runner` if its runs continue without this process, else None."""
    return cast(DetachedRunner, runner) if runner.CAPABILITIES.detached else None


def as_reporting(runner: Runner) -> ReportingRunner | None:
    """Return `runner` if it tells when each target of a run ran, else None."""
    return cast(ReportingRunner, runner) if runner.CAPABILITIES.reports_targets else None


def as_local(runner: Runner) -> LocalRunner | None:
    """Return `runner` if it runs plans while this process waits, else None."""
    return None if runner.CAPABILITIES.detached else cast(LocalRunner, runner)
