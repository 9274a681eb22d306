"""What differs between two plans, and which stages would run again because of it. Pure.

pipelines and stages      added, gone, in another order
each stage                splits, needs, gpu, resources, the config it depends on
each config               the keys whose values differ
runs again                stages of both plans whose work would be another
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun.model import NeedKind, Plan, PlannedPipeline, Stage
from rvrun.pipelines.config_keys import MISSING, changed_keys, narrow
from rvrun.text import count


@attrs.frozen(kw_only=True)
class Side:
    """A plan, and the config values of its pipelines so far as they are at hand."""

    plan: Plan
    configs: Mapping[str, Mapping[str, Any]]


@attrs.frozen
class Change:
    """One difference: `sign` is `+`, `-` or `~`; `name` is `tiny/chip` or a pipeline's.

    Where `sign` is `~`, `what` is the attribute (`splits`, …, or `config: KEY`) and `old` and
    `new` are JSON values, `MISSING` for a config key that was not there or is no more.
    """

    sign: str
    name: str
    what: str = ""
    old: Any = None
    new: Any = None

    @property
    def text(self) -> str:
        """What changed, without sign and name."""
        if self.sign != "~":
            return self.what
        if self.old is MISSING:
            return f"{self.what} added: {shown(self.new)}"
        if self.new is MISSING:
            return f"{self.what} gone: {shown(self.old)}"
        return f"{self.what} {shown(self.old)} → {shown(self.new)}"


@attrs.frozen
class Again:
    """A stage of both plans that would run again."""

    name: str
    num_targets: int
    reason: str


@attrs.frozen(kw_only=True)
class PlanDiff:
    """All differences, in the order of the new plan, what is gone last."""

    changes: tuple[Change, ...]
    again: tuple[Again, ...]

    @property
    def same(self) -> bool:
        return not self.changes


def shown(value: Any) -> str:
    """A value as one reads it: texts bare, lists of names with commas, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return json.dumps(value, ensure_ascii=False)


def diff_plans(old: Side, new: Side) -> PlanDiff:
    """What is another in `new`."""
    before = {pipeline.name: pipeline for pipeline in old.plan.pipelines}
    after = {pipeline.name: pipeline for pipeline in new.plan.pipelines}
    changes: list[Change] = [*_order("pipelines", list(before), list(after))]
    again: list[Again] = []
    for name, pipeline in after.items():
        if name not in before:
            changes.append(Change("+", name, _size(pipeline)))
            continue
        configs = (old.configs.get(name), new.configs.get(name))
        changes += _diff_pipeline(before[name], pipeline, *configs)
        again += _again(before[name], pipeline, *configs)
    changes += [Change("-", name, _size(before[name])) for name in before if name not in after]
    return PlanDiff(changes=tuple(changes), again=tuple(again))


def _size(pipeline: PlannedPipeline) -> str:
    stages = count(len(pipeline.stages), "stage")
    return f"{stages}, {count(sum(stage.num_targets for stage in pipeline.stages), 'target')}"


def _order(name: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """Whether what both have stands in another order."""
    before = [each for each in old if each in new]
    after = [each for each in new if each in old]
    if before != after:
        yield Change("~", name, "order", before, after)


def _diff_pipeline(
    old: PlannedPipeline,
    new: PlannedPipeline,
    old_config: Mapping[str, Any] | None,
    new_config: Mapping[str, Any] | None,
) -> Iterator[Change]:
    before = {stage.command: stage for stage in old.stages}
    after = {stage.command: stage for stage in new.stages}
    yield from _diff_config(old, new, old_config, new_config)
    yield from _order(new.name, list(before), list(after))
    for command, stage in after.items():
        name = f"{new.name}/{command}"
        if command not in before:
            yield Change("+", name, _stage_size(stage))
        else:
            yield from _diff_stage(name, before[command], stage)
    for command, stage in before.items():
        if command not in after:
            yield Change("-", f"{new.name}/{command}", _stage_size(stage))


def _stage_size(stage: Stage) -> str:
    return "" if stage.num_splits is None else count(stage.num_splits, "split")


def _diff_config(
    old: PlannedPipeline,
    new: PlannedPipeline,
    old_config: Mapping[str, Any] | None,
    new_config: Mapping[str, Any] | None,
) -> Iterator[Change]:
    if old.config_digest == new.config_digest:
        return
    if old_config is None or new_config is None:
        digests = (old.config_digest[:19], new.config_digest[:19])
        yield Change("~", new.name, "config", *digests)
        return
    for key, (before, after) in changed_keys(old_config, new_config).items():
        yield Change("~", new.name, f"config: {key}", before, after)


def _diff_stage(name: str, old: Stage, new: Stage) -> Iterator[Change]:
    for what, before, after in (
        ("splits", old.num_splits, new.num_splits),
        ("needs", _needs(old), _needs(new)),
        ("gpu", old.gpu, new.gpu),
        ("config keys", _keys(old), _keys(new)),
        ("resources", _resources(old), _resources(new)),
    ):
        if before != after:
            yield Change("~", name, what, before, after)


def _needs(stage: Stage) -> list[str]:
    aligned = {NeedKind.ALIGNED: " (aligned)", NeedKind.ALL: ""}
    return [need.command + aligned[need.kind] for need in stage.needs]


def _keys(stage: Stage) -> list[str] | str:
    return "all" if stage.config_keys is None else list(stage.config_keys)


def _resources(stage: Stage) -> dict[str, int | str]:
    return attrs.asdict(stage.resources, filter=lambda _, value: value is not None)


def _again(
    old: PlannedPipeline,
    new: PlannedPipeline,
    old_config: Mapping[str, Any] | None,
    new_config: Mapping[str, Any] | None,
) -> Iterator[Again]:
    """Stages of both plans that would run again, were all of the old one done."""
    before = {stage.command: stage for stage in old.stages}
    same_config = old.config_digest == new.config_digest
    running: set[str] = set()
    for stage in new.stages:
        reason = _reason(before.get(stage.command), stage, running)
        if not reason and not same_config and _reads_another(stage, old_config, new_config):
            reason = "config changed"
        if reason:
            running.add(stage.command)
        if reason and stage.command in before:
            yield Again(f"{new.name}/{stage.command}", stage.num_targets, reason)


def _reason(old: Stage | None, new: Stage, running: Iterable[str]) -> str:
    if old is None:
        return "new"
    if old.num_splits != new.num_splits:
        return "splits changed"
    if old.config_keys != new.config_keys:
        return "config keys changed"
    after = [need.command for need in new.needs if need.command in running]
    return f"after {after[0]}" if after else ""


def _reads_another(
    stage: Stage, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None
) -> bool:
    """Whether the part of the config that `stage` depends on differs; so too if it is not known."""
    if stage.config_keys is None or old is None or new is None:
        return True
    return narrow(old, stage.config_keys) != narrow(new, stage.config_keys)


def to_text(diff: PlanDiff) -> str:
    """For people: a line a change, then what would run again. Empty where nothing differs."""
    if diff.same:
        return ""
    width = max(len(change.name) for change in diff.changes)
    lines = [f"{c.sign} {c.name:{width}}  {c.text}".rstrip() for c in diff.changes]
    if diff.again:
        width = max(len(again.name) for again in diff.again)
        lines.append("would run again:")
        lines += [f"  {again.name:{width}}  {_again_text(again)}" for again in diff.again]
    return "\n".join(lines) + "\n"


def _again_text(again: Again) -> str:
    several = f"{count(again.num_targets, 'target')}, " if again.num_targets > 1 else ""
    return f"{several}{again.reason}"


def to_json(diff: PlanDiff) -> str:
    """For programs: `same`, `changes`, `runs_again`. A key that is not there has no value."""
    document = {
        "same": diff.same,
        "changes": [_change_to_dict(change) for change in diff.changes],
        "runs_again": [
            {"name": again.name, "targets": again.num_targets, "reason": again.reason}
            for again in diff.again
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _change_to_dict(change: Change) -> dict[str, Any]:
    kinds = {"+": "added", "-": "gone", "~": "changed"}
    values = {"kind": kinds[change.sign], "name": change.name, "what": change.what}
    if change.sign == "~":
        sides = {"old": change.old, "new": change.new}
        values |= {side: value for side, value in sides.items() if value is not MISSING}
    return values


def to_markdown(diff: PlanDiff) -> str:
    """For a comment on a pull request."""
    if diff.same:
        return "**rvrun plan**: no changes\n"
    head = f"**rvrun plan**: {count(len(diff.changes), 'change')}"
    runs = sum(again.num_targets for again in diff.again)
    if diff.again:
        head += f", {count(len(diff.again), 'stage')} ({count(runs, 'target')}) would run again"
    rows = [
        f"| {change.sign} | {_code(change.name)} | {_cell(change.text)} |"
        for change in diff.changes
    ]
    lines = [head, "", "| | where | what |", "| --- | --- | --- |", *rows]
    if diff.again:
        lines += ["", "| would run again | why |", "| --- | --- |"]
        lines += [f"| {_code(again.name)} | {_cell(_again_text(again))} |" for again in diff.again]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`"


def _cell(text: str) -> str:
    """`text` where a `|`, a backtick or markup would break the table or change its looks."""
    for special in "\\`*_|<>[]":
        text = text.replace(special, f"\\{special}")
    return text.replace("\n", " ")


def to_github(diff: PlanDiff) -> str:
    """For GitHub Actions: a notice a change, a warning a stage that would run again."""
    lines = [
        f"::notice title=plan changed::{_command_data(f'{c.sign} {c.name}  {c.text}'.rstrip())}"
        for c in diff.changes
    ]
    lines += [
        f"::warning title=would run again::{_command_data(f'{a.name}: {_again_text(a)}')}"
        for a in diff.again
    ]
    return "".join(f"{line}\n" for line in lines)


def _command_data(text: str) -> str:
    """Escaped as GitHub's workflow commands want it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
