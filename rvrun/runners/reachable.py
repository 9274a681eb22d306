"""Declared inputs and outputs that the jobs of a runner cannot reach."""

from __future__ import annotations

from rvrun.aws.storage import is_on_s3
from rvrun.errors import RvrunError
from rvrun.runners.protocol import Runner
from rvrun.runners.run import Run


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


def check_reachable(run: Run, runner: Runner, name: str) -> None:
    """Raise `UnreachableFile` if jobs of a runner could not reach a declared input or output.

    - `name`: of the runner.
    """
    if not runner.CAPABILITIES.needs_remote_storage:
        return
    of_items = {
        f"{pipeline.name}/{command.name}": command.item_paths
        for pipeline in run.pipelines
        for command in pipeline.declared.commands
    }
    for pipeline in run.plan.pipelines:
        for stage in pipeline.stages:
            stage_name = f"{pipeline.name}/{stage.command}"
            inputs = (*stage.inputs, *of_items.get(stage_name, ()))
            for attribute, paths in (("inputs", inputs), ("outputs", stage.outputs)):
                for path in paths:
                    if not is_on_s3(path):
                        raise UnreachableFile(stage_name, attribute, path, name)
