"""Leaves out tests that import Raster Vision where it cannot be imported.

On Python 3.14, Raster Vision 0.31 fails at import: its `Config` has a method `dict`, which there
hides the type in annotations of that class, such as `dict | None`.
"""

from __future__ import annotations

import sys

collect_ignore = (
    [
        "test_raster_vision.py",
        "test_raster_vision_aws.py",
        "test_raster_vision_code.py",
        "test_raster_vision_items.py",
        "test_raster_vision_stock.py",
    ]
    if sys.version_info >= (3, 14)
    else []
)
