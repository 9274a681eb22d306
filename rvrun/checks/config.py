"""Checks of a config: loaded, compiled, rendered, and accepted by the runner's service."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping

from rvrun.checks.case import Case
from rvrun.checks.places import nearest
from rvrun.errors import RvrunError, UserCodeError
from rvrun.finding import Finding, error, ok, warning
from rvrun.plan.compile import idle_splits
from rvrun.plan.shared_outputs import shared_outputs
from rvrun.runners.problems import Unfit, grouped
from rvrun.text import count
from rvrun.tracebacks import format_traceback

#: A rendered file is first written under a longer name: `.NAME.` and a process id.
EXTRA_BYTES = 10


def check_config(case: Case) -> Iterator[Finding]:
    """Check that the config can be loaded and its pipelines built."""
    config = case.request.config
    match case.pipelines:
        case RvrunError() as problem:
            yield error("config", problem, f"change {config}", _details(problem))
        case tuple() as loaded:
            names = ", ".join(pipeline.name for pipeline in loaded)
            yield ok("config", f"{config}: {count(len(loaded), 'pipeline')}, {names}")


def _details(problem: RvrunError) -> str:
    """The traceback of the user's code that raised, from their first frame on."""
    cause = problem.__cause__
    if not isinstance(problem, UserCodeError) or cause is None:
        return ""
    return format_traceback(cause)


def check_plan(case: Case) -> Iterator[Finding]:
    """Check names, dependencies, selection and splits; warn about idle splits, shared outputs."""
    plan = case.plan
    if isinstance(plan, RvrunError):
        fix = "change names, `commands` or `needs` in the pipeline's class or config"
        yield error("plan", plan, fix)
    elif plan is not None:
        yield ok("plan", plan.title)
        declared = [pipeline.declared for pipeline in case.loaded]
        for text in idle_splits(declared, plan):
            yield warning("splits", text, "use a lower number with --splits")
        for text in shared_outputs(case.loaded, plan):
            yield warning("outputs", text, "change `outputs`, so that each file is named once")


def check_files(case: Case) -> Iterator[Finding]:
    """Check that the runner can render the plan, into files whose names are not too long."""
    files = case.files
    if isinstance(files, Unfit):
        for problem in grouped(files.problems):
            yield error(case.request.runner, problem, "change the value that it names")
    elif isinstance(files, RvrunError):
        yield error("files", files, "change the value that it names")
    elif files is not None and case.out is not None:
        longest = max((pathlib.PurePath(path).name for path in files), key=_num_bytes)
        limit = os.pathconf(nearest(pathlib.Path(case.out)), "PC_NAME_MAX")
        if _num_bytes(longest) + EXTRA_BYTES > limit:
            text = f"file names must have at most {limit} bytes here, got {longest}"
            yield error("files", text, "give the pipeline a shorter `name`")
        else:
            yield ok("files", f"{count(len(files), 'file')} rendered")


def _num_bytes(name: str) -> int:
    return len(os.fsencode(name))


def check_service(case: Case) -> Iterator[Finding]:
    """Ask a detached runner's service whether it would accept the run."""
    if case.detached is not None and case.run is not None and isinstance(case.files, Mapping):
        yield from case.detached.check(case.run)
