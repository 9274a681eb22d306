"""Stands for Raster Vision's package of that name, which needs PyTorch: its writer of chips."""

import rastervision.pipeline
import rastervision.pytorch_backend.pipeline
import rastervision.pytorch_backend.pytorch_learner_backend


def register_plugin(registry):
    registry.set_plugin_version("rastervision.pytorch_backend", 2)
