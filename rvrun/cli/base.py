"""What a change starts from: a saved plan, a run directory, or where a git branch began."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from rvrun import paths
from rvrun.cli.sides import read_plan
from rvrun.errors import Problem
from rvrun.load.revision import checked_out, merge_base, repository
from rvrun.model import Plan
from rvrun.pipelines.serialize import digest
from rvrun.plan.diff import Side
from rvrun.prepare import Request


class BadBase(Problem):
    """A config that cannot be compiled as it was at the base."""


def read_base(request: Request, base: str) -> Side:
    """Return the plan at `base`: a saved plan, a run directory, or a git revision.

    With a revision, it is the plan of the request's config as of the merge base of the revision and
    the current commit: what this branch changed, without what others did since.

    Raises `NotAPlan`, `NoRevision` or `BadBase`.
    """
    path = pathlib.Path(base)
    if path.is_dir() and (path / paths.PLAN).exists():
        return read_plan(path / paths.PLAN)
    if path.suffix == ".json" and path.exists():
        return read_plan(path)
    return _compile_at(request, base, merge_base(base))


def _compile_at(request: Request, base: str, commit: str) -> Side:
    """Compile the request's config with the files of a commit, in a process of its own."""
    top, here = repository(), pathlib.Path(os.path.realpath(os.getcwd()))
    with checked_out(commit) as files:
        folder, out = files / here.relative_to(top), files.parent / "plan"
        if not folder.exists():
            raise BadBase(
                f"`{base}` has no directory `{here.relative_to(top)}`; run this elsewhere"
            )
        done = subprocess.run(
            [sys.executable, "-P", "-m", "rvrun", *_words(request, out)],
            cwd=folder,
            env=_moved_path(top, files),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            problem = f"{request.config} cannot be compiled as it was at `{base}` ({commit[:12]})"
            raise BadBase(f"{problem}:\n{done.stderr.rstrip()}")
        return _with_paths_here(read_plan(out / paths.PLAN), str(files), str(top))


def _words(request: Request, out: pathlib.Path) -> Iterator[str]:
    """The words of `rvrun plan` for a request, with a run directory."""
    if request.profile:
        yield from ("--profile", request.profile)
    yield "plan"
    for value in request.splits:
        yield from ("--splits", value)
    for key, value in request.args.items():
        yield from ("-a", key, value)
    yield from ("--out", str(out), "--", request.config, *request.commands)


def _moved_path(top: pathlib.Path, files: pathlib.Path) -> dict[str, str]:
    """The environment in which folders of the repository on PYTHONPATH are those of the commit."""
    folders = [
        str(files / os.path.relpath(real, top)) if real.startswith(f"{top}{os.sep}") else folder
        for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if folder and (real := os.path.realpath(folder))
    ]
    return {**os.environ, **({"PYTHONPATH": os.pathsep.join(folders)} if folders else {})}


def _with_paths_here(side: Side, files: str, top: str) -> Side:
    """Replace the temporary directory in config values by the repository.

    A config that derives paths from the place of its file has them, and they did not change.
    """
    configs = {name: _replaced(values, files, top) for name, values in side.configs.items()}
    pipelines = (
        attrs.evolve(pipeline, config_digest=digest(configs[pipeline.name]))
        if pipeline.name in configs
        else pipeline
        for pipeline in side.plan.pipelines
    )
    return attrs.evolve(side, plan=Plan(tuple(pipelines)), configs=configs)


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        is_inside = value == old or value.startswith(f"{old}{os.sep}")
        return new + value.removeprefix(old) if is_inside else value
    if isinstance(value, Mapping):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value
