"""The formats of `rvrun diff` and `rvrun plan --check`, and the exit codes of both."""

from __future__ import annotations

import enum
import json
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from rvrun.cli.messages import say
from rvrun.cli.options import BadOption, option
from rvrun.errors import DONE, FAILED
from rvrun.inputs import writing
from rvrun.text import shorten

if TYPE_CHECKING:
    from rvrun.plan.diff import PlanDiff
    from rvrun.plan.estimate import Estimate
    from rvrun.prepare import Prepared

AsMarkdown = Annotated[bool, option("--markdown", help="For a pull request comment.")]
AsGithub = Annotated[bool, option("--github", help="As GitHub Actions annotations.")]


class DiffFormat(enum.StrEnum):
    """How differences are printed; the value is the option that chooses it."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github"


def choose_format(*, as_json: bool, as_markdown: bool, as_github: bool) -> DiffFormat:
    """Return the format that `--json`, `--markdown` and `--github` choose.

    Raises `BadOption`.
    """
    given = {
        DiffFormat.JSON: as_json,
        DiffFormat.MARKDOWN: as_markdown,
        DiffFormat.GITHUB: as_github,
    }
    forms = [form for form, is_given in given.items() if is_given]
    if len(forms) > 1:
        options = " and ".join(f"--{form}" for form in forms)
        raise BadOption(f"{options} are different formats; keep one")
    return forms[0] if forms else DiffFormat.TEXT


def print_document(result: Estimate, form: DiffFormat) -> None:
    """Print an estimate without differences, as JSON or Markdown."""
    from rvrun.plan.estimate_formats import to_dict, to_markdown

    is_json = form is DiffFormat.JSON
    text = json.dumps(to_dict(result), indent=2, ensure_ascii=False) if is_json else ""
    print(f"{text}\n" if is_json else to_markdown(result), end="")


def print_diff(
    diff: PlanDiff, form: DiffFormat, result: Estimate | None = None, *, is_stale: bool = False
) -> int:
    """Print the differences and return the exit code.

    - `result`: the estimate of what the difference runs; None for none.
    - `is_stale`: whether there are other differences than these.
    """
    from rvrun.plan.diff_formats import to_github, to_json, to_markdown, to_text

    formatters = {
        DiffFormat.TEXT: to_text,
        DiffFormat.JSON: to_json,
        DiffFormat.MARKDOWN: to_markdown,
        DiffFormat.GITHUB: to_github,
    }
    code = DONE if diff.same and not is_stale else FAILED
    if form is DiffFormat.GITHUB:
        tell_github(diff, result, code)
    if result is None:
        print(formatters[form](diff), end="")
    elif form is DiffFormat.JSON:
        print(with_estimate_as_json(to_json(diff), result), end="")
    else:
        print(formatters[form](diff), end="")
        print_addition(diff, form, result)
    return code


def print_addition(diff: PlanDiff, form: DiffFormat, result: Estimate) -> None:
    """Print the estimate of what differences run, after the differences."""
    from rvrun.plan.diff_formats import command_data
    from rvrun.plan.estimate_formats import headline, to_markdown

    if diff.same:
        return
    if form is DiffFormat.MARKDOWN:
        print(f"\n{to_markdown(result, '+')}", end="")
    elif form is DiffFormat.GITHUB:
        print(f"::notice title=estimate::{command_data(headline(result, '+'))}")
    else:
        from rvrun.cli.estimates import print_estimate

        print_estimate(result, "+")


def with_estimate_as_json(text: str, result: Estimate) -> str:
    """Add an estimate to the JSON of differences."""
    from rvrun.plan.estimate_formats import to_dict

    document = {**json.loads(text), "estimate": to_dict(result)}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def tell_github(diff: PlanDiff, result: Estimate | None, code: int) -> None:
    """Add the exit code and the estimate to the outputs of a step of GitHub Actions.

    GITHUB_OUTPUT gets `code`, and with an estimate `estimate`, `seconds` and `cost`; these are
    empty if they are unknown. GITHUB_STEP_SUMMARY gets the Markdown.
    """
    from rvrun.plan.diff_formats import to_markdown
    from rvrun.plan.estimate_formats import headline, to_dict
    from rvrun.plan.estimate_formats import to_markdown as estimate_to_markdown

    outputs: dict[str, object] = {"code": code}
    summary = to_markdown(diff)
    if result is not None and not diff.same:
        values = to_dict(result)
        numbers = {key: values[key] for key in ("seconds", "cost")}
        outputs |= {"estimate": headline(result, "+"), **numbers}
        summary += f"\n{estimate_to_markdown(result, '+')}"
    lines = (f"{key}={'' if value is None else value}\n" for key, value in outputs.items())
    for variable, text in (("GITHUB_OUTPUT", "".join(lines)), ("GITHUB_STEP_SUMMARY", summary)):
        if path := os.environ.get(variable):
            with writing(path), open(path, "a", encoding="utf-8") as file:
                file.write(text)


def check_saved(
    prepared: Prepared,
    form: DiffFormat,
    *,
    quiet: bool,
    with_estimate: bool = False,
    jobs: int | None = None,
    run_dirs: Sequence[pathlib.Path] = (),
) -> int:
    """Compare a plan with the one saved in its run directory, and all files with those there.

    - `with_estimate`: also estimate what the difference runs, with `jobs` in parallel and the
      records of `run_dirs`.

    Returns the exit code.
    """
    from rvrun import paths
    from rvrun.cli.sides import compiled_side, read_plan
    from rvrun.plan.diff import diff_plans
    from rvrun.rundir.files import is_current, strangers

    run_dir, out = prepared.run.run_dir, prepared.run.out
    if not run_dir.exists():
        raise BadOption(
            f"--check must name a directory with a saved plan, got `{shorten(out)}`, which does "
            f"not exist; save the plan there with `rvrun plan CONFIG --out {shorten(out)}`"
        )
    saved = read_plan(pathlib.Path(out, paths.PLAN))
    diff = diff_plans(saved, compiled_side(prepared))
    result = None
    if with_estimate:
        from rvrun.cli.estimates import estimate_changed
        from rvrun.plan.select import affected

        run, runner = prepared.run, prepared.runners[0]
        names = affected(run.plan, diff)
        result = estimate_changed(run.plan, names, run.settings, runner, jobs, run_dirs)
    # What inputs contain is a fact of this machine, and not of the plan.
    files = {p: t for p, t in prepared.files.items() if not p.startswith(f"{paths.INPUTS}/")}
    stale = [path for path, text in files.items() if not is_current(run_dir, path, text)]
    stale += strangers(run_dir, prepared.files, prepared.owned)
    code = print_diff(diff, form, result, is_stale=bool(stale))
    if stale:
        say(f"out of date: {', '.join(f'{out}/{path}' for path in stale)}")
        return FAILED
    if code == DONE and not quiet:
        say(f"{out} is up to date")
    return code
