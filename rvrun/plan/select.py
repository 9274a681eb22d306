"""Select stages of a plan: up to a stage, from a stage on, or those a change affects. Pure.

Names are as users type them: `train` is the stage of that command in every pipeline, `tiny/train`
that of one pipeline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rvrun.errors import check_known
from rvrun.model import Plan, PlannedPipeline

if TYPE_CHECKING:
    from rvrun.plan.diff import PlanDiff


def stage_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of all stages, such as `tiny/chip`, in the order of the plan."""
    return tuple(f"{p.name}/{stage.command}" for p in plan.pipelines for stage in p.stages)


def stages_of(plan: Plan, command: str) -> list[str]:
    """Return the names of the stages of a command, in all pipelines."""
    return [name for name in stage_names(plan) if name.partition("/")[2] == command]


def find_stages(plan: Plan, name: str, option: str) -> frozenset[str]:
    """Return the stages that `name` names: `train`, or `tiny/train`.

    - `option`: where the name is from, for the message.

    Raises `UnknownName`.
    """
    names = stage_names(plan)
    matching = [name] if name in names else stages_of(plan, name)
    if not matching:
        commands = dict.fromkeys(full.partition("/")[2] for full in names)
        check_known("stage", name, (*commands, *(names if "/" in name else ())), option)
    return frozenset(matching)


def select_range(plan: Plan, until: Sequence[str], start: Sequence[str]) -> tuple[str, ...]:
    """Return the stages that `--until` and `--from` select, in the order of the plan.

    - `until`: these stages and all that they need. `start`: these stages and all that need them.
      With both, only what is in both.

    Raises `UnknownName`.
    """
    chosen = set(stage_names(plan))
    if until:
        chosen &= with_needed(plan, _find_all(plan, until, "--until"))
    if start:
        chosen &= _dependents(plan, _find_all(plan, start, "--from"))
    return tuple(name for name in stage_names(plan) if name in chosen)


def _find_all(plan: Plan, names: Iterable[str], option: str) -> frozenset[str]:
    return frozenset().union(*(find_stages(plan, name, option) for name in names))


def with_needed(plan: Plan, names: Collection[str]) -> set[str]:
    """Return the named stages, and what they need, directly or through others."""
    reached = set(names)
    for pipeline in plan.pipelines:
        # Backwards: a stage comes after those that it needs, so one pass reaches all.
        for name, needed in reversed(list(_needs(pipeline))):
            reached |= needed if name in reached else set()
    return reached


def _dependents(plan: Plan, names: frozenset[str]) -> set[str]:
    """The named stages, and what needs them, directly or through others."""
    reached = set(names)
    for pipeline in plan.pipelines:
        for name, needed in _needs(pipeline):
            if needed & reached:
                reached.add(name)
    return reached


def _needs(pipeline: PlannedPipeline) -> Iterator[tuple[str, set[str]]]:
    """Each stage with the stages that it needs, by their names."""
    for stage in pipeline.stages:
        needed = {f"{pipeline.name}/{need.command}" for need in stage.needs}
        yield f"{pipeline.name}/{stage.command}", needed


def affected(plan: Plan, diff: PlanDiff) -> tuple[str, ...]:
    """Return the stages of `plan`, the new one, that a difference affects, in their order.

    Those are the stages that would run again, and those that are new.
    """
    from rvrun.plan.diff import ChangeKind

    again = {rerun.name for rerun in diff.reruns}
    added = {change.name for change in diff.changes if change.kind is ChangeKind.ADDED}
    return tuple(
        name
        for name in stage_names(plan)
        if name in again or name in added or name.partition("/")[0] in added
    )
