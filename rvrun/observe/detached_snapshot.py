"""A detached run as a snapshot, from what its service reports of each target."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from rvrun import paths
from rvrun.errors import RvrunError
from rvrun.model import Target
from rvrun.observe.snapshot import Snapshot, StageTargets, TargetState, read_saved_plan
from rvrun.remote.state import RunState, State, TargetReport
from rvrun.rundir.attempts import Attempt
from rvrun.text import count, name_some


class OtherPlan(RvrunError):
    """A plan in the run directory of a detached run that is no longer that run's."""

    path: pathlib.Path
    run_id: str
    names: str
    template = (
        "{path} is no longer the plan of run {run_id}, which had {names}; render that plan again, "
        "with the same config and splits"
    )


def snapshot_of(
    run_dir: pathlib.Path, reports: Sequence[TargetReport], state: RunState
) -> Snapshot:
    """Return a detached run as a snapshot. Raises `NotAPlan` or `OtherPlan`.

    The plan and its configs are those in the run directory, because a ledger has none.
    """
    plan = read_saved_plan(run_dir)
    by_name = {report.name: report for report in reports}
    stages = tuple(
        StageTargets(
            pipeline=pipeline.name,
            stage=stage,
            targets=tuple(
                _target_state(target, by_name.pop(target.name, None))
                for target in stage.targets(pipeline.name)
            ),
        )
        for pipeline in plan.pipelines
        for stage in pipeline.stages
    )
    if by_name:
        names = f"{count(len(by_name), 'other target')}: {name_some(list(by_name))}"
        raise OtherPlan(run_dir / paths.PLAN, state.run_id, names)
    return Snapshot(
        run_dir=run_dir, plan=plan, stages=stages, sessions=(), is_active=not state.is_over
    )


def _target_state(target: Target, report: TargetReport | None) -> TargetState:
    if report is None:
        # Not part of the run.
        return TargetState(target=target, state=State.PENDING, attempt=None)
    return TargetState(
        target=target, state=report.state, attempt=_attempt(report), reason=report.reason
    )


def _attempt(report: TargetReport) -> Attempt | None:
    if report.began is None:
        return None
    # The times of services may be those of two clocks.
    ended = None if report.ended is None else max(report.ended, report.began)
    has_succeeded = report.state is State.SUCCEEDED
    return Attempt(
        number=report.attempt,
        began=report.began,
        ended=ended,
        exit_code=0 if has_succeeded else report.exit_code,
        has_process=report.state is State.RUNNING,
        seconds=ended - report.began if ended is not None and has_succeeded else None,
    )
