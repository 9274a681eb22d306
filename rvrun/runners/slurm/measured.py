"""What the targets of a run recorded in the run directory: when they ran, and how much memory."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Iterable, Iterator

import attrs

from rvrun import paths
from rvrun.remote.state import StageState
from rvrun.rundir.records import last_attempt, memory_of
from rvrun.runners.slurm.jobs import Job
from rvrun.runners.slurm.reasons import target_path

#: How much the clock of a node may be behind the one of the login node, in seconds.
SKEW_SECONDS = 60.0


@attrs.frozen(kw_only=True)
class Attempt:
    """An attempt that recorded its end; times are in seconds since 1970."""

    began: float
    ended: float
    has_succeeded: bool
    peak_memory_kib: int | None


def with_records(
    state: StageState, run_dir: pathlib.Path, job: Job, targets: Iterable[int], since: float
) -> StageState:
    """Return the state of a stage that is over with what its targets recorded.

    Slurm's times are whole seconds of jobs, and are forgotten where there is no accounting.

    - `targets`: those that were submitted. `since`: when the run began, in seconds since 1970.
    """
    targets = list(targets)
    attempts = [a for a in _attempts(run_dir, job, targets) if a.began >= since - SKEW_SECONDS]
    if not attempts:
        return state
    ends = [attempt.ended for attempt in attempts]
    if len(attempts) < len(targets) and state.ended is not None:
        # Some were killed, which only Slurm knows.
        ends.append(state.ended)
    durations = [a.ended - a.began for a in attempts if a.has_succeeded]
    peaks = [a.peak_memory_kib for a in attempts if a.peak_memory_kib is not None]
    return attrs.evolve(
        state,
        began=min(attempt.began for attempt in attempts),
        ended=max(ends),
        median_seconds=statistics.median(durations) if durations else None,
        peak_memory_kib=max(peaks, default=None),
    )


def _attempts(run_dir: pathlib.Path, job: Job, targets: Iterable[int]) -> Iterator[Attempt]:
    for target in targets:
        lines, end = last_attempt(str(run_dir / paths.record(target_path(job, target))))
        if end is not None:
            yield Attempt(
                began=float(lines[0]["time"]),
                ended=max(float(end["time"]), float(lines[0]["time"])),
                has_succeeded=end.get("exit_code") == 0,
                peak_memory_kib=memory_of(end),
            )
