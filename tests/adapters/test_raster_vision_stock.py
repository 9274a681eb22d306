"""Raster Vision's stock pipelines: what their commands depend on, and which run after a change."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import attrs
import pytest

from rvrun.adapters.raster_vision.stock import KEYS, PIPELINES, VERSION
from tests.conftest import ROOT, Project

DATA = ROOT / "tests" / "data"
RECORD = json.loads((DATA / "raster_vision_reads.json").read_text(encoding="utf-8"))
#: Fields that are read to build the backend of every command. Only `train` runs the learner whose
#: config is made of them; `chip` takes the two fields of its data loader (`KEYS`), and `predict`
#: depends on the whole backend. (rastervision.pytorch_backend 0.31.1, `PyTorchLearnerBackend`.)
PASSED_ON = (
    "backend.data.img_channels",
    "backend.data.plot_options",
    "backend.data.plot_options.channel_display_groups",
    "backend.log_tensorboard",
    "backend.run_tensorboard",
    "backend.save_all_checkpoints",
    "backend.solver.class_loss_weights",
    "backend.solver.external_loss_def",
    "backend.solver.ignore_class_index",
)
CONFIG = """
from rastervision.core.rv_pipeline.semantic_segmentation_config import *

def get_config(runner, epochs: int = 1, batch: int = 8, predict: int = 300, threshold=1.0,
               scenes="a b"):
    return SemanticSegmentationConfig(
        root_uri="out",
        dataset=DatasetConfig(train_scenes=scenes.split()),
        backend=BackendConfig(solver=SolverConfig(num_epochs=epochs, batch_sz=batch)),
        chip_options=ChipOptions(nodata_threshold=threshold),
        predict_options=PredictOptions(chip_sz=predict),
    )
"""
PLUGIN = """
import rastervision.pipeline
from rastervision.core.rv_pipeline.semantic_segmentation import SemanticSegmentation
from rastervision.core.rv_pipeline.semantic_segmentation_config import *
from rastervision.pipeline.config import register_config

@register_config("mine_analyzer")
class MyAnalyzer(AnalyzerConfig):
    pass

@register_config("mine_config")
class MyConfig(SemanticSegmentationConfig):
    pass

class MyPipeline(SemanticSegmentation):
    pass

def register_plugin(registry):
    registry.set_plugin_version("rastervision.mine", 0)
"""


@attrs.frozen
class StockProject(Project):
    """A project whose commands find the stand-in for `rastervision-core`, and a plugin."""

    def run(
        self, *command: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        folders = (
            self.folder / "plugin",
            DATA / "raster_vision_local",
            DATA / "raster_vision_core",
        )
        more = {"PYTHONPATH": os.pathsep.join(map(str, folders)), "HOME": str(self.folder)}
        return super().run(*command, code=code, cwd=cwd, **(more | env))

    def would_run(self, *words: str) -> dict[str, str]:
        """Why each stage that is not up to date would run."""
        plan = self.rvrun("plan", "cfg.py", *words).stdout.splitlines()[2:-1]
        rows = [line.split(maxsplit=1) for line in plan if "up to date" not in line]
        return {name.partition("/")[2]: rest.split("  ")[-1].strip() for name, rest in rows}


@pytest.fixture
def project(tmp_path: pathlib.Path, processes: None) -> StockProject:
    """A project with a config of the stock pipeline, and a plugin that derives from it."""
    project = StockProject(tmp_path)
    project.write("cfg.py", CONFIG)
    project.write("plugin/rastervision/mine/__init__.py", PLUGIN)
    return project


def is_covered(path: str, keys: tuple[str, ...]) -> bool:
    """Whether a field, or everything that was read in it, is in a part that `keys` select."""
    return any(path == key or path.startswith(f"{key}.") for key in keys)


def test_the_record_is_of_the_declared_version() -> None:
    assert set(RECORD["versions"]) >= {"rastervision-core", "rastervision-pytorch-backend"}
    assert all(version.startswith(VERSION) for version in RECORD["versions"].values())
    assert {name.partition(" ")[0] for name in RECORD["reads"]} == set(PIPELINES)


@pytest.mark.parametrize("pipeline", RECORD["reads"])
def test_every_recorded_read_is_declared(pipeline: str) -> None:
    """A field that a command was seen to read is in its keys, or only passed on."""
    missing = {}
    for command, paths in RECORD["reads"][pipeline].items():
        if command not in KEYS:
            continue
        # A part that was opened is not yet read: its fields are recorded themselves.
        fields = [p for p in paths if not any(other.startswith(f"{p}.") for other in paths)]
        assert len(fields) > 2
        # A part without a field of its own was only handed over, as `backend.model` to the learner.
        read = [f for f in fields if f != "backend.model" and f not in PASSED_ON]
        missing[command] = [f for f in read if not is_covered(f, KEYS[command])]
    assert {command: paths for command, paths in missing.items() if paths} == {}


@pytest.mark.parametrize("pipeline", RECORD["reads"])
def test_what_is_passed_on_is_read_by_training(pipeline: str) -> None:
    """`train` dumps the whole backend, so it depends on all that others only pass on."""
    reads = RECORD["reads"][pipeline]["train"]
    assert {"backend.data.*", "backend.model.*", "backend.solver.*"} <= set(reads)
    assert all(is_covered(path, KEYS["train"]) for path in PASSED_ON)


def test_bundles_depend_on_everything() -> None:
    """They contain the config itself, and so does no other output."""
    assert "bundle" not in KEYS
    assert all("bundle" in commands for commands in RECORD["reads"].values())


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (
            ("epochs", "4"),
            {
                "train": "config changed: backend.solver.num_epochs",
                "predict": "after train",
                "eval": "after predict",
                "bundle": "after eval",
            },
        ),
        (
            ("predict", "200"),
            {
                "predict": "config changed: predict_options.chip_sz",
                "eval": "after predict",
                "bundle": "after eval",
            },
        ),
        (
            ("threshold", "0.5"),
            {
                "chip": "config changed: chip_options.nodata_threshold",
                "train": "after chip",
                "predict": "after train",
                "eval": "after predict",
                "bundle": "after eval",
            },
        ),
        (
            ("batch", "4"),
            {
                "chip": "config changed: backend.solver.batch_sz",
                "train": "after chip",
                "predict": "after train",
                "eval": "after predict",
                "bundle": "after eval",
            },
        ),
        (
            ("scenes", "a c"),
            {
                "analyze": "config changed: dataset.train_scenes.1",
                "chip": "after analyze",
                "train": "after chip",
                "predict": "after train",
                "eval": "after predict",
                "bundle": "after eval",
            },
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_change_runs_what_depends_on_it(
    project: StockProject, words: tuple[str, str], reasons: dict[str, str]
) -> None:
    """And the plan names the keys that changed."""
    project.rvrun("run", "inprocess", "cfg.py")
    assert project.would_run("-a", *words) == reasons


def test_another_root_is_one_change(project: StockProject) -> None:
    """For people; JSON has every key."""
    project.write("other.py", CONFIG.replace('"out"', '"new"'))
    project.rvrun("render", "local", "cfg.py")
    done = project.rvrun("diff", "runs/cfg", "other.py", code=1)
    # The pipeline is named by its type, so both plans have it.
    assert done.stdout.splitlines()[:2] == [
        "~ semantic_segmentation  config: root_uri and 6 more keys: out → new",
        "would run again:",
    ]
    changes = json.loads(project.rvrun("diff", "runs/cfg", "other.py", "--json", code=1).stdout)
    assert len(changes["changes"]) == 7


@pytest.mark.parametrize(
    "change",
    [
        ("    return Semantic", "    import rastervision.mine\n    return Semantic"),
        ("Config(\n        root_uri", "Config(\n        analyzers=[MyAnalyzer()], root_uri"),
        ("return SemanticSegmentationConfig", "return MyConfig"),
        (
            "*\n\ndef",
            "*\n\nSemanticSegmentationConfig.build = lambda s, t: MyPipeline(s, t)\n\ndef",
        ),
    ],
    ids=["stock", "analyzer", "config", "pipeline"],
)
def test_unknown_code_may_read_everything(project: StockProject, change: tuple[str, str]) -> None:
    """A class of a plugin anywhere in the config: then no command has keys, and all would run."""
    is_stock = "import" in change[1]
    imports = "" if is_stock else "from rastervision.mine import *\n"
    project.write("cfg.py", imports + CONFIG.replace(*change))
    project.rvrun("render", "local", "cfg.py")
    (pipeline,) = json.loads(project.read("runs/cfg/plan.json"))["pipelines"]
    keys = {stage["command"] for stage in pipeline["stages"] if stage["config_keys"] is not None}
    assert keys == (set(KEYS) if is_stock else set())


def test_another_version_may_read_everything(project: StockProject) -> None:
    """Only the commands of the recorded version are known."""
    info = "plugin/rastervision_core-0.32.0.dist-info/METADATA"
    project.write(info, "Metadata-Version: 2.1\nName: rastervision-core\nVersion: 0.32.0\n")
    project.rvrun("render", "local", "cfg.py")
    assert not (project.folder / "runs/cfg/config/semantic_segmentation").exists()
