"""Declared inputs and outputs that the jobs of a runner cannot reach."""

from __future__ import annotations

from rvrun.aws.storage import is_on_s3
from rvrun.errors import RvrunError
from rvrun.model import Plan
from rvrun.runners.protocol import Runner


class UnreachableFile(RvrunError):
    """A declared path on this machine, for jobs that run on others."""

    stage: str
    attribute: str
    path: str
    runner: str
    template = (
        "`{attribute}` of {stage} must be s3:// URIs for runner `{runner}`, whose jobs run on "
        "other machines, got {path}"
    )
    fix = "put the file on S3, and let `{attribute}` name it there"


def check_reachable(plan: Plan, runner: Runner, name: str) -> None:
    """Raise `UnreachableFile` if jobs of a runner could not reach a declared input or output.

    - `name`: of the runner.
    """
    if not runner.CAPABILITIES.needs_remote_storage:
        return
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            for attribute in ("inputs", "outputs"):
                for path in getattr(stage, attribute):
                    if not is_on_s3(path):
                        stage_name = f"{pipeline.name}/{stage.command}"
                        raise UnreachableFile(stage_name, attribute, path, name)
