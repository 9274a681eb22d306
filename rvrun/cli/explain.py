"""`rvrun explain`: why a target would run or is up to date."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Annotated

import typer

from rvrun import paths
from rvrun.cli.explanation import explanation_to_dict, print_explanation
from rvrun.cli.hashing import hashing_line
from rvrun.cli.messages import warn
from rvrun.cli.options import (
    Args,
    AsJson,
    BadOption,
    Splits,
    argument,
    candidates,
    make_request,
    option,
)
from rvrun.cli.sides import read_plan
from rvrun.errors import Problem
from rvrun.inputs import read_text
from rvrun.model import Plan
from rvrun.observe.find import is_run_dir
from rvrun.plan.select import stages_of
from rvrun.plan.serialize import RENDER, NotAPlan
from rvrun.prepare import Request, prepare_plan
from rvrun.rundir.explain import Explanation
from rvrun.rundir.explain import explain as explain_target
from rvrun.rundir.freshness import plan_status
from rvrun.rundir.inputs import input_fingerprints
from rvrun.rundir.workdir import working_in
from rvrun.text import shorten


class NoRunDirectory(Problem):
    """A target whose run directory is missing or ambiguous."""


Target = Annotated[
    str,
    argument(
        metavar="TARGET",
        help="`tiny/train`, `tiny/predict`, or one split, `tiny/predict/3`.",
        autocompletion=candidates("planned targets"),
    ),
]
OptionalConfig = Annotated[
    str | None,
    argument(
        metavar="[CONFIG]",
        help="As in `rvrun plan`, which this then explains. Without it, the run directory is "
        "explained as it was written last.",
    ),
]
RunDir = Annotated[
    str | None,
    option(
        "--run",
        "--out",
        metavar="DIR",
        help="The run directory; default: that of CONFIG, or the one in runs/ that has the target.",
    ),
]


def explain(
    context: typer.Context,
    target: Target,
    config: OptionalConfig = None,
    splits: Splits = None,
    args: Args = None,
    run_dir: RunDir = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a target would run or is up to date.

    Also shows what it needs and what needs it.

    - `rvrun explain tiny/count/3`
    - `rvrun explain tiny/count/3 tiny.py --splits 4 -a top 5`
    """
    if target.endswith((".py", ".toml", ".json")):
        raise BadOption(
            f"TARGET must be a target such as tiny/train, got {target}, which looks like a config; "
            "write `rvrun explain TARGET CONFIG`"
        )
    if config is None:
        if splits or args:
            needless = "--splits" if splits else "-a"
            raise BadOption(f"{needless} requires a config; add it: rvrun explain {target} CONFIG")
        explanation, source = explain_saved(target, run_dir)
    else:
        request = make_request(
            context, config=config, commands=(), splits=splits, args=args, out=run_dir
        )
        explanation, source = explain_request(target, request)
    if as_json:
        print(json.dumps(explanation_to_dict(explanation), indent=2, ensure_ascii=False))
    else:
        print_explanation(explanation, source)


def explain_saved(target: str, run_dir: str | None) -> tuple[Explanation, str]:
    """Explain a target of a run directory as it was written last; also return where it is."""
    folder = pathlib.Path(run_dir) if run_dir is not None else find_run_dir(target)
    plan = read_plan(folder / paths.PLAN).plan
    with working_in(folder, plan) as run_folder:
        return _explain_in(run_folder, plan, target), f"{folder}/{paths.PLAN}, as saved"


def _explain_in(folder: pathlib.Path, plan: Plan, target: str) -> Explanation:
    """Explain a target of the plan in a run directory, in the folder where its commands ran."""
    # Without its config, nobody knows the code as it is now: the saved fingerprints count.
    saved = [
        *(folder / paths.CONFIGS).rglob("*.json"),
        *(folder / paths.CODE).rglob("*.txt"),
    ]
    files = {path.relative_to(folder).as_posix(): read_text(str(path), RENDER) for path in saved}
    files |= input_fingerprints(plan, folder, files, hashing_line(is_quiet=False))
    statuses = plan_status(plan, folder, files)
    return explain_target(plan, folder, statuses, target, files=files)


def explain_request(target: str, request: Request) -> tuple[Explanation, str]:
    """Explain a target of the plan that a request would run; also return what that is."""
    prepared = prepare_plan(request)
    warn(*prepared.warnings)
    run = prepared.run
    configs = {pipeline.name: pipeline.document["config"] for pipeline in run.pipelines}
    statuses = prepared.statuses()
    explanation = explain_target(
        run.plan, run.run_dir, statuses, target, configs, files=prepared.files
    )
    return explanation, f"{request.config}, in {run.out}"


def find_run_dir(target: str) -> pathlib.Path:
    """Return the only run directory in runs/ whose plan has the target's pipeline.

    In a run directory, that is its own. Raises `NoRunDirectory`, or `NotAPlan` if only a plan that
    cannot be read might have it.
    """
    pipeline = target.partition("/")[0]
    here = pathlib.Path()
    # Not only what exists: a plan that is a broken link cannot be read.
    candidates = sorted(path.parent for path in pathlib.Path("runs").glob("*/*"))
    candidates = [here] if is_run_dir(here) else candidates
    candidates = [f for f in dict.fromkeys(candidates) if os.path.lexists(f / paths.PLAN)]
    plans: dict[pathlib.Path, Plan] = {}
    unreadable: list[NotAPlan] = []
    for folder in candidates:
        try:
            plans[folder] = read_plan(folder / paths.PLAN).plan
        except NotAPlan as error:
            # Another run directory's plan is not this target's business.
            unreadable.append(error)
    matching = [f for f, plan in plans.items() if pipeline in (p.name for p in plan.pipelines)]
    if len(matching) == 1:
        return matching[0]
    if unreadable and not matching:
        raise unreadable[0]
    stages = [name for plan in plans.values() for name in stages_of(plan, pipeline)]
    if stages and not matching:
        split = target.removeprefix(pipeline)
        raise NoRunDirectory(
            f"TARGET must begin with a pipeline, got `{shorten(target)}`; did you mean "
            f"`{stages[0]}{shorten(split)}`?"
        )
    problem = "several run directories have" if matching else "no run directory in runs/ has"
    folders = ", ".join(map(str, matching or candidates)) or "none"
    listed = f": {folders}" if matching else f" (searched: {folders})"
    raise NoRunDirectory(
        f"{problem} a pipeline `{shorten(pipeline)}`{listed}; specify one with --run DIR"
    )
