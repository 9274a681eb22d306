"""`analyze`, `chip`, `train`, `predict`, `eval`: each writes to a file what it was called with."""

from __future__ import annotations

import json
import os
import tempfile
import time
from os.path import join

from rastervision.pipeline import rv_config_ as rv_config
from rastervision.pipeline.config import Config, ConfigError, register_config
from rastervision.pipeline.file_system import file_exists, file_to_str, json_to_file, str_to_file
from rastervision.pipeline.pipeline import Pipeline
from rastervision.pipeline.pipeline_config import PipelineConfig
from rastervision.pipeline.utils import split_into_groups


def upgrade(values, version):
    """Version 0 had `images` instead of `scenes`."""
    if version == 0:
        values["scenes"] = values.pop("images")
    return values


@register_config("tiles.dataset", upgrader=upgrade)
class DatasetConfig(Config):
    scenes: list[str] = ["a", "b", "c", "d"]
    groups: dict[str, set[str]] = {"train": {"a", "b", "c"}, "validation": {"d"}}
    # The defaults are not validated, so that Raster Vision saves them as 0 and 1e-5.
    nodata_value: float | None = 0
    size: int | float = 3
    rates: tuple[float, ...] = (1e-5, 1.0, 1e16, 2)

    def validate_config(self):
        if "bad" in self.scenes:
            raise ConfigError("there is a bad scene")


@register_config("tiles.tiles")
class TilesConfig(PipelineConfig):
    """`fail`: the command that fails as long as a file `fail` exists below the root."""

    dataset: DatasetConfig = DatasetConfig()
    analyzers: list[str] = []
    epochs: int = 1
    seconds: float = 0.0
    fail: str = ""
    chip_uri: str | None = None

    def update(self):
        if self.chip_uri is None:
            self.chip_uri = join(self.root_uri, "chip")
        if self.epochs < 0:
            raise ConfigError("less than no epochs")

    def build(self, tmp_dir):
        return Tiles(self, tmp_dir)


class Tiles(Pipeline):
    job_queue = "tiles-queue"

    @property
    def commands(self):
        return [*(["analyze"] if self.config.analyzers else []), "chip", "train", "predict", "eval"]

    @property
    def split_commands(self):
        return ["chip", "predict"]

    @property
    def gpu_commands(self):
        return ["train"]

    def _uri(self, *names):
        return join(self.config.root_uri, *names)

    def _share(self, split_ind, num_splits):
        groups = split_into_groups(self.config.dataset.scenes, num_splits)
        return groups[split_ind] if split_ind < len(groups) else []

    def _begin(self, name):
        time.sleep(self.config.seconds)
        if self.config.fail == name and file_exists(self._uri("fail")):
            raise RuntimeError(f"{name} fails as configured")

    def analyze(self):
        json_to_file(self.config.analyzers, self._uri("analyze.json"))

    def chip(self, split_ind=0, num_splits=1):
        self._begin("chip")
        for scene in self._share(split_ind, num_splits):
            str_to_file(f"chips of {scene}", self._uri("chip", f"{scene}.txt"))

    def train(self):
        self._begin("train")
        scenes = self.config.dataset.scenes
        chips = [file_to_str(self._uri("chip", f"{scene}.txt")) for scene in scenes]
        json_to_file({"chips": chips, "epochs": self.config.epochs}, self._uri("model.json"))

    train.job_def = "train-definition"

    def predict(self, split_ind=0, num_splits=1):
        self._begin("predict")
        for scene in self._share(split_ind, num_splits):
            if self.config.fail == f"predict {scene}" and file_exists(self._uri("fail")):
                raise RuntimeError(f"predicting {scene} fails as configured")
            model = file_to_str(self._uri("model.json"))
            str_to_file(f"{scene}: {model}", self._uri("predict", f"{scene}.txt"))

    def eval(self):
        """Write the command's surroundings, so that tests can check them."""
        self._begin("eval")
        scenes = self.config.dataset.scenes
        predictions = [file_to_str(self._uri("predict", f"{scene}.txt")) for scene in scenes]
        json_to_file({"predictions": len(predictions)}, self._uri("eval.json"))
        if "surroundings" in self.config.analyzers:
            json_to_file(
                {
                    "verbosity": rv_config.get_verbosity(),
                    "greeting": rv_config.get_namespace_option("tiles", "greeting", "none"),
                    "tmp_root": rv_config.get_tmp_dir_root(),
                    "tmp_dir": self.tmp_dir.startswith(rv_config.get_tmp_dir_root())
                    and os.path.isdir(self.tmp_dir),
                    "tempfile": tempfile.gettempdir(),
                },
                self._uri("surroundings.json"),
            )
