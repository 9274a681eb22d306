"""What a plan of some commands needs that is neither selected nor done."""

from __future__ import annotations

import pathlib

from rvrun.plan.compile import compile_plan
from rvrun.rundir.needs import missing_needs
from tests.build import pipeline
from tests.conftest import Project

DAG = pipeline("dag", "fetch", "chip*", "train", "eval", needs={"train": ["chip", "fetch"]})


def missing(folder: pathlib.Path, *selected: str) -> list[str]:
    return missing_needs([DAG], compile_plan([DAG], selected), folder)


def test_needs_that_never_finished_are_named(tmp_path: pathlib.Path) -> None:
    """Directly needed or through others, in the order of the pipeline; only what is missing."""
    sentence = "which are not selected and never finished here"
    assert missing(tmp_path) == []
    assert missing(tmp_path, "fetch", "chip") == []
    assert missing(tmp_path, "train") == [f"dag/train needs fetch and chip, {sentence}"]
    assert missing(tmp_path, "train", "eval") == [f"dag/train needs fetch and chip, {sentence}"]
    assert missing(tmp_path, "eval") == [f"dag/eval needs fetch, chip and train, {sentence}"]
    (tmp_path / "done/dag/chip.2").mkdir(parents=True)
    (tmp_path / "done/dag/fetch").touch()
    (tmp_path / "done/dag/chip.2/0").touch()
    one = "dag/train needs chip, which is not selected and never finished here"
    assert missing(tmp_path, "train") == [one]
    (tmp_path / "done/dag/chip.all").touch()
    assert missing(tmp_path, "train") == []


def test_a_run_warns_about_missing_needs(tiny: Project) -> None:
    """`run` and `plan` do, before anything runs; not after the needs have run."""
    warning = "warning: tiny/show needs cut, count and sum, which are not selected and never "
    assert tiny.rvrun("plan", "tiny.py", "show").stderr.startswith(warning)
    for words in (("run", "local", "tiny.py", "show"), ("run", "inprocess", "tiny.py", "show")):
        assert tiny.rvrun(*words, code=1).stderr.startswith(warning)
    tiny.rvrun("run", "local", "tiny.py")
    assert "warning" not in tiny.rvrun("run", "local", "tiny.py", "show", "-B").stderr
