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
    "ProgramFailed",
    "Resources",
    "aligned",
    "late",
    "register",
    "share",
    "shell",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvrun.model import Resources
    from rvrun.programs.process import ProgramFailed
    from rvrun.programs.shell import shell
else:
    #: Where names are imported from on first use, as the worker does without most of them.
    _LAZY = {
        "Resources": "rvrun.model",
        "ProgramFailed": "rvrun.programs.process",
        "shell": "rvrun.programs.shell",
    }

    # Hidden from type checkers, to which every name would be an attribute.
    def __getattr__(name: str) -> object:
        """Import a name on first use."""
        if name in _LAZY:
            from importlib import import_module

            return getattr(import_module(_LAZY[name]), name)
        raise AttributeError(f"module `rvrun` has no attribute `{name}`")
