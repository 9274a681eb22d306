"""`rvrun check`: would it run? Findings on stdout, tracebacks of the user's code after them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import attrs
import typer

from rvrun.checks import preflight as checks
from rvrun.checks.case import Case
from rvrun.cli import options as common
from rvrun.errors import DONE, INVALID
from rvrun.finding import Finding, Level
from rvrun.prepare import run_dir_of
from rvrun.runners.registry import DEFAULT
from rvrun.text import count

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
LEVEL_WIDTH = max(map(len, Level))

Config = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG",
        help="As for `run`. Without it, only the machine and the settings are checked.",
        show_default=False,
    ),
]


def check(
    context: typer.Context,
    config: Config = None,
    commands: common.Commands = None,
    runner: Annotated[
        str, typer.Option("--runner", metavar="NAME", help="The runner that is to run it.")
    ] = DEFAULT,
    splits: common.Splits = None,
    args: common.Args = None,
    out: common.Out = None,
    templates: common.Templates = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for what would fail, before it does: the machine, the settings, the config, its places.

    Nothing is written. Exit code 2 where something would fail; a warning alone is 0.

    - `rvrun check`
    - `rvrun check my_config.py --splits 8 -a root_uri out/run1`
    """
    if config is None and (splits or args):
        option = "--splits" if splits else "-a"
        raise common.BadOption(f"{option} is about a config; name it: rvrun check CONFIG")
    request = common.request(
        context.obj,
        config=config or "",
        runner=runner,
        commands=commands,
        splits=splits,
        args=args,
        out=out,
        flags={"templates": templates},
    )
    findings = checks.check(Case(request, _run_dir(config, out)))
    (_print_json if as_json else _print)(findings, quiet=context.obj.quiet)
    failed = any(finding.level is Level.ERROR for finding in findings)
    raise typer.Exit(INVALID if failed else DONE)


def _run_dir(config: str | None, out: str | None) -> str | None:
    """None where neither names one."""
    return None if config is None and out is None else run_dir_of(config or "", out)


def _print_json(findings: Iterable[Finding], *, quiet: bool) -> None:
    shown = [attrs.asdict(finding) for finding in _shown(findings, quiet=quiet)]
    print(json.dumps(shown, indent=2, ensure_ascii=False))


def _shown(findings: Iterable[Finding], *, quiet: bool) -> list[Finding]:
    return [each for each in findings if not quiet or each.level is not Level.OK]


def _print(findings: Sequence[Finding], *, quiet: bool) -> None:
    """A line for each finding, in columns, its fix below; then how many there are of each."""
    from rich.text import Text

    from rvrun.cli.tables import console

    out = console()
    width = max(len(finding.subject) for finding in findings)
    for finding in _shown(findings, quiet=quiet):
        level = (f"{finding.level:{LEVEL_WIDTH}}", COLOURS[finding.level])
        text = _indented(finding.text, LEVEL_WIDTH + width + 4)
        out.print(Text.assemble(level, f"  {finding.subject:{width}}  {text}"), soft_wrap=True)
        if finding.fix:
            indent = LEVEL_WIDTH + 2
            fix = _indented(f"fix: {finding.fix}", indent)
            out.print(" " * indent + fix, soft_wrap=True)
    if not quiet:
        print(_counts(findings), flush=True)
    sys.stdout.flush()
    for finding in findings:
        sys.stderr.write(finding.details)


def _indented(text: str, width: int) -> str:
    """Lines after the first begin below it."""
    return text.replace("\n", "\n" + " " * width)


def _counts(findings: Sequence[Finding]) -> str:
    """`12 ok, 1 warning, 2 errors`."""
    numbers = {level: sum(f.level is level for f in findings) for level in Level}
    bad = [count(numbers[each], each) for each in (Level.WARNING, Level.ERROR) if numbers[each]]
    return ", ".join([f"{numbers[Level.OK]} ok", *bad])
