"""Compile pipelines of commands into a plan, render the plan into files, and run it."""

from __future__ import annotations

from rvrun.pipelines.base import (
    Aligned,
    Config,
    Late,
    Pipeline,
    PipelineConfig,
    aligned,
    late,
    register,
    share,
)

__version__ = "0.2.0"

__all__ = [
    "Aligned",
    "Config",
    "Late",
    "Pipeline",
    "PipelineConfig",
    "Resources",
    "aligned",
    "late",
    "register",
    "share",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvrun.model import Resources
else:
    # Hidden from type checkers, to which every name would be an attribute.
    def __getattr__(name: str) -> object:
        """Import `Resources` on first use: it requires attrs, which the worker does not import."""
        if name == "Resources":
            from rvrun.model import Resources

            return Resources
        raise AttributeError(f"module `rvrun` has no attribute `{name}`")
