"""All files of a run directory that are rendered, as {relative path: text}. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rvrun import paths
from rvrun.model import Plan
from rvrun.pipelines.config_keys import narrow
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.plan.serialize import plan_to_json

#: What runs leave in a run directory, beside what is rendered.
LEFT = (paths.DONE, paths.RECORDS, paths.LOGS, paths.SUBMITTED)
GITIGNORE = "".join(f"/{name}/\n" for name in LEFT) + f"/{paths.LOCK}\n"


def render_common(plan: Plan, pipelines: Sequence[LoadedPipeline]) -> dict[str, str]:
    """What every runner's run directory holds: the plan and the configs.

    A command with `config_keys` gets a file with just these, so that make sees when they change.
    There is one for every such command, also one not selected this time: a file that came and
    went would run its command again.
    """
    planned = {pipeline.name for pipeline in plan.pipelines}
    files = {paths.PLAN: plan_to_json(plan), ".gitignore": GITIGNORE}
    for pipeline in pipelines:
        if pipeline.name in planned:
            files.update(render_configs(pipeline))
    return files


def render_configs(pipeline: LoadedPipeline) -> dict[str, str]:
    """The config of one pipeline, whole and as its commands depend on it."""
    files = {paths.config(pipeline.name): to_text(pipeline.document)}
    for command in pipeline.declared.commands:
        if command.config_keys is not None:
            part = narrow(pipeline.document["config"], command.config_keys)
            files[paths.narrowed_config(pipeline.name, command.name)] = to_text(part)
    return files


def to_text(values: Any) -> str:
    """JSON as it is kept in files: indented, keys as they come."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
