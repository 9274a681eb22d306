"""What a change starts from: a saved plan, a run directory, or where a git branch began."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from rvrun import paths, reviewed
from rvrun.cli.options import DEFAULT_CONFIG, BadOption
from rvrun.cli.sides import read_plan
from rvrun.errors import Problem
from rvrun.load.revision import NoRevision, checked_out, merge_base, repository
from rvrun.model import Plan
from rvrun.patterns import is_inside
from rvrun.pipelines.serialize import digest
from rvrun.plan.diff import Side
from rvrun.plan.serialize import NotAPlan
from rvrun.prepare import Request
from rvrun.text import shorten


class BadBase(Problem):
    """A config that cannot be compiled as it was at the base."""


def complete_request(request: Request, base: str) -> Request:
    """Return a request without a config with that of the plan saved at `base`, or the default one.

    What the request says besides counts instead of what the plan was saved with: its commands and
    splits replace those, and its arguments are added.

    Raises `BadOption` if there is neither, and `NotSaved`.
    """
    if reviewed.has_request(base):
        saved, _ = reviewed.read_request(base)
        return attrs.evolve(
            request,
            config=saved.config,
            commands=request.commands or saved.commands,
            until=() if request.commands else saved.until,
            start=() if request.commands else saved.start,
            splits=request.splits or saved.splits,
            args={**saved.args, **request.args},
        )
    if not os.path.isfile(DEFAULT_CONFIG):
        raise BadOption(
            f"name the CONFIG to compare: `rvrun diff --base {shorten(base)} CONFIG`; there is no "
            f"`{DEFAULT_CONFIG}` here, and no plan saved with `rvrun plan --out` at the base"
        )
    return attrs.evolve(request, config=DEFAULT_CONFIG)


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
    try:
        commit = merge_base(base)
    except NoRevision:
        if base and path.exists():
            raise NotAPlan(base, f"there is no {paths.PLAN} in it") from None
        raise
    return _compile_at(request, base, commit)


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
            [sys.executable, "-P", "-m", "rvrun", *_words(_moved(request, top, files), out)],
            cwd=folder,
            env=_environment(top, files),
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


def _moved(request: Request, top: pathlib.Path, files: pathlib.Path) -> Request:
    """Let absolute paths in the repository name the files of the commit.

    An argument that names no file of the commit stays as it is.
    """
    args = {
        key: moved if os.path.exists(moved := _moved_path(value, top, files)) else value
        for key, value in request.args.items()
    }
    return attrs.evolve(request, config=_moved_path(request.config, top, files), args=args)


def _moved_path(path: str, top: pathlib.Path, files: pathlib.Path) -> str:
    folder, name = os.path.split(path)
    if not os.path.isabs(path):
        return path
    # Not of the file itself: a link in the repository is one of the commit.
    real = os.path.join(os.path.realpath(folder), name)
    return str(files / os.path.relpath(real, top)) if is_inside(str(top), real) else path


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


def _environment(top: pathlib.Path, files: pathlib.Path) -> dict[str, str]:
    """The environment in which folders of the repository on PYTHONPATH are those of the commit."""
    paths_now = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [_moved_path(os.path.abspath(path), top, files) for path in paths_now if path]
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
        return new + value.removeprefix(old) if is_inside(old, value) else value
    if isinstance(value, Mapping):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value
