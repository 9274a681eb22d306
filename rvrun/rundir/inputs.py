"""The inputs of a plan's stages as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rvrun.data.fingerprint import Finder
from rvrun.model import Plan
from rvrun.patterns import describe_absence
from rvrun.rundir.freshness import StageStatus

if TYPE_CHECKING:
    from rvrun.data.hashes import Advance


def input_fingerprints(plan: Plan, advance: Advance | None = None) -> dict[str, str]:
    """Return the input fingerprint of each stage that declares inputs, by path.

    - `advance`: as in `data.hashes.Hashes`.

    Raises `CannotRead` or `CannotReach`.
    """
    finder = Finder(advance)
    return {
        path: finder.text(f"{pipeline.name}/{stage.command}", stage.inputs, stage.produced)
        for pipeline in plan.pipelines
        for stage in pipeline.stages
        if (path := stage.inputs_file(pipeline.name)) is not None
    }


def absent_inputs(statuses: Sequence[StageStatus]) -> list[str]:
    """Return a warning for each declared input that does not exist, and that nothing will write.

    A stage that is stale and needed may write files that it does not declare.
    """
    stale = {status.name for status in statuses if status.stale}
    return [
        f"{status.name} will fail: its input {path} {describe_absence(path)}"
        for status in statuses
        if not any(f"{status.pipeline}/{need.command}" in stale for need in status.stage.needs)
        for path in status.absent
    ]
