"""The adapters that rvrun ships, for mypy to check against their protocol. Only tests import it."""

from __future__ import annotations

from collections.abc import Mapping

from rvrun.adapters.protocol import Adapter
from rvrun.adapters.raster_vision import adapter as raster_vision

ADAPTERS: Mapping[str, Adapter] = {"rastervision": raster_vision}
