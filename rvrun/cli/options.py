"""Options and arguments that several verbs share, and how typer makes a command of a verb.

Light on purpose: `rvrun --help` imports this module, so it imports only typer at its top.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from rvrun import plugins
from rvrun.cli.usage import check_values, missing, name_of
from rvrun.errors import Problem
from rvrun.text import shorten

if TYPE_CHECKING:
    from rvrun.prepare import Request

#: The environment variable that asks for completions instead of running a verb.
COMPLETION = "_RVRUN_COMPLETE"
#: The config if none is given.
DEFAULT_CONFIG = "pipeline.toml"
#: In the help of an argument: the names of the runners that are installed.
INSTALLED = "{installed runners}"


class BadOption(Problem):
    """An option whose value is wrong, or that the other options rule out."""


class Common:
    """The options that every verb has, whether they come before or after its name."""

    # Not an attrs class: importing attrs costs more than the rest of `rvrun --help`.
    profile: str | None = None
    quiet: bool = False
    verbose: int = 0


def read_common(context: typer.Context) -> Common:
    """Return the common options of a verb's call."""
    return context.ensure_object(Common)


def option(*names: str, **more: Any) -> Any:
    """Declare an option. Its help states the default in words."""
    return typer.Option(*names, show_default=False, **more)


def argument(**more: Any) -> Any:
    """Declare an argument. Its help states the default in words."""
    return typer.Argument(show_default=False, **more)


def candidates(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """Return what completes a value of a kind, a key of `candidates.FINDERS`."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        from rvrun.cli.candidates import find_candidates

        return find_candidates(kind, context, incomplete)

    return complete


def merge(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> None:
    """Merge an option into `Common`: it may be given before the verb, after it, or both."""
    common = read_common(context)
    if parameter.name == "quiet":
        common.quiet = common.quiet or value
    elif parameter.name == "verbose":
        common.verbose += value
    elif value is not None and parameter.name == "profile":
        from rvrun.adapters.raster_vision import settings as raster_vision

        common.profile = value
        # Raster Vision's pipelines, here or in other processes, read this.
        if raster_vision.has_profile(value):
            os.environ[raster_vision.PROFILE] = value
    elif value is not None and parameter.name == "tmpdir":
        os.environ["TMPDIR"] = os.path.abspath(value)


def print_version(context: typer.Context, is_given: bool) -> None:
    """Print the version and exit, if `--version` is given."""
    from rvrun import __version__

    if is_given and not context.resilient_parsing:
        print(f"rvrun {__version__}")
        raise typer.Exit


Profile = Annotated[
    str | None,
    option(
        "-p",
        "--profile",
        metavar="NAME",
        help="Use this profile of your settings.",
        autocompletion=candidates("profiles"),
        callback=merge,
        expose_value=False,
    ),
]
Quiet = Annotated[
    bool,
    option("-q", "--quiet", help="Print only errors.", callback=merge, expose_value=False),
]
Verbose = Annotated[
    int,
    option(
        "-v",
        "--verbose",
        count=True,
        help="Also print settings and each target as it starts; repeat for more detail.",
        callback=merge,
        expose_value=False,
    ),
]
TmpDir = Annotated[
    str | None,
    option(
        "--tmpdir",
        metavar="DIR",
        help="Directory of the targets' temporary files, as with TMPDIR.",
        callback=merge,
        expose_value=False,
    ),
]
Version = Annotated[
    bool,
    option(
        "--version",
        help="Print the version and exit.",
        callback=print_version,
        is_eager=True,
        expose_value=False,
    ),
]


def take_common(
    profile: Profile = None, quiet: Quiet = False, verbose: Verbose = 0, tmpdir: TmpDir = None
) -> None:
    """Declare the common options; `merge` reads them."""


class Verb(TyperCommand):
    """A verb: its docstring is its help, with examples at the end."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the verb, also those of a command line that is being completed."""
        if ctx.resilient_parsing:
            from rvrun.cli.candidates import WORDS

            ctx.meta[WORDS] = list(args)
            args = self._without_incomplete_option(args)
        return super().parse_args(ctx, args)

    def _without_incomplete_option(self, args: list[str]) -> list[str]:
        """Omit an option at the end that lacks a value: the parser would stop, and read nothing."""
        sizes = {
            name: param.nargs
            for param in self.params
            if isinstance(param, TyperOption) and not (param.is_flag or param.count)
            for name in param.opts
        }
        for index in range(max(len(args) - 2, 0), len(args)):
            if sizes.get(args[index], 0) > len(args) - 1 - index:
                return args[:index]
        return args

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the verb's name in its usage."""
        arguments = [param for param in self.params if isinstance(param, TyperArgument)]
        return [str(self.options_metavar), *(param.make_metavar(ctx) for param in arguments)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usage, the docstring, the arguments and the options."""
        self.format_usage(ctx, formatter)
        write_paragraphs(str(self.help), formatter)
        arguments = [param for param in self.params if isinstance(param, TyperArgument)]
        if arguments:
            rows = [(argument.make_metavar(ctx), help_of(argument)) for argument in arguments]
            with formatter.section("Arguments"):
                formatter.write_dl(rows)
        write_options(self, ctx, formatter)


def make_verb(name: str, function: Callable[..., object]) -> TyperCommand:
    """Make the command of a verb from its function, whose parameters declare its options."""
    verb = _make_command(name, function)
    for parameter in verb.params:
        if parameter.name == "args":
            # typer cannot declare an option that takes two values and is repeatable; its parser
            # can read one.
            parameter.nargs = 2
        elif parameter.name == "config" and parameter.required:
            parameter.required = False
            parameter.metavar = f"[{parameter.metavar}]"
            parameter.callback = find_config
        check_values(parameter)
    common = _make_command(name, take_common).params
    for parameter in common:
        assert isinstance(parameter, TyperOption)
        parameter.hidden = True
    verb.params += common
    return verb


def find_config(context: Any, parameter: Any, value: str | None) -> str | None:
    """Return the config of a verb that requires one; default: `pipeline.toml`, if it exists."""
    if value is not None or context.resilient_parsing:
        return value
    if os.path.isfile(DEFAULT_CONFIG):
        return DEFAULT_CONFIG
    raise missing(name_of(parameter), context)


def _make_command(name: str, function: Callable[..., object]) -> TyperCommand:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    # A verb that passes arguments on declares how its own are parsed.
    settings = getattr(function, "context_settings", None)
    app.command(name, cls=Verb, context_settings=settings)(function)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


def help_of(parameter: TyperArgument) -> str:
    """Return an argument's help, with what only this machine knows."""
    text = str(parameter.help)
    return text.replace(INSTALLED, ", ".join(plugins.runner_names())) if INSTALLED in text else text


def write_paragraphs(text: str, formatter: Any) -> None:
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


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the section of the options that are not hidden."""
    options = [p for p in command.get_params(ctx) if not isinstance(p, TyperArgument)]
    records = [record for option in options if (record := option.get_help_record(ctx))]
    with formatter.section("Options"):
        formatter.write_dl(records)


def make_request(
    context: typer.Context,
    *,
    commands: Iterable[str] | None,
    splits: Iterable[str] | None,
    args: Iterable[tuple[str, str]] | None,
    templates: str | None = None,
    flags: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Request:
    """Return the request that a verb's options make.

    - `flags`: the values of options that are settings, by key.
    - `fields`: other fields of `prepare.Request`.

    Raises `BadOption`.
    """
    from rvrun.cli.hashing import hashing_line
    from rvrun.prepare import Request

    common = read_common(context)
    check_selection(commands, fields)
    return Request(
        **{"config": "", **fields},
        commands=tuple(commands or ()),
        splits=tuple(splits or ()),
        args=parse_args(args or ()),
        flags={**(flags or {}), "templates": templates},
        profile=common.profile,
        verbosity=common.verbose,
        hashing=hashing_line(is_quiet=common.quiet),
    )


def check_jobs(jobs: int | None, *, is_estimate: bool) -> None:
    """Raise `BadOption` for `--jobs` without `--estimate`, and for no jobs."""
    if jobs is not None and not is_estimate:
        raise BadOption("--jobs only affects estimates; add --estimate, or remove it")
    if jobs is not None and jobs < 1:
        raise BadOption(f"--jobs must be at least 1, got {jobs}")


def check_selection(commands: Iterable[str] | None, fields: Mapping[str, Any]) -> None:
    """Raise `BadOption` if COMMANDs and options select stages in two ways."""
    selecting = {"--until": fields.get("until"), "--from": fields.get("start")}
    names = [name for name, value in selecting.items() if value]
    if commands and names:
        both = f"{', '.join(map(shorten, commands))} and {names[0]}"
        raise BadOption(f"COMMAND and {names[0]} both select stages, got {both}; keep one")


def parse_args(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the `-a` options by key. Raises `BadOption`."""
    values: dict[str, str] = {}
    for key, value in pairs:
        if not all(part.isidentifier() for part in key.split(".")):
            problem = "KEY must be a parameter's name; write -a KEY VALUE"
            raise BadOption(f"-a {shorten(key)} {shorten(value)}: {problem}")
        if values.setdefault(key, value) != value:
            both = f"as {shorten(values[key])} and as {shorten(value)}"
            raise BadOption(f"-a {shorten(key)} is given twice, {both}; keep one")
    return values


Config = Annotated[
    str,
    argument(
        metavar="CONFIG",
        help="A `pipeline.toml`, a `.py` file or an importable module with a function `get_config` "
        "or `get_configs`, or a saved config (`.json`). Default: `pipeline.toml` in the current "
        "directory. It is code: use only configs that you trust.",
    ),
]
Runner = Annotated[
    str,
    argument(
        metavar="RUNNER",
        help="What runs the pipelines; `rvrun check --runner RUNNER` tests it. "
        f"Installed: {INSTALLED}.",
        autocompletion=plugins.runner_names,
    ),
]
Commands = Annotated[
    list[str] | None,
    argument(
        metavar="[COMMAND]...",
        help="The commands to run; default: all.",
        autocompletion=candidates("commands"),
    ),
]
Splits = Annotated[
    list[str] | None,
    option(
        "-s",
        "--splits",
        metavar="SPLITS",
        help="Number of splits: `N` for all split commands, `COMMAND=N`, or "
        "`PIPELINE/COMMAND=N`. Repeatable; the most specific one applies. Default: 1.",
    ),
]
Args = Annotated[
    # Pairs of strings; see `make_verb`.
    list[Any] | None,
    option(
        "-a",
        "--arg",
        metavar="KEY VALUE",
        help="An argument for `get_config` or `get_configs`, or a value of `[config]` in a "
        "`pipeline.toml`; repeatable.",
        parser=str,
        autocompletion=candidates("arguments"),
    ),
]
Out = Annotated[
    str | None,
    option(
        "--out", metavar="DIR", help="The run directory; default: runs/ and the name of CONFIG."
    ),
]
Templates = Annotated[
    str | None,
    option(
        "--templates",
        metavar="DIR",
        help="Directory of templates that replace rvrun's own of the same name.",
    ),
]
AlwaysMake = Annotated[
    bool, option("-B", "--always-make", help="Also run targets that are up to date.")
]
Until = Annotated[
    list[str] | None,
    option(
        "--until",
        metavar="STAGE",
        help="Only this stage and what it needs: `train`, or `tiny/train`. Repeatable.",
    ),
]
From = Annotated[
    list[str] | None,
    option(
        "--from",
        metavar="STAGE",
        help="Only this stage and what needs it; the stages before it count as done. Repeatable.",
    ),
]
Force = Annotated[
    list[str] | None,
    option(
        "--force",
        metavar="STAGE",
        help="Also run this stage if it is up to date, and then what needs it. Repeatable.",
    ),
]
Affected = Annotated[
    str | None,
    option(
        "--affected",
        metavar="BASE",
        help="Only the stages that differ from BASE, and what needs them: a saved plan, a run "
        "directory, or a git revision, which stands for where this branch began.",
    ),
]
AsEstimate = Annotated[
    bool,
    option(
        "--estimate",
        help="Also show how long that takes and what it costs, from the records of earlier runs "
        "and from estimates.json.",
    ),
]
EstimateJobs = Annotated[
    int | None,
    option(
        "-j",
        "--jobs",
        metavar="N",
        help="Targets that run in parallel, for --estimate; default: as in `rvrun run`; for "
        "detached runs, no limit.",
    ),
]
AsJson = Annotated[bool, option("--json", help="Print JSON.")]
