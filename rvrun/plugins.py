"""Find runners by name, those of rvrun and those that other distributions installed.

Light on purpose: the worker looks its runner up here. What a runner offers is in
`runners.protocol`; `runners.registry` gives the same modules with their types.
"""

from __future__ import annotations

import importlib
import os

from rvrun.errors import RvrunError, check_known, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: The folder of rvrun's own runners.
OWN = os.path.join(os.path.dirname(__file__), "runners")
#: The entry point group; an entry's name is what users type, its value the runner's module.
RUNNERS = "rvrun.runners"


class BrokenRunner(RvrunError):
    """A runner that is installed but cannot be imported."""

    name: str
    module: str
    distribution: str
    problem: str
    template = (
        "runner `{name}` cannot be loaded: importing `{module}` of {distribution} raised "
        "{problem}; fix or uninstall that distribution"
    )


def runner_names() -> tuple[str, ...]:
    """List the runners that are installed, sorted."""
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=RUNNERS).names))


def is_own(name: str) -> bool:
    """Whether a runner is one of rvrun's own, which need no search.

    Importing importlib.metadata takes as long as Python takes to start.
    """
    return name.isidentifier() and os.path.exists(os.path.join(OWN, name, "runner.py"))


def own_names() -> list[str]:
    """List rvrun's own runners, sorted, without a search."""
    return sorted(filter(is_own, os.listdir(OWN)))


def names_by_cost() -> Iterator[str]:
    """Yield the runners that are installed, rvrun's own first, and search for others after that."""
    yield from own_names()
    yield from (name for name in runner_names() if not is_own(name))


def load_runner(name: str) -> Any:
    """Import the runner called `name`. Raises `UnknownName` or `BrokenRunner`."""
    if is_own(name):
        return importlib.import_module(f"rvrun.runners.{name}.runner")
    from importlib.metadata import entry_points

    check_known("runner", name, runner_names())
    # Two distributions may claim a name; the first on the path wins, as with modules.
    entry = next(iter(entry_points(group=RUNNERS, name=name)))
    try:
        return entry.load()
    except Exception as error:
        distribution = entry.dist.name if entry.dist else "an unknown distribution"
        raise BrokenRunner(name, entry.value, distribution, describe(error)) from error
