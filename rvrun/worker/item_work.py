"""Run the items of a split that are not done, and mark them.

The marks are those of a run directory. A job elsewhere, or a target that somebody runs by hand, has
none: it runs all items of its share.
"""

from __future__ import annotations

import contextlib
import os
import time

from rvrun.errors import RvrunError
from rvrun.inputs import CannotRead, read_text
from rvrun.item_list import ItemList, digest_of, from_text
from rvrun.paths import item_inputs
from rvrun.paths import items as items_file
from rvrun.pipelines.base import share
from rvrun.pipelines.items import read_path, saved_items, to_json
from rvrun.rundir.marks import Marks
from rvrun.rundir.planned_stage import PlannedStage
from rvrun.rundir.target_lock import newest
from rvrun.rundir.times import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from rvrun.rundir.item_inputs import ItemInputs

#: What a method gets: `model.ItemCall`.
ITEM, ITEMS = "item", "items"


class OtherItems(RvrunError):
    """Items of a config that are not those that were planned."""

    stage: str
    field: str
    template = (
        "the items of {stage} must be those that were planned, but `{field}` of the config has "
        "others; render again, and if `{field}` is a property, let it return the same items in "
        "every process"
    )
    fix = "render again, and let `{field}` return the same items in every process"


class ItemWork:
    """The items of one split, some of which must be done.

    - `saved`: the JSON values of the pipeline's config.
    - `positions`: those of the share in the list of all items.
    - `inputs`: what the items of the share read; None if the stage does not declare that.
    - `unfinished`: the positions of the items that will be done.
    - `since`: the time that marks get, in ns since 1970.
    - `newest`: that of the newest mark of the share; of items that are not done, NEVER.
    """

    def __init__(self, run_dir: str, stage: PlannedStage, saved: Any, *, is_forced: bool) -> None:
        assert stage.items is not None
        assert stage.split_ind is not None
        self.run_dir, self.stage = run_dir, stage
        self.name = f"{stage.pipeline}/{stage.command}"
        self.field, self.call = stage.items["field"], stage.items["call"]
        # Before anything is read: what changes from now on makes stale what is done with it.
        now = time.time_ns()
        self.items = self._read_list(run_dir)
        self.positions = share(range(len(self.items)), stage.split_ind, stage.num_splits or 1)
        digests = [self.items.digests[position] for position in self.positions]
        self.marks = Marks(run_dir, stage.pipeline, stage.command)
        done = self.marks.read_some(digests)
        limits = self._limits(run_dir, digests)
        self.inputs = self._read_inputs(saved, digests)
        changed = self.inputs.times if self.inputs is not None else [NEVER] * len(digests)
        times = zip(done, limits, changed, strict=True)
        is_stale = [is_forced or then < max(newest) for then, *newest in times]
        if self.call not in (ITEM, ITEMS) and any(is_stale):
            is_stale = [True] * len(is_stale)
        self.newest = max(done, default=NEVER)
        self.since = max([now, *limits])
        if max(self.newest, self.since) > now:
            self.since = self._after_all(run_dir)
        pairs = zip(self.positions, is_stale, strict=True)
        self.unfinished = [position for position, is_one in pairs if is_one]
        self.num_done = 0
        self.values: Sequence[Any] = ()

    def _read_list(self, run_dir: str) -> ItemList:
        path = os.path.join(run_dir, items_file(self.stage.pipeline, self.stage.command))
        try:
            items = from_text(read_text(path))
        except CannotRead:
            items = None
        if items is None or items.digest != self.stage.items["digest"]:
            raise OtherItems(self.name, self.field)
        return items

    def _after_all(self, run_dir: str) -> int:
        """A time after all stamps and marks of the pipeline, as the clock was set back since.

        What needs these items has marks from the future, and must be older than theirs.
        """
        from rvrun.rundir.fingerprints import newest_stamp

        return max(self.since, newest_stamp(run_dir, self.stage.pipeline) + 1)

    def _read_inputs(self, saved: Any, digests: Sequence[str]) -> ItemInputs | None:
        """What the items of the share read now, and what they read when they were done."""
        if not self.stage.item_inputs:
            return None
        from rvrun.data.fingerprint import Finder
        from rvrun.rundir.item_inputs import ItemInputs

        values = saved_items(saved, self.field)
        if values is None or len(values) != len(self.items):
            raise OtherItems(self.name, self.field)
        share = [values[position] for position in self.positions]
        texts = Finder().of_items(self.stage.item_inputs, share, self.stage.produced)
        return ItemInputs(texts, self.marks.read_texts(digests))

    def _limits(self, run_dir: str, digests: Sequence[str]) -> list[int]:
        """The time of the newest thing on which each item depends."""
        own = newest(run_dir, self.stage.own)
        limits = [own] * len(digests)
        for command in self.stage.aligned:
            needed = Marks(run_dir, self.stage.pipeline, command).read_some(digests)
            limits = list(map(max, limits, needed))
        return limits

    def run(self, config: Any, saved: Any, method: Callable[..., Any]) -> None:
        """Call a command's method for the items that are not done, and mark those that are then.

        - `config`: the pipeline's. `saved`: its JSON values.

        Raises `OtherItems`, and whatever the method raises.
        """
        if not self.unfinished:
            return
        values = read_items(config, self.field)
        self._check(values, saved)
        self._check_inputs()
        # They may have written the same files as the items that follow them will.
        self.marks.keep_only(set(self.items.digests))
        if self.call == ITEM:
            for position in self.unfinished:
                with self._marking([position]):
                    method(values[position])
            return
        with self._marking(self.unfinished):
            if self.call == ITEMS:
                method([values[position] for position in self.unfinished])
            else:
                method(split_ind=self.stage.split_ind, num_splits=self.stage.num_splits)

    @contextlib.contextmanager
    def _marking(self, positions: Sequence[int]) -> Iterator[None]:
        """Mark items as done if no error is raised. Until then they have no mark."""
        digests = [self.items.digests[position] for position in positions]
        self.marks.remove(digests)
        yield
        self._check_outputs(positions)
        for position, digest in zip(positions, digests, strict=True):
            self.marks.add(digest, self.since, self._text(position))
        self.num_done += len(digests)
        self.newest = max(self.newest, self.since)

    def _text(self, position: int) -> str:
        """What an item has read, for its mark."""
        if self.inputs is None:
            return ""
        return self.inputs.texts[position - self.positions[0]]

    def _check_inputs(self) -> None:
        """Raise `MissingInput` unless the inputs of all unfinished items exist.

        Also let the run directory describe them.
        """
        if self.inputs is None:
            return
        from rvrun.data.fingerprint import missing
        from rvrun.rundir.declared_files import MissingInput
        from rvrun.rundir.item_inputs import refresh

        texts = {self.items.digests[p]: self._text(p) for p in self.unfinished}
        for text in texts.values():
            for path in missing(text):
                raise MissingInput(f"{self.name}/{self.stage.split_ind}", path)
        path = item_inputs(self.stage.pipeline, self.stage.command)
        refresh(self.run_dir, path, self.name, texts)

    def _check_outputs(self, positions: Sequence[int]) -> None:
        """Raise `MissingOutput` unless the outputs of these items exist."""
        if not self.stage.outputs:
            return
        from rvrun.patterns import is_per_item, item_path
        from rvrun.rundir.declared_files import check_written

        outputs = [output for output in self.stage.outputs if is_per_item(output)]
        name = f"{self.name}/{self.stage.split_ind}"
        check_written(name, [item_path(o, self.values[p]) for o in outputs for p in positions])

    def _check(self, values: Sequence[Any], saved: Any) -> None:
        """Raise `OtherItems` unless the unfinished items are those that were planned."""
        json_values = saved_items(saved, self.field)
        self.values = all_values = values if json_values is None else json_values
        if len(values) != len(self.items) or len(all_values) != len(self.items):
            raise OtherItems(self.name, self.field)
        chosen = to_json(all_values[position] for position in self.unfinished)
        for position, value in zip(self.unfinished, chosen, strict=True):
            if self.items.digests[position].partition(".")[0] != digest_of(value):
                raise OtherItems(self.name, self.field)


def read_items(config: Any, field: str) -> Sequence[Any]:
    """Return the items at a path of a config. Raises `UserCodeError` if its code raises."""
    from rvrun.pipelines.imports import user_code

    with user_code(f"reading the items `{field}`"):
        items: Sequence[Any] = read_path(config, field)
    return items


def run_share(
    config: Any, field: str, method: Callable[..., Any], split_ind: int, num_splits: int
) -> None:
    """Call a command's method for all items of a share, wherever that is."""
    import inspect

    parameters = inspect.signature(method).parameters
    if ITEM not in parameters and ITEMS not in parameters:
        method(split_ind=split_ind, num_splits=num_splits)
        return
    items = share(read_items(config, field), split_ind, num_splits)
    if ITEM in parameters:
        for item in items:
            method(item)
    elif items:
        method(list(items))
