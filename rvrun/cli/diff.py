"""`rvrun diff`: what differs between two plans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from rvrun.cli.base import complete_request, read_base
from rvrun.cli.differences import AsGithub, AsMarkdown, choose_format, print_diff
from rvrun.cli.messages import say
from rvrun.cli.options import (
    Args,
    AsEstimate,
    AsJson,
    BadOption,
    Commands,
    EstimateJobs,
    Splits,
    argument,
    check_jobs,
    make_request,
    option,
    read_common,
)
from rvrun.cli.sides import read_side, run_dir_of_side
from rvrun.plan.diff import diff_plans
from rvrun.plugins import runner_names
from rvrun.runners.registry import DEFAULT

if TYPE_CHECKING:
    from rvrun.plan.diff import PlanDiff, Side
    from rvrun.plan.estimate import Estimate
    from rvrun.prepare import Request

Base = Annotated[
    str | None,
    option(
        "--base",
        metavar="BASE",
        help="Compare with BASE instead of OLD: a saved plan, a run directory, or a git revision, "
        "which stands for where this branch began.",
    ),
]
EstimatedRunner = Annotated[
    str | None,
    option(
        "--runner",
        metavar="NAME",
        help=f"Estimate for this runner; default: {DEFAULT}.",
        autocompletion=runner_names,
    ),
]
SIDE = "A plan.json, a run directory, or a CONFIG as in `rvrun plan`."


def diff(
    context: typer.Context,
    old: Annotated[str | None, argument(metavar="[OLD]", help=SIDE)] = None,
    new: Annotated[
        str | None, argument(metavar="[NEW]", help="The same; none with `--base`.")
    ] = None,
    commands: Commands = None,
    splits: Splits = None,
    args: Args = None,
    base: Base = None,
    runner: EstimatedRunner = None,
    as_estimate: AsEstimate = False,
    jobs: EstimateJobs = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    as_github: AsGithub = False,
) -> int:
    """Show what differs between two plans.

    Also shows which stages would run again because of it. A CONFIG is compiled with the options
    given. With `--base`, name one CONFIG, or none: then it is what the plan at BASE was saved for,
    or `pipeline.toml`. Exit code 0 if nothing differs, 1 if something does, 2 on errors.

    - `rvrun diff plans/big/plan.json my_config.py --splits 8 -a lr 0.01`
    - `rvrun diff --base plans/big`
    - `rvrun diff runs/monday runs/tuesday --markdown`
    - `rvrun diff --base origin/main my_config.py --splits 8 --estimate -j8`
    """
    form = choose_format(as_json=as_json, as_markdown=as_markdown, as_github=as_github)
    check_jobs(jobs, is_estimate=as_estimate)
    if runner is not None and not as_estimate:
        raise BadOption("--runner only affects estimates; add --estimate, or remove it")
    if base is not None:
        commands, new = [*([new] if new else []), *(commands or [])], old
    elif old is None or new is None:
        raise BadOption("name two plans, or add --base BASE to compare one with where it began")
    request = make_request(context, config=new or "", commands=commands, splits=splits, args=args)
    if base is None:
        before = read_side(attrs.evolve(request, config=old or ""))
    else:
        request = request if request.config else complete_request(request, base)
        before = read_base(request, base)
    after = read_side(request)
    plan_diff = diff_plans(before, after)
    result = None
    if as_estimate:
        result = estimate_diff(request, after, plan_diff, runner or DEFAULT, jobs, old or base)
    code = print_diff(plan_diff, form, result)
    if plan_diff.same and not read_common(context).quiet:
        say("the plans are the same")
    return code


def estimate_diff(
    request: Request,
    after: Side,
    plan_diff: PlanDiff,
    runner: str,
    jobs: int | None,
    other: str | None,
) -> Estimate:
    """Estimate what a difference runs.

    - `other`: the name of the other side, whose run directory may have records, too.
    """
    from rvrun.cli.estimates import estimate_changed
    from rvrun.plan.select import affected
    from rvrun.settings.layers import load_settings

    names = affected(after.plan, plan_diff)
    settings = load_settings(request.flags, request.profile)
    run_dirs = [run_dir_of_side(name) for name in (request.config, other) if name is not None]
    return estimate_changed(after.plan, names, settings, runner, jobs, run_dirs)
