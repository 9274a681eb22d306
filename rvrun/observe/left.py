"""How much longer a run will take, from how long its targets took before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs


@attrs.frozen(kw_only=True)
class Left:
    """What is left of a stage.

    - `needs`: the names of the stages that it needs.
    - `number`: of targets that wait or run.
    - `elapsed`: for how long those that run have been running, all together, in seconds.
    - `seconds`: how long a target of it takes, from records; None without any.
    """

    name: str
    needs: tuple[str, ...]
    number: int
    elapsed: float
    seconds: float | None


def seconds_left(stages: Sequence[Left], jobs: int) -> float | None:
    """Return about how long the rest of a run takes; None without records of a stage that is left.

    The larger one of two bounds: the work, shared out evenly, and the longest chain of stages.

    - `stages`: each after those that it needs.
    """
    work = 0.0
    chains: dict[str, float] = {}
    for stage in stages:
        chains[stage.name] = max((chains.get(need, 0.0) for need in stage.needs), default=0.0)
        if not stage.number:
            continue
        if stage.seconds is None:
            return None
        left = max(stage.number * stage.seconds - stage.elapsed, 0.0)
        work += left
        rounds = math.ceil(stage.number / jobs)
        chains[stage.name] += min(rounds * stage.seconds, left)
    return max(work / jobs, *chains.values(), 0.0)
