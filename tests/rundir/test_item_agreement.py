"""All agree on which items are stale, and exactly these run, also after targets were killed.

As in `test_agreement`, for pipelines whose split commands share out items.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
from collections import Counter

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun import item_list
from rvrun.item_list import make_list
from rvrun.model import (
    EACH,
    CodeMode,
    Command,
    DeclaredPipeline,
    ItemCall,
    Need,
    NeedKind,
    Plan,
    StageItems,
)
from rvrun.pipelines.config_keys import part_of
from rvrun.pipelines.serialize import digest
from rvrun.plan.compile import compile_plan
from rvrun.plan.diff import Side, diff_plans
from rvrun.plan.splits import SplitRequest
from rvrun.render.files import to_text
from rvrun.rundir.explain import explain
from rvrun.rundir.freshness import StageStatus
from tests.conftest import clean_environment
from tests.rundir.test_agreement import (
    KEYS,
    State,
    accept_all,
    check_agreement,
    edit,
    remove_stamps,
    set_clock_back,
    stale,
)

FIELD = "data.scenes"
#: In place of rvrun: does the items of a target as the worker does, and notes each. It fails at
#: the items that FAIL names.
STAND_IN = f"""#!{sys.executable}
import json, os, sys, types
from rvrun import paths
from rvrun.rundir.planned_stage import PlannedStage
from rvrun.rundir.target_lock import newest, renew_stamp, touch_stamp
from rvrun.worker.item_work import ItemWork
_, _, config, command, *split = sys.argv
name = os.path.basename(config).removesuffix(".json")
target = paths.target(name, command, *([split[1], int(split[3])] if split else []))
run_dir = os.environ["RVRUN_RUN_DIR"]
stage = PlannedStage.read(run_dir, target)
least = newest(run_dir, stage.prerequisites)
if stage.items:
    saved = json.load(open(os.path.join(run_dir, paths.config(name))))["config"]
    data = types.SimpleNamespace(scenes=saved["data"]["scenes"])
    work = ItemWork(run_dir, stage, saved, is_forced=False)
    if not work.unfinished:
        renew_stamp(run_dir, stage, max(least, work.newest))
        sys.exit()
    def do(items):
        with open(os.path.join(run_dir, "effects"), "a") as file:
            file.write("".join(f"{{name}}/{{command}} {{item}}\\n" for item in items))
            file.flush()
        if set(items) & set(map(int, os.environ.get("FAIL", "").split())):
            os.kill(os.getpid(), 9)
    if stage.items["call"] == "item":
        method = lambda item: do([item])
    elif stage.items["call"] == "items":
        method = do
    else:
        method = lambda split_ind, num_splits: do([data.scenes[i] for i in work.positions])
    work.run(types.SimpleNamespace(data=data), saved, method)
touch_stamp(run_dir, stage, least)
"""


@attrs.define
class ItemState(State):
    """A run directory of pipelines with items.

    - `scenes`: the items of each pipeline. `calls`: what each stage's method gets; None for a
      stage without items.
    """

    scenes: dict[str, list[int]] = attrs.field(factory=dict)
    calls: dict[str, ItemCall | None] = attrs.field(factory=dict)
    is_each: bool = False

    def plan(self) -> Plan:
        pipelines = []
        for pipeline in self.declared:
            commands = tuple(self.command(pipeline.name, c) for c in pipeline.commands)
            values = digest(self.config(pipeline.name))
            pipelines.append(attrs.evolve(pipeline, commands=commands, config_digest=values))
        splits = [SplitRequest(self.count)]
        if self.is_each:
            splits += [
                SplitRequest(EACH, command.name, pipeline.name)
                for pipeline in pipelines
                for command in pipeline.commands
                if command.items is not None
            ]
        return compile_plan(pipelines, splits=splits, code=self.mode)

    def command(self, pipeline: str, command: Command) -> Command:
        call = self.calls.get(f"{pipeline}/{command.name}")
        if call is None:
            return command
        items = make_list(self.scenes[pipeline])
        declared = StageItems(field=FIELD, count=len(items), digest=items.digest, call=call)
        return attrs.evolve(command, items=declared, item_list=items, num_items=len(items))

    def config(self, pipeline: str) -> dict[str, object]:
        return {
            **State.config(self, pipeline),
            "data": {"scenes": list(self.scenes[pipeline]), "other": 1},
        }

    def files(self) -> dict[str, str]:
        files = State.files(self)
        for pipeline in self.plan().pipelines:
            for stage in pipeline.stages:
                if stage.items is None:
                    continue
                part = part_of(self.config(pipeline.name), stage.config_keys, FIELD)
                files[stage.config_file(pipeline.name)] = to_text(part)
                path = stage.items_file(pipeline.name)
                assert path is not None
                items = make_list(self.scenes[pipeline.name])
                files[path] = item_list.to_text(stage.command, FIELD, items)
        return files

    def run(self, *fail: int) -> set[str]:
        """Run make, in which targets are killed at the items `fail`; return what it showed."""
        stand_in = self.folder / "stand-in"
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        environment = clean_environment(FAIL=" ".join(map(str, fail)))
        command = ["make", "-j2", *(["-k"] if fail else []), f"RVRUN={stand_in}"]
        done = subprocess.run(
            [*command, "-C", str(self.run_dir)],
            env=environment,
            capture_output=True,
            text=True,
            check=not fail,
        )
        return set(done.stdout.splitlines())

    def effects(self) -> Counter[str]:
        """Return how often each item was done since the last call."""
        path = self.run_dir / "effects"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return Counter(lines)

    def expected(self) -> Counter[str]:
        """The items that would run, as the status has them."""
        return Counter(
            f"{status.name} {self.scenes[status.pipeline][position]}"
            for status in self.statuses()
            if status.items is not None
            for position in status.items.stale
        )


def check_items(state: ItemState) -> None:
    """`explain` names the items that would run."""
    files, plan, statuses = state.files(), state.plan(), state.statuses()
    for status in statuses:
        if status.items is not None:
            explanation = explain(plan, state.run_dir, statuses, status.name, files=files)
            scenes = state.scenes[status.pipeline]
            labels = tuple(str(scenes[position]) for position in status.items.stale)
            assert explanation.items is not None
            assert explanation.items.labels == labels


def edit_items(state: ItemState, data: st.DataObject, done: Side | None) -> None:
    """Add, change, remove, repeat or reorder items; if all was done, only new ones would run."""
    name = data.draw(st.sampled_from(sorted(state.scenes)))
    before = list(state.scenes[name])
    state.scenes[name] = data.draw(
        st.one_of(
            st.permutations(before),
            st.lists(st.integers(0, 9), max_size=3).map(lambda more: [*before, *more]),
            st.lists(st.sampled_from(before), unique=True) if before else st.just([1]),
            st.lists(st.integers(0, 9), max_size=6),
        )
    )
    check_agreement(state)
    if done is None:
        return
    added = Counter(state.scenes[name]) - Counter(before)
    removed = Counter(before) - Counter(state.scenes[name])
    upstream: set[str] = set()
    for status in state.statuses():
        if status.pipeline != name or status.items is None:
            continue
        needs = {f"{name}/{need.command}" for need in status.stage.needs}
        call = status.stage.items and status.stage.items.call
        if not needs and call is not ItemCall.SHARE:
            scenes = state.scenes[name]
            # An item that comes back is still done, unless another item ran meanwhile.
            assert Counter(scenes[i] for i in status.items.stale) <= added
            upstream.add(status.name)
    if not added and not removed:
        assert all(
            not status.stale or status.reason.startswith("config changed")
            for status in state.statuses()
            if status.name in upstream
        )
    reruns = {rerun.name for rerun in diff_plans(done, state.side()).reruns}
    statuses = state.statuses()
    stale_stages = {status.name for status in statuses if status.stale}
    # A diff does not see the marks of items that come back.
    is_back = any(s.items and added - Counter(added_of(state, s)) for s in statuses)
    assert reruns >= stale_stages if is_back else reruns == stale_stages


def added_of(state: ItemState, status: StageStatus) -> list[int]:
    """The items of a stage that would run."""
    assert status.items is not None
    return [state.scenes[status.pipeline][position] for position in status.items.stale]


def only_moved(state: ItemState, data: st.DataObject) -> None:
    """Another number of splits, or another order, makes nothing stale and runs nothing."""
    configs = {status.name: status.stale for status in state.statuses()}
    state.count = data.draw(st.sampled_from((1, 2, 3, 4)))
    state.is_each = data.draw(st.booleans())
    check_agreement(state)
    shares = {s.name for s in state.statuses() if s.items is not None}
    for status in state.statuses():
        needs = {f"{status.pipeline}/{need.command}" for need in status.stage.needs}
        call = status.items and status.stage.items and status.stage.items.call
        if status.name in shares and not needs and call is not ItemCall.SHARE:
            assert bool(status.stale) == bool(configs[status.name])


CHANGES = (
    *("items", "items", "items", "items", "edit", "accept", "make", "make"),
    *("kill", "kill", "clock", "remove", "move", "move"),
)
COUNTS: Counter[str] = Counter()


@st.composite
def pipelines(draw: st.DrawFn, name: str) -> DeclaredPipeline:
    """Two to four commands, most of which can be split, each needing some of those before it."""
    commands: list[Command] = []
    for index in range(draw(st.integers(2, 4))):
        is_split = draw(st.sampled_from((True, True, True, False)))
        needs = []
        for command in commands:
            kinds = [None, NeedKind.ALL]
            kinds += [NeedKind.ALIGNED] * 2 if is_split and command.is_split else []
            if (kind := draw(st.sampled_from(kinds))) is not None:
                needs.append(Need(command.name, kind))
        keys = draw(st.none() | st.lists(st.sampled_from(KEYS), unique=True).map(tuple))
        command = Command(name=f"c{index}", is_split=is_split, needs=tuple(needs), config_keys=keys)
        commands.append(command)
    return DeclaredPipeline(name=name, config_digest="", commands=tuple(commands))


@st.composite
def states(draw: st.DrawFn, folder: str) -> ItemState:
    declared = [draw(pipelines(name)) for name in draw(st.sampled_from((["a"], ["a", "b"])))]
    calls = {
        f"{pipeline.name}/{command.name}": draw(st.sampled_from(ItemCall))
        for pipeline in declared
        for command in pipeline.commands
        if command.is_split
    }
    scenes = {p.name: draw(st.lists(st.integers(0, 9), max_size=6)) for p in declared}
    mode = draw(st.sampled_from((CodeMode.RERUN, CodeMode.RERUN, CodeMode.WARN)))
    return ItemState(pathlib.Path(folder), declared, mode, scenes=scenes, calls=calls)


@settings(max_examples=int(os.environ.get("EXAMPLES", "40")))
@given(st.lists(st.sampled_from(CHANGES), min_size=3, max_size=7), st.data())
@pytest.mark.usefixtures("processes")
def test_all_agree_about_items(changes: list[str], data: st.DataObject) -> None:
    """After each change; and a run does each stale item once, and no other."""
    with tempfile.TemporaryDirectory() as folder:
        state = data.draw(states(folder))
        check_agreement(state)
        done: Side | None = None
        for change in ("make", *changes, "make"):
            COUNTS[change] += 1
            if change == "make":
                expected = state.expected()
                state.run()
                assert state.effects() == expected
                COUNTS["items run"] += expected.total()
                assert stale(state.statuses()) == set()
                done = state.side()
            elif change == "kill":
                kill(state, data)
                done = None
            elif change == "items":
                edit_items(state, data, done)
                done = None
            elif change == "edit":
                edit(state, data, done)
                done = None
            elif change == "accept":
                edit(state, data, None)
                COUNTS["accepted stages"] += accept_all(state)
                done = None
            elif change == "clock":
                set_clock_back(state)
            elif change == "remove":
                remove_stamps(state, data)
                done = None
            else:
                only_moved(state, data)
                done = None
            check_agreement(state)
            check_items(state)


def kill(state: ItemState, data: st.DataObject) -> None:
    """Kill targets in the middle: what they finished stays done, and nothing else."""
    state.run(*data.draw(st.sets(st.integers(0, 9), min_size=2, max_size=5)))
    state.effects()


def test_something_happened(capsys: pytest.CaptureFixture[str]) -> None:
    """The changes above were made, as their counts show."""
    with capsys.disabled():
        print(f"\n{dict(COUNTS)}")
    assert not COUNTS or COUNTS["items run"] >= 50
