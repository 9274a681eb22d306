"""What the targets of a run recorded in the run directory: when they ran, and how much memory."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Iterable, Iterator

import attrs

from rvrun import paths
from rvrun.remote.state import StageState
from rvrun.rundir.attempts import Attempt, read_attempt
from rvrun.runners.slurm.jobs import Job
from rvrun.runners.slurm.reasons import target_path

#: How much the clock of a node may be behind the one of the login node, in seconds.
SKEW_SECONDS = 60.0


def with_records(
    state: StageState, run_dir: pathlib.Path, job: Job, targets: Iterable[int], since: float
) -> StageState:
    """Return the state of a stage that is over with what its targets recorded.

    Slurm's times are whole seconds of jobs, and are forgotten where there is no accounting.

    - `targets`: those that were submitted. `since`: when the run began, in seconds since 1970.
    """
    targets = list(targets)
    ended = _ended(run_dir, job, targets)
    attempts = [(a, end) for a, end in ended if a.began >= since - SKEW_SECONDS]
    if not attempts:
        return state
    ends = [end for _, end in attempts]
    if len(attempts) < len(targets) and state.ended is not None:
        # Some were killed, which only Slurm knows.
        ends.append(state.ended)
    durations = [end - a.began for a, end in attempts if a.has_succeeded]
    peaks = [a.peak_memory_kib for a, _ in attempts if a.peak_memory_kib is not None]
    return attrs.evolve(
        state,
        began=min(attempt.began for attempt, _ in attempts),
        ended=max(ends),
        median_seconds=statistics.median(durations) if durations else None,
        peak_memory_kib=max(peaks, default=None),
    )


def _ended(
    run_dir: pathlib.Path, job: Job, targets: Iterable[int]
) -> Iterator[tuple[Attempt, float]]:
    """Yield the attempts that recorded their ends, and these, in seconds since 1970."""
    for target in targets:
        attempt = read_attempt(str(run_dir / paths.record(target_path(job, target))))
        if attempt is not None and attempt.ended is not None:
            yield attempt, attempt.ended
