"""make, the status, explanations and diffs agree on what is stale, after any sequence of changes.

The changes are edits of configs and code, removed stamps, a clock that is set back, accepted
changes, and runs. Targets touch their stamps as the worker does.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun import paths
from rvrun.model import CodeMode, Command, DeclaredPipeline, Plan, Stage
from rvrun.pipelines.config_keys import narrow
from rvrun.pipelines.serialize import digest
from rvrun.plan.compile import compile_plan
from rvrun.plan.diff import Side, diff_plans
from rvrun.plan.serialize import plan_to_json
from rvrun.plan.splits import SplitRequest
from rvrun.render.files import to_text
from rvrun.rundir.accept import find_acceptable, has_changed, renew
from rvrun.rundir.explain import explain
from rvrun.rundir.files import write
from rvrun.rundir.freshness import StageStatus, plan_status
from rvrun.rundir.settle import settle
from rvrun.rundir.times import NEVER
from rvrun.runners.local.makefile import render_makefile
from tests.conftest import clean_environment
from tests.strategies import declared_pipelines

KEYS = ("lr", "model.depth", "seed")
HOUR_NS = 3_600_000_000_000
#: In place of rvrun: touches the stamp of a target as the worker does.
STAND_IN = f"""#!{sys.executable}
import os, sys
from rvrun import paths
from rvrun.rundir.planned_stage import PlannedStage
from rvrun.rundir.target_lock import newest, touch_stamp
_, _, config, command, *split = sys.argv
name = os.path.basename(config).removesuffix(".json")
target = paths.target(name, command, *([split[1], int(split[3])] if split else []))
run_dir = os.environ["RVRUN_RUN_DIR"]
stage = PlannedStage.read(run_dir, target)
touch_stamp(run_dir, stage, newest(run_dir, stage.prerequisites))
"""


@attrs.define
class State:
    """A run directory, and what its pipelines would run with.

    - `values`: the config of each pipeline. `code`: the hash of each stage's code.
    """

    folder: pathlib.Path
    declared: list[DeclaredPipeline]
    mode: CodeMode
    count: int = 2
    values: dict[str, dict[str, object]] = attrs.field(factory=dict)
    code: dict[str, int] = attrs.field(factory=Counter)

    @property
    def run_dir(self) -> pathlib.Path:
        return self.folder / "run"

    def plan(self) -> Plan:
        pipelines = [
            attrs.evolve(pipeline, config_digest=digest(self.config(pipeline.name)))
            for pipeline in self.declared
        ]
        return compile_plan(pipelines, splits=[SplitRequest(self.count)], code=self.mode)

    def config(self, pipeline: str) -> dict[str, object]:
        start = {"$type": "a:B", "root_uri": "out", "lr": 0, "seed": 0, "model": {"depth": 0}}
        return self.values.setdefault(pipeline, start)

    def fingerprint(self, pipeline: str, stage: Stage) -> str:
        number = self.code[f"{pipeline}/{stage.command}"]
        return f"# Code fingerprint, version 1: test\na.f  {number:016}\n"

    def files(self) -> dict[str, str]:
        plan = self.plan()
        makefile = render_makefile(plan, out="run", workdir="..")
        files = {paths.PLAN: plan_to_json(plan), paths.MAKEFILE: makefile}
        for pipeline in plan.pipelines:
            config = self.config(pipeline.name)
            files[paths.config(pipeline.name)] = to_text({"config": config})
            for stage in pipeline.stages:
                if stage.config_keys is not None:
                    part = narrow(config, stage.config_keys)
                    files[stage.config_file(pipeline.name)] = to_text(part)
                if path := stage.code_file(pipeline.name):
                    files[path] = self.fingerprint(pipeline.name, stage)
        return files

    def statuses(self) -> list[StageStatus]:
        return plan_status(self.plan(), self.run_dir, self.files())

    def write(self) -> None:
        """Write all files, as `Prepared.write` does."""
        write(self.run_dir, self.files())
        settle(self.run_dir, self.statuses())

    def side(self) -> Side:
        names = [pipeline.name for pipeline in self.declared]
        # Copies: edits change the values in place.
        configs = {name: {**self.config(name)} for name in names}
        return Side(plan=self.plan(), configs=configs, code=self.files())

    @property
    def stand_in(self) -> str:
        """The text of a program in place of rvrun."""
        return STAND_IN

    def make(self, *words: str) -> str:
        stand_in = self.folder / "stand-in"
        if not stand_in.exists():
            stand_in.write_text(self.stand_in)
            stand_in.chmod(0o755)
        command = ["make", f"RVRUN={stand_in}", "-C", str(self.run_dir), *words]
        done = subprocess.run(
            command, env=clean_environment(), capture_output=True, text=True, check=True
        )
        return done.stdout

    def shown_by_make(self) -> set[str]:
        """The targets that `make -n` would run."""
        line = re.compile(r"run_command run/config/(\S+)\.json (\w[\w-]*)(?: --split-ind (\d+))?")
        targets = line.findall(self.make("-n"))
        return {"/".join(filter(None, (name, *rest))) for name, *rest in targets}


def stale(statuses: list[StageStatus]) -> set[str]:
    return {target.name for status in statuses for target in status.targets()}


def check_agreement(state: State) -> None:
    """What would run is the same before and after writing, for make, the status and `explain`."""
    files, plan = state.files(), state.plan()
    before = state.statuses()
    state.write()
    after = state.statuses()
    assert stale(before) == stale(after) == state.shown_by_make()
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            for target in stage.targets(pipeline.name):
                reason = explain(plan, state.run_dir, after, target.name, files=files).reason
                assert bool(reason) == (target.name in stale(after)), (target.name, reason)


def edit(state: State, data: st.DataObject, done: Side | None) -> None:
    """Edit a config or a stage's code; if all was done, a diff shows what is stale."""
    plan = state.plan()
    pipeline = data.draw(st.sampled_from(plan.pipelines))
    if data.draw(st.booleans()):
        key, _, nested = data.draw(st.sampled_from(KEYS)).partition(".")
        number = data.draw(st.integers(0, 3))
        config = {**state.config(pipeline.name), key: {nested: number} if nested else number}
        state.values[pipeline.name] = config
    else:
        stage = data.draw(st.sampled_from(pipeline.stages))
        state.code[f"{pipeline.name}/{stage.command}"] += 1
    check_agreement(state)
    if done is not None:
        reruns = {rerun.name for rerun in diff_plans(done, state.side()).reruns}
        assert reruns == {status.name for status in state.statuses() if status.stale}


def accept_all(state: State) -> int:
    """Accept all that can be accepted: exactly that is then up to date."""
    statuses = state.statuses()
    acceptance = find_acceptable(statuses)
    write(state.run_dir, state.files())
    renew(state.run_dir, statuses, acceptance.valid)
    settle(state.run_dir, state.statuses())
    after = {status.name: status for status in state.statuses()}
    for status in statuses:
        valid = acceptance.valid[status.name].targets
        expected = tuple(index for index, is_valid in enumerate(valid) if not is_valid)
        assert after[status.name].stale == expected
        # Nothing that was up to date is stale now.
        assert set(expected) <= set(status.stale)
    for status in acceptance.accepted:
        assert not has_changed(after[status.name])
        items = after[status.name].items
        if items is None:
            assert not after[status.name].stale
        else:
            assert {items.done[position] for position in items.reasons} <= {NEVER}
    return len(acceptance.accepted)


def set_clock_back(state: State) -> None:
    """Let an hour that passed lie ahead: all files are from the future."""
    for path in state.run_dir.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime_ns + HOUR_NS
            os.utime(path, ns=(then, then))


def remove_stamps(state: State, data: st.DataObject) -> None:
    stamps = sorted(p for p in (state.run_dir / paths.DONE).rglob("*") if p.is_file())
    for stamp in data.draw(st.lists(st.sampled_from(stamps), max_size=2)) if stamps else ():
        stamp.unlink(missing_ok=True)


CHANGES = ("edit", "edit", "edit", "accept", "accept", "make", "clock", "remove", "count", "forget")
COUNTS: Counter[str] = Counter()


@settings(max_examples=40)
@given(
    declared_pipelines(max_pipelines=2, max_commands=4),
    st.sampled_from((CodeMode.RERUN, CodeMode.RERUN, CodeMode.RERUN, CodeMode.WARN)),
    st.lists(st.sampled_from(CHANGES), min_size=3, max_size=7),
    st.data(),
)
@pytest.mark.usefixtures("processes")
def test_all_agree(
    declared: list[DeclaredPipeline], mode: CodeMode, changes: list[str], data: st.DataObject
) -> None:
    """After each change, and a run leaves nothing stale, whatever the clock says."""
    keys = st.none() | st.lists(st.sampled_from(KEYS), unique=True).map(tuple)
    declared = [
        attrs.evolve(
            pipeline,
            commands=tuple(attrs.evolve(c, config_keys=data.draw(keys)) for c in pipeline.commands),
        )
        for pipeline in declared
    ]
    with tempfile.TemporaryDirectory() as folder:
        state = State(pathlib.Path(folder), declared, mode)
        check_agreement(state)
        done: Side | None = None
        for change in ("make", *changes, "make"):
            COUNTS[change] += 1
            if change == "make":
                state.make("-j2")
                assert stale(state.statuses()) == set()
                done = state.side()
            elif change == "edit":
                edit(state, data, done)
            elif change == "accept":
                edit(state, data, None)
                COUNTS["accepted stages"] += accept_all(state)
                done = None
            elif change == "clock":
                set_clock_back(state)
            elif change == "forget":
                # As in a run directory of a version without fingerprints.
                shutil.rmtree(state.run_dir / paths.CODE, ignore_errors=True)
                done = None
            elif change == "remove":
                remove_stamps(state, data)
                done = None
            else:
                state.count = 5 - state.count
                done = None
            check_agreement(state)


@pytest.mark.usefixtures("processes")
def test_the_stamp_of_all_splits_was_removed(tmp_path: pathlib.Path) -> None:
    """Nothing would run, and nothing is shown to run."""
    commands = (Command(name="part", is_split=True), Command(name="last"))
    pipeline = DeclaredPipeline(name="p", config_digest=f"sha256:{0:064x}", commands=commands)
    state = State(tmp_path, [pipeline], CodeMode.RERUN)
    check_agreement(state)
    state.make("-j2")
    (state.run_dir / "done/p/part.all").unlink()
    check_agreement(state)
    assert stale(state.statuses()) == set()


def test_something_was_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """The changes above were made, as their counts show."""
    with capsys.disabled():
        print(f"\n{dict(COUNTS)}")
    assert not COUNTS or COUNTS["accepted stages"] >= 5


def test_files_are_read_as_they_are(tmp_path: pathlib.Path) -> None:
    """A fingerprint that has other comments is the same, and is not written again."""
    before: Mapping[str, str] = {"code/a/f.txt": "# Code fingerprint, version 1: x\na.f  1  a.g\n"}
    after = {"code/a/f.txt": "# Code fingerprint, version 1: y\na.f  1\n"}
    assert write(tmp_path, before) == ["code/a/f.txt"]
    assert write(tmp_path, after) == []
    assert write(tmp_path, {"code/a/f.txt": "# Code fingerprint, version 1: y\na.f  2\n"})
