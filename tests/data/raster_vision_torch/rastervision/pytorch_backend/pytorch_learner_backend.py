"""Write chips as Raster Vision 0.31.1 does, with text files instead of images."""

import tempfile
from contextlib import AbstractContextManager
from os.path import join

from rastervision.pipeline.file_system import make_dir, str_to_file, upload_or_copy, zipdir


class PyTorchLearnerSampleWriter(AbstractContextManager):
    def __init__(self, output_uri, class_config, tmp_dir):
        self.output_uri = output_uri
        self.class_config = class_config
        self.tmp_dir = tmp_dir

    def __enter__(self):
        self.tmp_dir_obj = tempfile.TemporaryDirectory(dir=self.tmp_dir)
        self.sample_dir = join(self.tmp_dir_obj.name, "samples")
        make_dir(self.sample_dir)
        return self

    def __exit__(self, type, value, traceback):
        output_path = join(self.tmp_dir_obj.name, "output.zip")
        zipdir(self.sample_dir, output_path)
        upload_or_copy(output_path, self.output_uri)
        self.tmp_dir_obj.cleanup()

    def write_sample(self, scene):
        str_to_file(scene, join(self.sample_dir, f"{scene}.txt"))
