"""As `test_agreement`, for commands that declare inputs and outputs.

Inputs are edited, also by older files, touched, added, removed and restored, outputs are removed,
fingerprints are forgotten, and clocks are set back. Targets do what the worker does.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile
from collections import Counter

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun import paths
from rvrun.data.fingerprint import Finder
from rvrun.model import CodeMode, Command, DeclaredPipeline
from rvrun.patterns import any_split, output_path
from rvrun.plan.compile import explicit_needs, sort
from rvrun.rundir.files import write
from rvrun.rundir.freshness import AFTER, INPUT_CHANGED, NOT_DONE, OUTPUT_MISSING
from rvrun.rundir.inputs import input_fingerprints
from rvrun.rundir.renewal import agree_with_files
from tests.rundir import test_agreement as base
from tests.strategies import declared_pipelines

STAND_IN = f"""#!{sys.executable}
import os, pathlib, sys
from rvrun import paths
from rvrun.errors import RvrunError
from rvrun.rundir.declared_files import of_plan
from rvrun.rundir.planned_stage import PlannedStage
from rvrun.rundir.target_lock import newest, touch_stamp
_, _, config, command, *split = sys.argv
name = os.path.basename(config).removesuffix(".json")
target = paths.target(name, command, *([split[1], int(split[3])] if split else []))
run_dir = os.environ["RVRUN_RUN_DIR"]
stage = PlannedStage.read(run_dir, target)
files = of_plan(stage, target)
try:
    files.check_inputs()
    files.refresh_fingerprint(run_dir, stage)
    least = newest(run_dir, stage.prerequisites)
    for path in (*files.own, *files.shared):
        pathlib.Path(path.replace("*", "x")).write_text(target)
    files.check_outputs()
    touch_stamp(run_dir, stage, least)
    files.check_shared(run_dir, stage)
except RvrunError as error:
    sys.exit(str(error))
"""

#: Files that commands read, and patterns for them.
FILES = ("data/a", "data/b", "data/g1", "data/g2", "data/sub/d1", "data/sub/d2")
PATTERNS = ("data/a", "data/b", "data/g*", "data/sub", "data/**/d?")


class State(base.State):
    """A run directory whose pipelines declare files below `folder`."""

    @property
    def stand_in(self) -> str:
        return STAND_IN

    def files(self) -> dict[str, str]:
        files = super().files()
        return {**files, **input_fingerprints(self.plan(), self.run_dir, files)}

    def write(self) -> None:
        """Write all files, as `Prepared.write` does."""
        before = self.statuses()
        write(self.run_dir, self.files())
        agree_with_files(self.run_dir, before, "..")

    def path(self, name: str) -> pathlib.Path:
        return self.folder / name

    def outputs(self) -> list[tuple[str, pathlib.Path]]:
        """The outputs of all targets, with the names of their stages."""
        return [
            (f"{p.name}/{s.command}", pathlib.Path(output_path(output, index, s.num_splits)))
            for p in self.plan().pipelines
            for s in p.stages
            for output in s.outputs
            for index in range(s.num_targets)
        ]


@st.composite
def commands_with_files(
    draw: st.DrawFn, pipeline: DeclaredPipeline, folder: str
) -> tuple[Command, ...]:
    """The commands of a pipeline, with inputs and outputs; inputs may be outputs of needs."""
    graph = sort(pipeline.name, explicit_needs(pipeline))
    commands = {command.name: command for command in pipeline.commands}
    reached: dict[str, set[str]] = {}
    for name, needs in graph.items():
        near = {need.command for need in needs}
        reached[name] = near.union(*(reached[other] for other in near))
        command = commands[name]
        own = f"{folder}/out/{pipeline.name}-{name}-"
        kinds = ("all", "{split_ind}.of-{num_splits}") if command.is_split else ("all", "gl*b")
        outputs = draw(st.lists(st.sampled_from(kinds), unique=True, max_size=2))
        inputs = draw(st.lists(st.sampled_from(PATTERNS), unique=True, max_size=2))
        written = [any_split(o) for other in sorted(reached[name]) for o in commands[other].outputs]
        produced = (
            draw(st.lists(st.sampled_from(written), unique=True, max_size=1)) if written else []
        )
        commands[name] = attrs.evolve(
            command,
            config_keys=(),
            inputs=(*(f"{folder}/{path}" for path in inputs), *produced),
            outputs=tuple(f"{own}{kind}" for kind in outputs),
        )
    return tuple(commands[command.name] for command in pipeline.commands)


def matching(state: State, name: str) -> set[str]:
    """The stages that declare a file among their inputs."""
    finder = Finder()
    path = str(state.path(name))
    return {
        f"{p.name}/{s.command}"
        for p in state.plan().pipelines
        for s in p.stages
        if path in finder.text("", s.inputs, s.produced)
    }


def check_reasons(state: State, direct: set[str], reason: str, detail: str) -> None:
    """All of `direct` are stale for this reason or after another stage, and what needs them is."""
    for status in state.statuses():
        if status.name in direct:
            assert status.stale
            assert status.reason.startswith((reason, AFTER)), status.reason
        elif status.stale:
            assert status.reason.startswith(AFTER), (status.name, status.reason, detail)


def edit_input(state: State, data: st.DataObject, *, is_clean: bool, is_old: bool) -> None:
    """Edit a file: what reads it is stale, and nothing else but what needs that."""
    name = data.draw(st.sampled_from(FILES))
    with state.path(name).open("a") as file:
        file.write("more")
    if is_old:
        os.utime(state.path(name), ns=(0, base.HOUR_NS))
    if is_clean:
        check_reasons(state, matching(state, name), INPUT_CHANGED, name)


def remove_and_restore(state: State, data: st.DataObject) -> None:
    """Remove a file, and let it come back."""
    name = data.draw(st.sampled_from(FILES))
    before = state.path(name).read_text()
    state.path(name).unlink()
    base.check_agreement(state)
    state.path(name).write_text(before)


def lose_output(state: State, data: st.DataObject, *, is_clean: bool) -> None:
    """Remove an output: its target is stale because of that."""
    outputs = state.outputs()
    if not outputs:
        return
    COUNTS["lost outputs"] += 1
    stage, path = data.draw(st.sampled_from(outputs))
    for file in path.parent.glob(path.name):
        file.unlink()
    if is_clean:
        check_reasons(state, {stage}, OUTPUT_MISSING, str(path))


CHANGES = (
    *("input", "older", "touch", "lose", "lose", "restore"),
    *("accept", "accept", "make", "plain", "clock", "clock files", "forget", "edit", "count"),
)
COUNTS: Counter[str] = Counter()


def change_files(state: State, change: str, data: st.DataObject, *, is_clean: bool) -> None:
    """Make one of the changes that `CHANGES` names."""
    if change in ("input", "older"):
        edit_input(state, data, is_clean=is_clean, is_old=change == "older")
    elif change == "touch":
        before = base.stale(state.statuses())
        os.utime(state.path(data.draw(st.sampled_from(FILES))))
        assert base.stale(state.statuses()) == before
    elif change == "lose":
        lose_output(state, data, is_clean=is_clean)
    elif change == "restore":
        remove_and_restore(state, data)
    elif change == "accept":
        edit_input(state, data, is_clean=is_clean, is_old=False)
        COUNTS["accepted stages"] += base.accept_all(state)
    elif change == "plain":
        # Without rvrun: make sees some of it, and what it does is right.
        edit_input(state, data, is_clean=False, is_old=False)
        state.make("-j2")
    elif change == "clock":
        base.set_clock_back(state)
    elif change == "clock files":
        base.set_clock_back(state)
        for name in FILES:
            then = state.path(name).stat().st_mtime_ns + base.HOUR_NS
            os.utime(state.path(name), ns=(then, then))


def change_rest(state: State, change: str, data: st.DataObject) -> None:
    """Make one of the other changes."""
    if change == "forget":
        shutil.rmtree(state.run_dir / paths.INPUTS, ignore_errors=True)
    elif change == "edit":
        base.edit(state, data, None)
    elif change == "count":
        state.count = 5 - state.count


@settings(max_examples=30)
@given(
    declared_pipelines(max_pipelines=2, max_commands=4),
    st.lists(st.sampled_from(CHANGES), min_size=3, max_size=7),
    st.data(),
)
@pytest.mark.usefixtures("processes")
def test_all_agree(
    declared: list[DeclaredPipeline], changes: list[str], data: st.DataObject
) -> None:
    """After each change, and a run leaves nothing stale, whatever the clock says."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("out", "data/sub"):
            pathlib.Path(folder, name).mkdir(parents=True)
        for name in FILES:
            pathlib.Path(folder, name).write_text(name)
        declared = [
            attrs.evolve(pipeline, commands=data.draw(commands_with_files(pipeline, folder)))
            for pipeline in declared
        ]
        state = State(pathlib.Path(folder), declared, CodeMode.RERUN)
        base.check_agreement(state)
        assert {status.reason for status in state.statuses()} == {NOT_DONE}
        is_clean = False
        for change in ("make", *changes, "make"):
            COUNTS[change] += 1
            if change == "make":
                state.make("-j2")
                assert base.stale(state.statuses()) == set()
            else:
                change_files(state, change, data, is_clean=is_clean)
                change_rest(state, change, data)
            is_clean = change == "make"
            base.check_agreement(state)


def test_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """The changes above were made, as their counts show."""
    with capsys.disabled():
        print(f"\n{dict(COUNTS)}")
    assert not COUNTS or min(COUNTS["accepted stages"], COUNTS["lost outputs"]) >= 2
