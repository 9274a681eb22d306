"""Runners by name, with their types."""

from __future__ import annotations

from typing import cast

from rvrun import plugins
from rvrun.errors import RvrunError
from rvrun.runners.protocol import DetachedRunner, LocalRunner, Runner

#: The default runner of verbs that need one.
DEFAULT = "local"


class NotDetached(RvrunError):
    """A runner that submits no runs, in the ledger of one."""

    runner: str
    template = (
        "the ledger of a run must name a detached runner, got `{runner}`; restore its run.json"
    )
    fix = "restore its run.json"


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


def as_detached(runner: Runner) -> DetachedRunner | None:
    """Return `runner` if its runs continue without this process, else None."""
    return cast(DetachedRunner, runner) if runner.CAPABILITIES.detached else None


def as_local(runner: Runner) -> LocalRunner | None:
    """Return `runner` if it runs plans while this process waits, else None."""
    return None if runner.CAPABILITIES.detached else cast(LocalRunner, runner)
