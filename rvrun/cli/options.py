"""Options and arguments that several verbs share, and the classes that verbs are made of.

Light on purpose: `rvrun --help` imports this module, so it imports only click at its top.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rvrun import plugins
from rvrun.errors import Problem

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Function = TypeVar("Function", bound=Callable[..., Any])

#: The options of verbs that are fields of `prepare.Request`, under the fields' names.
REQUEST_FIELDS = ("config", "runner", "commands", "splits", "out", "force")


class BadOption(Problem):
    """An option whose value is wrong, or that the other options rule out."""


class Common:
    """The options that every verb has, whether they come before or after its name."""

    # Not an attrs class: importing attrs costs more than the rest of `rvrun --help`.
    profile: str | None = None
    quiet: bool = False
    verbose: int = 0


def common_options(*, hidden: bool = False) -> list[click.Parameter]:
    """Return new options that set the fields of the context's `Common`."""
    more: dict[str, Any] = {"expose_value": False, "callback": _apply, "hidden": hidden}
    return [
        click.Option(
            ["-p", "--profile"], metavar="NAME", help="Use this profile of your settings.", **more
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Print only errors.", **more),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Also print settings, and targets as they start; repeat for more.",
            **more,
        ),
        click.Option(
            ["--tmpdir"],
            metavar="DIR",
            help="Folder of the targets' temporary files, as with TMPDIR.",
            **more,
        ),
    ]


def _apply(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Merge an option into `Common`: it may be given before the verb, after it, or both."""
    common = context.ensure_object(Common)
    if option.name == "quiet":
        common.quiet = common.quiet or value
    elif option.name == "verbose":
        common.verbose += value
    elif value is not None and option.name == "profile":
        from rvrun.adapters.raster_vision import settings as raster_vision

        common.profile = value
        # Raster Vision's pipelines, here or in other processes, read this.
        if raster_vision.has_profile(value):
            os.environ[raster_vision.PROFILE] = value
    elif value is not None and option.name == "tmpdir":
        os.environ["TMPDIR"] = os.path.abspath(value)


class Argument(click.Argument):
    """An argument with a help text, which click has only since 8.5."""

    def __init__(self, declarations: Sequence[str], *, help: str, **more: Any) -> None:  # noqa: A002
        super().__init__(declarations, **more)
        self.help = help

    def full_help(self) -> str:
        """Return the help text with what only this machine knows."""
        return str(self.help)


class RunnerArgument(Argument):
    """The RUNNER of a verb: its help and its completion list the runners that are installed."""

    def full_help(self) -> str:
        return f"{self.help} Installed: {', '.join(plugins.runner_names())}."

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(n) for n in plugins.runner_names() if n.startswith(incomplete)]


class Verb(click.Command):
    """A verb: it also takes the common options, and its docstring is its help."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.help = inspect.cleandoc(self.help or "")
        self.params += common_options(hidden=True)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_usage(ctx, formatter)
        write_paragraphs(str(self.help), formatter)
        arguments = [param for param in self.params if isinstance(param, Argument)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(a.make_metavar(ctx), a.full_help()) for a in arguments])
        write_options(self, ctx, formatter)


def write_paragraphs(text: str, formatter: click.HelpFormatter) -> None:
    """Write a docstring: its paragraphs, and the list of examples at its end."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("- "):
            with formatter.section("Examples"):
                for line in paragraph.splitlines():
                    # Not wrapped, so that an example can be copied.
                    formatter.write(f"  {line.removeprefix('- ').strip('`')}\n")
        else:
            formatter.write_paragraph()
            formatter.write_text(paragraph.replace("\n", " "))


def write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the section of the options that are not hidden."""
    options = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(ctx))]
    with formatter.section("Options"):
        formatter.write_dl(records)


def takes_request(function: Function) -> Callable[..., Any]:
    """Call a verb's function with `Common`, and the options of a request as one `Request`."""

    @click.pass_obj
    @functools.wraps(function)
    def verb(common: Common, /, **values: Any) -> Any:
        from rvrun.prepare import Request

        fields = {name: values.pop(name) for name in REQUEST_FIELDS if name in values}
        request = Request(
            **{"config": "", **{k: v for k, v in fields.items() if v is not None}},
            args=parse_args(values.pop("args")),
            flags={"templates": values.pop("templates", None)},
            profile=common.profile,
            verbosity=common.verbose,
        )
        return function(common, request, **values)

    return verb


def parse_args(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the `-a` options by key. Raises `BadOption`."""
    values: dict[str, str] = {}
    for key, value in pairs:
        if not key.isidentifier():
            raise BadOption(f"-a {key} {value}: KEY must be a parameter's name; write -a KEY VALUE")
        if values.setdefault(key, value) != value:
            raise BadOption(f"-a {key} is given twice, as {values[key]} and as {value}; keep one")
    return values


config_argument = click.argument(
    "config",
    cls=Argument,
    metavar="CONFIG",
    help="A `.py` file or an importable module with a function `get_config` or `get_configs`, or "
    "a saved config (`.json`).",
)
runner_argument = click.argument(
    "runner",
    cls=RunnerArgument,
    metavar="RUNNER",
    help="What runs the pipelines; `rvrun check --runner RUNNER` tests it.",
)
_commands = click.argument(
    "commands",
    cls=Argument,
    nargs=-1,
    metavar="[COMMAND]...",
    help="The commands to run; default: all.",
)
_splits = click.option(
    "-s",
    "--splits",
    multiple=True,
    metavar="SPLITS",
    help="Number of splits: `N` for every split command, `COMMAND=N` for one, or "
    "`PIPELINE/COMMAND=N` for one of one pipeline; repeatable; the most specific one applies; "
    "default: 1.",
)
_args = click.option(
    "-a",
    "--arg",
    "args",
    multiple=True,
    nargs=2,
    metavar="KEY VALUE",
    help="An argument for `get_config` or `get_configs`; repeatable.",
)
out_option = click.option(
    "--out", metavar="DIR", help="The run directory; default: runs/ and the name of CONFIG."
)
templates_option = click.option(
    "--templates",
    metavar="DIR",
    help="Folder of templates that replace rvrun's own of the same name.",
)
always_make_option = click.option(
    "-B", "--always-make", "force", is_flag=True, help="Also run what is up to date."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def request_options(function: Function) -> Function:
    """Add the commands, `--splits` and `-a`."""
    return _commands(_splits(_args(function)))
