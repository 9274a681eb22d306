"""Replaces Raster Vision's package of this name, which requires geospatial libraries.

Its pipeline has the classes, commands and fields of Raster Vision 0.31.1, but its commands only
write a file each. What the real commands read is recorded in `tests/data/raster_vision_reads.json`.
"""

import rastervision.pipeline
import rastervision.core.rv_pipeline.semantic_segmentation_config


def register_plugin(registry):
    registry.set_plugin_version("rastervision.core", 14)
