"""`rvrun explain`: why a target would run or is up to date."""

from __future__ import annotations

import json
import pathlib
from typing import Annotated

from rvrun import paths
from rvrun.cli.explanation import explanation_to_dict, print_explanation
from rvrun.cli.options import AsJson, argument, option
from rvrun.cli.sides import read_plan
from rvrun.errors import Problem
from rvrun.rundir.explain import explain as explain_target
from rvrun.rundir.freshness import plan_status


class NoRunDirectory(Problem):
    """A target whose run directory is missing or ambiguous."""


Target = Annotated[
    str,
    argument(
        metavar="TARGET", help="`tiny/train`, `tiny/predict`, or one split, `tiny/predict/3`."
    ),
]
RunDir = Annotated[
    str | None,
    option(
        "--run",
        metavar="DIR",
        help="The run directory; default: the one in runs/ that has the target.",
    ),
]


def explain(target: Target, run_dir: RunDir = None, as_json: AsJson = False) -> None:
    """Explain why a target would run or is up to date.

    Also shows what it needs and what needs it.

    - `rvrun explain tiny/count/3`
    - `rvrun explain landcover/train --run runs/landcover`
    """
    folder = pathlib.Path(run_dir) if run_dir is not None else find_run_dir(target)
    plan = read_plan(folder / paths.PLAN).plan
    configs = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in (folder / paths.CONFIGS).rglob("*.json")
    }
    explanation = explain_target(plan, folder, plan_status(plan, folder, configs), target)
    if as_json:
        print(json.dumps(explanation_to_dict(explanation), indent=2, ensure_ascii=False))
    else:
        print_explanation(explanation)


def find_run_dir(target: str) -> pathlib.Path:
    """Return the only run directory in runs/ whose plan has the target's pipeline.

    Raises `NoRunDirectory`.
    """
    pipeline = target.partition("/")[0]
    candidates = sorted(path.parent for path in pathlib.Path("runs").glob("*/plan.json"))
    matching = [
        folder
        for folder in candidates
        if any(p.name == pipeline for p in read_plan(folder / paths.PLAN).plan.pipelines)
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        folders = ", ".join(map(str, matching))
        raise NoRunDirectory(
            f"several run directories have a pipeline `{pipeline}`: {folders}; specify one "
            "with --run DIR"
        )
    folders = ", ".join(map(str, candidates)) or "none"
    raise NoRunDirectory(
        f"no run directory in runs/ has a pipeline `{pipeline}` (searched: {folders}); specify "
        "one with --run DIR"
    )
