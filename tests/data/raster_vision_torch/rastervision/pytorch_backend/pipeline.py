"""Two commands: each attempt of `chip` writes a file of its own, `train` reads all files."""

from __future__ import annotations

import uuid
import zipfile
from os.path import join

from rastervision.pipeline.config import register_config
from rastervision.pipeline.file_system import (
    download_if_needed,
    file_exists,
    json_to_file,
    list_paths,
)
from rastervision.pipeline.pipeline import Pipeline
from rastervision.pipeline.pipeline_config import PipelineConfig
from rastervision.pipeline.utils import split_into_groups
from rastervision.pytorch_backend.pytorch_learner_backend import PyTorchLearnerSampleWriter


@register_config("torch.chips")
class ChipsConfig(PipelineConfig):
    scenes: list[str] = ["a", "b", "c", "d"]
    chip_uri: str | None = None

    def update(self):
        if self.chip_uri is None:
            self.chip_uri = join(self.root_uri, "chip")

    def build(self, tmp_dir):
        return Chips(self, tmp_dir)


class Chips(Pipeline):
    commands = ["chip", "train"]
    split_commands = ["chip"]
    gpu_commands = []

    def chip(self, split_ind=0, num_splits=1):
        groups = split_into_groups(self.config.scenes, num_splits)
        scenes = groups[split_ind] if split_ind < len(groups) else []
        if not scenes:
            return
        uri = join(self.config.chip_uri, f"{uuid.uuid4()}.zip")
        with PyTorchLearnerSampleWriter(uri, None, self.tmp_dir) as writer:
            for scene in scenes:
                writer.write_sample(scene)
                if file_exists(join(self.config.root_uri, f"fail-{scene}")):
                    raise RuntimeError(f"chipping {scene} fails as configured")

    def train(self):
        names = []
        for path in list_paths(self.config.chip_uri, ext="zip"):
            with zipfile.ZipFile(download_if_needed(path)) as chips:
                names += chips.namelist()
        json_to_file(sorted(names), join(self.config.root_uri, "model.json"))
