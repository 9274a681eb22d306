"""Images that commands name, compared with those of their job definitions, which jobs run in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rvrun.finding import Finding, warning
from rvrun.model import Plan
from rvrun.runners.batch.api import SubmitJobRequest
from rvrun.runners.batch.spec_files import JOB_TAG, stage_of


def check_images(
    plan: Plan, requests: Sequence[SubmitJobRequest], images: Mapping[str, str]
) -> Iterator[Finding]:
    """Warn about commands whose jobs run in another image than the one that they name.

    - `images`: those of job definitions, by the name that requests have for them.
    """
    named = {
        f"{pipeline.name}/{stage.command}": stage.resources.image
        for pipeline in plan.pipelines
        for stage in pipeline.stages
    }
    definitions = {stage_of(r["tags"][JOB_TAG]): r["jobDefinition"] for r in requests}
    for stage, definition in definitions.items():
        image, own = images.get(definition), named.get(stage)
        if image and own and not _is_same(image, own):
            text = (
                f"{stage} names the image {own}, but its job definition `{definition}` runs "
                f"{image}, and AWS Batch uses that of the definition"
            )
            fix = "set `job_def` in its `resources` to a definition with that image"
            yield warning("job definition", text, fix)


def _is_same(one: str, other: str) -> bool:
    """Whether two images are equal but for the registry, which may be a mirror of another."""
    return _without_registry(one) == _without_registry(other)


def _without_registry(image: str) -> str:
    name = image.rpartition("/")[2]
    return name if ":" in name or "@" in name else f"{name}:latest"
