"""A Raster Vision plugin for the tests, whose pipeline is like its own, but without imagery."""

import rastervision.pipeline
from rastervision.tiles.pipeline import DatasetConfig, TilesConfig

__all__ = ["DatasetConfig", "TilesConfig"]


def register_plugin(registry):
    registry.set_plugin_version("rastervision.tiles", 1)
    registry.add_rv_config_schema("tiles", ["greeting"])
