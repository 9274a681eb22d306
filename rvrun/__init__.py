"""rvrun compiles pipelines of commands into a plan, renders the plan and runs it."""

from __future__ import annotations

from rvrun.pipelines.base import Aligned, Config, Pipeline, PipelineConfig, aligned, register, share

__version__ = "0.2.0"

__all__ = [
    "Aligned",
    "Config",
    "Pipeline",
    "PipelineConfig",
    "Resources",
    "aligned",
    "register",
    "share",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvrun.model import Resources


def __getattr__(name: str) -> object:
    """`Resources` is loaded when asked for: it imports attrs, which the worker does without."""
    if name == "Resources":
        from rvrun.model import Resources

        return Resources
    raise AttributeError(f"module `rvrun` has no attribute `{name}`")
