"""The files of a run directory that do not depend on the runner. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rvrun import item_list, paths
from rvrun.model import CodeMode, Plan
from rvrun.pipelines.config_keys import part_of
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.plan.serialize import plan_to_json

#: What runs write into a run directory, next to the rendered files.
RUN_OUTPUT = (paths.INPUTS, paths.DONE, paths.RECORDS, paths.LOGS, paths.SUBMITTED)
#: So that a run directory can be committed: git ignores what runs write.
GITIGNORE = "".join(f"/{name}/\n" for name in RUN_OUTPUT) + f"/{paths.LOCK}\n"


def render_common(
    plan: Plan, pipelines: Sequence[LoadedPipeline], packages: Sequence[str] = ()
) -> dict[str, str]:
    """Return the plan, configs, lists of items and code fingerprints, by path.

    - `packages`: the installed packages whose version is part of each code fingerprint.

    Raises `NotInstalled`.
    """
    planned = {pipeline.name for pipeline in plan.pipelines}
    files = {paths.PLAN: plan_to_json(plan), ".gitignore": GITIGNORE}
    for pipeline in pipelines:
        if pipeline.name in planned:
            files.update(_render_configs(pipeline))
    if any(stage.code is not CodeMode.OFF for p in plan.pipelines for stage in p.stages):
        # It imports Python's parser, which most calls of rvrun do without.
        from rvrun.code.pipelines import fingerprints

        with_code = {p.name for p in plan.pipelines for s in p.stages if s.code is not CodeMode.OFF}
        files.update(fingerprints([p for p in pipelines if p.name in with_code], packages))
    return files


def _render_configs(pipeline: LoadedPipeline) -> dict[str, str]:
    """Return the config of a pipeline, the parts of it on which commands depend, and their items.

    A command with `config_keys` or items has a part. It is a file of its own, so that make sees
    from its time whether that part changed. Commands that are not selected get theirs too: a file
    that disappears and returns has a new time, which would make its command stale.
    """
    files = {paths.config(pipeline.name): to_text(pipeline.document)}
    for command in pipeline.declared.commands:
        items = command.items
        if command.config_keys is not None or items is not None:
            config = pipeline.document["config"]
            part = part_of(config, command.config_keys, None if items is None else items.field)
            files[paths.narrowed_config(pipeline.name, command.name)] = to_text(part)
        if items is not None and command.item_list is not None:
            stage = f"{pipeline.name}/{command.name}"
            text = item_list.to_text(stage, items.field, command.item_list)
            files[paths.items(pipeline.name, command.name)] = text
    return files


def to_text(values: Any) -> str:
    """Format values as the JSON of a rendered file: indented, with keys in their given order."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
