"""A run on this machine, as its run directory shows it."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Iterator, Sequence

import attrs

from rvrun.cpus import num_cpus
from rvrun.observe.attempts import AttemptReader
from rvrun.observe.left import Left, seconds_left
from rvrun.observe.local_logs import read_logs
from rvrun.observe.snapshot import (
    Snapshot,
    StageTargets,
    TargetState,
    read_snapshot,
    run_began,
    spans_of,
)
from rvrun.remote.state import RemoteFailure, RunningTarget, RunState, StageState, State
from rvrun.rundir.attempts import Attempt
from rvrun.rundir.exits import describe_exit, explain_exit
from rvrun.rundir.history import Session
from rvrun.text import duration

#: What a run is shown with that only make ran, so that nobody recorded the runner.
BY_HAND = "make"


@attrs.define
class LocalRun:
    """The latest run in a run directory of this machine."""

    run_dir: pathlib.Path
    reader: AttemptReader = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reader = AttemptReader(self.run_dir)

    @property
    def handle(self) -> str:
        """What to type for it in the current folder."""
        return os.path.relpath(self.run_dir)

    def snapshot(self) -> Snapshot:
        """Read the run directory. Raises `NotAPlan` or `CannotRead`."""
        return read_snapshot(self.run_dir, self.reader)

    def state(self) -> RunState:
        """Return the state of the run and its stages. Raises `NotAPlan` or `CannotRead`."""
        return state_of(self.snapshot(), self.handle)

    def logs(self, target: str, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a target's last attempt; see `read_logs`."""
        return read_logs(self.reader, target, follow=follow)


def state_of(snapshot: Snapshot, handle: str) -> RunState:
    """Return the state of the run that a snapshot shows; `handle` is its name."""
    failures = tuple(map(_failure, _in_order(failed_targets(snapshot))))
    running = _in_order([one for one in snapshot.targets if one.state is State.RUNNING])
    session = snapshot.session
    return RunState(
        run_id=handle,
        runner=BY_HAND if session is None else session.runner,
        stages=tuple(_stage_state(stage, snapshot.sessions) for stage in snapshot.stages),
        began=snapshot.began,
        ended=snapshot.ended,
        failure=failures[0] if failures else None,
        other_failures=failures[1:],
        active=snapshot.is_active,
        running=tuple(RunningTarget(one.target.name, _began(one)) for one in running),
        seconds_left=_seconds_left(snapshot) if snapshot.is_active else None,
    )


def failed_targets(snapshot: Snapshot) -> list[TargetState]:
    """Return the targets that failed."""
    return [one for one in snapshot.targets if one.state is State.FAILED]


def _in_order(targets: Sequence[TargetState]) -> list[TargetState]:
    """Targets in the order in which they ended or, while they run, began."""
    return sorted(targets, key=lambda one: (_ended(one) or _began(one), one.target.name))


def _began(one: TargetState) -> float:
    return 0.0 if one.attempt is None else one.attempt.began


def _ended(one: TargetState) -> float | None:
    return None if one.attempt is None else one.attempt.ended


def _stage_state(stage: StageTargets, sessions: Sequence[Session]) -> StageState:
    """The state of a stage; its times are those of the last run in which it ran."""
    attempts = list(stage.attempts)
    since = run_began(sessions, spans_of([stage])) if attempts else 0.0
    # Records have milliseconds.
    latest = [attempt for attempt in attempts if attempt.began >= since - 0.001]
    counts = {state: n for state in State if (n := len(stage.with_state(state)))}
    ends = [attempt.ended for attempt in latest if attempt.ended is not None]
    peaks = [a.peak_memory_kib for a in attempts if a.peak_memory_kib is not None]
    return StageState(
        name=stage.name,
        counts=counts,
        began=min((attempt.began for attempt in latest), default=None),
        ended=None if counts.get(State.RUNNING) else max(ends, default=None),
        median_seconds=stage.median_seconds,
        peak_memory_kib=max(peaks, default=None),
    )


def _failure(one: TargetState) -> RemoteFailure:
    attempt = one.attempt
    assert attempt is not None, "a target without an attempt has not failed"
    return RemoteFailure(
        target=one.target.name, reason=reason_of(attempt), exit_code=attempt.exit_code
    )


def reason_of(attempt: Attempt) -> str:
    """Return how an attempt failed: `killed by SIGKILL (137) after 3.2 s; out of memory? ...`."""
    is_killed = attempt.exit_code is None
    parts = [describe_exit(None, attempt.signal) if is_killed else "failed"]
    if attempt.ended is not None:
        parts.append(f"after {duration(attempt.ended - attempt.began)}")
    hint = explain_exit(
        attempt.exit_code,
        attempt.signal,
        attempt.peak_memory_kib,
        timeout_seconds=attempt.timeout_seconds,
        is_here=attempt.host == os.uname().nodename,
    )
    return " ".join(parts) + (f"; {hint}" if hint else "")


def _seconds_left(snapshot: Snapshot) -> float | None:
    now = time.time()
    lefts = []
    for stage in snapshot.stages:
        running = stage.with_state(State.RUNNING)
        elapsed = sum(max(now - _began(one), 0.0) for one in running)
        done = len(stage.with_state(State.SUCCEEDED))
        failed = len(stage.with_state(State.FAILED))
        lefts.append(
            Left(
                name=stage.name,
                needs=stage.needs,
                number=len(stage.targets) - done - failed,
                elapsed=elapsed,
                seconds=stage.median_seconds,
            )
        )
    return seconds_left(lefts, snapshot.jobs or num_cpus())
