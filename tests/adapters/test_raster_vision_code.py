"""Code fingerprints of Raster Vision's pipelines: the user's config file, and their plugins."""

from __future__ import annotations

import pathlib

import pytest

from tests.adapters.test_raster_vision import PluginProject

CONFIG = """
from rastervision.mine import MineConfig

ROOT = "out"

def number_of_epochs():
    return 2

def get_config(runner):
    # The first comment.
    return MineConfig(root_uri=ROOT, epochs=number_of_epochs())
"""
PLUGIN = """
import rastervision.pipeline
from rastervision.mine.pipeline import MineConfig

def register_plugin(registry):
    registry.set_plugin_version("rastervision.mine", 0)
"""
PIPELINE = """
from os.path import join

from rastervision.mine.windows import choose, describe
from rastervision.pipeline.config import register_config
from rastervision.pipeline.file_system import str_to_file
from rastervision.pipeline.pipeline import Pipeline
from rastervision.pipeline.pipeline_config import PipelineConfig

@register_config("mine")
class MineConfig(PipelineConfig):
    epochs: int = 1

    def build(self, tmp_dir):
        return Mine(self, tmp_dir)

class Mine(Pipeline):
    commands = ["chip", "train", "bundle"]
    split_commands = ["chip"]
    gpu_commands = []
    needs = {"train": [], "bundle": []}

    def chip(self, split_ind=0, num_splits=1):
        \"\"\"Write chips.\"\"\"
        self._write("chip", choose(3))

    def train(self):
        self._write("train", describe("model"))

    def bundle(self):
        self._write("bundle", "")

    def _write(self, name, text):
        str_to_file(str(text), join(self.config.root_uri, name))
"""
WINDOWS_CODE = """
def choose(number):
    # The first comment.
    return shuffled(range(number))

def shuffled(values):
    return list(values)[::-1]

def describe(name):
    return f"a {name}"

def unused():
    return 1
"""
WINDOWS = "rastervision.mine.windows"
FOLDER = "plugin/rastervision/mine"
PIPELINE_FILE, WINDOWS_FILE = f"{FOLDER}/pipeline.py", f"{FOLDER}/windows.py"


@pytest.fixture
def project(tmp_path: pathlib.Path, processes: None) -> PluginProject:
    """A run of a pipeline of a plugin in a folder of the project's."""
    project = PluginProject(tmp_path)
    project.write("mine.py", CONFIG)
    project.write(f"{FOLDER}/__init__.py", PLUGIN)
    project.write(PIPELINE_FILE, PIPELINE)
    project.write(WINDOWS_FILE, WINDOWS_CODE)
    run(project, "run", "inprocess", "mine.py")
    return project


def run(project: PluginProject, *words: str) -> str:
    return project.rvrun(*words, PYTHONPATH=str(project.folder / "plugin")).stdout


def would_run(project: PluginProject) -> dict[str, str]:
    """Why each stage that is not up to date would run."""
    rows = [line for line in run(project, "plan", "mine.py").splitlines() if "mine/" in line]
    stale = [line.split(maxsplit=1) for line in rows if "up to date" not in line]
    return {name.partition("/")[2]: rest.split("  ")[-1].strip() for name, rest in stale}


def edit(project: PluginProject, path: str, old: str, new: str) -> None:
    text = project.read(path)
    assert text.count(old) == 1
    project.write(path, text.replace(old, new))


@pytest.mark.parametrize(
    ("path", "old", "new", "stale"),
    [
        (
            WINDOWS_FILE,
            "[::-1]",
            "[::2]",
            {"chip": f"code changed: Mine.chip → {WINDOWS}.choose → {WINDOWS}.shuffled"},
        ),
        (
            WINDOWS_FILE,
            "a {name}",
            "{name}",
            {"train": f"code changed: Mine.train → {WINDOWS}.describe"},
        ),
        (PIPELINE_FILE, "choose(3)", "choose(4)", {"chip": "code changed: Mine.chip"}),
        (
            PIPELINE_FILE,
            "str(text)",
            "repr(text)",
            {
                "chip": "code changed: Mine.chip → Mine._write",
                "train": "code changed: Mine.train → Mine._write",
                "bundle": "code changed: Mine.bundle → Mine._write",
            },
        ),
    ],
    ids=["far", "near", "method", "shared"],
)
def test_an_edit_runs_the_commands_that_reach_it(
    project: PluginProject, path: str, old: str, new: str, stale: dict[str, str]
) -> None:
    assert would_run(project) == {}
    edit(project, path, old, new)
    assert would_run(project) == stale


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (WINDOWS_FILE, "The first", "Another"),
        (WINDOWS_FILE, "return 1", "return 2"),
        (PIPELINE_FILE, "Write chips.", "Write all of them."),
        (PIPELINE_FILE, "\n\nclass Mine(", "\n\n\n\nclass Mine("),
        ("mine.py", "The first", "Another"),
    ],
    ids=["comment", "unreachable", "docstring", "layout", "comment of the config"],
)
def test_what_changes_nothing_runs_nothing(
    project: PluginProject, path: str, old: str, new: str
) -> None:
    edit(project, path, old, new)
    assert would_run(project) == {}


def test_the_config_file_counts_by_its_config(project: PluginProject) -> None:
    """Its functions run before the config is saved, so only what they return matters."""
    edit(project, "mine.py", "return 2", "return 1 + 1")
    assert would_run(project) == {}
    edit(project, "mine.py", "return 1 + 1", "return 3")
    assert set(would_run(project)) == {"chip", "train", "bundle"}
    assert would_run(project)["chip"] == "config changed: epochs"


def test_classes_in_the_config_file_are_code(project: PluginProject) -> None:
    """The file is then what targets import."""
    project.write("whole.py", PIPELINE.replace('"mine"', '"whole"') + CONFIG.split("\n", 2)[2])
    run(project, "run", "inprocess", "whole.py")
    edit(project, "whole.py", "choose(3)", "choose(4)")
    edit(project, "whole.py", "# The first", "# Another")
    edit(project, "whole.py", "return 2", "return 1 + 1")
    rows = run(project, "plan", "whole.py").splitlines()[2:-1]
    assert ["code changed: Mine.chip" in row for row in rows] == [True, False, False]
    assert ["up to date" in row for row in rows] == [False, True, True]
