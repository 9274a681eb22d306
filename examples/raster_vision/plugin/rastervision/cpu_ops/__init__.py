"""Make a CUDA build of torchvision importable with a CPU build of PyTorch.

On import, torchvision registers metadata for operators of its compiled extension. That extension
does not load here, so the registration fails unless the operators are declared first. This plugin
declares them in time, because Raster Vision imports all packages of its namespace at startup, those
on PYTHONPATH first. Only object detection calls these operators.
"""

import contextlib
from typing import Any

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def register_plugin(registry: Any) -> None:
    """Register this plugin, as Raster Vision requires of every plugin."""
    registry.set_plugin_version("rastervision.cpu_ops", 0)


_library = torch.library.Library("torchvision", "FRAGMENT")
for _operator in OPERATORS:
    if not torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            _library.define(_operator)
