"""Replaces Raster Vision's package of this name, which requires PyTorch, by a writer of chips."""

import rastervision.pipeline
import rastervision.pytorch_backend.pipeline
import rastervision.pytorch_backend.pytorch_learner_backend


def register_plugin(registry):
    registry.set_plugin_version("rastervision.pytorch_backend", 2)
