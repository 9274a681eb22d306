"""Compare the items of a stage in two plans. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from rvrun.item_list import ItemList
from rvrun.model import Stage
from rvrun.pipelines.base import share
from rvrun.text import count

#: Characters of a digest to show: `sha256:` and twelve digits.
_DIGEST_LENGTH = 19
ADDED, REMOVED = "items added", "items removed"


@attrs.frozen(kw_only=True)
class ItemsDiff:
    """The differences of the items of a stage.

    - `changes`: each difference, with its old and its new JSON value.
    - `reason`: why the stage runs again; empty if it does not. `num_targets`: how many of its
      targets do, at most.
    - `is_relisted`: whether an item was added or removed, also if that is unknown.
    """

    changes: tuple[tuple[str, Any, Any], ...] = ()
    reason: str = ""
    num_targets: int = 0
    is_relisted: bool = False


def diff_items(
    stages: tuple[Stage, Stage], lists: tuple[ItemList | None, ItemList | None]
) -> ItemsDiff:
    """Compare the items of a stage before and after.

    - `lists`: its items before and after; None if they are not available.
    """
    old, new = (stage.items for stage in stages)
    if old == new or old is None or new is None:
        if old == new:
            return ItemsDiff()
        counts = [None if items is None else items.count for items in (old, new)]
        return ItemsDiff(changes=(("items", counts[0], counts[1]),), is_relisted=True)
    changes: list[tuple[str, Any, Any]] = []
    if old.field != new.field:
        changes.append(("items of", old.field, new.field))
    if old.call is not new.call:
        changes.append(("items per call", old.call.value, new.call.value))
    if old.count != new.count:
        changes.append(("items", old.count, new.count))
    if old.digest == new.digest:
        return ItemsDiff(changes=tuple(changes))
    if lists[0] is None or lists[1] is None:
        digests = (old.digest[:_DIGEST_LENGTH], new.digest[:_DIGEST_LENGTH])
        return ItemsDiff(
            changes=(*changes, ("items", *digests)) if old.count == new.count else tuple(changes),
            reason="items changed",
            num_targets=stages[1].num_targets,
            is_relisted=True,
        )
    return _diff_lists(changes, stages[1], lists[0], lists[1])


def _diff_lists(
    changes: Sequence[tuple[str, Any, Any]], stage: Stage, old: ItemList, new: ItemList
) -> ItemsDiff:
    before, after = set(old.digests), set(new.digests)
    added = [i for i, digest in enumerate(new.digests) if digest not in before]
    removed = [i for i, digest in enumerate(old.digests) if digest not in after]
    details: list[tuple[str, Any, Any]] = []
    if added:
        details.append((ADDED, [], [new.labels[i] for i in added]))
    if removed:
        details.append((REMOVED, [old.labels[i] for i in removed], []))
    if not details:
        details.append(("items", "another order", "this order"))
    parts = (share(range(len(new)), i, stage.num_targets) for i in range(stage.num_targets))
    return ItemsDiff(
        changes=(*changes, *details),
        reason=f"{count(len(added), 'item')} added or changed" if added else "",
        num_targets=sum(any(i in part for i in added) for part in parts),
        is_relisted=bool(added or removed),
    )
