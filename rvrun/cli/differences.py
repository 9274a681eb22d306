"""The formats of `rvrun diff` and `rvrun plan --check`, and the exit codes of both."""

from __future__ import annotations

import enum
import pathlib
from typing import TYPE_CHECKING, Annotated

from rvrun.cli.messages import say
from rvrun.cli.options import BadOption, option
from rvrun.errors import DONE, FAILED
from rvrun.text import shorten

if TYPE_CHECKING:
    from rvrun.plan.diff import PlanDiff
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


def print_diff(diff: PlanDiff, form: DiffFormat) -> int:
    """Print the differences and return the exit code."""
    from rvrun.plan.diff_formats import to_github, to_json, to_markdown, to_text

    formatters = {
        DiffFormat.TEXT: to_text,
        DiffFormat.JSON: to_json,
        DiffFormat.MARKDOWN: to_markdown,
        DiffFormat.GITHUB: to_github,
    }
    print(formatters[form](diff), end="")
    return DONE if diff.same else FAILED


def check_saved(prepared: Prepared, form: DiffFormat, *, quiet: bool) -> int:
    """Compare a plan with the one saved in its run directory, and all files with those there.

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
    code = print_diff(diff_plans(saved, compiled_side(prepared)), form)
    # What inputs contain is a fact of this machine, and not of the plan.
    files = {p: t for p, t in prepared.files.items() if not p.startswith(f"{paths.INPUTS}/")}
    stale = [path for path, text in files.items() if not is_current(run_dir, path, text)]
    stale += strangers(run_dir, prepared.files, prepared.owned)
    if stale:
        say(f"out of date: {', '.join(f'{out}/{path}' for path in stale)}")
        return FAILED
    if code == DONE and not quiet:
        say(f"{out} is up to date")
    return code
