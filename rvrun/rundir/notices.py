"""What users should know about a run directory before they rely on it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rvrun.rundir.freshness import StageStatus
from rvrun.text import enumerate_names, local_time

#: How far in the future a stamp may be: the clocks of machines that share a folder differ.
TOLERANCE_NS = 5_000_000_000


def notices(statuses: Sequence[StageStatus]) -> list[str]:
    """Return a sentence for each fact about stamps and code that may hide a change."""
    return [*_future(statuses), *_unknown_code(statuses)]


def _future(statuses: Sequence[StageStatus]) -> list[str]:
    now = time.time_ns()
    late = {s.name: max(s.done) for s in statuses if max(s.done) > now + TOLERANCE_NS}
    if not late:
        return []
    newest = local_time(max(late.values()) / 1e9)
    sentence = (
        f"stamps of {enumerate_names(list(late))} are from the future, up to {newest}: a clock was "
        "set back, or is wrong on another machine; until then, targets that were removed by hand "
        "do not make what needs them stale"
    )
    return [sentence]


def _unknown_code(statuses: Sequence[StageStatus]) -> list[str]:
    names = [s.name for s in statuses if s.has_unknown_code]
    if not names:
        return []
    sentence = (
        f"nobody knows which code {enumerate_names(names)} ran with, so the code as it is now "
        "counts as that: nothing that was done is stale because of it"
    )
    return [sentence]
