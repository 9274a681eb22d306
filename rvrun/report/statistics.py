"""How long the targets of a stage took, and which took much longer than the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from rvrun.observe.snapshot import StageTargets, TargetState

#: A straggler took this many times as long as the median, and this many seconds longer.
STRAGGLER_FACTOR, STRAGGLER_SECONDS = 2.0, 1.0
#: How many stragglers of a stage are listed, and how many bars a distribution has.
NUM_STRAGGLERS, NUM_BINS = 5, 24


@attrs.frozen(kw_only=True)
class Distribution:
    """The durations of the targets of a stage that ended, in seconds.

    - `bins`: how many targets are in each part of the range from the least to the most.
    """

    number: int
    least: float
    median: float
    p95: float
    most: float
    total: float
    bins: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Straggler:
    """A target that took `factor` times the median of its stage."""

    target: TargetState
    seconds: float
    factor: float


def seconds_of(target: TargetState) -> float | None:
    """Return how long the last attempt of a target took; None if it has not ended."""
    attempt = target.attempt
    if attempt is None or attempt.ended is None:
        return None
    return attempt.ended - attempt.began


def distribution_of(stage: StageTargets) -> Distribution | None:
    """Return the distribution of a stage's durations; None if none of its targets ended."""
    values = sorted(s for one in stage.targets if (s := seconds_of(one)) is not None)
    if not values:
        return None
    return Distribution(
        number=len(values),
        least=values[0],
        median=quantile(values, 0.5),
        p95=quantile(values, 0.95),
        most=values[-1],
        total=sum(values),
        bins=_bins(values),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the sorted `values` are, between two if necessary."""
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def _bins(values: Sequence[float]) -> tuple[int, ...]:
    least, most = values[0], values[-1]
    if most <= least:
        return (len(values),)
    bins = [0] * NUM_BINS
    for value in values:
        bins[min(int((value - least) / (most - least) * NUM_BINS), NUM_BINS - 1)] += 1
    return tuple(bins)


def stragglers_of(stage: StageTargets, distribution: Distribution | None) -> list[Straggler]:
    """Return the targets that took much longer than the median, the longest first."""
    if distribution is None or distribution.number < 3:
        return []
    median = distribution.median
    limit = max(median * STRAGGLER_FACTOR, median + STRAGGLER_SECONDS)
    slow = [
        Straggler(target=one, seconds=seconds, factor=seconds / median if median else math.inf)
        for one in stage.targets
        if (seconds := seconds_of(one)) is not None and seconds > limit
    ]
    return sorted(slow, key=lambda one: -one.seconds)[:NUM_STRAGGLERS]
