"""What a target may use, as the plan of its run directory says: time, attempts, CPUs, memory.

Light: the worker of every target imports this module.
"""

from __future__ import annotations

import os

from rvrun import paths
from rvrun.inputs import CannotRead, read_object


class Limits:
    """The limits of a target; 0 for none.

    - `timeout_seconds`: of each attempt. `retries`: attempts after the first one that fails.
    - `vcpus`, `memory_mib`: what it needs of what all targets of this machine share.
    """

    def __init__(
        self, timeout_seconds: int = 0, retries: int = 0, vcpus: int = 0, memory_mib: int = 0
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.retries = retries
        self.vcpus = vcpus
        self.memory_mib = memory_mib

    @property
    def needs_supervisor(self) -> bool:
        """Whether another process has to wait for the target."""
        return bool(self.timeout_seconds or self.retries)


def read_limits(run_dir: str, pipeline: str, command: str) -> Limits:
    """Return the limits of a target in the plan of a run directory; none if it is unreadable.

    Reads the plan itself: `model.Plan` takes longer to import than a target takes to start.
    """
    try:
        plan = read_object(os.path.join(run_dir, paths.PLAN))
        stages = next(p["stages"] for p in plan["pipelines"] if p["name"] == pipeline)
        resources = next(s["resources"] for s in stages if s["command"] == command)
    except (CannotRead, KeyError, TypeError, StopIteration):
        return Limits()
    names = ("timeout_seconds", "retries", "vcpus", "memory_mib")
    numbers = {name: resources.get(name) for name in names}
    return Limits(**{name: value for name, value in numbers.items() if type(value) is int})
