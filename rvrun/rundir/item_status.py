"""Which items of a stage are done, and what that means for its splits.

An item is up to date if it has a mark that is at least as new as everything that the stage depends
on, by make's own rule. A split is up to date if all items of its share are. So another number of
splits, or another order, makes nothing stale.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from rvrun import item_list, paths
from rvrun.data.fingerprint import is_comparable, split_items
from rvrun.inputs import CannotRead, parse_object
from rvrun.item_list import ItemList
from rvrun.model import ItemCall, Stage
from rvrun.pipelines.base import share
from rvrun.pipelines.items import saved_items
from rvrun.rundir.files import is_current
from rvrun.rundir.fingerprints import read_text
from rvrun.rundir.item_inputs import ItemInputs
from rvrun.rundir.marks import Marks
from rvrun.rundir.outputs import lost_item_outputs
from rvrun.rundir.times import NEVER, NOW


@attrs.frozen(kw_only=True)
class ItemStatus:
    """Which items of a stage are done; all tuples are in the order of the config.

    - `list`: the items.
    - `done`: when each was done; NEVER if it was not.
    - `times`: like `done`, but NOW for items that would run.
    - `stale`: the positions of the items that would run. `reasons`: those of them that are stale by
      themselves, not only because they are done together with such an item.
    - `stamps`: the time of each split's stamp; NEVER without one.
    - `shares`: the positions of the items of each split.
    - `changed`: when an item was added or removed; NOW if the list would be written.
    - `lost_outputs`: the first missing output of each item that is done and lacks one.
    - `inputs`: what each item reads; None if the stage declares no inputs of items.
    """

    list: ItemList
    done: tuple[int, ...]
    times: tuple[int, ...]
    stale: tuple[int, ...]
    reasons: tuple[int, ...]
    stamps: tuple[int, ...]
    shares: tuple[range, ...]
    changed: int
    lost_outputs: Mapping[int, str] = attrs.field(factory=dict)
    inputs: ItemInputs | None = None

    def share(self, split_ind: int | None = None) -> range:
        """Return the positions of the items of one split, or of all."""
        return range(len(self.list)) if split_ind is None else self.shares[split_ind]

    def labels(self, split_ind: int | None = None, *, never_done: bool = False) -> tuple[str, ...]:
        """Return the labels of the items that would run, in one split or in all.

        - `never_done`: only of those that were never done.
        """
        share = self.share(split_ind)
        return tuple(
            self.list.labels[position]
            for position in self.stale
            if position in share and not (never_done and self.done[position] > NEVER)
        )

    def times_of_shares(self, limits: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return when the oldest item of each split was done, and the time of each split's stamp.

        The stamp is as new as the split's newest item, and as all that the split depends on.

        - `limits`: the time of the newest thing on which each split depends.
        """
        done, times = [], []
        for part, stamp, limit in zip(self.shares, self.stamps, limits, strict=True):
            newest = max(self.times[part.start : part.stop], default=NEVER)
            times.append(max(stamp, newest, limit))
            # One without items is not done while it would run.
            own = times[-1] if times[-1] < NOW else NEVER
            done.append(min(self.done[part.start : part.stop], default=own))
        return tuple(done), tuple(times)

    def typical(self, split_ind: int | None = None) -> int | None:
        """Return the item that stands for a split, or for all; None if there are no items.

        A stale one that was done before, as that has the more interesting reason; else a stale one,
        else the oldest.
        """
        share = self.share(split_ind)
        stale = [position for position in self.reasons if position in share]
        done_before = (position for position in stale if self.done[position] > NEVER)
        oldest = min(share, key=self.done.__getitem__, default=None)
        return next(done_before, stale[0] if stale else oldest)


@attrs.frozen
class Rendered:
    """A run directory, and the files that would be written into it first, by path."""

    run_dir: pathlib.Path
    files: Mapping[str, str]

    def read_items(self, pipeline: str, stage: Stage) -> ItemList:
        """Return the items of a stage: those to be written, or else those in the run directory.

        Where the list is missing or damaged, as someone removed or edited it, no item has a digest:
        none of them is done.
        """
        assert stage.items is not None
        path = str(stage.items_file(pipeline))
        text = self.files.get(path)
        if text is None:
            text = read_text(self.run_dir, path)
        items = None if text is None else item_list.from_text(text)
        if items is None or items.digest != stage.items.digest:
            return ItemList([""] * stage.items.count, ["unknown"] * stage.items.count)
        return items

    def read_values(self, pipeline: str, stage: Stage) -> list[Any] | None:
        """Return the JSON values of a stage's items; None if the config has none."""
        assert stage.items is not None
        path = paths.config(pipeline)
        try:
            document = parse_object(self.files[path], path)
        except (KeyError, CannotRead):
            return None
        return saved_items(document.get("config"), stage.items.field)

    def read_inputs(self, pipeline: str, stage: Stage, items: ItemList) -> ItemInputs | None:
        """Return what the items of a stage read; None if it does not declare that."""
        path = stage.item_inputs_file(pipeline)
        if path is None:
            return None
        text = self.files.get(path) or read_text(self.run_dir, path) or ""
        texts = split_items(text) if is_comparable(text) else {}
        marks = Marks(str(self.run_dir), pipeline, stage.command)
        recorded = marks.read_texts(items.digests)
        return ItemInputs([texts.get(digest, "") for digest in items.digests], recorded)

    def items_time(self, pipeline: str, stage: Stage) -> int:
        """Return when an item of a stage was added or removed; NOW if the list would be written."""
        path = str(stage.items_file(pipeline))
        text = self.files.get(path)
        is_same = text is None or is_current(self.run_dir, path, text)
        return mtime(self.run_dir / path) if is_same else NOW


def mtime(path: pathlib.Path) -> int:
    """Return the modification time of a file; NEVER if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return NEVER


def shares_of(stage: Stage) -> tuple[range, ...]:
    """Return the positions of the items of each split."""
    assert stage.items is not None
    positions, num_splits = range(stage.items.count), stage.num_targets
    shares = (share(positions, index, num_splits) for index in range(num_splits))
    return tuple(part for part in shares if isinstance(part, range))


def find_item_status(
    rendered: Rendered,
    pipeline: str,
    stage: Stage,
    limit: Callable[[int], int],
    stamps: tuple[int, ...],
) -> ItemStatus:
    """Return the status of the items of a stage.

    - `limit`: returns the time of the newest thing on which the item at a position depends.
    - `stamps`: as in `ItemStatus`.
    """
    items = rendered.read_items(pipeline, stage)
    marks = Marks(str(rendered.run_dir), pipeline, stage.command).read()
    done = tuple(marks.get(digest, NEVER) for digest in items.digests)
    shares = shares_of(stage)
    read_values = functools.partial(rendered.read_values, pipeline, stage)
    lost = lost_item_outputs(stage, read_values, done)
    inputs = rendered.read_inputs(pipeline, stage, items)
    limits = (max(limit(i), inputs.times[i] if inputs else NEVER) for i in range(len(items)))
    alone = [
        then >= newest and i not in lost
        for i, (then, newest) in enumerate(zip(done, limits, strict=True))
    ]
    is_valid = spread(stage, shares, alone)
    times = (then if ok else NOW for then, ok in zip(done, is_valid, strict=True))
    return ItemStatus(
        list=items,
        done=done,
        times=tuple(times),
        stale=tuple(position for position, ok in enumerate(is_valid) if not ok),
        reasons=tuple(position for position, ok in enumerate(alone) if not ok),
        stamps=stamps,
        shares=shares,
        changed=rendered.items_time(pipeline, stage),
        lost_outputs=lost,
        inputs=inputs,
    )


def spread(stage: Stage, shares: Sequence[range], is_valid: Sequence[bool]) -> Sequence[bool]:
    """Return which items stay valid: if those of a share are done together, all of it or none."""
    if stage.items is None or stage.items.call is not ItemCall.SHARE:
        return is_valid
    spread_out = list(is_valid)
    for part in shares:
        if not all(is_valid[part.start : part.stop]):
            spread_out[part.start : part.stop] = [False] * len(part)
    return spread_out
