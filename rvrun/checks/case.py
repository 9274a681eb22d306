"""The run that is checked: each part, made once, or the error that says why it cannot be made."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from rvrun import prepare
from rvrun.errors import RvrunError
from rvrun.model import CodeMode, Plan
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.prepare import Request
from rvrun.runners.protocol import DetachedRunner, Runner
from rvrun.runners.registry import as_detached, find_runner
from rvrun.runners.run import Run
from rvrun.settings.layers import load_settings
from rvrun.settings.schema import Settings

T = TypeVar("T")


@attrs.frozen(slots=False)
class Case:
    """The run that is checked.

    - `request`: with an empty `config`, only the machine and the settings are checked.
    - `out`: the run directory; None if neither a config nor `--out` names one.

    A part is None if it was not asked for, or if a part that it is made of is missing: the check
    of that part says why, and the others find nothing.
    """

    request: Request
    out: str | None = None

    @functools.cached_property
    def runner(self) -> Runner | RvrunError:
        return attempt(lambda: find_runner(self.request.runner))

    @functools.cached_property
    def detached(self) -> DetachedRunner | None:
        """The runner, if it is detached."""
        return None if isinstance(self.runner, RvrunError) else as_detached(self.runner)

    @property
    def is_isolated(self) -> bool:
        """Whether each target runs in a process of its own."""
        return not isinstance(self.runner, RvrunError) and self.runner.CAPABILITIES.isolated

    @functools.cached_property
    def settings(self) -> Settings | RvrunError:
        return attempt(lambda: load_settings(self.request.flags, self.request.profile))

    @functools.cached_property
    def pipelines(self) -> tuple[LoadedPipeline, ...] | RvrunError | None:
        if not self.request.config or isinstance(self.runner, RvrunError):
            return None
        settings = self.settings
        if isinstance(settings, RvrunError):
            if self.request.config.endswith(".json"):
                # Its code may be anywhere, and the settings would have said where it may be.
                return None
            settings = Settings()
        return attempt(lambda: prepare.load_pipelines(self.request, settings))

    @functools.cached_property
    def loaded(self) -> tuple[LoadedPipeline, ...]:
        """The pipelines; empty if they could not be loaded."""
        return self.pipelines if isinstance(self.pipelines, tuple) else ()

    @functools.cached_property
    def plan(self) -> Plan | RvrunError | None:
        if not self.loaded:
            return None
        settings = self.settings
        code = Settings().code if isinstance(settings, RvrunError) else settings.code
        return attempt(lambda: prepare.compile_pipelines(self.loaded, self.request, CodeMode(code)))

    @functools.cached_property
    def run(self) -> Run | None:
        plan, settings, runner = self.plan, self.settings, self.runner
        if not isinstance(plan, Plan) or isinstance(settings, RvrunError):
            return None
        if self.out is None or isinstance(runner, RvrunError):
            return None
        return prepare.make_run(plan, self.loaded, settings, runner, self.request)

    @functools.cached_property
    def files(self) -> Mapping[str, str] | RvrunError | None:
        """What would be written into the run directory."""
        run, runner = self.run, self.runner
        if run is None or isinstance(runner, RvrunError):
            return None
        return attempt(lambda: prepare.render_files(run, runner, self.request.runner))


def attempt(function: Callable[[], T]) -> T | RvrunError:
    """Return what `function` returns, or the error in the user's input that it raises."""
    try:
        return function()
    except RvrunError as problem:
        return problem
