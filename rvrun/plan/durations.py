"""How long targets took, and how long others would take. Pure.

The work of a stage is shared out by items, where records tell how many a target ran, or else evenly
by splits. What is kept of a stage is small: the mean rate and its deciles, so that a file with all
of it can be committed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import attrs

#: The quantiles that are kept: 0, 10, ..., 100 %.
NUM_QUANTILES = 11
#: No target takes less than this fraction of the mean.
LEAST = 0.1


@attrs.frozen(kw_only=True)
class Sample:
    """A target that succeeded.

    - `seconds`: how long it took. `gap`: seconds between the end of another target of the run and
      its start; None if nothing ended before.
    - `splits`: how many its stage had. `items`: how many it ran; None if that was not recorded.
    - `cpu_seconds`: CPU time of all of its processes; `peak_memory_kib`: of its largest process.
    """

    seconds: float
    splits: int = 1
    items: int | None = None
    gap: float | None = None
    cpu_seconds: float | None = None
    peak_memory_kib: int | None = None


@attrs.frozen(kw_only=True)
class Rates:
    """The distribution of seconds per unit: an item, or all of a stage.

    - `amount`: the units of a usual target: its items, or its part of the stage.
    - `mean`: all seconds by all units. `quantiles`: of the targets' rates.
    """

    amount: float
    mean: float
    quantiles: tuple[float, ...]

    def seconds(self, pairs: Iterable[tuple[float, float]]) -> list[float]:
        """Return how long targets take.

        - `pairs`: the units of each target, and its position from 0, the fastest, to 1.

        A target of many units is closer to the mean than one of few: deviations of a sum of n
        independent durations grow with the root of n.
        """
        middle, least = self._mean_of_quantiles(), LEAST * self.mean
        return [
            amount
            * max(
                least,
                self.mean + (self._quantile(position) - middle) * math.sqrt(self.amount / amount),
            )
            if amount
            else 0.0
            for amount, position in pairs
        ]

    def _quantile(self, position: float) -> float:
        place = position * (len(self.quantiles) - 1)
        low = min(int(place), len(self.quantiles) - 2)
        part = place - low
        return self.quantiles[low] * (1 - part) + self.quantiles[low + 1] * part

    def _mean_of_quantiles(self) -> float:
        first, *inner, last = self.quantiles
        return (first / 2 + sum(inner) + last / 2) / (len(self.quantiles) - 1)

    @property
    def spread(self) -> float:
        """The standard deviation of a usual target, relative to the mean."""
        return statistics.pstdev(self.quantiles) / self.mean if self.mean else 0.0


@attrs.frozen(kw_only=True)
class StageSummary:
    """What is known of the targets of a stage.

    - `targets`: how many were summarized.
    - `by_split`: rates of the whole stage. `by_item`: rates of an item; None if that is unknown.
    - `gap`: the median of the seconds before a target, in which none of its job runs.
    - `cpus`: how many CPUs the 90th percentile of targets kept busy, and `peak_memory_mib`: of the
      largest target; None if unknown.
    - `source`: where the records are; not part of the file.
    """

    targets: int
    by_split: Rates
    by_item: Rates | None = None
    gap: float = 0.0
    cpus: float | None = None
    peak_memory_mib: int | None = None
    source: str = attrs.field(default="", eq=False)


def summarize(samples: Sequence[Sample], source: str = "") -> StageSummary | None:
    """Summarize the targets of a stage; None without any that did something."""
    worked = [sample for sample in samples if sample.items != 0]
    if not worked:
        return None
    has_items = all(sample.items is not None for sample in worked)
    gaps = [sample.gap for sample in worked if sample.gap is not None]
    cpus = [s.cpu_seconds / s.seconds for s in worked if s.cpu_seconds is not None and s.seconds]
    peaks = [s.peak_memory_kib for s in worked if s.peak_memory_kib is not None]
    return StageSummary(
        targets=len(worked),
        by_split=_rates((1 / sample.splits, sample.seconds) for sample in worked),
        by_item=_rates((s.items or 0, s.seconds) for s in worked) if has_items else None,
        gap=_rounded(statistics.median(gaps)) if gaps else 0.0,
        cpus=_rounded(_quantiles(cpus)[-2]) if cpus else None,
        peak_memory_mib=math.ceil(max(peaks) / 1024) if peaks else None,
        source=source,
    )


def _rates(pairs: Iterable[tuple[float, float]]) -> Rates:
    amounts, seconds = zip(*pairs, strict=True)
    rates = [took / amount for amount, took in zip(amounts, seconds, strict=True)]
    return Rates(
        amount=_rounded(statistics.median(amounts)),
        mean=_rounded(sum(seconds) / sum(amounts)),
        quantiles=tuple(_rounded(rate) for rate in _quantiles(rates)),
    )


def _quantiles(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    steps = NUM_QUANTILES - 1
    result = []
    for step in range(NUM_QUANTILES):
        place = step / steps * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        result.append(ordered[low] + (ordered[high] - ordered[low]) * (place - low))
    return result


def _rounded(number: float) -> float:
    """Four digits: more would only make files and their differences longer."""
    return float(f"{number:.4g}")
