"""Code changes on the command line: plan, explain, diff, accept, and the setting `code`."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable

import pytest

from tests.conftest import ROOT, Project

LAND = """
import pathlib
import rvrun
import windows

class LandConfig(rvrun.PipelineConfig):
    top: int = 1
    size: int = 1
    def build(self):
        return Land(self)

class Land(rvrun.Pipeline):
    commands = ("chip", "train", "eval")
    split_commands = ("chip",)
    config_keys = {"chip": ("size",), "eval": ()}
    def chip(self, split_ind=0, num_splits=1):
        print(windows.share(split_ind))
    def train(self):
        print("train", self.config.top)
    def eval(self):
        print("eval")

def get_config(runner, root_uri="out", top=1, size=1):
    return LandConfig(root_uri=root_uri, top=top, size=size)
"""
WINDOWS = """
def share(index):
    return cut(index)

def cut(index):
    return index + 1

def unused():
    pass
"""
WORDS = ("land.py", "--splits", "2")


@pytest.fixture
def land(project: Project) -> Project:
    """A project in which all of pipeline `land` was run."""
    project.write("land.py", LAND)
    project.write("windows.py", WINDOWS)
    project.rvrun("run", "local", *WORDS)
    return project


def edit(project: Project, old: str, new: str, path: str = "windows.py") -> None:
    text = project.read(path)
    assert old in text
    project.write(path, text.replace(old, new))


def reasons(
    project: Project, *words: str, code: str | None = None, cache: str = "/nonexistent"
) -> dict[str, str]:
    """Why each stage would run, as `rvrun plan` shows it."""
    env = {"COLUMNS": "200", "XDG_CACHE_HOME": cache, **({"RVRUN_CODE": code} if code else {})}
    done = project.run("rvrun", "plan", *WORDS, *words, code=0, cwd=".", **env)
    rows = [line for line in done.stdout.splitlines() if line.startswith("land/")]
    return {row.split()[0]: " ".join(row.rpartition("cpu")[2].split()) for row in rows}


def would_run(project: Project) -> int:
    """How many targets make would run."""
    return project.make("-n", "-C", "runs/land").stdout.count("run_command")


UP_TO_DATE = {f"land/{name}": "up to date" for name in ("chip", "train", "eval")}
CHANGED = {
    "land/chip": "2 of 2 code changed: Land.chip → windows.share → windows.cut",
    "land/train": "run after chip",
    "land/eval": "run after train",
}


def test_a_changed_function(land: Project) -> None:
    """The plan names the way to it; make runs what the plan shows, once."""
    assert reasons(land) == UP_TO_DATE
    edit(land, "index + 1", "index + 2")
    assert reasons(land) == CHANGED
    text = land.rvrun("explain", "land/chip/1", *WORDS).stdout
    assert "code changed: Land.chip → windows.share → windows.cut\n" in text
    assert "  code       would change\n" in text
    land.rvrun("render", "local", *WORDS)
    assert would_run(land) == 4
    assert reasons(land) == CHANGED
    assert "code changed: Land.chip" in land.rvrun("explain", "land/chip").stdout
    land.make("-C", "runs/land")
    assert reasons(land) == UP_TO_DATE


def test_a_fingerprint_as_text(project: Project, golden: Callable[[str, str], None]) -> None:
    """That of a command of the land-cover example."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    project.rvrun("render", "local", "examples/landcover.py")
    golden("landcover.chip.txt", project.read("runs/landcover/code/landcover/chip.txt"))


def test_edits_that_do_not_count(land: Project) -> None:
    """Comments, docstrings, layout, and what no command reaches."""
    edit(land, "    return cut(index)", '    """Share."""\n    # why\n    return cut(\n index)')
    edit(land, "    pass", "    return 1")
    edit(land, "def get_config(", "def more(): pass\ndef get_config(", "land.py")
    assert reasons(land) == UP_TO_DATE
    land.rvrun("render", "local", *WORDS)
    assert would_run(land) == 0


def test_a_diff_names_the_way(land: Project) -> None:
    """Between a run directory and a config, and between saved plans."""
    land.rvrun("plan", *WORDS, "--out", "plans/land")
    edit(land, "index + 1", "index + 2")
    done = land.rvrun("diff", "runs/land", *WORDS, code=1)
    assert done.stdout == (
        "~ land/chip  code changed: Land.chip → windows.share → windows.cut\n"
        "would run again:\n"
        "  land/chip   2 targets, code changed: Land.chip → windows.share → windows.cut\n"
        "  land/train  after chip\n"
        "  land/eval   after train\n"
    )
    document = json.loads(land.rvrun("diff", "plans/land", *WORDS, "--json", code=1).stdout)
    (change,) = document["changes"]
    assert change["what"] == "code: Land.chip → windows.share → windows.cut"
    assert change["old"] != change["new"]
    checked = land.rvrun("plan", *WORDS, "--check", "plans/land", code=1)
    assert "out of date: plans/land/code/land/chip.txt\n" in checked.stderr


def test_changes_are_accepted(land: Project) -> None:
    """Stamps stay valid, a record says by whom, and later edits count again."""
    edit(land, "index + 1", "index + 2")
    assert "would accept land/chip" in land.rvrun("accept", "--dry-run").stderr
    assert reasons(land) == CHANGED
    way = "code: Land.chip → windows.share → windows.cut"
    assert land.rvrun("accept", "land/chip").stderr == f"accepted land/chip: {way}\n"
    assert reasons(land) == UP_TO_DATE
    assert would_run(land) == 0
    (line,) = land.read("runs/land/records/.accepted/land.jsonl").splitlines()
    record = json.loads(line)
    assert record["command"] == "chip"
    assert record["host"] == os.uname().nodename
    assert (
        f"by {record['user']}@{record['host']}: {way}" in land.rvrun("explain", "land/chip").stdout
    )
    edit(land, "index + 2", "index + 3")
    assert reasons(land) == CHANGED
    assert land.rvrun("accept").stderr == f"accepted land/chip: {way}\n"
    assert land.rvrun("accept").stderr == "no code, config or input changed since it was run\n"


def test_changes_of_the_config_are_accepted(land: Project) -> None:
    """Only of the stages that are named, and only if nothing else makes them stale."""
    words = ("--config", *WORDS, "-a", "top", "2", "-a", "size", "3")
    refused = land.rvrun("accept", "land/train", *words, code=2)
    assert refused.stderr == (
        "rvrun: the changes of land/train cannot be accepted: it would run after chip, which is "
        "stale\n"
    )
    done = land.rvrun("accept", "land/chip", *words)
    assert done.stderr == "accepted land/chip: config: size\n"
    assert reasons(land, "-a", "top", "2", "-a", "size", "3") == {
        "land/chip": "up to date",
        "land/train": "run config changed: top, size",
        "land/eval": "run after train",
    }
    assert would_run(land) == 2


def test_what_was_not_done_cannot_be_accepted(land: Project) -> None:
    """A split without a stamp has no outputs that could be kept."""
    (land.folder / "runs/land/done/land/chip.2/1").unlink()
    edit(land, "index + 1", "index + 2")
    refused = land.rvrun("accept", "land/chip", code=2)
    assert "1 of 2 splits were never done" in refused.stderr
    assert "not accepted land/chip: 1 of 2 splits" in land.rvrun("accept").stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("land.py",), "write --config land.py"),
        (("land/chip/1",), "STAGE must be a stage as a whole, got the split land/chip/1"),
        (("--splits", "2"), "--splits requires a config; add --config CONFIG"),
        (("land/chop",), "unknown command `chop`"),
        (("--run", "nowhere"), "nowhere"),
    ],
)
def test_bad_calls(land: Project, words: tuple[str, ...], problem: str) -> None:
    """Each says what to write."""
    assert problem in land.rvrun("accept", *words, code=2).stderr


def test_changes_are_only_shown(land: Project) -> None:
    """With `code = "warn"` nothing runs again, and the plan says what changed."""
    land.write("rvrun.toml", 'code = "warn"\n')
    edit(land, "index + 1", "index + 2")
    way = "code changed: Land.chip → windows.share → windows.cut"
    expected = {**UP_TO_DATE, "land/chip": f"up to date ignored: {way}"}
    assert reasons(land) == expected
    land.rvrun("run", "local", *WORDS)
    assert would_run(land) == 0
    assert reasons(land) == expected


def test_nobody_looks(land: Project) -> None:
    """With `code = "off"` there are no fingerprints and no prerequisites."""
    edit(land, "index + 1", "index + 2")
    assert reasons(land, code="off") == UP_TO_DATE
    land.rvrun("render", "local", *WORDS, "--out", "runs/other", RVRUN_CODE="off")
    assert not (land.folder / "runs/other/code").exists()
    assert "code/" not in land.read("runs/other/Makefile")
    done = land.rvrun("diff", "runs/land", "runs/other", code=1)
    assert "~ land/chip   code rerun → off\n" in done.stdout


def test_an_earlier_run_directory(land: Project) -> None:
    """Nothing runs again in it, a warning says why, and later edits count."""
    for path in (land.folder / "runs/land/code/land").iterdir():
        path.unlink()
    edit(land, "index + 1", "index + 2")
    done = land.rvrun("run", "local", *WORDS)
    assert (
        "warning: nobody knows which code land/chip, land/train and land/eval ran with"
        in done.stderr
    )
    assert would_run(land) == 0
    assert "nobody knows" not in land.rvrun("plan", *WORDS).stderr
    edit(land, "index + 2", "index + 3")
    assert reasons(land) == CHANGED


def test_a_clock_that_was_set_back(land: Project) -> None:
    """An edit counts although all stamps are from the future, and the run leaves nothing stale."""
    for path in (land.folder / "runs/land").rglob("*"):
        then = path.stat().st_mtime + 3600
        os.utime(path, (then, then))
    edit(land, "index + 1", "index + 2")
    done = land.rvrun("run", "local", *WORDS)
    assert "are from the future, up to" in done.stderr
    assert "4 targets" in done.stderr + done.stdout
    assert would_run(land) == 0
    assert reasons(land) == UP_TO_DATE
    edit(land, "index + 2", "index + 3")
    assert reasons(land) == CHANGED


def test_packages_whose_version_counts(land: Project) -> None:
    """Each is a line; one that is not installed is an error."""
    land.write("rvrun.toml", 'code_packages = ["attrs"]\n')
    land.rvrun("render", "local", *WORDS, "--out", "runs/other")
    assert "\nattrs==" in land.read("runs/other/code/land/chip.txt")
    land.write("rvrun.toml", 'code_packages = ["attrz"]\n')
    done = land.rvrun("plan", *WORDS, code=2)
    assert "`code_packages` must name installed packages, got `attrz`" in done.stderr


def test_summaries_are_remembered(land: Project, tmp_path: pathlib.Path) -> None:
    """A damaged cache, and one that cannot be written, only cost time."""
    cache = str(tmp_path / "cache")
    for path in land.folder.glob("*.py"):
        os.utime(path, (1, 1))
    edit(land, "index + 1", "index + 2")
    for _ in range(2):
        assert reasons(land, cache=cache) == CHANGED
    for path in pathlib.Path(cache).rglob("*.json"):
        path.write_text("{")
    assert reasons(land, cache=cache) == CHANGED
    edit(land, "index + 2", "index + 3")
    assert reasons(land, cache=cache) == CHANGED


def test_a_new_file_that_a_name_refers_to(land: Project, tmp_path: pathlib.Path) -> None:
    """What was remembered does not hide a module that appears."""
    cache = str(tmp_path / "cache")
    edit(
        land,
        "def share(index):",
        "def share(index):\n    try:\n        import more\n    except ImportError:\n        pass",
    )
    for path in (*land.folder.glob("*.py"), land.folder):
        os.utime(path, (1, 1))
    land.rvrun("run", "local", *WORDS, XDG_CACHE_HOME=cache)
    assert reasons(land, cache=cache) == UP_TO_DATE
    time.sleep(1.1)
    assert reasons(land, cache=cache) == UP_TO_DATE
    land.write("more.py", "print(1)\n")
    assert "more" in reasons(land, cache=cache)["land/chip"]
