"""`rvrun accept`: declare that changes of code, config or inputs do not matter."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from rvrun import paths
from rvrun.cli.explain import NoRunDirectory, RunDir, find_run_dir
from rvrun.cli.messages import say, warn
from rvrun.cli.options import (
    Args,
    BadOption,
    Splits,
    argument,
    candidates,
    make_request,
    option,
    read_common,
)
from rvrun.cli.run import DryRun
from rvrun.cli.sides import read_plan
from rvrun.inputs import read_text
from rvrun.model import CodeMode, Plan
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.plan.serialize import RENDER
from rvrun.prepare import Request, load_pipelines, prepare
from rvrun.rundir import files as rundir
from rvrun.rundir.accept import Acceptance, find_acceptable, renew
from rvrun.rundir.accepted import describe_changes, record_accepted
from rvrun.rundir.explain import code_changes, config_changes, find_target, input_changes
from rvrun.rundir.freshness import StageStatus, plan_status
from rvrun.rundir.inputs import input_fingerprints
from rvrun.rundir.lock import locked
from rvrun.rundir.settle import settle
from rvrun.rundir.workdir import workdir_of
from rvrun.settings.layers import load_settings

Stages = Annotated[
    list[str] | None,
    argument(
        metavar="[STAGE]...",
        help="The stages, such as tiny/chip; default: all that changed.",
        autocompletion=candidates("planned targets"),
    ),
]
ConfigOption = Annotated[
    str | None,
    option(
        "--config",
        metavar="CONFIG",
        help="As in `rvrun plan`: also accept what it changes; default: the configs as saved, with "
        "the code as it is now.",
    ),
]


def accept(
    context: typer.Context,
    stages: Stages = None,
    config: ConfigOption = None,
    splits: Splits = None,
    args: Args = None,
    run_dir: RunDir = None,
    dry_run: DryRun = False,
) -> None:
    """Declare that changes of code, config or inputs do not matter.

    Stages that are done stay up to date, and so do the stages that need them. A record says who
    decided it; `rvrun explain` shows it. A stage that is stale for another reason stays stale.

    - `rvrun accept`
    - `rvrun accept tiny/chip tiny/train --config tiny.py -a top 5`
    """
    names = stages or []
    if config is None and (splits or args):
        needless = "--splits" if splits else "-a"
        raise BadOption(f"{needless} requires a config; add --config CONFIG")
    for name in names:
        if name.endswith((".py", ".toml", ".json")):
            raise BadOption(
                f"STAGE must be a stage such as tiny/chip, got {name}, which looks like a config; "
                f"write --config {name}"
            )
    if config is None:
        folder = _find(names, run_dir)
        request = make_request(context, config=str(folder), commands=(), splits=(), args=())
        saved = read_plan(folder / paths.PLAN).plan
        # Declared paths, and the places of the user's code, are relative to it.
        folder = folder.resolve()
        os.chdir(workdir_of(folder, saved) or os.getcwd())
        plan, files = read_saved(folder, request)
    else:
        request = make_request(
            context, config=config, commands=(), splits=splits, args=args, out=run_dir
        )
        prepared = prepare(request)
        warn(*prepared.warnings)
        plan, files, folder = prepared.run.plan, prepared.files, prepared.run.run_dir
    for name in names:
        if find_target(plan, name)[2] is not None:
            raise BadOption(f"STAGE must be a stage as a whole, got the split {name}")
    accept_changes(plan, folder, files, names, dry_run=dry_run, quiet=read_common(context).quiet)


def _find(names: Sequence[str], run_dir: str | None) -> pathlib.Path:
    """Return the run directory that the command line means. Raises `NoRunDirectory`."""
    if run_dir is not None:
        return pathlib.Path(run_dir)
    if names:
        return find_run_dir(names[0])
    folders = [path.parent for path in sorted(pathlib.Path("runs").glob(f"*/{paths.PLAN}"))]
    if len(folders) != 1:
        listed = ", ".join(map(str, folders)) or "none"
        raise NoRunDirectory(
            f"runs/ must have one run directory, got {listed}; specify one with --run DIR"
        )
    return folders[0]


def read_saved(folder: pathlib.Path, request: Request) -> tuple[Plan, Mapping[str, str]]:
    """Return a saved plan, its configs, and code and inputs as they are now."""
    # Not at the top, like the engine that finds code: most calls of rvrun do without.
    import attrs

    from rvrun.code.pipelines import fingerprints

    plan = read_plan(folder / paths.PLAN).plan
    settings = load_settings(request.flags, request.profile)
    configs = {
        path.relative_to(folder).as_posix(): read_text(str(path), RENDER)
        for path in (folder / paths.CONFIGS).rglob("*.json")
    }
    loaded: list[LoadedPipeline] = []
    for pipeline in plan.pipelines:
        if any(stage.code is not CodeMode.OFF for stage in pipeline.stages):
            saved = os.path.relpath(folder / paths.config(pipeline.name))
            loaded += load_pipelines(attrs.evolve(request, config=saved), settings)
    code = fingerprints(loaded, settings.code_packages)
    inputs = input_fingerprints(plan, folder, configs, request.hashing)
    return plan, {**configs, **code, **inputs}


def accept_changes(
    plan: Plan,
    folder: pathlib.Path,
    files: Mapping[str, str],
    names: Sequence[str],
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Accept the changes of the stages called `names`, or of all, and say what was accepted."""
    if not (folder / paths.PLAN).exists():
        raise NoRunDirectory(f"{folder} has no plan, so nothing was done there; run it first")
    with locked(folder):
        statuses = plan_status(plan, folder, files)
        acceptance = find_acceptable(statuses, names)
        changes = {s.name: _changes(folder, s, files) for s in acceptance.accepted}
        if not dry_run and acceptance.accepted:
            rundir.write(folder, files)
            renew(folder, statuses, acceptance.valid)
            settle(folder, plan_status(plan, folder, files))
            for status in acceptance.accepted:
                record_accepted(folder, status.pipeline, status.stage.command, changes[status.name])
    if not quiet:
        _report(acceptance, changes, dry_run=dry_run)


def _changes(
    folder: pathlib.Path, status: StageStatus, files: Mapping[str, str]
) -> dict[str, list[str]]:
    """What changed of a stage, by kind, as `record_accepted` takes it."""
    import json

    when = status.when(status.typical())
    saved = files.get(paths.config(status.pipeline))
    config = json.loads(saved)["config"] if saved else None
    return {
        "config": list(config_changes(folder, status, when, config) or {}),
        "code": code_changes(folder, status, when, files),
        "inputs": input_changes(folder, status, files=files),
    }


def _report(
    acceptance: Acceptance, changes: Mapping[str, Mapping[str, list[str]]], *, dry_run: bool
) -> None:
    verb = "would accept" if dry_run else "accepted"
    for name, by_kind in changes.items():
        description = describe_changes(by_kind)
        say(f"{verb} {name}" + (f": {description}" if description else ""))
    for name, reason in acceptance.refused.items():
        say(f"not accepted {name}: {reason}")
    if not changes and not acceptance.refused:
        say("no code, config or input changed since it was run")
