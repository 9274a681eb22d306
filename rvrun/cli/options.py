"""What verbs share: options, and the way from words typed to a run."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import attrs
import typer

from rvrun import paths
from rvrun.cli.messages import warn
from rvrun.errors import RvrunError
from rvrun.load.source import load
from rvrun.plan.compile import compile_plan, idle_splits
from rvrun.plan.splits import parse_splits
from rvrun.render.files import render_common
from rvrun.rundir.freshness import StageStatus, plan_status
from rvrun.runners.protocol import Run, Runner, as_remote, find_runner, runner_names
from rvrun.settings.schema import load_settings

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
        help="`local` (make on this machine), `inprocess`, `batch` (AWS Batch) or `sagemaker`.",
        show_default=False,
        autocompletion=runner_names,
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


class BadOption(RvrunError):
    """An option's value that says nothing usable."""


@attrs.frozen(kw_only=True)
class Common:
    """The options before the verb."""

    profile: str | None = None
    quiet: bool = False
    verbose: int = 0
    tmpdir: str | None = None


@attrs.frozen(kw_only=True)
class Prepared:
    """A run compiled and rendered; nothing is written yet.

    `owned`: the folders of the run directory that are to hold nothing else.
    """

    run: Run
    runner: Runner
    files: Mapping[str, str]
    owned: tuple[str, ...]

    def statuses(self) -> list[StageStatus]:
        """What each stage has to do in the run directory as it is now, and why."""
        run = self.run
        return plan_status(run.plan, run.run_dir, self.files, force=run.force)


def _texts(given: Sequence[str] | None) -> tuple[str, ...]:
    """An option or argument that was not given is None."""
    return tuple(given or ())


@attrs.frozen(kw_only=True)
class Request:
    """What was typed after a verb that compiles."""

    config: str
    commands: Sequence[str] = attrs.field(default=(), converter=_texts)
    splits: Sequence[str] = attrs.field(default=(), converter=_texts)
    args: Sequence[str] = attrs.field(default=(), converter=_texts)
    out: str | None = None
    flags: Mapping[str, object] = attrs.field(factory=dict)
    keep_going: bool = False
    force: bool = False
    debug: bool = False
    name: str | None = None


def prepare(runner_name: str, request: Request, common: Common) -> Prepared:
    """Load, compile and render what `request` asks for."""
    runner = find_runner(runner_name)
    settings = load_settings(request.flags, common.profile)
    splits = parse_splits(request.splits)
    # What the user's code prints while it is loaded is no part of what a verb prints.
    with contextlib.redirect_stdout(sys.stderr):
        args = parse_args(request.args)
        pipelines = load(request.config, runner_name, args, verbosity=common.verbose)
    declared = [pipeline.declared for pipeline in pipelines]
    plan = compile_plan(declared, request.commands, splits)
    for warning in idle_splits(declared, plan):
        warn(warning)
    run = Run(
        plan=plan,
        pipelines=tuple(pipelines),
        out=run_dir_of(request.config, request.out),
        settings=settings,
        keep_going=request.keep_going,
        # Another machine's work leaves no stamps here.
        force=request.force or as_remote(runner) is not None,
        debug=request.debug,
        name=request.name,
        verbosity=common.verbose,
        profile=common.profile,
        tmpdir=common.tmpdir,
    )
    files = {**render_common(plan, pipelines), **runner.render(run)}
    return Prepared(run=run, runner=runner, files=files, owned=runner.OWNS)


def prepare_all(runner_names: Sequence[str], request: Request, common: Common) -> Prepared:
    """As `prepare`, for several runners in one run directory; it is a run of the first.

    Raises `BadOption` where the config is another one for another runner.
    """
    first, *others = (prepare(name, request, common) for name in dict.fromkeys(runner_names))
    files = dict(first.files)
    for name, other in zip(list(dict.fromkeys(runner_names))[1:], others, strict=True):
        for path, text in other.files.items():
            if files.setdefault(path, text) != text:
                both = f"--runner {name} than for --runner {runner_names[0]}"
                raise BadOption(f"{path} is another one for {both}; plan each in its own --out")
    owned = [folder for each in (first, *others) for folder in each.owned]
    return attrs.evolve(first, files=files, owned=tuple(owned))


def kept(prepared: Prepared) -> Prepared:
    """The same, to be kept and compared: the configs of other pipelines are no part of it.

    Not where something ran: a config that comes back is as old there as what was done with it.
    """
    run_dir = prepared.run.run_dir
    if (run_dir / paths.DONE).exists() or (run_dir / paths.SUBMITTED).exists():
        return prepared
    return attrs.evolve(prepared, owned=(*prepared.owned, paths.CONFIGS))


def run_dir_of(config: str, out: str | None) -> str:
    """The run directory, relative to the current one: `out`, else `runs/` and CONFIG's name.

    For a config saved in a run directory, that one.
    """
    if out is None:
        path = pathlib.PurePath(config)
        if path.suffix == ".json" and path.parent.name == "config":
            out = str(path.parent.parent)
        else:
            is_file = path.suffix in (".py", ".json")
            out = f"runs/{path.stem if is_file else config.rpartition('.')[2]}"
    if not out:
        raise BadOption("--out is empty; name a directory")
    relative = (
        os.path.relpath(os.path.realpath(out)) if os.path.isabs(out) else os.path.normpath(out)
    )
    return f"./{relative}" if relative.startswith("-") else relative


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
