"""What a report is made of: a snapshot of a run, here or elsewhere, and where its logs are."""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import attrs

from rvrun import paths
from rvrun.errors import DONE, RvrunError
from rvrun.observe.detached_snapshot import snapshot_of
from rvrun.observe.find import DetachedRun, Run
from rvrun.observe.local_run import LocalRun, state_of
from rvrun.observe.snapshot import Snapshot, TargetState
from rvrun.remote.state import RunState
from rvrun.rundir.history import Session
from rvrun.rundir.summary import tail
from rvrun.runners.registry import as_reporting

#: How many lines of a log are shown, and of how many failures the logs are asked for elsewhere.
LOG_LINES, NUM_REMOTE_LOGS = 40, 10


class NothingReported(RvrunError):
    """A detached run whose runner does not tell when each target ran."""

    run: str
    runner: str
    template = (
        "`report` needs to know when each target ran, which runner `{runner}` does not report: "
        "use `rvrun status {run}`"
    )


@attrs.frozen(kw_only=True)
class LogEnd:
    """The end of a target's log.

    - `name`: the log's file in the run directory; empty if it is elsewhere.
    - `problem`: why it cannot be read; empty if it can.
    """

    lines: Sequence[str]
    name: str = ""
    problem: str = ""


@attrs.frozen(kw_only=True)
class Source:
    """What a report shows.

    - `read_log`: reads the end of a target's log; None for a target whose log is left out.
    - `notes`: sentences about what is not known of the run.
    """

    snapshot: Snapshot
    state: RunState
    read_log: Callable[[TargetState], LogEnd | None]
    notes: tuple[str, ...] = ()


def source_of(run: Run) -> Source:
    """Return what a report of a run shows.

    Raises `NothingReported`, `NotAPlan`, `OtherPlan`, or what the runner's service raises.
    """
    if isinstance(run, LocalRun):
        snapshot = run.snapshot()
        return source_here(snapshot, state_of(snapshot, run.handle))
    runner = run.runner
    if (reporting := as_reporting(runner)) is not None:
        state, reports = run.state(), reporting.targets(run.ledger)
        return Source(
            snapshot=snapshot_of(run.run_dir, reports.targets, state),
            state=state,
            read_log=_remote_logs(run),
            notes=reports.notes,
        )
    if runner.CAPABILITIES.keeps_stamps:
        # Its targets leave records, as those of a run on this machine do.
        state = run.state()
        return source_here(_with_session(LocalRun(run.run_dir).snapshot(), state), state)
    raise NothingReported(run.handle, run.ledger.runner)


def _with_session(snapshot: Snapshot, state: RunState) -> Snapshot:
    """Return the snapshot with a detached run among the sessions.

    Its targets are one part of the timeline then, however long jobs waited in between, and none of
    what ran here before.
    """
    own = Session(
        began=state.began,
        # Its end is that of the service's clock, and nothing ran here since.
        ended=None,
        runner=state.runner,
        jobs=None,
        exit_code=DONE,
        workdir=os.curdir,
    )
    sessions = sorted((*snapshot.sessions, own), key=lambda session: session.began)
    return attrs.evolve(snapshot, sessions=tuple(sessions), is_active=not state.is_over)


def source_here(snapshot: Snapshot, state: RunState) -> Source:
    """Return what a report shows of a run that has its records and logs in its run directory."""
    return Source(snapshot=snapshot, state=state, read_log=functools.partial(_read_here, snapshot))


def _read_here(snapshot: Snapshot, one: TargetState) -> LogEnd:
    name = paths.log(one.target.path)
    if one.attempt is None:
        return LogEnd(lines=(), problem="it was not started")
    if one.attempt.log_offset is None:
        return LogEnd(lines=(), problem="its output went to the terminal")
    path = snapshot.run_dir / name
    problem = "" if path.is_file() else "someone has removed or replaced it"
    return LogEnd(lines=tail(path, LOG_LINES, one.attempt.log_offset), name=name, problem=problem)


def _remote_logs(run: DetachedRun) -> Callable[[TargetState], LogEnd | None]:
    """Return a function that asks for logs, but only of the first few targets that ran."""
    numbers: Iterator[int] = itertools.count()

    def read_log(one: TargetState) -> LogEnd | None:
        if one.attempt is None or next(numbers) >= NUM_REMOTE_LOGS:
            return None
        try:
            # A log may be larger than the memory.
            lines = deque(run.logs(one.target.name, follow=False), maxlen=LOG_LINES)
        except RvrunError as error:
            return LogEnd(lines=(), problem=str(error))
        return LogEnd(lines=tuple(lines))

    return read_log
