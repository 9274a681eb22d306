"""Lets a torchvision that was built for CUDA be imported beside a PyTorch for CPUs.

Raster Vision imports all packages of its namespace when it starts, those on PYTHONPATH first. On
import torchvision describes operators of its compiled part, which does not load here; so they are
declared first. Only object detection calls them.
"""

import contextlib
from typing import Any

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def register_plugin(registry: Any) -> None:
    """What each plugin of Raster Vision's has."""
    registry.set_plugin_version("rastervision.cpu_ops", 0)


_library = torch.library.Library("torchvision", "FRAGMENT")
for _operator in OPERATORS:
    if not torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            _library.define(_operator)
