"""Inputs of items on the command line: only items whose files changed run again."""

from __future__ import annotations

import json
import os
import re

import pytest

from tests.conftest import Project
from tests.engines.moto import Moto

LAND = """
import pathlib
import rvrun

class Scene(rvrun.Config):
    name: str

class LandConfig(rvrun.PipelineConfig):
    scenes: tuple[Scene, ...] = tuple(Scene(name=name) for name in "abcd")
    @property
    def names(self):
        return [scene.name for scene in self.scenes]
    def build(self):
        return Land(self)

class Land(rvrun.Pipeline):
    commands = ("chip", "clean", "train")
    split_commands = ("chip", "clean")
    items = {"chip": "scenes", "clean": "scenes"}
    needs = {"clean": (rvrun.aligned("chip"),), "train": ["clean"]}
    config_keys = {"chip": [], "clean": [], "train": []}
    inputs = {"chip": ["data/{item.name}.tif", "labels.csv"], "clean": ["{root}/{item.name}.npy"]}
    outputs = {"chip": ["{root}/{item.name}.npy"]}
    def did(self, text):
        with open("did", "a") as file:
            print(text, file=file)
    def chip(self, item):
        self.did(f"chip {item.name}")
        folder = pathlib.Path(self.config.root_uri)
        folder.mkdir(exist_ok=True)
        folder.joinpath(f"{item.name}.npy").write_text("")
    def clean(self, items):
        for item in items:
            self.did(f"clean {item.name}")
    def train(self):
        self.did("train")

def get_config(runner, root_uri="out"):
    return LandConfig(root_uri=root_uri)
"""
WORDS = ("land.py", "--splits", "2")
ALL = [*(f"chip {name}" for name in "abcd"), *(f"clean {name}" for name in "abcd"), "train"]
runners = pytest.mark.parametrize("runner", ["local", "inprocess"])


@pytest.fixture
def land(project: Project) -> Project:
    project.write("land.py", LAND)
    project.write("labels.csv", "")
    for name in "abcd":
        project.write(f"data/{name}.tif", name)
    return project


def did(project: Project) -> list[str]:
    """What was done since the last call, sorted."""
    path = project.folder / "did"
    lines = sorted(path.read_text().splitlines()) if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def rows(project: Project, *words: str) -> dict[str, list[str]]:
    """What would run of each stage, and why."""
    lines = project.rvrun("plan", *(words or WORDS)).stdout.splitlines()
    cells = (re.split(r"  +", line) for line in lines if re.match(r"\w+/\w+", line))
    return {row[0]: row[-2:] for row in cells}


def assert_up_to_date(project: Project, *words: str) -> None:
    plan = project.rvrun("plan", *(words or WORDS)).stdout
    assert plan.rstrip().endswith("; all up to date"), plan


@runners
def test_a_changed_file(land: Project, runner: str) -> None:
    """Its item runs, the same item of what is aligned, and what needs all; in any other split."""
    land.rvrun("run", runner, *WORDS)
    assert did(land) == ALL
    assert_up_to_date(land)
    land.write("data/c.tif", "new")
    assert rows(land) == {
        "land/chip": ["1 of 4 items", "input changed: data/c.tif"],
        "land/clean": ["1 of 4 items", "after chip"],
        "land/train": ["run", "after clean"],
    }
    explained = land.rvrun("explain", "land/chip", *WORDS).stdout
    assert "land/chip would run (1 of 2 targets): input changed: data/c.tif\n" in explained
    assert "  items      1 of 4 would run: c\n" in explained
    assert "  changed    input: data/c.tif\n" in explained
    assert "  inputs     labels.csv, data/{item.name}.tif\n" in explained
    assert "land/chip/0 is up to date" in land.rvrun("explain", "land/chip/0", *WORDS).stdout
    land.rvrun("run", runner, "land.py", "--splits", "3")
    assert did(land) == ["chip c", "clean c", "train"]
    assert_up_to_date(land, "land.py", "--splits", "3")


def test_plain_make(land: Project) -> None:
    """It does what rvrun has written, and afterwards all agree."""
    land.rvrun("run", "local", *WORDS)
    did(land)
    land.write("data/a.tif", "new")
    land.write("data/b.tif", "new")
    assert rows(land)["land/chip"] == ["2 of 4 items", "input changed: data/a.tif, data/b.tif"]
    # The names of these files are not in the Makefile: there may be 100,000.
    land.make("-q", "-C", "runs/land")
    land.rvrun("render", "local", *WORDS)
    land.make("-j2", "-C", "runs/land")
    assert did(land) == ["chip a", "chip b", "clean a", "clean b", "train"]
    assert_up_to_date(land)
    land.write("data/d.tif", "new")
    land.make("-B", "-C", "runs/land")
    # What was read is known although rvrun did not write the run directory before.
    assert "9 of 9" not in land.rvrun("status").stdout
    assert "succeeded" in land.rvrun("status").stdout
    assert_up_to_date(land)


def test_only_contents_count(land: Project) -> None:
    """A touched file is the same, and an older one with another content is not."""
    land.rvrun("run", "local", *WORDS)
    did(land)
    for name in "abcd":
        (land.folder / f"data/{name}.tif").touch()
    assert_up_to_date(land)
    land.write("data/b.tif", "old")
    os.utime(land.folder / "data/b.tif", (0, 0))
    assert rows(land)["land/chip"] == ["1 of 4 items", "input changed: data/b.tif"]
    land.write("data/b.tif", "b")
    assert_up_to_date(land)
    # An input that all items share is another matter.
    land.write("labels.csv", "new")
    assert rows(land)["land/chip"] == ["4 of 4 items", "input changed: labels.csv"]


@runners
def test_a_missing_file(land: Project, runner: str) -> None:
    """A warning when planning, and one sentence when its target starts; the others are done."""
    (land.folder / "data/d.tif").unlink()
    warning = "land/chip will fail: its input data/d.tif does not exist"
    assert f"warning: {warning}\n" in land.rvrun("plan", *WORDS).stderr
    assert f"warning  inputs    {warning}\n" in land.rvrun("check", *WORDS).stdout
    done = land.rvrun("run", runner, "-k", *WORDS, code=1)
    assert (
        "land/chip/1 was not started: its input data/d.tif does not exist; add the file, or "
        "correct `inputs`\n"
    ) in done.stderr
    assert [line for line in did(land) if line.startswith("chip")] == ["chip a", "chip b"]
    land.write("data/d.tif", "d")
    land.rvrun("run", runner, *WORDS)
    assert "chip d" in did(land)
    (land.folder / "data/a.tif").unlink()
    assert rows(land)["land/chip"] == ["1 of 4 items", "input changed: data/a.tif (missing)"]
    if runner == "local":
        words = ("accept", "land/chip", "--config", *WORDS)
        assert "its input data/a.tif does not exist" in land.rvrun(*words, code=2).stderr


def test_a_folder(land: Project) -> None:
    """It stands for all files in it, of which there may be none yet."""
    path = land.folder / "data/d.tif"
    path.unlink()
    path.mkdir()
    assert "input data/d.tif" not in land.rvrun("run", "local", *WORDS).stderr
    assert_up_to_date(land)
    path.joinpath("inside").write_text("new")
    os.utime(path / "inside", (0, 0))
    assert rows(land)["land/chip"] == ["1 of 4 items", "input changed: data/d.tif/inside (new)"]


def test_accepted_changes(land: Project) -> None:
    """The items stay done, and what they read is known from then on."""
    land.rvrun("run", "local", *WORDS)
    did(land)
    land.write("data/a.tif", "new")
    land.write("data/d.tif", "new")
    accepted = land.rvrun("accept", "land/chip", "--config", *WORDS).stderr
    assert "accepted land/chip: inputs: data/a.tif, data/d.tif" in accepted
    assert_up_to_date(land)
    land.make("-q", "-C", "runs/land")
    land.write("data/a.tif", "newer")
    assert rows(land)["land/chip"] == ["1 of 4 items", "input changed: data/a.tif"]


def test_a_pipeline_that_gains_inputs_of_items(land: Project) -> None:
    """Items that are newer than their files stay done; from then on, contents count."""
    with_inputs = 'inputs = {"chip": ["data/{item.name}.tif", "labels.csv"], '
    land.write("land.py", LAND.replace(with_inputs, "inputs = {"))
    land.rvrun("run", "local", *WORDS)
    did(land)
    land.write("land.py", LAND)
    assert_up_to_date(land)
    land.rvrun("render", "local", *WORDS)
    land.make("-q", "-C", "runs/land")
    land.write("data/c.tif", "new")
    os.utime(land.folder / "data/c.tif", (0, 0))
    assert rows(land)["land/chip"] == ["1 of 4 items", "input changed: data/c.tif"]


def test_a_file_that_changed_before_it_was_declared(land: Project) -> None:
    """Its item is older than the file, so it runs, as with make."""
    with_inputs = 'inputs = {"chip": ["data/{item.name}.tif", "labels.csv"], '
    land.write("land.py", LAND.replace(with_inputs, "inputs = {"))
    land.rvrun("run", "local", *WORDS)
    os.utime(land.folder / "data/c.tif", (4e9, 4e9))
    land.write("land.py", LAND)
    assert rows(land)["land/chip"] == ["1 of 4 items", "input changed: data/c.tif"]


def test_what_other_stages_write_is_left_out(land: Project) -> None:
    """Whether it changed is known from the marks of those stages."""
    land.rvrun("run", "local", *WORDS)
    lines = land.read("runs/land/inputs/land/clean.items.txt").splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["#", "#", "#", *(["item", "no"] * 4)]
    plan = json.loads(land.read("runs/land/plan.json"))
    stages = {stage["command"]: stage for stage in plan["pipelines"][0]["stages"]}
    assert stages["clean"]["produced"] == ["out/*.npy"]
    assert stages["clean"]["item_inputs"] == ["out/{item.name}.npy"]
    assert stages["chip"]["inputs"] == ["labels.csv"]


def test_a_target_by_hand(land: Project) -> None:
    """Without a run directory, the inputs of its whole share must exist."""
    land.rvrun("render", "local", *WORDS)
    (land.folder / "data/a.tif").unlink()
    words = ("run_command", "runs/land/config/land.json", "chip", "--num-splits", "2")
    land.rvrun(*words, "--split-ind", "1")
    sentence = "its input data/a.tif does not exist"
    assert sentence in land.rvrun(*words, "--split-ind", "0", code=1).stderr


def test_local_files_of_jobs(land: Project) -> None:
    """Jobs on other machines cannot read files of this one."""
    text = LAND.replace(', "labels.csv"', "").replace(
        "    commands", "    handles_uris = True\n    commands"
    )
    land.write("land.py", text)
    words = ("render", "batch", "land.py", "-a", "root_uri", "s3://bucket/land")
    message = "`inputs` of land/chip must be s3:// URIs for runner `batch`"
    stderr = land.rvrun(*words, code=2, AWS_DEFAULT_REGION="us-east-1").stderr
    assert message in stderr
    assert "got data/a.tif" in stderr


def test_on_s3(land: Project, moto: Moto) -> None:
    """By the ETag of each object; a folder is listed once."""
    bucket = moto.client("s3")
    bucket.create_bucket(Bucket="data")
    for name in "abcd":
        bucket.put_object(Bucket="data", Key=f"in/{name}.tif", Body=name.encode())
    land.write("land.py", LAND.replace('"data/{item.name}.tif"', '"s3://data/in/{item.name}.tif"'))
    land.run("rvrun", "run", "local", *WORDS, code=0, cwd=".", **moto.variables)
    did(land)
    bucket.put_object(Bucket="data", Key="in/b.tif", Body=b"new")
    plan = land.run("rvrun", "plan", *WORDS, code=0, cwd=".", **moto.variables).stdout
    assert re.search("1 of 4 items  +input changed: s3://data/in/b.tif\n", plan), plan
    land.run("rvrun", "run", "local", *WORDS, code=0, cwd=".", **moto.variables)
    assert did(land) == ["chip b", "clean b", "train"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data/{item.name}", "data/{item.nam}", "unknown config field `nam` in `inputs` of"),
        ("data/{item.name}", "data/{item}", "needs a string or a number for `item`, got {'$type':"),
        ("data/{item.name}", "data/{split_ind}", "all splits share the inputs"),
        ("data/{item.name}", "data/{item.name", "`{` at offset 5 must be doubled"),
        (
            '"chip": "scenes"',
            '"chip": "names"',
            "must not have `{item.name}`: `names` is not a field of the config but a property",
        ),
        ('"train": ["clean"]}', '"train": ["clean"], "chip": ["clean"]}', "cycle"),
        ('"clean": ["{root}/{item.name}.npy"]', '"chip": ["{root}/{item.name}.npy"]', "itself"),
    ],
)
def test_bad_inputs_of_items(land: Project, old: str, new: str, message: str) -> None:
    """One sentence says what is wrong."""
    text = LAND.replace(old, new, 1)
    assert text != LAND
    land.write("land.py", text)
    assert message in land.rvrun("plan", *WORDS, code=2).stderr


PROGRAMS = """
name = "tiles"
root = "out"
[commands.copy]
items = { glob = "tiles/*.txt" }
splits = 2
inputs = ["{item}"]
outputs = ["{root}/{item.name}"]
run = ["sh", "-c", 'echo "$1" >>did; cp "$1" "$2"', "copy", "{item}", "{root}/{item.name}"]
[commands.merge]
items = { glob = "tiles/*.txt" }
inputs = ["{root}/{item.name}"]
run = 'echo merge >>did; cd {root}; cat *.txt >../all; : {items...}'
outputs = ["all"]
"""


def test_programs(project: Project) -> None:
    """Also items whose names mean something to globs and shells."""
    names = ["[a].txt", "{b}.txt", "c $d.txt"]
    for name in names:
        project.write(f"tiles/{name}", name)
    project.write("pipeline.toml", PROGRAMS)
    project.rvrun("run", "local", "pipeline.toml")
    assert did(project) == sorted([*(f"tiles/{name}" for name in names), "merge"])
    assert_up_to_date(project, "pipeline.toml")
    project.write("tiles/{b}.txt", "new")
    assert rows(project, "pipeline.toml") == {
        "tiles/copy": ["1 of 3 items", "input changed: tiles/{b}.txt"],
        "tiles/merge": ["run", "after copy"],
    }
    project.rvrun("run", "local", "pipeline.toml")
    assert did(project) == ["merge", "tiles/{b}.txt"]
    assert project.read("all") == "[a].txtc $d.txtnew"
