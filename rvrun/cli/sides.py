"""The two sides of a comparison: plans read from files, or compiled from a config."""

from __future__ import annotations

import os
import pathlib

from rvrun import paths
from rvrun.adapters import registry as adapters
from rvrun.cli.messages import warn
from rvrun.inputs import CannotRead, read_json, read_text
from rvrun.pipelines.serialize import FILE_KEY, digest
from rvrun.plan.diff import Side
from rvrun.plan.serialize import NotAPlan, plan_from_json
from rvrun.prepare import Prepared, Request, prepare_plan, run_dir_of
from rvrun.rundir.explain import read_values
from rvrun.rundir.fingerprints import read_text as read_code


def read_side(request: Request) -> Side:
    """Return the plan that `request.config` names: a file, a run directory, or a config."""
    path = pathlib.Path(request.config)
    if path.is_dir():
        return read_plan(path / paths.PLAN)
    if path.suffix == ".json" and not _is_config(path):
        return read_plan(path)
    if os.sep in request.config and not path.exists():
        raise NotAPlan(request.config, "there is no such run directory, file or config")
    prepared = prepare_plan(request)
    warn(*prepared.warnings)
    return compiled_side(prepared)


def run_dir_of_side(name: str) -> pathlib.Path:
    """Return the run directory that a side of a comparison has or would have."""
    path = pathlib.Path(name)
    if path.is_dir():
        return path
    return path.parent if path.name == paths.PLAN else pathlib.Path(run_dir_of(name, None))


def _is_config(path: pathlib.Path) -> bool:
    """Whether a JSON file contains a saved config, or a list of them."""
    try:
        document = read_json(str(path))
    except CannotRead:
        return False
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and (FILE_KEY in first or adapters.is_own(first))


def compiled_side(prepared: Prepared) -> Side:
    """Return a plan that was just compiled, with its configs."""
    pipelines = prepared.run.pipelines
    configs = {pipeline.name: pipeline.document["config"] for pipeline in pipelines}
    return Side(plan=prepared.run.plan, configs=configs, code=prepared.files)


def read_plan(path: pathlib.Path) -> Side:
    """Read a plan, with the code, items and configs beside it as far as they still are the plan's.

    Raises `NotAPlan`.
    """
    try:
        text = read_text(str(path))
    except CannotRead as error:
        raise NotAPlan(str(path), f"it {error.problem}") from None
    plan = plan_from_json(text, str(path))
    configs = {}
    for pipeline in plan.pipelines:
        values = read_values(path.parent / paths.config(pipeline.name))
        if values is not None and digest(values) == pipeline.config_digest:
            configs[pipeline.name] = values
    stages = [(p.name, stage) for p in plan.pipelines for stage in p.stages]
    names = [file for name, s in stages for file in (s.code_file(name), s.items_file(name))]
    texts = {name: read_code(path.parent, name) for name in names if name is not None}
    code = {name: text for name, text in texts.items() if text is not None}
    return Side(plan=plan, configs=configs, code=code)
