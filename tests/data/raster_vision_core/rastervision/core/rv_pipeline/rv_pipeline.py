"""The base of all stock pipelines, whose commands write a file each.

With the stand-in for `rastervision-pytorch-backend`, `chip` writes chips, too.
"""

import sys
import uuid
from os.path import join

from rastervision.pipeline.file_system import str_to_file
from rastervision.pipeline.pipeline import Pipeline


class RVPipeline(Pipeline):
    commands = ["analyze", "chip", "train", "predict", "eval", "bundle"]
    split_commands = ["chip", "predict"]
    gpu_commands = ["train", "predict"]

    def _write(self, name):
        str_to_file("", join(self.config.root_uri, name))

    def analyze(self):
        self._write("analyze")

    def chip(self, split_ind=0, num_splits=1):
        self._write(f"chip-{split_ind}")
        dataset = self.config.dataset.get_split_config(split_ind, num_splits)
        scenes = dataset.train_scenes + dataset.validation_scenes + dataset.test_scenes
        backend = sys.modules.get("rastervision.pytorch_backend.pytorch_learner_backend")
        if backend is None or not (dataset.train_scenes or dataset.validation_scenes):
            return
        uri = join(self.config.chip_uri, f"{uuid.uuid4()}.zip")
        with backend.PyTorchLearnerSampleWriter(uri, None, self.tmp_dir) as writer:
            for scene in scenes:
                writer.write_sample(scene)

    def train(self):
        self._write("train")

    def predict(self, split_ind=0, num_splits=1):
        self._write(f"predict-{split_ind}")
        dataset = self.config.dataset.get_split_config(split_ind, num_splits)
        for scene in dataset.validation_scenes + dataset.test_scenes:
            str_to_file("", join(self.config.predict_uri, f"{scene}-{uuid.uuid4()}"))

    def eval(self):
        self._write("eval")

    def bundle(self):
        self._write("bundle")
