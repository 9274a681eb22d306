"""Verbs that compare: plans with each other, a saved plan with a fresh one, a target with time."""

from __future__ import annotations

import datetime as dt
import enum
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from rvrun import paths
from rvrun.adapters import registry as foreign
from rvrun.cli import options as common
from rvrun.cli.messages import say
from rvrun.errors import DONE, FAILED, Problem
from rvrun.pipelines.config_keys import MISSING
from rvrun.pipelines.serialize import FILE_KEY, digest
from rvrun.plan.diff import PlanDiff, Side, diff_plans
from rvrun.plan.diff_formats import format_value, to_github, to_json, to_markdown, to_text
from rvrun.plan.serialize import NotAPlan, plan_from_json
from rvrun.prepare import Prepared, Request
from rvrun.rundir.explain import Changes, Explanation, Needed, config_changes, read_values
from rvrun.rundir.explain import explain as explain_target
from rvrun.rundir.files import is_current, strangers
from rvrun.rundir.freshness import CONFIG_CHANGED, NEVER, NOW, StageStatus, plan_status

#: How many changed keys are named in one line.
NUM_KEYS = 3


class Format(enum.StrEnum):
    """How differences are printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github"


AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="For a pull request's comment.")]
AsGithub = Annotated[bool, typer.Option("--github", help="As annotations of GitHub Actions.")]
_FORMATTERS = {
    Format.TEXT: to_text,
    Format.JSON: to_json,
    Format.MARKDOWN: to_markdown,
    Format.GITHUB: to_github,
}


def chosen_format(as_json: bool, as_markdown: bool, as_github: bool) -> Format:
    """The one format that was asked for; text if none was."""
    asked = {
        Format.JSON: as_json,
        Format.MARKDOWN: as_markdown,
        Format.GITHUB: as_github,
    }
    chosen = [form for form, wanted in asked.items() if wanted]
    if len(chosen) > 1:
        words = " and ".join(f"--{form}" for form in chosen)
        raise common.BadOption(f"{words} are two formats; give one of them")
    return chosen[0] if chosen else Format.TEXT


def diff(
    context: typer.Context,
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="A plan.json, a run directory or a CONFIG.")
    ],
    new: Annotated[
        str, typer.Argument(metavar="NEW", help="A plan.json, a run directory or a CONFIG.")
    ],
    commands: common.Commands = None,
    splits: common.Splits = None,
    args: common.Args = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    as_github: AsGithub = False,
) -> None:
    """Show what differs between two plans, and which stages would run again because of it.

    A CONFIG is compiled now, with the options given. Exit 0 the same, 1 different, 2 trouble.

    - `rvrun diff plans/big/plan.json my_config.py --splits 8 -a lr 0.01`
    - `rvrun diff runs/monday runs/tuesday --markdown`
    """
    form = chosen_format(as_json, as_markdown, as_github)
    sides = [
        read_side(
            common.request(context.obj, config=place, commands=commands, splits=splits, args=args)
        )
        for place in (old, new)
    ]
    found = diff_plans(*sides)
    raise typer.Exit(_print_diff(found, form, quiet=context.obj.quiet))


def _print_diff(found: PlanDiff, form: Format, *, quiet: bool) -> int:
    print(_FORMATTERS[form](found), end="")
    if found.same and not quiet:
        say("the plans are the same")
    return DONE if found.same else FAILED


def read_side(request: Request) -> Side:
    """The plan that `request.config` names: a file, a run directory, or a config to compile."""
    path = pathlib.Path(request.config)
    if path.is_dir():
        return read_plan(path / paths.PLAN)
    if path.suffix == ".json" and not _is_config(path):
        return read_plan(path)
    if os.sep in request.config and not path.exists():
        raise NotAPlan(request.config, "there is no such run directory, file or config")
    return compiled_side(common.prepared(request))


def _is_config(path: pathlib.Path) -> bool:
    """Whether a JSON file holds a saved config, or a list of them."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and (FILE_KEY in first or foreign.is_own(first))


def compiled_side(prepared: Prepared) -> Side:
    """The plan just compiled, with its configs."""
    values = {each.name: each.document["config"] for each in prepared.run.pipelines}
    return Side(plan=prepared.run.plan, configs=values)


def read_plan(path: pathlib.Path) -> Side:
    """The plan in a file, with those configs saved beside it that are still the plan's."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotAPlan(str(path), f"it cannot be read ({error.strerror})") from None
    except ValueError:
        raise NotAPlan(str(path), "it is no text") from None
    plan = plan_from_json(text, str(path))
    configs = {}
    for pipeline in plan.pipelines:
        values = read_values(path.parent / paths.config(pipeline.name))
        if values is not None and digest(values) == pipeline.config_digest:
            configs[pipeline.name] = values
    return Side(plan=plan, configs=configs)


def check_saved(prepared: Prepared, form: Format, *, quiet: bool) -> int:
    """Compare a fresh compile with what is saved in its run directory; the exit code."""
    run_dir = prepared.run.run_dir
    saved = read_plan(pathlib.Path(prepared.run.out, paths.PLAN))
    found = diff_plans(saved, compiled_side(prepared))
    stale = [path for path, text in prepared.files.items() if not is_current(run_dir, path, text)]
    stale += strangers(run_dir, prepared.files, prepared.owned)
    print(_FORMATTERS[form](found), end="")
    if not found.same or stale:
        if stale:
            say(f"not as rendered now: {', '.join(f'{prepared.run.out}/{p}' for p in stale)}")
        return FAILED
    if not quiet:
        say(f"{prepared.run.out} is as rendered now")
    return DONE


def reasons(prepared: Prepared, statuses: Sequence[StageStatus]) -> dict[str, str]:
    """Why each stage would run, with the config keys that changed, by the stages' names."""
    configs = {each.name: each.document["config"] for each in prepared.run.pipelines}
    texts = {}
    for status in statuses:
        texts[status.name] = status.reason
        if status.reason == CONFIG_CHANGED:
            run_dir, first = prepared.run.run_dir, status.stale[0]
            changes = config_changes(run_dir, status, first, configs[status.pipeline])
            texts[status.name] = with_keys(status.reason, changes)
    return texts


def with_keys(reason: str, changes: Changes | None) -> str:
    """`config changed: lr, depth`."""
    if not changes:
        return reason
    names = list(changes)
    more = f" and {len(names) - NUM_KEYS} more" if len(names) > NUM_KEYS else ""
    return f"{reason}: {', '.join(names[:NUM_KEYS])}{more}"


class CannotTell(Problem):
    """A run directory that could not be found for a target."""


def explain(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="`tiny/train`, `tiny/predict` or one split, `tiny/predict/3`."
        ),
    ],
    run_dir: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="DIR",
            help="The run directory.",
            show_default="the one below runs/ that has the target",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell why a target would run or is up to date, and what waits for it.

    - `rvrun explain tiny/count/3`
    - `rvrun explain landcover/train --run runs/landcover`
    """
    folder = pathlib.Path(run_dir) if run_dir is not None else _find_run(target)
    plan = read_plan(folder / paths.PLAN).plan
    files = {path: _text(folder / path) for path in _config_files(folder)}
    found = explain_target(plan, folder, plan_status(plan, folder, files), target)
    if as_json:
        print(json.dumps(_explanation_to_dict(found), indent=2, ensure_ascii=False))
    else:
        _print_explanation(found)


def _find_run(target: str) -> pathlib.Path:
    """The one run directory below runs/ whose plan has the target's pipeline."""
    pipeline = target.partition("/")[0]
    candidates = sorted(path.parent for path in pathlib.Path("runs").glob("*/plan.json"))
    having = [
        folder
        for folder in candidates
        if any(p.name == pipeline for p in read_plan(folder / paths.PLAN).plan.pipelines)
    ]
    if len(having) == 1:
        return having[0]
    if having:
        several = ", ".join(str(folder) for folder in having)
        raise CannotTell(f"pipeline `{pipeline}` is in {several}; name one with --run DIR")
    seen = ", ".join(str(folder) for folder in candidates) or "there are none"
    problem = f"no run directory below runs/ has a pipeline `{pipeline}` ({seen})"
    raise CannotTell(f"{problem}; name one with --run DIR")


def _config_files(folder: pathlib.Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in (folder / "config").rglob("*.json")]


def _text(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")


def _print_explanation(found: Explanation) -> None:
    several = f" ({found.stale:,} of {found.total:,} targets)" if found.total > 1 else ""
    if found.reason:
        print(f"{found.name} would run{several}: {with_keys(found.reason, found.changes)}")
    else:
        print(f"{found.name} is up to date")
    print(f"  done     {_time(found.when)}{_tries(found)}")
    for key, (before, after) in (found.changes or {}).items():
        print(f"  changed  {key}: {_value(before)} → {_value(after)}")
    if found.changes is None:
        print("  changed  not known: no version of the config was kept from then")
    for needed in found.needs:
        print(f"  needs    {_needed_text(needed)}")
    keys = "the whole config" if found.config_keys is None else format_value(found.config_keys)
    print(f"  reads    {keys} (changed {_time(found.config_time)})")
    print(f"  waiting  {', '.join(found.waiting) or 'nothing needs it'}")


def _tries(found: Explanation) -> str:
    if not found.attempts:
        return ""
    how = "did not end" if found.exit_code is None else f"ended with {found.exit_code}"
    return f" (tried {found.attempts} times, the last {how})" if found.attempts > 1 else f" ({how})"


def _needed_text(needed: Needed) -> str:
    if needed.when == NOW:
        return f"{needed.name}: would run first"
    return f"{needed.name}: done {_time(needed.when)}{', which is newer' if needed.newer else ''}"


def _value(value: Any) -> str:
    return "nothing" if value is MISSING else format_value(value)


def _time(when: int) -> str:
    if when == NEVER:
        return "never"
    return dt.datetime.fromtimestamp(when / 1e9).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006


def _explanation_to_dict(found: Explanation) -> dict[str, Any]:
    changes = found.changes
    return {
        "name": found.name,
        "would_run": bool(found.reason),
        "reason": found.reason,
        "targets": {"would_run": found.stale, "all": found.total},
        "done_ns": None if found.when == NEVER else found.when,
        "tries": found.attempts,
        "exit_code": found.exit_code,
        "changes": None if changes is None else {k: _pair(*pair) for k, pair in changes.items()},
        "needs": [
            {"name": n.name, "newer": n.newer, "would_run": n.when == NOW} for n in found.needs
        ],
        "reads": None if found.config_keys is None else list(found.config_keys),
        "waiting": list(found.waiting),
    }


def _pair(old: Any, new: Any) -> dict[str, Any]:
    sides = {"old": old, "new": new}
    return {side: value for side, value in sides.items() if value is not MISSING}
