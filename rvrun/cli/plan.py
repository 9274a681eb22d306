"""`rvrun plan`: the stages, and what would run and why."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from rvrun import paths
from rvrun.cli.differences import (
    AsGithub,
    AsMarkdown,
    DiffFormat,
    check_saved,
    choose_format,
    print_document,
)
from rvrun.cli.messages import warn
from rvrun.cli.options import (
    Affected,
    AlwaysMake,
    Args,
    AsEstimate,
    AsJson,
    BadOption,
    Commands,
    Config,
    EstimateJobs,
    Force,
    From,
    Out,
    Splits,
    Templates,
    Until,
    check_jobs,
    make_request,
    option,
    read_common,
)
from rvrun.cli.plan_table import print_plan
from rvrun.errors import DONE
from rvrun.model import Plan
from rvrun.plan.serialize import plan_to_json
from rvrun.plugins import runner_names
from rvrun.prepare import Request, kept, prepare_all, prepare_plan, run_dir_of
from rvrun.runners.registry import DEFAULT
from rvrun.settings.layers import load_settings

Runners = Annotated[
    list[str] | None,
    option(
        "--runner",
        metavar="NAME",
        help=f"Render for this runner; repeatable; default: {DEFAULT}.",
        autocompletion=runner_names,
    ),
]
Check = Annotated[
    str | None,
    option(
        "--check",
        metavar="DIR",
        help="Compare with the plan saved in DIR and print the differences; exit 1 if there are "
        "any.",
    ),
]


def plan(
    context: typer.Context,
    config: Config,
    commands: Commands = None,
    splits: Splits = None,
    args: Args = None,
    out: Out = None,
    runners: Runners = None,
    check: Check = None,
    until: Until = None,
    start: From = None,
    forced: Force = None,
    affected: Affected = None,
    as_estimate: AsEstimate = False,
    jobs: EstimateJobs = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    as_github: AsGithub = False,
    force: AlwaysMake = False,
    templates: Templates = None,
) -> int | None:
    """Show the stages, and what would run and why.

    With `--json`, print the stages as `plan.json` has them. With `--out DIR`, also write the plan
    and all rendered files there, to keep and compare. With `--check DIR`, compare instead: exit 0
    if nothing differs, 1 if something does, 2 on errors.

    - `rvrun plan my_config.py --splits 8`
    - `rvrun plan my_config.py --splits 8 --out plans/big`
    - `rvrun plan my_config.py --splits 8 --check plans/big`
    - `rvrun plan my_config.py --splits 8 --estimate -j4`
    """
    quiet = read_common(context).quiet
    form = choose_format(as_json=as_json, as_markdown=as_markdown, as_github=as_github)
    check_formats(form, check, out, jobs, as_estimate=as_estimate)
    request = make_request(
        context,
        config=config,
        commands=commands,
        splits=splits,
        args=args,
        out=out if check is None else check,
        until=tuple(until or ()),
        start=tuple(start or ()),
        forced=tuple(forced or ()),
        force=force,
        templates=templates,
    )
    if affected is not None:
        from rvrun.cli.selection import select_affected

        request = select_affected(request, affected)
        if not request.commands:
            print_nothing(request, form, as_estimate=as_estimate)
            return DONE
    is_shown_only = not (runners or request.out or templates)
    # What only shows the stages needs no rendered file, and does without the template engine.
    prepared = (
        prepare_plan(request) if is_shown_only else prepare_all(runners or [DEFAULT], request)
    )
    warn(*prepared.warnings)
    # A saved plan has no records; the runs of its config have.
    run_dirs = (prepared.run.run_dir, pathlib.Path(run_dir_of(config, None)))
    if check is not None:
        return check_saved(
            kept(prepared),
            form,
            quiet=quiet,
            with_estimate=as_estimate,
            jobs=jobs,
            run_dirs=run_dirs,
        )
    # Found once: a run directory may have 100,000 marks.
    statuses = prepared.statuses()
    warn(*prepared.missing_needs(), *prepared.notices(statuses))
    if form is DiffFormat.TEXT:
        print_plan(prepared, statuses)
    if as_estimate:
        from rvrun.cli.estimates import estimate_plan, print_estimate

        result = estimate_plan(prepared, statuses, jobs, run_dirs)
        if form is DiffFormat.TEXT:
            print_estimate(result)
        else:
            print_document(result, form)
    elif form is DiffFormat.JSON:
        print(prepared.files[paths.PLAN], end="")
    if request.out is not None:
        from rvrun.cli.render import write_files
        from rvrun.reviewed import with_request

        write_files(with_request(kept(prepared), request), quiet=quiet)
    return None


def print_nothing(request: Request, form: DiffFormat, *, as_estimate: bool) -> None:
    """Print a plan without pipelines, or the estimate of it, for programs."""
    if form is DiffFormat.TEXT:
        return
    if as_estimate:
        from rvrun.cli.estimates import estimate_changed

        settings = load_settings(request.flags, request.profile)
        print_document(estimate_changed(Plan(()), (), settings, DEFAULT, None, ()), form)
    else:
        print(plan_to_json(Plan(())), end="")


def check_formats(
    form: DiffFormat, check: str | None, out: str | None, jobs: int | None, *, as_estimate: bool
) -> None:
    """Refuse options that contradict each other. Raises `BadOption`."""
    if check is not None and out is not None:
        raise BadOption("--check and --out name different directories; keep one")
    check_jobs(jobs, is_estimate=as_estimate)
    plain = (DiffFormat.TEXT, DiffFormat.JSON, *([DiffFormat.MARKDOWN] if as_estimate else []))
    if check is None and form not in plain:
        raise BadOption(f"--{form} formats differences; add --check DIR")
