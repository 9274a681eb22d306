"""`rvrun check`: findings on stdout, then the tracebacks of the user's code on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import attrs
import click

from rvrun.checks import preflight
from rvrun.checks.case import Case
from rvrun.cli.options import (
    Argument,
    BadOption,
    Common,
    Verb,
    json_option,
    out_option,
    request_options,
    takes_request,
    templates_option,
)
from rvrun.errors import DONE, INVALID
from rvrun.finding import Finding, Level
from rvrun.prepare import Request, run_dir_of
from rvrun.runners.registry import DEFAULT
from rvrun.text import count

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
LEVEL_WIDTH = max(map(len, Level))


@click.command(cls=Verb)
@click.argument(
    "config",
    cls=Argument,
    required=False,
    metavar="[CONFIG]",
    help="As in `rvrun run`. Without it, only the machine and the settings are checked.",
)
@request_options
@click.option(
    "--runner",
    metavar="NAME",
    default=DEFAULT,
    help=f"Check for runs on this runner; default: {DEFAULT}.",
)
@out_option
@templates_option
@json_option
@takes_request
def check(common: Common, request: Request, *, as_json: bool) -> int:
    """Find what would make a run fail, before it starts.

    Checks the machine, the settings, the config, and the places that it reads and writes. Writes
    nothing. Exit code 2 if there is an error, 0 if there are only warnings.

    - `rvrun check`
    - `rvrun check my_config.py --splits 8 -a root_uri out/run1`
    """
    has_config = bool(request.config)
    if not has_config and (request.splits or request.args):
        option = "--splits" if request.splits else "-a"
        raise BadOption(f"{option} requires a config; add it: rvrun check CONFIG")
    has_run_dir = has_config or request.out is not None
    run_dir = run_dir_of(request.config, request.out) if has_run_dir else None
    findings = preflight.check(Case(request, run_dir))
    if as_json:
        values = [attrs.asdict(finding) for finding in _shown(findings, quiet=common.quiet)]
        print(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        print_findings(findings, quiet=common.quiet)
        if not common.quiet:
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
