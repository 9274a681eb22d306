"""`rvrun check`: findings on stdout, then the tracebacks of the user's code on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import attrs
import typer

from rvrun.checks import preflight
from rvrun.checks.case import Case
from rvrun.cli.options import (
    DEFAULT_CONFIG,
    Args,
    AsJson,
    BadOption,
    Commands,
    Out,
    Splits,
    Templates,
    argument,
    make_request,
    option,
    read_common,
)
from rvrun.errors import DONE, INVALID
from rvrun.finding import Finding, Level
from rvrun.plugins import runner_names
from rvrun.prepare import run_dir_of
from rvrun.runners.registry import DEFAULT
from rvrun.text import count

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
LEVEL_WIDTH = max(map(len, Level))


OptionalConfig = Annotated[
    str | None,
    argument(
        metavar="[CONFIG]",
        help="As in `rvrun run`. If there is none, only the machine and the settings are checked.",
    ),
]
CheckedRunner = Annotated[
    str,
    option(
        "--runner",
        metavar="NAME",
        help=f"Check for runs on this runner; default: {DEFAULT}.",
        autocompletion=runner_names,
    ),
]


def check(
    context: typer.Context,
    config: OptionalConfig = None,
    commands: Commands = None,
    splits: Splits = None,
    args: Args = None,
    runner: CheckedRunner = DEFAULT,
    out: Out = None,
    templates: Templates = None,
    as_json: AsJson = False,
) -> int:
    """Find what would make a run fail, before it starts.

    Checks the machine, the settings, the config, and the places that it reads and writes. Writes
    nothing. Exit code 2 if there is an error, 0 if there are only warnings.

    - `rvrun check`
    - `rvrun check my_config.py --splits 8 -a root_uri out/run1`
    """
    quiet = read_common(context).quiet
    if config is None and os.path.isfile(DEFAULT_CONFIG):
        config = DEFAULT_CONFIG
    if config is None and (splits or args):
        needless = "--splits" if splits else "-a"
        raise BadOption(f"{needless} requires a config; add it: rvrun check CONFIG")
    request = make_request(
        context,
        config=config or "",
        commands=commands,
        splits=splits,
        args=args,
        runner=runner,
        out=out,
        templates=templates,
    )
    run_dir = run_dir_of(request.config, out) if config or out is not None else None
    findings = preflight.check(Case(request, run_dir))
    if as_json:
        values = [attrs.asdict(finding) for finding in _shown(findings, quiet=quiet)]
        print(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        print_findings(findings, quiet=quiet)
        if not quiet:
            print(_counts(findings), flush=True)
        print_details(findings)
    return INVALID if any(finding.level is Level.ERROR for finding in findings) else DONE


def _shown(findings: Sequence[Finding], *, quiet: bool) -> list[Finding]:
    return [finding for finding in findings if not quiet or finding.level is not Level.OK]


def print_findings(findings: Sequence[Finding], *, quiet: bool) -> None:
    """Print a line for each finding, in columns, and its fix below; with `quiet`, no `ok`."""
    from rich.text import Text

    from rvrun.cli.tables import make_console

    out = make_console()
    width = max(len(finding.subject) for finding in findings)
    for finding in _shown(findings, quiet=quiet):
        level = (f"{finding.level:{LEVEL_WIDTH}}", COLOURS[finding.level])
        text = _indent(finding.text, LEVEL_WIDTH + width + 4)
        out.print(Text.assemble(level, f"  {finding.subject:{width}}  {text}"), soft_wrap=True)
        if finding.fix:
            indent = LEVEL_WIDTH + 2
            fix = _indent(f"fix: {finding.fix}", indent)
            out.print(" " * indent + fix, soft_wrap=True)


def print_details(findings: Sequence[Finding]) -> None:
    """Print the tracebacks of the user's code on stderr, after everything on stdout."""
    sys.stdout.flush()
    for finding in findings:
        sys.stderr.write(finding.details)


def _indent(text: str, width: int) -> str:
    """Indent the lines after the first."""
    return text.replace("\n", "\n" + " " * width)


def _counts(findings: Sequence[Finding]) -> str:
    """Return `12 ok, 1 warning, 2 errors`."""
    numbers = {level: sum(f.level is level for f in findings) for level in Level}
    bad = [count(numbers[level], level) for level in Level if level != Level.OK and numbers[level]]
    return ", ".join([f"{numbers[Level.OK]} ok", *bad])
