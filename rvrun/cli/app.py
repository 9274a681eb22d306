"""The command line, `rvrun VERB ...`: finds the verb, runs it, turns errors into exit codes.

A verb's module is imported only when that verb is called, or its help is shown.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from rvrun import __version__
from rvrun.cli.messages import drop_stdout, protect_stderr, say
from rvrun.cli.options import (
    COMPLETION,
    Profile,
    Quiet,
    TmpDir,
    Verbose,
    Version,
    make_verb,
    write_options,
    write_paragraphs,
)
from rvrun.cli.usage import UsageError, explain
from rvrun.errors import (
    BUG,
    CLOSED_PIPE,
    DONE,
    FAILED,
    INTERRUPTED,
    INVALID,
    RvrunError,
    check_known,
)
from rvrun.inputs import check_arguments, from_os_error
from rvrun.text import quoted
from rvrun.tracebacks import print_error

#: The verbs in the sections that `--help` shows: the verb's module and function in `rvrun.cli`,
#: and what it does, which is also the first sentence of its own help.
VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "run": ("run:run", "Run what is missing or stale"),
        "render": ("render:render", "Write what a runner runs, without running it"),
        "warm": ("warm:warm", "Run a command, such as make, with fast targets"),
        "run_command": ("run_command:run_command", "Run one target in this process"),
    },
    "Plan and inspect": {
        "plan": ("plan:plan", "Show the stages, and what would run and why"),
        "graph": ("graph:graph", "Draw the plan as text"),
        "diff": ("diff:diff", "Show what differs between two plans"),
        "records": ("records:records", "Summarize the records of earlier runs, for estimates"),
        "tune": ("tune:tune", "Suggest splits, -j, CPUs and memory from earlier runs"),
        "accept": ("accept:accept", "Declare that changes of code, config or inputs do not matter"),
        "explain": ("explain:explain", "Explain why a target would run or is up to date"),
        "check": ("check:check", "Find what would make a run fail, before it starts"),
    },
    "Runs": {
        "list": (
            "list_runs:list_runs",
            "List the runs in all run directories below here",
        ),
        "status": ("status:status", "Show the state of a run"),
        "logs": ("logs:logs", "Print the output of a target, or of the targets that failed"),
        "report": ("report:report", "Write a web page or a trace of a run"),
        "retry": ("retry:retry", "Retry the failed targets of a run"),
        "cancel": ("detached:cancel", "Cancel all waiting and running jobs of a run"),
    },
    "Set up": {
        "init": ("init:init", "Write a first pipeline that runs as it is"),
        "config": ("config:config", "Show every setting, its value and its origin"),
        "schema": ("schema:schema", "Print the JSON Schema of a format that rvrun reads or writes"),
        "completion": ("completion:completion", "Print a shell's completion script"),
    },
}


def verb_names() -> list[str]:
    """Return the names of the verbs, in the order of `--help`."""
    return [name for verbs in VERBS.values() for name in verbs]


class Verbs(TyperGroup):
    """The group of all verbs, each imported when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the verbs, in the order of `--help`."""
        return verb_names()

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """Import the module of a verb, and return its command; None if there is no such verb."""
        for verbs in VERBS.values():
            if cmd_name in verbs:
                module, _, function = verbs[cmd_name][0].partition(":")
                return make_verb(
                    cmd_name, getattr(importlib.import_module(f"rvrun.cli.{module}"), function)
                )
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that `args` name. Raises `UnknownName` or `OtherCommand`."""
        verbs = tuple(self.list_commands(ctx))
        if not ctx.resilient_parsing and args[0] not in verbs:
            # Only now, so that no other call imports it.
            from rvrun.adapters.raster_vision.settings import check_command

            check_command(args)
            check_known("verb", args[0], verbs)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from `VERBS` alone, which imports no verb."""
        self.format_usage(ctx, formatter)
        write_paragraphs(self.help or "", formatter)
        width = max(map(len, self.list_commands(ctx)))
        for section, verbs in VERBS.items():
            with formatter.section(section):
                rows = [(name.ljust(width), text) for name, (_, text) in verbs.items()]
                formatter.write_dl(rows)
        write_options(self, ctx, formatter)


def rvrun(
    profile: Profile = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    tmpdir: TmpDir = None,
    version: Version = False,
) -> None:
    """Compile pipelines of commands into a plan, and run or render it with a runner.

    The options below may also follow the verb.
    """


def command() -> TyperGroup:
    """Return the group of all verbs; `get_command` imports the verb that it returns."""
    app = typer.Typer(
        name="rvrun",
        cls=Verbs,
        callback=rvrun,
        add_completion=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        subcommand_metavar="VERB ...",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return typer.main.get_group(app)


def main(argv: Sequence[str]) -> int:
    """Run the command line `argv` and return its exit code."""
    if COMPLETION in os.environ:
        return complete()
    protect_stderr()
    try:
        check_arguments(argv)
        code = command().main(list(argv), prog_name="rvrun", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as error:
        # Of typer's parser, which ends with 1 when a pipe is closed.
        pipe = error.__context__
        code = report_os_error(pipe) if isinstance(pipe, BrokenPipeError) else error.code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except UsageError as error:
        code = report_usage(error, argv)
    except RvrunError as error:
        print_error(error)
        code = error.exit_code
    except OSError as error:
        code = report_os_error(error)
    except Exception:  # noqa: BLE001 - any other exception is a bug of rvrun's
        code = report_bug(argv)
    return code if isinstance(code, int) else DONE


def complete() -> int:
    """Print what can follow on the command line that the environment describes.

    It says nothing about errors: the user is still typing. fish reads the exit code.
    """
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until this process ends
    try:
        command().main([], prog_name="rvrun", standalone_mode=False)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else DONE
    except Exception:  # noqa: BLE001 - also a bug of rvrun's
        return FAILED
    return DONE


def report_usage(error: Any, argv: Sequence[str]) -> int:
    """Report what the parser refused; `rvrun` alone is a request for help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        try:
            problem = explain(error, argv, verb_names())
        except RvrunError as better:
            problem = better
        print_error(problem)
    return INVALID


def report_os_error(error: OSError) -> int:
    """Report what the operating system refused, such as a full disk or an unreadable file."""
    try:
        sys.stdout.flush()
    except OSError:
        drop_stdout()
    if isinstance(error, BrokenPipeError):
        # The reader of our output, such as `head`, needs no more.
        return CLOSED_PIPE
    print_error(from_os_error(error))
    return INVALID


def report_bug(argv: Sequence[str]) -> int:
    """Write the traceback of a bug of rvrun's to a file without secrets, and say where it is."""
    import tempfile
    import traceback

    from rvrun.cli.redact import Redaction

    redaction = Redaction.of(argv, os.environ)
    error = redaction.text(quoted(sys.exc_info()[1]))
    head = f"rvrun {__version__}, Python {sys.version}, {os.uname()}\n{redaction.words(argv)}\n\n"
    report = head + redaction.text(traceback.format_exc())
    try:
        with tempfile.NamedTemporaryFile(
            "wb", prefix="rvrun-bug-", suffix=".log", delete=False
        ) as log:
            log.write(report.encode(errors="backslashreplace"))
        place = log.name
    except OSError:
        # Without a temporary folder, the report is still worth having.
        sys.stderr.write(report)
        place = "the lines above"
    say(f"rvrun: this is a bug in rvrun: {error}; please report it with {place}")
    return BUG
