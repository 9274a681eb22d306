"""One split per scene of Raster Vision's stock pipelines: what another scene runs again."""

from __future__ import annotations

import os
import pathlib
import subprocess
import zipfile

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rastervision.pipeline.utils import split_into_groups

from rvrun.adapters.raster_vision.scenes import LISTS, item_list, shares
from tests.adapters.test_raster_vision_stock import DATA, StockProject

CONFIG = """
import rastervision.pytorch_backend
from rastervision.core.rv_pipeline.semantic_segmentation_config import *

def get_config(runner, train="a b c", validation="v", test="t", threshold=1.0, chips="out/chip"):
    return SemanticSegmentationConfig(
        root_uri="out",
        chip_uri=chips,
        dataset=DatasetConfig(
            train_scenes=train.split(),
            validation_scenes=validation.split(),
            test_scenes=test.split(),
        ),
        chip_options=ChipOptions(nodata_threshold=threshold),
    )
"""
EACH = ("--splits", "chip=each", "--splits", "predict=each")


@attrs.frozen
class SceneProject(StockProject):
    """A project whose stock pipeline writes chips."""

    def run(
        self, *command: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        names = ("local", "core", "torch")
        folders = os.pathsep.join(str(DATA / f"raster_vision_{name}") for name in names)
        return super().run(*command, code=code, cwd=cwd, **({"PYTHONPATH": folders} | env))

    def chips(self, folder: str = "out/chip") -> dict[str, str]:
        """The scenes of which there are chips, each with the file that has them."""
        scenes = {}
        for path in sorted((self.folder / folder).glob("*.zip")):
            with zipfile.ZipFile(path) as chips:
                for name in chips.namelist():
                    scene = name.removesuffix(".txt")
                    assert scene not in scenes
                    scenes[scene] = path.name
        return scenes

    def predictions(self) -> dict[str, set[str]]:
        """The files that predictions wrote, by scene."""
        files: dict[str, set[str]] = {}
        for path in (self.folder / "out/predict").iterdir():
            files.setdefault(path.name[0], set()).add(path.name)
        return files


@pytest.fixture
def project(tmp_path: pathlib.Path, processes: None) -> SceneProject:
    """A config of a stock pipeline with three scenes to train, one to validate and one to test."""
    project = SceneProject(tmp_path)
    project.write("cfg.py", CONFIG)
    return project


def test_a_split_has_the_scenes_at_its_position() -> None:
    """As Raster Vision shares out each list for itself."""
    scenes = {"train_scenes": ["a", "b"], "validation_scenes": ["v"], "test_scenes": []}
    values = {"dataset": {**scenes, "class_config": {}}}
    first = {"train_scenes": "a", "validation_scenes": "v"}
    assert shares(values, "chip") == [first, {"train_scenes": "b"}]
    assert shares(values, "predict") == [{"validation_scenes": "v"}]
    assert item_list(values, "chip").labels == ("a, v", "b")
    assert shares(values, "train") == shares({}, "chip") == shares({"dataset": 1}, "chip") == []


NAMES = st.lists(st.text("abc", min_size=1), max_size=5)


@given(train=NAMES, validation=NAMES, test=NAMES, command=st.sampled_from(sorted(LISTS)))
def test_raster_vision_shares_out_scenes_alike(
    train: list[str], validation: list[str], test: list[str], command: str
) -> None:
    """Whatever the lengths of the lists, split I does item I, and no scene is left out."""
    scenes = {"train_scenes": train, "validation_scenes": validation, "test_scenes": test}
    items = shares({"dataset": scenes}, command)
    for name in LISTS[command]:
        groups = split_into_groups(scenes[name], max(len(items), 1))
        assert groups == [[item[name]] for item in items if name in item]
        assert [name in item for item in items] == [i < len(groups) for i in range(len(items))]


@pytest.mark.parametrize("runner", ["local", "inprocess"])
def test_one_more_scene_chips_that_scene(project: SceneProject, runner: str) -> None:
    project.rvrun("run", runner, "cfg.py", "chip", "train", *EACH)
    before = project.chips()
    assert set(before) == set("abcvt")
    # Equal positions of the lists are one split.
    assert before["a"] == before["v"] == before["t"]
    more = ("-a", "train", "a b c d", *EACH)
    plan = project.rvrun("plan", "cfg.py", "chip", "train", *more).stdout
    assert "1 of 4 items" in plan
    project.rvrun("run", runner, "cfg.py", "chip", "train", *more)
    after = project.chips()
    assert after.pop("d") not in before.values()
    assert after == before
    assert project.would_run("chip", "train", *more) == {}


def test_chips_of_a_removed_scene_are_removed(project: SceneProject) -> None:
    """By `train`, as nothing else runs."""
    project.rvrun("run", "local", "cfg.py", "chip", "train", *EACH)
    before = project.chips()
    fewer = ("-a", "train", "a b", *EACH)
    assert set(project.would_run("chip", "train", *fewer)) == {"train"}
    project.rvrun("run", "local", "cfg.py", "chip", "train", *fewer)
    assert project.chips() == {scene: name for scene, name in before.items() if scene != "c"}


def test_chips_that_others_may_use_are_not_removed(project: SceneProject) -> None:
    """Those in a folder outside of the root, from which several configs may train."""
    words = ("cfg.py", "chip", "train", *EACH, "-a", "chips", "shared")
    project.rvrun("run", "local", *words)
    before = project.chips("shared")
    done = project.rvrun("run", "local", *words, "-a", "train", "a b")
    assert project.chips("shared") == before
    assert "shared contains chips of scenes that are not in the config" in done.stderr
    assert before["c"] in done.stderr


def test_a_changed_option_chips_every_scene(project: SceneProject) -> None:
    project.rvrun("run", "local", "cfg.py", "chip", *EACH)
    before = project.chips()
    words = ("chip", "-a", "threshold", "0.5", *EACH)
    assert project.would_run(*words) == {"chip": "config changed: chip_options.nodata_threshold"}
    project.rvrun("run", "local", "cfg.py", *words)
    after = project.chips()
    assert set(after) == set(before)
    assert set(after.values()).isdisjoint(before.values())


def test_other_numbers_of_splits_lose_and_repeat_no_chips(project: SceneProject) -> None:
    """There and back: with another number, nobody knows which scenes a split has done."""
    for splits in (("chip=each",), ("chip=2",), ("chip=each",), ("chip=1",), ("chip=3",)):
        words = [word for text in splits for word in ("--splits", text)]
        project.rvrun("run", "local", "cfg.py", "chip", *words)
        assert set(project.chips()) == set("abcvt")
        assert project.would_run("chip", *words) == {}


def test_one_more_scene_predicts_that_scene(project: SceneProject) -> None:
    """With the model as it is."""
    project.rvrun("run", "local", "cfg.py", *EACH)
    before = project.predictions()
    more = ("predict", "-a", "test", "t u", *EACH)
    project.rvrun("run", "local", "cfg.py", *more)
    after = project.predictions()
    assert len(after.pop("u")) == 1
    assert after == before


def test_accepted_statistics_leave_chips_as_they_are(project: SceneProject) -> None:
    """Another scene runs `analyze` again, and then everything, unless somebody knows better."""
    more = ("-a", "train", "a b c d", *EACH)
    project.rvrun("run", "local", "cfg.py", *EACH)
    assert project.would_run(*more)["chip"] == "after analyze"
    project.rvrun("accept", "semantic_segmentation/analyze", "--config", "cfg.py", *more)
    assert "analyze" not in project.would_run(*more)
    assert project.would_run(*more)["chip"] == "not done: d"


def test_another_number_of_splits_is_the_reason(project: SceneProject) -> None:
    project.rvrun("run", "local", "cfg.py", "chip", *EACH)
    words = ("chip", "--splits", "chip=2")
    assert project.would_run(*words) == {"chip": "splits changed: 3 → 2"}
    fewer = ("chip", "--splits", "chip=3", "-a", "train", "a b")
    assert project.would_run(*fewer) == {"chip": "was done by item, now by split"}


def test_commands_of_subclasses_have_no_items(project: SceneProject) -> None:
    """They may share out anything."""
    config = CONFIG.replace(
        "def get_config", "class Mine(SemanticSegmentationConfig): pass\n\ndef get_config"
    )
    config = config.replace("class Mine", '@register_config("mine")\nclass Mine')
    project.write(
        "cfg.py",
        config.replace("return Semantic", "return Mine  #").replace(
            "Mine  #SegmentationConfig", "Mine"
        ),
    )
    done = project.rvrun("plan", "cfg.py", "--splits", "chip=each", code=2)
    assert "the number of items of `mine/chip` is unknown" in done.stderr
