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
#: The time of a target besides its units is used if targets differ in units by this factor, and if
#: it is this many times as large as its error.
FACTOR, SIGNIFICANT = 1.5, 3.0
#: Gaps longer than this multiple of their median count as this multiple.
OUTLIER = 5
#: The relative deviation of a target of which a single record tells nothing about chance.
UNKNOWN = 0.1

_NORMAL = statistics.NormalDist()


@attrs.frozen(kw_only=True)
class Sample:
    """A target that succeeded.

    - `seconds`: how long it took, without what it waited for a GPU, its share, or a CPU.
    - `gap`: seconds from the end of another target of the run to its start, and `interval`: from
      the start of another one; None if something else came before.
    - `splits`: how many its stage had. `items`: how many it ran; None if that was not recorded.
    - `cpu_seconds`: CPU time of all of its processes; `peak_memory_kib`: of its largest process.
      `machine_cpus`: how many CPUs targets shared.
    """

    seconds: float
    splits: int = 1
    items: int | None = None
    gap: float | None = None
    interval: float | None = None
    cpu_seconds: float | None = None
    peak_memory_kib: int | None = None
    machine_cpus: int | None = None


@attrs.frozen(kw_only=True)
class Rates:
    """The distribution of seconds per unit: an item, or all of a stage.

    - `amount`: the units of a usual target: its items, or its part of the stage.
    - `mean`: all seconds by all units. `quantiles`: of the targets' rates.
    - `fixed`: seconds that a target takes besides, however many units it has.
    """

    amount: float
    mean: float
    quantiles: tuple[float, ...]
    fixed: float = 0.0

    def seconds(self, pairs: Iterable[tuple[float, float]], samples: int) -> list[float]:
        """Return how long targets take.

        - `pairs`: the units of each target, and its position between 0, the fastest, and 1.
        - `samples`: of how many targets the quantiles are.

        A target of many units is closer to the mean than one of few: deviations of a sum of n
        independent durations grow with the root of n.
        """
        middle, least = self._mean_of_quantiles(), LEAST * self.mean
        result = []
        for amount, position in pairs:
            deviation = self._quantile(position, samples) - middle
            rate = self.mean + deviation * math.sqrt(self.amount / amount) if amount else 0.0
            result.append(self.fixed + amount * max(least, rate) if amount else 0.0)
        return result

    def _quantile(self, position: float, samples: int) -> float:
        """Return the rate at a position. The fastest of n samples is not the fastest there is."""
        place = position * samples - 0.5
        if samples == 1:
            return self.quantiles[0]
        if not 0 <= place <= samples - 1:
            return self._tail(position, samples)
        place *= (len(self.quantiles) - 1) / (samples - 1)
        low = min(int(place), len(self.quantiles) - 2)
        part = place - low
        return self.quantiles[low] * (1 - part) + self.quantiles[low + 1] * part

    def _tail(self, position: float, samples: int) -> float:
        """Continue the quantiles as a normal distribution does whose half has the same width."""
        middle = self.quantiles[len(self.quantiles) // 2]
        end = self.quantiles[0 if position < 0.5 else -1]
        last = _NORMAL.inv_cdf(1 - 0.5 / samples)
        return middle + (end - middle) * abs(_NORMAL.inv_cdf(position)) / last

    def _mean_of_quantiles(self) -> float:
        first, *inner, last = self.quantiles
        return (first / 2 + sum(inner) + last / 2) / (len(self.quantiles) - 1)

    def spread(self, samples: int) -> float:
        """Return the standard deviation of a usual target, relative to the mean."""
        if samples == 1 or not self.mean:
            return UNKNOWN
        # The deviation of few samples from their own mean is too small.
        deviation = statistics.pstdev(self.quantiles) * math.sqrt(samples / (samples - 1))
        return max(deviation / self.mean, UNKNOWN / samples)


@attrs.frozen(kw_only=True)
class StageSummary:
    """What is known of the targets of a stage.

    - `targets`: how many were summarized.
    - `by_split`: rates of the whole stage. `by_item`: rates of an item; None if that is unknown.
    - `gap`: usual seconds from the end of a target to the start of the next one, and `interval`:
      between the starts of targets that start together.
    - `cpus`: how many CPUs the 90th percentile of targets kept busy, and `mean_cpus`: the mean;
      `machine_cpus`: how many CPUs targets shared; `peak_memory_mib`: of the largest target; None
      if unknown.
    - `source`: where the records are; not part of the file.
    """

    targets: int
    by_split: Rates
    by_item: Rates | None = None
    gap: float = 0.0
    interval: float = 0.0
    cpus: float | None = None
    mean_cpus: float | None = None
    machine_cpus: int | None = None
    peak_memory_mib: int | None = None
    source: str = attrs.field(default="", eq=False)

    @property
    def seconds(self) -> float:
        """How long all of the stage takes in sequence, with the usual number of splits."""
        return self.by_split.mean + self.by_split.fixed / self.by_split.amount


def summarize(samples: Sequence[Sample], source: str = "") -> StageSummary | None:
    """Summarize the targets of a stage; None without any that did something."""
    worked = [sample for sample in samples if sample.items != 0]
    if not worked:
        return None
    has_items = all(sample.items is not None for sample in worked)
    gap = _usual(sample.gap for sample in worked)
    interval = _usual(sample.interval for sample in worked)
    timed = [(s.cpu_seconds, s.seconds) for s in worked if s.cpu_seconds is not None and s.seconds]
    cpus = [busy / seconds for busy, seconds in timed]
    machines = [s.machine_cpus for s in worked if s.machine_cpus is not None]
    peaks = [s.peak_memory_kib for s in worked if s.peak_memory_kib is not None]
    return StageSummary(
        targets=len(worked),
        by_split=_rates((1 / sample.splits, sample.seconds) for sample in worked),
        by_item=_rates((s.items or 0, s.seconds) for s in worked) if has_items else None,
        gap=_rounded(gap or 0.0),
        # Where targets never started together, one after the other tells most about it.
        interval=_rounded((gap or 0.0) if interval is None else interval),
        cpus=_rounded(_quantiles(cpus)[-2]) if cpus else None,
        mean_cpus=_rounded(sum(b for b, _ in timed) / sum(s for _, s in timed)) if timed else None,
        machine_cpus=max(machines) if machines else None,
        peak_memory_mib=math.ceil(max(peaks) / 1024) if peaks else None,
        source=source,
    )


def _usual(values: Iterable[float | None]) -> float | None:
    """Return the mean without outliers, such as the time between two runs; None of nothing."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    most = OUTLIER * statistics.median(numbers)
    return statistics.fmean(min(value, most) for value in numbers)


def _rates(pairs: Iterable[tuple[float, float]]) -> Rates:
    amounts, seconds = zip(*pairs, strict=True)
    fixed = _fixed(amounts, seconds)
    rates = [max(0.0, s - fixed) / amount for amount, s in zip(amounts, seconds, strict=True)]
    return Rates(
        amount=_rounded(statistics.median(amounts)),
        mean=_rounded(max(0.0, sum(seconds) - fixed * len(seconds)) / sum(amounts)),
        quantiles=tuple(_rounded(rate) for rate in _quantiles(rates)),
        fixed=_rounded(fixed),
    )


def _fixed(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the seconds that a target takes besides those of its units: 0 unless that is clear.

    It is the intercept of a regression, in which a target weighs as much as its variance allows.
    """
    number, weights = len(amounts), [1 / amount for amount in amounts]
    if number < 4 or max(amounts) < FACTOR * min(amounts):
        return 0.0
    total = sum(weights)
    x = number / total
    y = sum(w * s for w, s in zip(weights, seconds, strict=True)) / total
    triples = list(zip(weights, amounts, seconds, strict=True))
    square = sum(w * (a - x) ** 2 for w, a, _ in triples)
    slope = sum(w * (a - x) * (s - y) for w, a, s in triples) / square
    fixed = y - slope * x
    rest = sum(w * (s - fixed - slope * a) ** 2 for w, a, s in triples) / (number - 2)
    error = math.sqrt(rest * (1 / total + x**2 / square))
    return fixed if slope > 0 and fixed > SIGNIFICANT * error else 0.0


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
