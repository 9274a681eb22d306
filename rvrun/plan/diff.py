"""Compare two plans: what changed, and which stages would run again because of it. Pure.

pipelines and stages      added, removed, in another order
each stage                splits, items, needs, gpu, resources, files, the config it depends on
each config               keys with different values
each stage's code         definitions with different hashes
stages that run again     those in both plans whose work changed, and those that need them
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun.code.fingerprint import (
    changed_definitions,
    from_text,
    is_comparable,
    name_changes,
)
from rvrun.item_list import ItemList
from rvrun.item_list import from_text as from_text_of_items
from rvrun.model import CodeMode, NeedKind, Plan, PlannedPipeline, Stage
from rvrun.pipelines.config_keys import MISSING, changed_keys, part_of
from rvrun.plan.diff_items import ItemsDiff, diff_items
from rvrun.text import count

#: Config values as JSON has them; None if they are not available.
Config = Mapping[str, Any] | None
#: Characters of a config digest to show: `sha256:` and twelve digits.
_DIGEST_LENGTH = 19
#: How the detail of a changed config key begins.
_CONFIG_KEY = "config: "
#: How the detail of a changed definition begins; the way to it follows.
CODE = "code: "


@attrs.frozen(kw_only=True)
class Side:
    """A plan to compare, and those configs of its pipelines that are available.

    - `code`: the texts of the code fingerprints and lists of items that are available, by path.
    """

    plan: Plan
    configs: Mapping[str, Mapping[str, Any]]
    code: Mapping[str, str] = attrs.field(factory=dict)

    def items_of(self, pipeline: str, stage: Stage) -> ItemList | None:
        """Return the items of a stage; None if their list is not available or another one."""
        path = stage.items_file(pipeline)
        text = self.code.get(path) if path is not None else None
        items = None if text is None else from_text_of_items(text)
        is_current = items is not None and stage.items and items.digest == stage.items.digest
        return items if is_current else None

    def code_of(self, pipeline: str, stage: Stage) -> str | None:
        """Return the code fingerprint of a stage; None if there is none to compare."""
        path = stage.code_file(pipeline)
        text = self.code.get(path) if path is not None else None
        return text if text is not None and is_comparable(text) else None


class ChangeKind(enum.StrEnum):
    """How a pipeline or stage differs; the values are part of the JSON format."""

    ADDED = "added"
    REMOVED = "gone"
    CHANGED = "changed"


@attrs.frozen
class Change:
    """One difference of the pipeline or stage called `name`.

    - `detail`: if CHANGED, the attribute (`splits`, …, `config: KEY`, or `code: ` and the way to a
      definition); otherwise the size.
    - `old`, `new`: if CHANGED, JSON values; MISSING for a config key, or a definition, that is only
      in the other.
    """

    kind: ChangeKind
    name: str
    detail: str = ""
    old: Any = None
    new: Any = None


@attrs.frozen
class Rerun:
    """A stage of both plans that would run again."""

    name: str
    num_targets: int
    reason: str


@attrs.frozen(kw_only=True)
class PlanDiff:
    """All differences in the order of the new plan; what was removed comes last."""

    changes: tuple[Change, ...]
    reruns: tuple[Rerun, ...]

    @property
    def same(self) -> bool:
        """Whether the plans are equal."""
        return not self.changes


def diff_plans(old: Side, new: Side) -> PlanDiff:
    """Compare two plans."""
    before = {pipeline.name: pipeline for pipeline in old.plan.pipelines}
    after = {pipeline.name: pipeline for pipeline in new.plan.pipelines}
    changes = list(_diff_order("pipelines", list(before), list(after)))
    reruns: list[Rerun] = []
    for name, pipeline in after.items():
        if name not in before:
            changes.append(Change(ChangeKind.ADDED, name, _size(pipeline)))
            continue
        configs = (old.configs.get(name), new.configs.get(name))
        code = _CodeDiff(name, old, new)
        changes += _diff_pipeline(before[name], pipeline, *configs, code)
        reruns += _find_reruns(before[name], pipeline, *configs, code)
    changes += [
        Change(ChangeKind.REMOVED, name, _size(pipeline))
        for name, pipeline in before.items()
        if name not in after
    ]
    return PlanDiff(changes=tuple(changes), reruns=tuple(reruns))


@attrs.frozen
class _CodeDiff:
    """The differences of the code, and of the items, of a pipeline's stages."""

    pipeline: str
    old: Side
    new: Side

    def items(self, old: Stage | None, new: Stage) -> ItemsDiff:
        """Compare the items of a stage, as far as they are available."""
        if old is None:
            return ItemsDiff()
        lists = (self.old.items_of(self.pipeline, old), self.new.items_of(self.pipeline, new))
        return diff_items((old, new), lists)

    def changes(self, old: Stage, new: Stage) -> Iterator[tuple[str, Any, Any]]:
        """Yield the way to each definition that differs, with its hashes, or MISSING."""
        before = self.old.code_of(self.pipeline, old)
        after = self.new.code_of(self.pipeline, new)
        if before is None or after is None or before == after:
            return
        hashes = (from_text(before).hashes, from_text(after).hashes)
        for name, way in changed_definitions(before, after).items():
            yield way, hashes[0].get(name, MISSING), hashes[1].get(name, MISSING)

    def reason(self, old: Stage | None, new: Stage) -> str:
        """Return why a stage would run again because of its code; empty if it would not."""
        if old is None or new.code is not CodeMode.RERUN:
            return ""
        ways = [way for way, _, _ in self.changes(old, new)]
        return name_changes("code changed", ways) if ways else ""


def _size(pipeline: PlannedPipeline) -> str:
    stages = count(len(pipeline.stages), "stage")
    return f"{stages}, {count(sum(stage.num_targets for stage in pipeline.stages), 'target')}"


def _diff_order(name: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """Compare the order of the names that are on both sides."""
    before = [item for item in old if item in new]
    after = [item for item in new if item in old]
    if before != after:
        yield Change(ChangeKind.CHANGED, name, "order", before, after)


def _diff_pipeline(
    old: PlannedPipeline,
    new: PlannedPipeline,
    old_config: Config,
    new_config: Config,
    code: _CodeDiff,
) -> Iterator[Change]:
    before = {stage.command: stage for stage in old.stages}
    after = {stage.command: stage for stage in new.stages}
    if old.config_digest != new.config_digest:
        yield from _diff_config(old, new, old_config, new_config)
    yield from _diff_order(new.name, list(before), list(after))
    for command, stage in after.items():
        name = f"{new.name}/{command}"
        if command not in before:
            yield Change(ChangeKind.ADDED, name, _stage_size(stage))
        else:
            yield from _diff_stage(name, before[command], stage)
            for detail, *values in code.items(before[command], stage).changes:
                yield Change(ChangeKind.CHANGED, name, detail, *values)
            for way, *hashes in code.changes(before[command], stage):
                yield Change(ChangeKind.CHANGED, name, f"{CODE}{way}", *hashes)
    for command, stage in before.items():
        if command not in after:
            yield Change(ChangeKind.REMOVED, f"{new.name}/{command}", _stage_size(stage))


def _stage_size(stage: Stage) -> str:
    return "" if stage.num_splits is None else count(stage.num_splits, "split")


def _diff_config(
    old: PlannedPipeline, new: PlannedPipeline, old_config: Config, new_config: Config
) -> Iterator[Change]:
    if old_config is None or new_config is None:
        digests = (old.config_digest[:_DIGEST_LENGTH], new.config_digest[:_DIGEST_LENGTH])
        yield Change(ChangeKind.CHANGED, new.name, "config", *digests)
        return
    for key, (before, after) in changed_keys(old_config, new_config).items():
        yield Change(ChangeKind.CHANGED, new.name, f"{_CONFIG_KEY}{key}", before, after)


def collapse(changes: Sequence[Change]) -> list[Change]:
    """Return `changes` for people: a single one for all config keys with the same changed prefix.

    A new root changes every path below it: `a/chip` → `b/chip`, `a/train` → `b/train`. The result
    has `a` → `b`, in the place of the first of these keys.
    """
    groups: dict[tuple[str, str, str], list[Change]] = {}
    for change in changes:
        if (prefix := _changed_prefix(change)) is not None:
            groups.setdefault((change.name, *prefix), []).append(change)
    collapsed: dict[int, Change | None] = {}
    for (name, old, new), members in groups.items():
        # Without a slash, these are two settings that happen to change alike, not paths.
        if len(members) > 1 and any("/" in change.old for change in members):
            detail = f"{members[0].detail} and {count(len(members) - 1, 'more key')}:"
            merged = Change(ChangeKind.CHANGED, name, detail, old, new)
            collapsed |= dict.fromkeys(map(id, members)) | {id(members[0]): merged}
    collapsed |= _collapse_code(changes)
    result = (collapsed.get(id(change), change) for change in changes)
    return [change for change in result if change is not None]


def _collapse_code(changes: Sequence[Change]) -> dict[int, Change | None]:
    """Let a single change stand for all definitions of a stage that differ, by identity."""
    collapsed: dict[int, Change | None] = {}
    stages = dict.fromkeys(c.name for c in changes if c.detail.startswith(CODE))
    for name in stages:
        members = [c for c in changes if c.name == name and c.detail.startswith(CODE)]
        ways = [change.detail.removeprefix(CODE) for change in members]
        merged = Change(ChangeKind.CHANGED, name, name_changes("code changed", ways), None, None)
        collapsed |= dict.fromkeys(map(id, members)) | {id(members[0]): merged}
    return collapsed


def _changed_prefix(change: Change) -> tuple[str, str] | None:
    """The part of a changed path before what both have in common; None if it is not a string."""
    old, new = change.old, change.new
    if not (
        change.detail.startswith(_CONFIG_KEY) and isinstance(old, str) and isinstance(new, str)
    ):
        return None
    before, after = old.rstrip("/").split("/"), new.rstrip("/").split("/")
    while len(before) > 1 and len(after) > 1 and before[-1] == after[-1]:
        before.pop()
        after.pop()
    return "/".join(before), "/".join(after)


def _diff_stage(name: str, old: Stage, new: Stage) -> Iterator[Change]:
    before, after = _attributes(old), _attributes(new)
    for attribute, value in after.items():
        if before[attribute] != value:
            yield Change(ChangeKind.CHANGED, name, attribute, before[attribute], value)


def _attributes(stage: Stage) -> dict[str, Any]:
    """The attributes of a stage to compare, as JSON values."""
    aligned = {NeedKind.ALIGNED: " (aligned)", NeedKind.ALL: ""}
    return {
        "splits": stage.num_splits,
        "needs": [need.command + aligned[need.kind] for need in stage.needs],
        "gpu": stage.gpu,
        "config keys": "all" if stage.config_keys is None else list(stage.config_keys),
        "code": stage.code.value,
        "inputs": list(stage.declared_inputs),
        "produced inputs": list(stage.produced),
        "outputs": list(stage.outputs),
        "resources": attrs.asdict(stage.resources, filter=lambda _, value: value is not None),
    }


def _find_reruns(
    old: PlannedPipeline,
    new: PlannedPipeline,
    old_config: Config,
    new_config: Config,
    code: _CodeDiff,
) -> Iterator[Rerun]:
    """Find the stages of both plans that would run again if the old plan were completed."""
    before = {stage.command: stage for stage in old.stages}
    same_config = old.config_digest == new.config_digest
    running: set[str] = set()
    relisted: set[str] = set()
    for stage in new.stages:
        earlier = before.get(stage.command)
        items = code.items(earlier, stage)
        reason = _reason(earlier, stage) or _after(stage, running, relisted)
        if not reason and not same_config and _reads_change(stage, old_config, new_config):
            reason = "config changed"
        reason = reason or code.reason(earlier, stage)
        num_targets = stage.num_targets if reason else items.num_targets
        if stage.items is not None and (items.is_relisted or reason):
            # What needs all items runs again, also if none of them does.
            relisted.add(stage.command)
        reason = reason or items.reason
        if stage.items is not None and not stage.items.count:
            # Without items it does nothing, but make runs it after what it needs.
            reason = _after(stage, running, ())
        if reason:
            running.add(stage.command)
        if reason and earlier is not None:
            yield Rerun(f"{new.name}/{stage.command}", num_targets, reason)


def _after(stage: Stage, running: Container[str], relisted: Container[str]) -> str:
    """Why a stage runs because of what it needs; empty if it does not.

    - `relisted`: the commands that have other items.
    """
    after = [need.command for need in stage.needs if need.command in running]
    if after:
        return f"after {after[0]}"
    wholes = [need.command for need in stage.needs if need.kind is NeedKind.ALL]
    return "items changed" if any(command in relisted for command in wholes) else ""


def _reason(old: Stage | None, new: Stage) -> str:
    """Why a stage runs, apart from what it needs and from values of the config; else empty."""
    if old is None:
        return "new"
    if (old.items is None) != (new.items is None):
        return "items declared" if old.items is None else "items not declared any more"
    if old.num_splits != new.num_splits and new.items is None:
        return "splits changed"
    if old.config_keys != new.config_keys:
        return "config keys changed"
    if _reads_other_files(old, new):
        return "inputs changed"
    return ""


def _reads_other_files(old: Stage, new: Stage) -> bool:
    """Whether a stage declares other inputs than before, if it declared some."""
    before, after = ((s.inputs, s.item_inputs, s.produced) for s in (old, new))
    is_known = (old.inputs and new.inputs) or (old.item_inputs and new.item_inputs)
    return bool(is_known) and before != after


def _reads_change(stage: Stage, old: Config, new: Config) -> bool:
    """Whether the part of the config that a stage depends on changed; also if that is unknown."""
    if (stage.config_keys is None and stage.items is None) or old is None or new is None:
        return True
    field = None if stage.items is None else stage.items.field
    return part_of(old, stage.config_keys, field) != part_of(new, stage.config_keys, field)
