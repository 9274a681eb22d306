"""All agree on which items are stale if the files that single items read change, and these run.

As in `test_item_agreement`, for pipelines whose commands declare inputs of items.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections import Counter

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun import paths
from rvrun.model import Command, ItemCall
from rvrun.rundir.files import write
from rvrun.rundir.freshness import AFTER, INPUT_CHANGED
from rvrun.rundir.inputs import input_fingerprints
from rvrun.rundir.renewal import agree_with_files, declares_files
from rvrun.rundir.settle import settle
from tests.rundir.test_agreement import HOUR_NS, accept_all, check_agreement, set_clock_back, stale
from tests.rundir.test_item_agreement import (
    ItemState,
    check_items,
    edit_items,
    kill,
    only_moved,
    states,
)


@attrs.define
class FileState(ItemState):
    """A run directory of pipelines of which some stages read a file for each item.

    - `readers`: the names of these stages.
    """

    readers: set[str] = attrs.field(factory=set)

    def command(self, pipeline: str, command: Command) -> Command:
        declared = ItemState.command(self, pipeline, command)
        if declared.items is None or f"{pipeline}/{command.name}" not in self.readers:
            return declared
        template = f"{self.folder}/data/{{item}}"
        paths = (str(self.path(item)) for item in self.scenes[pipeline])
        return attrs.evolve(declared, item_inputs=(template,), item_paths=tuple(paths))

    def path(self, item: int) -> pathlib.Path:
        return self.folder / "data" / str(item)

    def files(self) -> dict[str, str]:
        files = ItemState.files(self)
        return {**files, **input_fingerprints(self.plan(), self.run_dir, files)}

    def write(self) -> None:
        """Write all files, as `Prepared.write` does."""
        before = self.statuses() if declares_files(self.plan()) else []
        write(self.run_dir, self.files())
        agree_with_files(self.run_dir, before, "..")
        settle(self.run_dir, self.statuses())


def draw_item(state: FileState, data: st.DataObject) -> int:
    """Draw an item of some pipeline; any number if there is none."""
    items = sorted({item for scenes in state.scenes.values() for item in scenes})
    return data.draw(st.sampled_from(items or [0]))


def edit_file(state: FileState, data: st.DataObject, *, is_clean: bool, is_old: bool) -> None:
    """Edit the file of an item: this item is stale where it is read, and what needs that."""
    item = draw_item(state, data)
    with state.path(item).open("a") as file:
        file.write("more")
    if is_old:
        os.utime(state.path(item), ns=(0, HOUR_NS))
    if not is_clean:
        return
    for status in state.statuses():
        call = status.stage.items and status.stage.items.call
        scenes = state.scenes[status.pipeline]
        if status.items is not None and status.name in state.readers and item in scenes:
            assert status.reason.startswith((INPUT_CHANGED, AFTER)), status.reason
            COUNTS["stale by a file"] += 1
            own = {position for position, scene in enumerate(scenes) if scene == item}
            assert own <= set(status.items.stale)
            if call is not ItemCall.SHARE and not status.stage.needs:
                assert own == set(status.items.stale)
        elif status.stale:
            assert status.reason.startswith(AFTER), (status.name, status.reason, item)


def remove_and_restore(state: FileState, data: st.DataObject) -> None:
    path = state.path(draw_item(state, data))
    before = path.read_text()
    path.unlink()
    check_agreement(state)
    path.write_text(before)


CHANGES = (
    *("file", "file", "older", "touch", "restore", "accept", "plain", "kill"),
    *("make", "make", "make", "make"),
    *("clock", "forget", "items", "items", "move", "readers"),
)
COUNTS: Counter[str] = Counter()


def change_files(state: FileState, change: str, data: st.DataObject, *, is_clean: bool) -> None:
    """Make one of the changes of files."""
    if change in ("file", "older"):
        edit_file(state, data, is_clean=is_clean, is_old=change == "older")
    elif change == "touch":
        before = stale(state.statuses())
        if is_clean:
            os.utime(state.path(draw_item(state, data)))
            assert stale(state.statuses()) == before
    elif change == "restore":
        remove_and_restore(state, data)
    elif change == "accept":
        edit_file(state, data, is_clean=is_clean, is_old=False)
        COUNTS["accepted stages"] += accept_all(state)
    elif change == "plain":
        # make does not know what it cannot see, and what it does is right.
        edit_file(state, data, is_clean=False, is_old=False)
        state.run()
        state.effects()


def change_rest(state: FileState, change: str, data: st.DataObject) -> None:
    """Make one of the other changes."""
    if change == "kill":
        kill(state, data)
    elif change == "clock":
        set_clock_back(state)
    elif change == "forget":
        shutil.rmtree(state.run_dir / paths.INPUTS, ignore_errors=True)
    elif change == "items":
        edit_items(state, data, None)
    elif change == "move":
        only_moved(state, data)
    elif change == "readers":
        state.readers ^= {name for name in sorted(state.calls) if data.draw(st.booleans())}


@settings(max_examples=int(os.environ.get("EXAMPLES", "25")))
@given(st.lists(st.sampled_from(CHANGES), min_size=3, max_size=7), st.data())
@pytest.mark.usefixtures("processes")
def test_all_agree_about_files_of_items(changes: list[str], data: st.DataObject) -> None:
    """After each change; and a run does each stale item once, and no other."""
    with tempfile.TemporaryDirectory() as folder:
        base = data.draw(states(folder))
        fields = {field.name: getattr(base, field.name) for field in attrs.fields(ItemState)}
        state = FileState(**fields, readers=set(base.calls))
        state.path(0).parent.mkdir()
        for item in range(10):
            state.path(item).write_text(str(item))
        check_agreement(state)
        is_clean = False
        for change in ("make", *changes, "make"):
            COUNTS[change] += 1
            if change == "make":
                state.write()
                expected = state.expected()
                state.run()
                assert state.effects() == expected
                COUNTS["items run"] += expected.total()
                assert stale(state.statuses()) == set()
            elif change in ("file", "older", "touch", "restore", "accept", "plain"):
                change_files(state, change, data, is_clean=is_clean)
            else:
                change_rest(state, change, data)
            is_clean = change == "make"
            check_agreement(state)
            check_items(state)


def test_something_happened(capsys: pytest.CaptureFixture[str]) -> None:
    """The changes above were made, as their counts show."""
    with capsys.disabled():
        print(f"\n{dict(COUNTS)}")
    assert not COUNTS or (COUNTS["items run"] >= 50 and COUNTS["stale by a file"] >= 5)
