"""What a run directory shows of its run at one moment: each target, its state and last attempt."""

from __future__ import annotations

import functools
import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun import paths
from rvrun.inputs import CannotRead, read_text
from rvrun.model import Plan, Stage, Target
from rvrun.observe.attempts import AttemptReader
from rvrun.plan.serialize import RENDER, NotAPlan, plan_from_json
from rvrun.remote.state import State
from rvrun.rundir.attempts import Attempt
from rvrun.rundir.freshness import StageStatus, plan_status
from rvrun.rundir.history import Session, read_sessions, session_at, was_stopped
from rvrun.rundir.lock import is_active
from rvrun.rundir.times import NEVER
from rvrun.rundir.workdir import working_in


@attrs.frozen(kw_only=True)
class TargetState:
    """A target, its state, and its last attempt; None if it was never started.

    - `reason`: why it failed, in the words of the service that ran it; empty on this machine.
    """

    target: Target
    state: State
    attempt: Attempt | None
    reason: str = ""


@attrs.frozen(kw_only=True)
class StageTargets:
    """A stage with the states of its targets, in the order of its splits."""

    pipeline: str
    stage: Stage
    targets: tuple[TargetState, ...]

    @property
    def name(self) -> str:
        """Its name, such as `tiny/chip`."""
        return f"{self.pipeline}/{self.stage.command}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the stages that it needs."""
        return tuple(f"{self.pipeline}/{need.command}" for need in self.stage.needs)

    @property
    def attempts(self) -> Iterator[Attempt]:
        return (one.attempt for one in self.targets if one.attempt is not None)

    @property
    def median_seconds(self) -> float | None:
        """How long a target took when it last succeeded; None if none did."""
        seconds = [attempt.seconds for attempt in self.attempts if attempt.seconds is not None]
        return statistics.median(seconds) if seconds else None

    def with_state(self, state: State) -> list[TargetState]:
        return [one for one in self.targets if one.state is state]


@attrs.frozen(kw_only=True)
class Snapshot:
    """A run directory at one moment.

    - `is_active`: whether something runs in it.
    - `sessions`: the calls of `rvrun run` in it, the oldest first.
    """

    run_dir: pathlib.Path
    plan: Plan
    stages: tuple[StageTargets, ...]
    sessions: tuple[Session, ...]
    is_active: bool

    @property
    def targets(self) -> Iterator[TargetState]:
        return (one for stage in self.stages for one in stage.targets)

    @functools.cached_property
    def session(self) -> Session | None:
        """The latest run; None if that is one of plain make, which leaves no trace of its own."""
        if not self.sessions:
            return None
        latest = self.sessions[-1]
        newest = max((began for began, _ in self._spans), default=latest.began)
        return session_at(self.sessions, max(newest, latest.began))

    @functools.cached_property
    def began(self) -> float:
        """When the latest run began, or the plan was written if nothing ran."""
        if (session := self.session) is not None:
            return session.began
        if self._spans:
            return run_began(self.sessions, self._spans)
        return (self.run_dir / paths.PLAN).stat().st_mtime

    @property
    def ended(self) -> float | None:
        """When the latest run ended; None while it runs."""
        if self.is_active:
            return None
        ends = [self.began, *(end for _, end in self._spans)]
        if (session := self.session) is not None and session.ended is not None:
            ends.append(session.ended)
        return max(ends)

    @property
    def jobs(self) -> int | None:
        """How many targets the latest run starts in parallel; None if that is unknown."""
        return None if self.session is None else self.session.jobs

    @functools.cached_property
    def _spans(self) -> list[tuple[float, float]]:
        """When the last attempts of all targets began and ended."""
        return spans_of(self.stages)


#: Seconds without any target that separate two runs, where nothing else tells them apart.
PAUSE_SECONDS = 60.0


def spans_of(stages: Sequence[StageTargets]) -> list[tuple[float, float]]:
    """Return when the last attempts of all targets began and ended."""
    attempts = (attempt for stage in stages for attempt in stage.attempts)
    return [(a.began, a.began if a.ended is None else a.ended) for a in attempts]


def run_began(sessions: Sequence[Session], spans: Sequence[tuple[float, float]]) -> float:
    """Return when the run began that the newest of some spans is part of."""
    session = session_at(sessions, max(spans)[0])
    if session is not None:
        return session.began
    return bursts_of([span for span in spans if session_at(sessions, span[0]) is None])[-1][0]


def bursts_of(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the times without a long pause in which something ran; there must be a span."""
    first, *others = sorted(spans)
    bursts = [first]
    for began, ended in others:
        if began > bursts[-1][1] + PAUSE_SECONDS:
            bursts.append((began, ended))
        else:
            bursts[-1] = (bursts[-1][0], max(bursts[-1][1], ended))
    return bursts


def read_snapshot(run_dir: pathlib.Path, reader: AttemptReader | None = None) -> Snapshot:
    """Read a run directory as it was written last. Raises `NotAPlan` or `CannotRead`.

    - `reader`: reads only records that changed since it was used before.
    """
    # Asked before and after all else: a run that ends meanwhile is shown as running, and not as one
    # that has stopped between what was read before its end and what was read after it.
    was_active = is_active(run_dir)
    plan = read_saved_plan(run_dir)
    reader = reader or AttemptReader(run_dir)
    sessions = tuple(read_sessions(run_dir))
    with working_in(run_dir, plan) as folder:
        statuses = plan_status(plan, folder, saved_configs(folder))
    stages = tuple(_read_stage(status, reader, sessions) for status in statuses)
    is_running = any(stage.with_state(State.RUNNING) for stage in stages)
    has_session = was_active or is_active(run_dir)
    if sessions and sessions[-1].ended is None and not has_session:
        sessions = (*sessions[:-1], _killed(sessions[-1], spans_of(stages)))
    return Snapshot(
        run_dir=run_dir,
        plan=plan,
        stages=stages,
        sessions=sessions,
        is_active=is_running or has_session,
    )


def _killed(session: Session, spans: Sequence[tuple[float, float]]) -> Session:
    """Return a run that recorded no end with the end of what ran in it."""
    later = [(session.began, session.began), *(span for span in spans if span[0] > session.began)]
    return attrs.evolve(session, ended=bursts_of(later)[0][1])


def read_saved_plan(run_dir: pathlib.Path) -> Plan:
    """Read the plan of a run directory. Raises `NotAPlan`."""
    path = str(run_dir / paths.PLAN)
    try:
        text = read_text(path)
    except CannotRead as error:
        raise NotAPlan(path, f"it {error.problem}") from None
    return plan_from_json(text, path)


def saved_configs(run_dir: pathlib.Path) -> Mapping[str, str]:
    """Return the config files of a run directory, by relative path. Raises `CannotRead`."""
    return {
        path.relative_to(run_dir).as_posix(): read_text(str(path), RENDER)
        for path in sorted((run_dir / paths.CONFIGS).rglob("*.json"))
    }


def _read_stage(
    status: StageStatus, reader: AttemptReader, sessions: Sequence[Session]
) -> StageTargets:
    stale = set(status.stale)
    states = []
    for index, target in enumerate(status.stage.targets(status.pipeline)):
        attempt = reader.read(target)
        state = _state(attempt, status.done[index], sessions, is_stale=index in stale)
        states.append(TargetState(target=target, state=state, attempt=attempt))
    return StageTargets(pipeline=status.pipeline, stage=status.stage, targets=tuple(states))


def _state(
    attempt: Attempt | None, done: int, sessions: Sequence[Session], *, is_stale: bool
) -> State:
    """The state of a target whose stamp is from `done`, in ns since 1970; NEVER without one."""
    if attempt is not None and attempt.is_running:
        return State.RUNNING
    is_newer = attempt is not None and done > (attempt.ended or attempt.began) * 1e9
    if attempt is not None and not attempt.has_succeeded and not is_newer:
        return State.STOPPED if was_stopped(attempt, sessions) else State.FAILED
    if not is_stale:
        # A split without items has nothing to do, and no time.
        return State.SUCCEEDED
    return State.PENDING if done == NEVER else State.STALE
