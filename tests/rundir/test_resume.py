"""Random pipelines under real make: what runs, in which order, and what the status predicted."""

from __future__ import annotations

import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun import paths
from rvrun.model import DeclaredPipeline, NeedKind, Plan, Target
from rvrun.plan.compile import compile_plan
from rvrun.plan.serialize import plan_from_json, plan_to_json
from rvrun.plan.splits import SplitRequest
from rvrun.rundir.files import write
from rvrun.rundir.freshness import plan_status
from rvrun.runners.local.makefile import render_makefile
from tests.conftest import clean_environment
from tests.strategies import declared_pipelines

# In place of rvrun: logs the start and the end of a target, and touches its stamp; fails for names
# in $FAILING.
STAND_IN = """#!/bin/sh
name="$2 $3 $5 $7"
echo "start $name" >>"$LOG"
if grep -qxF "$name" "$FAILING"; then exit 1; fi
echo "end $name" >>"$LOG"
pipeline=${2##*/}
touch "$RVRUN_RUN_DIR/done/${pipeline%.json}/$3${7:+.$7/$5}"
"""


@attrs.frozen
class Bench:
    """A run directory in which make runs a stand-in for rvrun."""

    folder: pathlib.Path

    @property
    def run_dir(self) -> pathlib.Path:
        return self.folder / "run"

    def files(self, plan: Plan, configs: dict[str, str]) -> dict[str, str]:
        texts = {
            path: configs.get(pipeline.name, "one")
            for pipeline in plan.pipelines
            for path in (
                paths.config(pipeline.name),
                *(stage.config_file(pipeline.name) for stage in pipeline.stages),
            )
        }
        makefile = render_makefile(plan, out="run", workdir="..")
        return {paths.PLAN: plan_to_json(plan), paths.MAKEFILE: makefile, **texts}

    def make(self, failing: set[str], *words: str) -> list[str]:
        """Run make, and return the lines that targets logged."""
        log, names = self.folder / "log", self.folder / "failing"
        log.write_text("")
        names.write_text("".join(f"{name}\n" for name in sorted(failing)))
        stand_in = self.folder / "stand-in"
        if not stand_in.exists():
            stand_in.write_text(STAND_IN)
            stand_in.chmod(0o755)
        done = subprocess.run(
            ["make", f"RVRUN={stand_in}", "-C", self.run_dir, *words],
            env=clean_environment(LOG=str(log), FAILING=str(names)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (2 if failing else 0), done.stdout + done.stderr
        return log.read_text().splitlines()


@contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(pathlib.Path(folder))


def logged(target: Target) -> str:
    """Return the name of `target` in the stand-in's log."""
    config = f"run/{paths.config(target.pipeline)}"
    index = "" if target.split_ind is None else target.split_ind
    count = "" if target.num_splits is None else target.num_splits
    return f"{config} {target.command} {index} {count}"


def needed_targets(plan: Plan) -> dict[str, set[str]]:
    """Return, for each target, the targets that must end before it may start."""
    needed = {}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            for index, target in enumerate(stage.targets(pipeline.name)):
                before: set[str] = set()
                for need in stage.needs:
                    other = pipeline.stage(need.command)
                    if need.kind is NeedKind.ALIGNED:
                        before.add(logged(other.target(pipeline.name, index)))
                    else:
                        before |= set(map(logged, other.targets(pipeline.name)))
                needed[logged(target)] = before
    return needed


def stale_targets(bench: Bench, plan: Plan, files: dict[str, str]) -> set[str]:
    statuses = plan_status(plan, bench.run_dir, files)
    return {logged(target) for status in statuses for target in status.targets()}


plans = st.builds(
    lambda declared, count: compile_plan(declared, splits=[SplitRequest(count)]),
    declared_pipelines(max_pipelines=2, max_commands=5),
    st.integers(1, 3),
)


@settings(max_examples=40)
@given(plans, st.data())
@pytest.mark.usefixtures("processes")
def test_each_target_runs_once_and_after_what_it_needs(plan: Plan, data: st.DataObject) -> None:
    """Under make -j, with failures and resumes: once each, never early, and as predicted."""
    needed = needed_targets(plan)
    with bench() as here:
        files = here.files(plan, {})
        write(here.run_dir, files)
        done: set[str] = set()
        for failures in (True, True, False):
            failing = set()
            if failures and len(done) < len(needed):
                rest = sorted(needed.keys() - done)
                failing = data.draw(st.sets(st.sampled_from(rest), min_size=1, max_size=3))
            before = stale_targets(here, plan, files)
            assert before == needed.keys() - done
            started: set[str] = set()
            for line in here.make(failing, "-j4", "-k"):
                event, name = line.split(" ", 1)
                if event == "start":
                    assert name in before
                    assert name not in started | done
                    assert needed[name] <= done
                    started.add(name)
                else:
                    done.add(name)
            assert started & failing == started - done
        assert done == needed.keys()
        assert here.make(set(), "-j4") == []


@settings(max_examples=40)
@given(plans, st.data())
@pytest.mark.usefixtures("processes")
def test_changes_run_the_stale_targets(plan: Plan, data: st.DataObject) -> None:
    """After changes of configs and removed stamps, make runs exactly the stale targets."""
    with bench() as here:
        write(here.run_dir, here.files(plan, {}))
        here.make(set(), "-j4")
        names = [pipeline.name for pipeline in plan.pipelines]
        changed = data.draw(st.sets(st.sampled_from(names)))
        stamps = sorted(path for path in (here.run_dir / "done").rglob("*") if path.is_file())
        for stamp in data.draw(st.sets(st.sampled_from(stamps), max_size=3)):
            stamp.unlink()
        files = here.files(plan, dict.fromkeys(changed, "two"))
        expected = stale_targets(here, plan, files)
        write(here.run_dir, files)
        shown = here.make(set(), "-n")
        assert shown == []
        ran = [line for line in here.make(set(), "-j4") if line.startswith("start ")]
        assert sorted(ran) == sorted(f"start {name}" for name in expected)
        assert stale_targets(here, plan, files) == set()


@settings(max_examples=25)
@given(declared_pipelines(), st.lists(st.integers(1, 4), min_size=2, max_size=3))
@pytest.mark.usefixtures("processes")
def test_a_new_number_of_splits_makes_split_stages_stale(
    declared: list[DeclaredPipeline], counts: list[int]
) -> None:
    """Whenever the number of splits changes, the split stages run again, as predicted."""
    with bench() as here:
        before = None
        for count in counts:
            plan = compile_plan(declared, splits=[SplitRequest(count)])
            files = here.files(plan, {})
            expected = stale_targets(here, plan, files)
            write(here.run_dir, files)
            lines = [line for line in here.make(set(), "-j4") if line.startswith("start ")]
            assert sorted(lines) == sorted(f"start {name}" for name in expected)
            split = {logged(t) for t in plan.targets() if t.num_splits is not None}
            assert split <= expected or count == before
            before = count


@given(plans)
def test_no_two_targets_share_a_file(plan: Plan) -> None:
    """All stamps, joins, folders and goals of a plan differ, and no file is also a folder."""
    text = render_makefile(plan)
    goals = re.findall(r"^([^\s:#$]+)(?:/%)?:(?!=)", text, flags=re.MULTILINE)
    rules = [goal for goal in goals if goal.startswith("done/")]
    assert len(rules) == len(set(rules))
    files = [f"done/{target.path}" for target in plan.targets()]
    assert len(files) == len(set(files))
    for path in files:
        assert not any(str(parent) in files for parent in pathlib.PurePath(path).parents)


@given(plans)
def test_plans_survive_json(plan: Plan) -> None:
    """Reading plan.json gives the same plan, and writing that gives the same bytes."""
    text = plan_to_json(plan)
    assert plan_from_json(text) == plan
    assert plan_to_json(plan_from_json(text)) == text
