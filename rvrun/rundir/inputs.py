"""The inputs of a plan's stages as they are now."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rvrun.data.fingerprint import Finder, join_items
from rvrun.model import Plan, Stage
from rvrun.patterns import describe_absence
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.item_status import Rendered

if TYPE_CHECKING:
    from rvrun.data.hashes import Advance


def input_fingerprints(
    plan: Plan, run_dir: pathlib.Path, files: Mapping[str, str], advance: Advance | None = None
) -> dict[str, str]:
    """Return the input fingerprints of each stage that declares inputs, by path.

    - `run_dir`, `files`: as in `plan_status`: where the items are.
    - `advance`: as in `data.hashes.Hashes`.

    Raises `CannotRead` or `CannotReach`.
    """
    finder, rendered = Finder(advance), Rendered(run_dir, files)
    texts: dict[str, str] = {}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            name = f"{pipeline.name}/{stage.command}"
            if (path := stage.inputs_file(pipeline.name)) is not None:
                texts[path] = finder.text(name, stage.inputs, stage.produced)
            if (path := stage.item_inputs_file(pipeline.name)) is not None:
                texts[path] = join_items(name, _of_items(finder, rendered, pipeline.name, stage))
    return texts


def _of_items(finder: Finder, rendered: Rendered, pipeline: str, stage: Stage) -> dict[str, str]:
    """Return the input fingerprint of each item of a stage by its digest."""
    digests = rendered.read_items(pipeline, stage).digests
    values = rendered.read_values(pipeline, stage) or ()
    texts = finder.of_items(stage.item_inputs, values, stage.produced)
    return dict(zip(digests, texts, strict=False))


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
