"""The command line: `rvrun VERB …`. Its modules are the only door to typer."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from rvrun import __version__
from rvrun.adapters.raster_vision import settings as rv_settings
from rvrun.cli import check, compare, schema, verbs
from rvrun.cli import detached as remote
from rvrun.cli.messages import say
from rvrun.cli.options import Common, join_args
from rvrun.errors import BUG, DONE, FAILED, INTERRUPTED, INVALID, RvrunError
from rvrun.tracebacks import print_error

app = typer.Typer(
    name="rvrun",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    """The `--version` option."""
    if wanted:
        print(f"rvrun {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Option(
            "-p", "--profile", metavar="NAME", help="The settings profile of yours to use."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No progress; only what went wrong.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            help="Tell more: targets as they start, settings. Can be given several times.",
            show_default=False,
        ),
    ] = 0,
    tmpdir: Annotated[
        str | None,
        typer.Option(
            "--tmpdir", metavar="DIR", help="Where targets put temporary files, as TMPDIR does."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Compile pipelines of commands into a plan, render it (as a Makefile, as jobs of AWS Batch, as
    a SageMaker pipeline), and run it.
    """
    # What is run, here or in processes of its own, reads these where it is Raster Vision's.
    if profile is not None and rv_settings.has_profile(profile):
        os.environ[rv_settings.PROFILE] = profile
    if tmpdir is not None:
        os.environ["TMPDIR"] = os.path.abspath(tmpdir)
    context.obj = Common(profile=profile, quiet=quiet, verbose=verbose)


#: All verbs, in the panels in which `--help` shows them.
VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Run": {
        "run": verbs.run,
        "render": verbs.render,
        "run_command": verbs.run_command,
    },
    "Look before and after": {
        "plan": verbs.plan,
        "graph": verbs.graph,
        "diff": compare.diff,
        "explain": compare.explain,
        "check": check.check,
    },
    "On AWS": {
        "list": remote.list_runs,
        "status": remote.status,
        "logs": remote.logs,
        "cancel": remote.cancel,
        "retry": remote.retry,
    },
    "Set up": {
        "config": verbs.config,
        "schema": schema.schema,
        "completion": verbs.completion,
    },
}
for panel, named in VERBS.items():
    for verb, function in named.items():
        app.command(verb, rich_help_panel=panel)(function)


def main(argv: Sequence[str]) -> int:
    """Do what `argv` says; the exit code."""
    try:
        app(args=join_args(argv), prog_name="rvrun")
        sys.stdout.flush()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except RvrunError as error:
        print_error(error)
        return error.exit_code
    except OSError as error:
        return report_os(error)
    except Exception:  # noqa: BLE001 - whatever it is, it is a bug
        return report_bug(argv)
    return DONE


def report_os(error: OSError) -> int:
    """What the system refused: a full disk, a file that may not be read."""
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    say(f"rvrun: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    return INVALID


def report_bug(argv: Sequence[str]) -> int:
    """Keep the traceback of a bug of rvrun in a file, and say where."""
    with tempfile.NamedTemporaryFile("w", prefix="rvrun-bug-", suffix=".log", delete=False) as log:
        log.write(f"rvrun {__version__}, Python {sys.version}, {os.uname()}\n{list(argv)}\n\n")
        traceback.print_exc(file=log)
    say(f"rvrun: this is a bug in rvrun: {sys.exc_info()[1]!r}; please report it with {log.name}")
    return BUG
