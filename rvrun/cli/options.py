"""What verbs share: options, and the way from words typed to a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import attrs
import typer

from rvrun import plugins
from rvrun.cli.messages import warn
from rvrun.errors import Problem
from rvrun.prepare import Prepared, Request, prepare

#: Stands between KEY and VALUE where `-a KEY VALUE` was made one word; see `join_args`.
SEPARATOR = "="

Config = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A `.py` file or an importable module with a function `get_config` or "
        "`get_configs`, or a saved config (`.json`).",
        show_default=False,
    ),
]
Commands = Annotated[
    list[str] | None,
    typer.Argument(
        help="The commands to run; all, if none is named.",
        show_default=False,
    ),
]
RunnerName = Annotated[
    str,
    typer.Argument(
        metavar="RUNNER",
        help="The runner; `rvrun check --runner NAME` tests that it works here.",
        show_default=False,
        autocompletion=plugins.runner_names,
    ),
]
Splits = Annotated[
    list[str] | None,
    typer.Option(
        "-s",
        "--splits",
        metavar="N | COMMAND=N | PIPELINE/COMMAND=N",
        help="Into how many parts to split: all split commands, one, or one of one pipeline. "
        "Can be given several times; the most precise counts.",
        show_default="1",
    ),
]
Args = Annotated[
    list[str] | None,
    typer.Option(
        "-a",
        "--arg",
        metavar="KEY VALUE",
        help="An argument for `get_config(s)`. Can be given several times.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="The run directory.",
        show_default="runs/ and the name of CONFIG",
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run-name",
        metavar="NAME",
        help="The name of the run on AWS, at the beginning of those of its jobs.",
        show_default="that of the run directory",
    ),
]
Templates = Annotated[
    str | None,
    typer.Option(
        "--templates", metavar="DIR", help="Templates that replace rvrun's own of the same name."
    ),
]
AlwaysMake = Annotated[
    bool, typer.Option("-B", "--always-make", help="Run all, also what is up to date.")
]


class BadOption(Problem):
    """An option's value that says nothing usable."""


@attrs.frozen(kw_only=True)
class Common:
    """The options before the verb."""

    profile: str | None = None
    quiet: bool = False
    verbose: int = 0


def request(
    common: Common,
    *,
    config: str,
    commands: Sequence[str] | None,
    splits: Sequence[str] | None,
    args: Sequence[str] | None,
    **more: Any,
) -> Request:
    """Return the request that the words of a verb make; options not given are None."""
    return Request(
        config=config,
        commands=tuple(commands or ()),
        splits=tuple(splits or ()),
        args=parse_args(args or ()),
        profile=common.profile,
        verbosity=common.verbose,
        **more,
    )


def prepared(request: Request) -> Prepared:
    """Prepare a request, and print its warnings."""
    result = prepare(request)
    warn_all(result)
    return result


def warn_all(prepared: Prepared) -> None:
    """Print the warnings of a prepared run."""
    for warning in prepared.warnings:
        warn(warning)


def parse_args(words: Sequence[str]) -> dict[str, str]:
    """`-a` options, joined by `join_args`, as keys and values."""
    values: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition(SEPARATOR)
        if not separator or not key.isidentifier():
            raise BadOption(f"-a {word}: write -a KEY VALUE")
        if values.setdefault(key, value) != value:
            raise BadOption(f"-a {key} is given twice, as {values[key]} and as {value}; keep one")
    return values


def join_args(argv: Sequence[str]) -> list[str]:
    """The words as the command-line library can read them.

    `-a KEY VALUE` becomes `-a KEY=VALUE`, since it takes one word only; `-q` and `-v` (`-vv`),
    which may stand anywhere, go before the verb.
    """
    common: list[str] = []
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-q", "--quiet", "--verbose") or re.fullmatch("-v+", word):
            common.append(word)
            continue
        words.append(word)
        if word == "--":
            break
        if word in ("-a", "--arg") and len(rest) >= 2 and rest[0].isidentifier():
            words.append(f"{rest.pop(0)}{SEPARATOR}{rest.pop(0)}")
    return [*common, *words, *rest]
