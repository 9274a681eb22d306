"""Declared inputs and outputs on the command line: plan, run, explain, diff, accept and check."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess

import pytest

from tests.conftest import Project
from tests.engines.moto import Moto

LAND = """
import pathlib
import rvrun

class LandConfig(rvrun.PipelineConfig):
    images: tuple[str, ...] = ("data/a.tif", "data/b.tif")
    skip: str = ""
    def build(self):
        return Land(self)

class Land(rvrun.Pipeline):
    commands = ("chip", "train", "mosaic")
    split_commands = ("chip", "mosaic")
    inputs = {"chip": ["{config.images}", "extra/*.txt"], "train": ["{root}/chips"]}
    outputs = {
        "chip": ["{root}/chips/{split_ind}.npy"],
        "train": ["{root}/model.pkl"],
        "mosaic": ["{root}/all.vrt"],
    }
    def write(self, name):
        path = pathlib.Path(self.config.root_uri, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name != self.config.skip:
            path.write_text(name)
    def chip(self, split_ind, num_splits):
        self.write(f"chips/{split_ind}.npy")
    def train(self):
        self.write("model.pkl")
    def mosaic(self, split_ind, num_splits):
        if split_ind == 0:
            self.write("all.vrt")

def get_config(runner, root_uri="out", skip="", images="data/a.tif,data/b.tif"):
    return LandConfig(root_uri=root_uri, skip=skip, images=tuple(images.split(",")))
"""
WORDS = ("land.py", "--splits", "2")


@pytest.fixture
def land(project: Project) -> Project:
    """A project in which all of pipeline `land` was run."""
    project.write("land.py", LAND)
    for name in ("data/a.tif", "data/b.tif", "extra/x.txt"):
        project.write(name, name)
    project.rvrun("run", "local", *WORDS)
    return project


def reasons(land: Project, *words: str) -> dict[str, str]:
    """Why each stage would run."""
    lines = land.rvrun("plan", *WORDS, *words).stdout.splitlines()
    rows = (re.split(r"  +", line) for line in lines if line.startswith("land/"))
    return {row[0]: row[-1] for row in rows}


def shown_by_make(land: Project) -> list[str]:
    """The targets that make would run."""
    lines = land.make("-n", "-C", "runs/land").stdout
    return re.findall(r"land\.json (\w+(?: --split-ind \d)?)", lines)


UP_TO_DATE = {"land/chip": "up to date", "land/train": "up to date", "land/mosaic": "up to date"}
AFTER_CHIP = {"land/train": "after chip", "land/mosaic": "after train"}


def test_nothing_changed(land: Project) -> None:
    """What stages of the pipeline write is not an input that changes."""
    assert reasons(land) == UP_TO_DATE
    assert shown_by_make(land) == []
    assert land.read("runs/land/inputs/land/chip.txt").count("\n") == 6


def test_a_changed_input(land: Project) -> None:
    """Plain make notices it, and afterwards all agree that nothing is stale."""
    land.write("data/a.tif", "new")
    assert reasons(land) == {"land/chip": "input changed: data/a.tif", **AFTER_CHIP}
    assert len(shown_by_make(land)) == 5
    land.make("-C", "runs/land")
    assert reasons(land) == UP_TO_DATE
    assert shown_by_make(land) == []


def test_an_older_file(land: Project) -> None:
    """Make cannot know that it has another content; rvrun does."""
    land.write("data/a.tif", "old")
    os.utime(land.folder / "data/a.tif", (0, 0))
    assert shown_by_make(land) == []
    assert reasons(land)["land/chip"] == "input changed: data/a.tif"
    land.rvrun("render", "local", *WORDS)
    assert len(shown_by_make(land)) == 5


def test_a_touched_input(land: Project) -> None:
    """It makes nothing stale, and make agrees once rvrun has written the run directory."""
    (land.folder / "data/a.tif").touch()
    assert reasons(land) == UP_TO_DATE
    assert len(shown_by_make(land)) == 5
    land.rvrun("render", "local", *WORDS)
    assert shown_by_make(land) == []
    assert "5 up to date" in land.rvrun("run", "local", *WORDS).stderr


def test_files_that_come_and_go(land: Project) -> None:
    """The reason names what happened to each file."""
    land.write("extra/y.txt", "y")
    (land.folder / "extra/x.txt").unlink()
    reason = "input changed: extra/x.txt (removed), extra/y.txt (new)"
    assert reasons(land)["land/chip"] == reason
    explained = land.rvrun("explain", "land/chip/1", *WORDS).stdout
    assert f"land/chip/1 would run: {reason}\n" in explained
    assert "  inputs     data/a.tif, data/b.tif, extra/*.txt\n" in explained
    assert "  outputs    out/chips/1.npy\n" in explained


def test_a_missing_input(land: Project) -> None:
    """Each warns, and the target fails with one sentence, also under plain make."""
    (land.folder / "data/b.tif").unlink()
    warning = "land/chip will fail: its input data/b.tif does not exist"
    for verb in (("plan",), ("run", "local"), ("render", "local")):
        code = 1 if verb[0] == "run" else 0
        assert f"warning: {warning}\n" in land.rvrun(*verb, *WORDS, code=code).stderr
    assert f"warning  inputs    {warning}\n" in land.rvrun("check", *WORDS).stdout
    assert reasons(land)["land/chip"] == "input changed: data/b.tif (missing)"
    sentence = (
        "rvrun: land/chip/0 was not started: its input data/b.tif does not exist; add the file, or "
        "correct `inputs`\n"
    )
    assert land.make("-C", "runs/land", "land/chip/0", code=2).stderr.startswith(sentence)
    done = land.rvrun("run", "inprocess", *WORDS, code=1)
    assert sentence.removeprefix("rvrun: ") in done.stderr
    refusal = land.rvrun("accept", "land/chip", "--config", "land.py", "--splits", "2", code=2)
    assert "its input data/b.tif does not exist" in refusal.stderr


def test_inputs_that_nothing_matches(land: Project) -> None:
    """The message says that a glob matches nothing."""
    (land.folder / "extra/x.txt").unlink()
    stderr = land.rvrun("run", "local", *WORDS, code=1).stderr
    assert "its input extra/*.txt matches no file" in stderr


@pytest.mark.parametrize("runner", ["local", "inprocess"])
@pytest.mark.parametrize(
    ("path", "stage", "count"),
    [("chips/1.npy", "chip", 4), ("model.pkl", "train", 3), ("all.vrt", "mosaic", 2)],
)
def test_a_lost_output(land: Project, runner: str, path: str, stage: str, count: int) -> None:
    """It makes the split stale that wrote it, or all that write it together."""
    (land.folder / "out" / path).unlink()
    assert reasons(land)[f"land/{stage}"] == f"output missing: out/{path}"
    assert len(shown_by_make(land)) == count
    land.rvrun("run", runner, *WORDS)
    assert (land.folder / "out" / path).exists()
    assert reasons(land) == UP_TO_DATE
    assert shown_by_make(land) == []


@pytest.mark.parametrize("runner", ["local", "inprocess"])
@pytest.mark.parametrize(
    ("path", "target"), [("chips/1.npy", "chip/1"), ("model.pkl", "train"), ("all.vrt", "mosaic/1")]
)
def test_an_output_that_was_not_written(land: Project, runner: str, path: str, target: str) -> None:
    """The target fails, and has no stamp; an output of all splits is that of the last one."""
    (land.folder / "out" / path).unlink()
    words = ("run", runner, *WORDS, "-a", "skip", path, "-j1")
    done = land.rvrun(*(words if runner == "local" else words[:-1]), code=1)
    sentence = (
        f"land/{target} has ended, but its output out/{path} does not exist; let the command write "
        "it, or correct `outputs`"
    )
    assert sentence in done.stderr
    stage = target.partition("/")[0]
    assert reasons(land, "-a", "skip", path)[f"land/{stage}"] != "up to date"
    # Once it writes the file, it runs again, and so does nothing that was done.
    land.rvrun("run", runner, *WORDS)
    assert reasons(land) == UP_TO_DATE


def test_odd_paths_and_folders(project: Project) -> None:
    """Where make cannot have a path as it is, rvrun makes it run what is stale."""
    project.write("my data/a b.tif", "a")
    words = ("land.py", "-a", "images", "my data", "-a", "root_uri", "out #1")
    project.write("land.py", LAND.replace(', "extra/*.txt"', ""))
    project.rvrun("run", "local", *words)
    assert "my data" not in project.read("runs/land/Makefile")
    project.write("my data/c.tif", "c")
    assert "input changed: my data/c.tif (new)" in project.rvrun("plan", *words).stdout
    assert "3 targets ran" in project.rvrun("run", "local", *words).stderr
    (project.folder / "out #1/model.pkl").unlink()
    assert "output missing: out #1/model.pkl" in project.rvrun("plan", *words).stdout
    assert "2 targets ran, 1 up to date" in project.rvrun("run", "local", *words).stderr
    assert "all up to date" in project.rvrun("plan", *words).stdout


def test_accepted_inputs(land: Project) -> None:
    """Nothing is stale then, and the record names the file."""
    land.write("data/a.tif", "other")
    output = land.rvrun("accept", "land/chip").stderr
    assert output == "accepted land/chip: inputs: data/a.tif\n"
    assert reasons(land) == UP_TO_DATE
    assert shown_by_make(land) == []
    assert "inputs: data/a.tif\n" in land.rvrun("explain", "land/chip").stdout
    record = json.loads(land.read("runs/land/records/.accepted/land.jsonl"))
    assert record["inputs"] == ["data/a.tif"]


def test_a_pipeline_that_gains_inputs(project: Project) -> None:
    """What is older than the result makes nothing stale, and what is newer does."""
    plain = re.sub(r"\n    inputs = .*?\n    outputs = .*?\n    }\n", "\n", LAND, flags=re.DOTALL)
    project.write("land.py", plain)
    for name in ("data/a.tif", "data/b.tif", "extra/x.txt"):
        project.write(name, name)
        os.utime(project.folder / name, (0, 0))
    project.rvrun("run", "local", *WORDS)
    project.write("land.py", LAND)
    assert reasons(project) == UP_TO_DATE
    diff = project.rvrun("diff", "runs/land", *WORDS, code=1).stdout
    assert "~ land/chip    inputs none → data/a.tif, data/b.tif, extra/*.txt\n" in diff
    project.rvrun("render", "local", *WORDS)
    assert shown_by_make(project) == []
    project.write("land.py", plain)
    project.rvrun("run", "local", *WORDS)
    project.write("data/b.tif", "newer")
    (project.folder / "runs/land/inputs/land/chip.txt").unlink()
    project.write("land.py", LAND)
    assert reasons(project) == {"land/chip": "input changed: data/b.tif", **AFTER_CHIP}


def test_plans_without_the_data(land: Project) -> None:
    """A committed plan is compared without what inputs contain: CI may not have them."""
    land.rvrun("plan", *WORDS, "--out", "plans/land")
    assert "/inputs/\n" in land.read("plans/land/.gitignore")
    land.write("data/a.tif", "other")
    land.rvrun("plan", *WORDS, "--check", "plans/land")
    changed = land.rvrun(
        "plan", *WORDS, "-a", "images", "data/a.tif", "--check", "plans/land", code=1
    )
    assert "inputs data/a.tif, data/b.tif, extra/*.txt → data/a.tif, extra/*.txt" in changed.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"{config.images}"',
            '"{config.image}"',
            "unknown config field `image` in `inputs` of command `chip` of pipeline `land`; did "
            "you mean `images`? Known config fields: `root_uri`, `name`, `images`, `skip`",
        ),
        (
            '"{config.images}"',
            '"{rot}/x"',
            "unknown placeholder `rot` in `inputs` of command `chip` of pipeline `land`; did you "
            "mean `root`?",
        ),
        (
            '"{config.images}"',
            '""',
            "`inputs` of command `chip` of pipeline `land`: `` must name a file or folder, got an "
            "empty path",
        ),
        ('["{config.images}", "extra/*.txt"]', '"a"', "must be a list of names such as ['a']"),
        ('{"chip": ["{config', '{"chop": ["{config', "has no method `chop`"),
        ('"{config.images}"', '"gs://b/x"', "must be a path or an s3:// URI, got gs://"),
        ('"{config.images}"', '"a{"', "cannot be read: `{` at offset 1 must be doubled"),
        (
            '"{root}/model.pkl"',
            '"{root}/{split_ind}"',
            "must not have `{split_ind}`: the command is not in `split_commands`",
        ),
        (
            '"{config.images}"',
            '"{root}/all.vrt"',
            "`chip` of pipeline `land` reads out/all.vrt, which `mosaic` writes (out/all.vrt), so "
            "`chip` must need `mosaic`, directly or through others",
        ),
        (
            '"{config.images}"',
            '"{root}/chips/0.npy"',
            "`chip` of pipeline `land` must not have out/chips/0.npy in `inputs`, which it writes "
            "itself (out/chips/*.npy)",
        ),
    ],
)
def test_bad_declarations(project: Project, old: str, new: str, message: str) -> None:
    """One sentence says what is wrong and where."""
    assert old in LAND
    project.write("land.py", LAND.replace(old, new, 1))
    assert message in project.rvrun("plan", *WORDS, code=2).stderr


def test_local_files_of_jobs(land: Project) -> None:
    """Jobs on other machines cannot read files of this one."""
    words = ("land.py", "-a", "root_uri", "s3://bucket/land")
    for verb in (("render", "batch"), ("check", "--runner", "batch")):
        done = land.rvrun(*verb, *words, code=2, AWS_DEFAULT_REGION="us-east-1")
        assert (
            "`inputs` of land/chip must be s3:// URIs for runner `batch`, whose jobs run on other "
            "machines, got data/a.tif" in done.stdout + done.stderr
        )


def test_files_on_s3(project: Project, moto: Moto) -> None:
    """They count by ETag; a lost one makes stale what wrote it."""
    bucket, s3 = moto.bucket(), moto.client("s3")
    source = LAND.replace("path.write_text(name)", "put(str(path).replace(':/', '://'), name)")
    source = source.replace("path.parent.mkdir(parents=True, exist_ok=True)", "pass")
    source += (
        "\nimport rvrun.aws.storage as s\n\ndef put(uri, text):\n    s.write(uri, text.encode())"
    )
    source = source.replace('"extra/*.txt"', f'"{bucket}/extra/*.txt"')
    source = source.replace("commands = (", "handles_uris = True\n    commands = (", 1)
    project.write("land.py", source)
    for key in ("in/a.tif", "in/sub/b.tif", "in2", "extra/x.txt"):
        s3.put_object(Bucket="bucket", Key=key, Body=key.encode())
    words = (*WORDS, "-a", "root_uri", f"{bucket}/out", "-a", "images", f"{bucket}/in")

    def rvrun(*verb: str) -> subprocess.CompletedProcess[str]:
        return project.run("rvrun", *verb, *words, code=0, cwd=".", **moto.variables)

    rvrun("run", "local")
    text = project.read("runs/land/inputs/land/chip.txt")
    assert re.findall(r"[0-9a-f]{32}  \d+  (\S+)", text) == [
        f"{bucket}/extra/x.txt",
        f"{bucket}/in/a.tif",
        f"{bucket}/in/sub/b.tif",
    ]
    assert "all up to date" in rvrun("plan").stdout
    s3.put_object(Bucket="bucket", Key="in/sub/b.tif", Body=b"other")
    plan = rvrun("plan").stdout
    assert f"input changed: {bucket}/in/sub/b.tif" in plan
    assert "5 targets ran" in rvrun("run", "local").stderr
    s3.delete_object(Bucket="bucket", Key="out/chips/1.npy")
    plan = rvrun("plan").stdout
    assert f"1 of 2 output missing: {bucket}/out/chips/1.npy" in re.sub(" +", " ", plan)
    done = rvrun("run", "local")
    assert "4 targets ran, 1 up to date" in done.stderr
    s3.delete_object(Bucket="bucket", Key="in2")
    s3.delete_object(Bucket="bucket", Key="extra/x.txt")
    done = rvrun("plan")
    assert f"its input {bucket}/extra/*.txt matches no file" in done.stderr


def test_a_target_by_hand(land: Project) -> None:
    """Without a run directory, the pipeline itself says what to check."""
    (land.folder / "data/b.tif").unlink()
    words = ("run_command", "runs/land/config/land.json", "chip", "--split-ind", "0")
    done = land.rvrun(*words, "--num-splits", "2", code=1)
    assert "its input data/b.tif does not exist" in done.stderr
    assert pathlib.Path(land.folder, "out/model.pkl").exists()


ITEMS = """
import pathlib
import rvrun

class Scene(rvrun.Config):
    name: str

class LandConfig(rvrun.PipelineConfig):
    scenes: tuple[Scene, ...] = tuple(Scene(name=name) for name in "abcd")
    skip: str = ""
    @property
    def names(self):
        return [scene.name for scene in self.scenes]
    def build(self):
        return Land(self)

class Land(rvrun.Pipeline):
    commands = ("chip", "train")
    split_commands = ("chip",)
    items = {"chip": "scenes"}
    config_keys = {"chip": ["scenes"], "train": []}
    inputs = {"train": ["{root}/*.npy"]}
    outputs = {"chip": ["{root}/{item.name}.npy", "{root}/log"]}
    def write(self, name):
        folder = pathlib.Path(self.config.root_uri)
        folder.mkdir(exist_ok=True)
        if name != self.config.skip:
            folder.joinpath(name).write_text(name)
    def chip(self, item):
        self.write(f"{item.name}.npy")
        self.write("log")
        with open("did", "a") as file:
            file.write(item.name)
    def train(self):
        pass

def get_config(runner, root_uri="out", skip=""):
    return LandConfig(root_uri=root_uri, skip=skip)
"""


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_outputs_of_items(project: Project, runner: str) -> None:
    """Only the item whose output is missing is done again, in whatever split it is now."""
    project.write("land.py", ITEMS)
    project.rvrun("run", runner, *WORDS)
    did = project.folder / "did"
    assert sorted(did.read_text()) == ["a", "b", "c", "d"]
    did.unlink()
    (project.folder / "out/c.npy").unlink()
    row = reasons(project)["land/chip"]
    assert row == "output missing: out/c.npy"
    assert "  items      1 of 4 would run: c\n" in project.rvrun("explain", "land/chip").stdout
    project.rvrun("run", runner, "land.py", "--splits", "3")
    assert did.read_text() == "c"
    assert "all up to date" in project.rvrun("plan", "land.py", "--splits", "3").stdout


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_an_output_of_all_items(project: Project, runner: str) -> None:
    """All of them are done again."""
    project.write("land.py", ITEMS)
    project.rvrun("run", runner, *WORDS)
    (project.folder / "did").unlink()
    (project.folder / "out/log").unlink()
    assert reasons(project)["land/chip"] == "output missing: out/log"
    project.rvrun("run", runner, *WORDS)
    assert sorted(project.read("did")) == ["a", "b", "c", "d"]
    assert set(reasons(project).values()) == {"up to date"}
    if runner == "local":
        (project.folder / "out/log").unlink()
        project.make("-C", "runs/land")
        assert sorted(project.read("did")) == ["a", "a", "b", "b", "c", "c", "d", "d"]
        assert set(reasons(project).values()) == {"up to date"}
        assert shown_by_make(project) == []


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_an_item_that_does_not_write_its_output(project: Project, runner: str) -> None:
    """It is not done, but those before it are."""
    project.write("land.py", ITEMS)
    done = project.rvrun("run", runner, *WORDS, "-a", "skip", "b.npy", code=1)
    sentence = "land/chip/0 has ended, but its output out/b.npy does not exist"
    assert sentence in done.stderr
    plan = project.rvrun("plan", *WORDS).stdout
    assert "3 of 4 items" in plan or "1 of 4 items" in plan


def test_outputs_of_items_in_a_job(project: Project) -> None:
    """A target without a run directory looks for the outputs of its whole share."""
    project.write("land.py", ITEMS)
    project.rvrun("render", "local", *WORDS, "-a", "skip", "b.npy")
    words = ("run_command", "runs/land/config/land.json", "chip", "--num-splits", "2")
    project.rvrun(*words, "--split-ind", "1")
    assert "out/b.npy does not exist" in project.rvrun(*words, "--split-ind", "0", code=1).stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{item.name}", "{item.nam}", "unknown config field `nam` in `outputs` of command `chip`"),
        ("{item.name}", "{item}", "needs a string or a number for `item`, got {'$type':"),
        ("{item.name}", "{split_ind}", "declares `items`, so name outputs by `{item}`"),
        (
            '"chip": "scenes"',
            '"chip": "names"',
            "must not have `{item.name}`: `names` is not a field of the config but a property",
        ),
    ],
)
def test_bad_outputs_of_items(project: Project, old: str, new: str, message: str) -> None:
    """One sentence says what is wrong."""
    project.write("land.py", ITEMS.replace(old, new, 1))
    assert message in project.rvrun("plan", *WORDS, code=2).stderr
