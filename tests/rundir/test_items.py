"""Items in real runs: which of them run, by make, by `rvrun run` and in one process."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.conftest import Project

LAND = """
import os, signal
import rvrun

class Data(rvrun.Config):
    scenes: tuple[str, ...] = ()

class Land(rvrun.PipelineConfig):
    data: Data = Data()
    lr: float = 1.0

    @property
    def pairs(self):
        return [{"name": scene, "size": len(scene)} for scene in self.data.scenes]

    def build(self):
        return LandPipeline(self)

class LandPipeline(rvrun.Pipeline):
    commands = ("chip", "clean", "train", "predict")
    split_commands = ("chip", "clean", "predict")
    items = {"chip": "data.scenes", "clean": "data.scenes", "predict": "pairs"}
    needs = {"clean": (rvrun.aligned("chip"),)}
    config_keys = {"train": ("lr",), "predict": ("lr",)}

    def note(self, *words):
        with open("effects", "a") as file:
            print(*words, file=file, flush=True)

    def chip(self, item):
        self.note("chip", item)
        if item == os.environ.get("KILL"):
            os.kill(os.getpid(), signal.SIGKILL)

    def clean(self, items):
        for item in items:
            self.note("clean", item)

    def train(self):
        self.note("train")

    def predict(self, split_ind, num_splits):
        for item in rvrun.share(self.config.pairs, split_ind, num_splits):
            self.note("predict", item["name"])

def get_config(runner, scenes="a,b,c,d,e", lr: float = 1.0):
    return Land(root_uri="out", data=Data(scenes=tuple(filter(None, scenes.split(",")))), lr=lr)
"""


@pytest.fixture
def land(project: Project) -> Project:
    project.write("land.py", LAND)
    return project


def effects(project: Project) -> Counter[str]:
    """How often each thing was done since the last call."""
    path = project.folder / "effects"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return Counter(lines)


def of(command: str, items: str) -> Counter[str]:
    return Counter(f"{command} {item}" for item in items)


def options(scenes: str = "abcde", splits: str = "2") -> Sequence[str]:
    return ("land.py", "--splits", splits, "-a", "scenes", ",".join(scenes))


ALL = of("chip", "abcde") + of("clean", "abcde") + of("predict", "abcde") + Counter(["train"])


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_only_a_new_item_runs(land: Project, runner: str) -> None:
    """Whatever the order and the number of splits, of which other ones run nothing."""
    land.rvrun("run", runner, *options())
    assert effects(land) == ALL

    for scenes, splits in (("edcba", "2"), ("abcde", "3"), ("ecabd", "each")):
        assert "all up to date" in land.rvrun("plan", *options(scenes, splits)).stdout
        land.rvrun("run", runner, *options(scenes, splits))
        assert not effects(land)
        if runner == "local":
            assert "run_command" not in land.make("-n", "-C", "runs/land").stdout

    land.rvrun("run", runner, *options("fabcde", "3"), "chip", "clean")
    assert effects(land) == of("chip", "f") + of("clean", "f")


def test_a_split_without_items_is_not_from_the_future(land: Project) -> None:
    """Before its first run it is pending, and the summary does not count it."""
    done = land.rvrun("run", "local", *options("ab", "3"))
    assert "future" not in done.stderr
    assert "nobody knows" not in done.stderr
    assert "done in " in done.stderr
    assert "not started" not in done.stderr
    assert "10 of 10 targets done" in land.rvrun("status").stdout


def test_a_removed_item_runs_what_needs_all(land: Project) -> None:
    """Nothing of its own stage runs, and it comes back as done."""
    land.rvrun("run", "local", *options())
    effects(land)
    table = land.rvrun("plan", *options("abcd")).stdout
    assert "items changed" in table
    land.rvrun("run", "local", *options("abcd"))
    assert effects(land) == of("predict", "abcd") + Counter(["train"])
    land.rvrun("run", "local", *options("abcde"))
    assert effects(land) == of("predict", "abcde") + Counter(["train"])


def test_marks_of_removed_items_do_not_outlive_other_items(land: Project) -> None:
    """An item that was changed and changed back runs again: its outputs were overwritten."""
    for scenes in ("abcde", "abcdx", "abcde"):
        land.rvrun("run", "local", *options(scenes), "chip")
    assert effects(land)["chip e"] == 2


def test_what_is_done_again_after_the_clock_was_set_back(land: Project) -> None:
    """A split that does its items together does `a` again, too; so does what is aligned."""
    old = """    def chip(self, item):
        self.note("chip", item)
        if item == os.environ.get("KILL"):
            os.kill(os.getpid(), signal.SIGKILL)
"""
    new = """    def chip(self, split_ind, num_splits):
        for item in rvrun.share(self.config.data.scenes, split_ind, num_splits):
            self.note("chip", item)
"""
    assert old in LAND
    land.write("land.py", LAND.replace(old, new))
    words = ("local", "land.py", "--splits", "2", "-a", "scenes")
    land.rvrun("run", *words, "a,b,c,d")
    land.rvrun("render", *words, "a,e,c,d")
    for path in land.folder.joinpath("runs/land").rglob("*"):
        if path.is_file():
            later = path.stat().st_mtime + 3600
            os.utime(path, (later, later))
    effects(land)
    land.make("-C", "runs/land")
    done = effects(land)
    assert done["chip a"] == done["chip e"] == 1
    assert done["clean a"] == done["clean e"] == 1
    assert done["chip c"] == done["clean c"] == 0


def test_a_killed_split_continues(land: Project) -> None:
    """With what it had not done, in make without rvrun."""
    land.rvrun("render", "local", *options(splits="1"))
    land.make("-C", "runs/land", code=2, KILL="c")
    assert effects(land) == of("chip", "abc")
    explained = land.rvrun("explain", "land/chip").stdout
    assert "items      3 of 5 would run: c, d, e" in explained
    land.make("-C", "runs/land")
    assert effects(land) == ALL - of("chip", "ab")
    line = json.loads(land.read("runs/land/records/land/chip.1/0.jsonl").splitlines()[-2])
    assert (line["event"], line["done"], line["of"]) == ("items", 3, 5)


def test_equal_items_are_numbered(land: Project) -> None:
    """Each runs once."""
    land.rvrun("run", "local", *options("aab"), "chip")
    land.rvrun("run", "local", *options("baaa"), "chip")
    assert effects(land) == of("chip", "aaba")


def test_another_config_runs_all_items(land: Project) -> None:
    """Also back and forth, and with -B; a stage whose `config_keys` omit it does not run."""
    land.rvrun("run", "local", *options())
    effects(land)
    land.rvrun("run", "local", *options(), "-a", "lr", "2")
    land.rvrun("run", "local", *options())
    assert effects(land) == ALL + ALL
    land.rvrun("run", "local", *options(), "-B", "clean")
    assert effects(land) == of("clean", "abcde")


def test_removed_marks_run_again(land: Project) -> None:
    """A stamp alone comes back without running anything."""
    land.rvrun("run", "local", *options())
    effects(land)
    (stamp, *_) = (land.folder / "runs/land/done/land").glob("chip.2-*/0")
    stamp.unlink()
    land.make("-C", "runs/land")
    assert not effects(land)
    assert stamp.exists()
    (mark, *_) = (land.folder / "runs/land/done/land/chip.items").iterdir()
    mark.unlink()
    land.rvrun("run", "local", *options(), "chip")
    assert len(effects(land)) == 1


def test_accepted_changes_run_no_item(land: Project) -> None:
    """A new item still does."""
    land.rvrun("run", "local", *options())
    effects(land)
    land.write("land.py", LAND.replace('self.note("chip", item)', 'self.note("chip", item, "!")'))
    assert "5 of 5 items" in land.rvrun("plan", *options()).stdout
    land.rvrun("accept", "--config", "land.py", "--splits", "2")
    assert "all up to date" in land.rvrun("plan", *options()).stdout
    assert "run_command" not in land.make("-n", "-C", "runs/land").stdout
    land.rvrun("run", "local", *options("abcdef"), "chip")
    assert effects(land) == Counter(["chip f !"])


def test_without_a_run_directory_a_share_runs_whole(land: Project) -> None:
    """As on other machines, and for a target that is run by hand."""
    land.rvrun("render", "local", *options())
    words = ("--split-ind", "0", "--num-splits", "2")
    for command in ("chip", "clean", "predict"):
        land.rvrun("run_command", "runs/land/config/land.json", command, *words)
        assert effects(land) == of(command, "abc")


def test_late_items_are_not_read_before(land: Project) -> None:
    """Neither for a plan, nor are there marks; but the method gets them."""
    late = LAND.replace('"chip": "data.scenes", "clean"', '"chip": rvrun.late("data.scenes"), "x"')
    late = late.replace('"x": "data.scenes"', '"clean": rvrun.late("data.scenes")')
    land.write("land.py", late)
    plan = json.loads(land.rvrun("plan", *options(), "--json").stdout)
    assert plan["pipelines"][0]["stages"][0]["items"] is None
    for runner in ("local", "inprocess"):
        land.rvrun("run", runner, *options(), "-B", "chip")
        assert effects(land) == of("chip", "abcde")


def test_items_that_differ_between_processes_are_refused(land: Project) -> None:
    """A property that is not deterministic would mark the wrong items."""
    land.write("land.py", LAND.replace("len(scene)}", "os.getpid()}"))
    done = land.rvrun("run", "local", *options("a"), "--no-warm", code=1)
    assert "the items of land/predict must be those that were planned" in done.stderr


def test_stages_that_declare_items_later_run_once(land: Project) -> None:
    """And the plan says why."""
    before = LAND.replace('"chip": "data.scenes", "clean": "data.scenes", ', "")
    before = before.replace(
        "def chip(self, item)", "def chip(self, split_ind, num_splits, item='')"
    )
    before = before.replace("clean(self, items)", "clean(self, split_ind, num_splits, items=())")
    land.write("land.py", before)
    land.rvrun("run", "local", *options())
    land.write("land.py", LAND)
    table = land.rvrun("plan", *options(), COLUMNS="200").stdout
    assert "items declared since it was done, so which of them are done is unknown" in table
    effects(land)
    land.rvrun("run", "local", *options(), "chip")
    assert effects(land) == of("chip", "abcde")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"chip": "data.scenes"',
            '"chip": "data.scene"',
            "unknown config field `scene` in `items` of command `chip`",
        ),
        ('"chip": "data.scenes"', '"chip": ""', "must be the path of a list in the config"),
        ('"chip": "data.scenes"', '"chip": "pairs", "train": "lr"', "commands in `split_commands`"),
        ('"chip": "data.scenes"', '"chip": "lr"', "must be a list or tuple, got 1.0"),
        ('"chip": "data.scenes"', '"chp": "data.scenes"', "no method `chp`, which `items` names"),
        ("def chip(self, item)", "def chip(self, scene)", "exactly one of the parameters `item`"),
        ("def chip(self, item)", "def chip(self, item, items)", "exactly one of the parameters"),
        ("def chip(self, item)", "def chip(self, item, more)", "exactly one of the parameters"),
        ('"size": len(scene)', '"size": {1, 2}.__class__', "cannot be saved as JSON"),
        ('"clean": "data.scenes", ', '"clean": "pairs", ', "`pairs` and `data.scenes` differ"),
        ('"chip": "data.scenes", ', "", "declare in `items` what it shares out"),
    ],
)
def test_wrong_declarations_are_refused(land: Project, old: str, new: str, message: str) -> None:
    """With the value, where it is and how to fix it."""
    assert old in LAND
    land.write("land.py", LAND.replace(old, new))
    done = land.rvrun("plan", *options(), code=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_each_needs_a_number_of_items(project: Project) -> None:
    """One split per item cannot be planned where their number is unknown."""
    text = LAND.replace('items = {"chip": "data.scenes", ', 'items = {"chip": rvrun.late("x"), ')
    project.write("land.py", text.replace('rvrun.aligned("chip")', '"chip"'))
    done = project.rvrun("plan", *options(splits="chip=each"), code=2)
    assert "the number of items of `land/chip` is unknown" in done.stderr
    assert project.rvrun("plan", *options(splits="predict=each")).stdout.count(" 5 ") >= 1


def test_plans_of_earlier_versions_stay_up_to_date(tiny: Project) -> None:
    """Their plan has no `items`; nothing runs again because of that."""
    tiny.rvrun("run", "local", "tiny.py", "--splits", "2")
    path = tiny.folder / "runs/tiny/plan.json"
    path.write_text(path.read_text().replace('          "items": null,\n', ""))
    assert '"items"' not in path.read_text()
    assert "all up to date" in tiny.rvrun("plan", "tiny.py", "--splits", "2").stdout
    tiny.rvrun("render", "local", "tiny.py", "--splits", "2")
    assert "run_command" not in tiny.make("-n", "-C", "runs/tiny").stdout
