"""The base of all stock pipelines, whose commands write a file each."""

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

    def train(self):
        self._write("train")

    def predict(self, split_ind=0, num_splits=1):
        self._write(f"predict-{split_ind}")

    def eval(self):
        self._write("eval")

    def bundle(self):
        self._write("bundle")
