"""Wrong usage in rvrun's words: what the parser of the command line refuses, as `RvrunError`s."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from typing import Any

import typer

from rvrun import plugins
from rvrun.errors import Problem, RvrunError, UnknownName, check_known, closest
from rvrun.inputs import MAX_DIGITS, parse_integer
from rvrun.text import quoted, shorten

#: Wrong usage as typer's parser reports it. typer exports only this subclass of it.
UsageError: Any = typer.BadParameter.__base__


class BadUsage(Problem):
    """A command line that no verb accepts."""


class BadValue(RvrunError):
    """A value that its option or argument does not accept.

    - `parameter`: `--jobs`, or `NAME` of an argument. `rule`: completes "must be ...".
    """

    parameter: str
    rule: str
    value: str
    template = "{parameter} must be {rule}, got {value!r}"
    fix = "change {parameter}"


def check_values(parameter: Any) -> None:
    """Let a parameter refuse a value with `BadValue` instead of the library's message."""
    choices = getattr(parameter.type, "choices", None)
    # typer's own parser and that of click, which older versions use, name the type differently.
    if choices is None and parameter.type.name not in ("int", "integer"):
        return
    kind = copy.copy(parameter.type)
    inner = kind.convert

    def convert(value: Any, *context: Any) -> Any:
        if isinstance(value, str) and choices is not None:
            _check_choice(name_of(parameter), value, [str(choice) for choice in choices])
        elif isinstance(value, str):
            value = _to_integer(name_of(parameter), value)
        return inner(value, *context)

    kind.convert = convert
    parameter.type = kind


def _check_choice(parameter: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        names = ", ".join(f"`{choice}`" for choice in choices)
        rule = names if len(choices) == 1 else f"one of {names}"
        near = closest(value, choices)
        suggestion = f"; did you mean `{near}`?" if near else ""
        raise BadUsage(f"{parameter} must be {rule}, got {quoted(value)}{suggestion}")


def _to_integer(parameter: str, value: str) -> int:
    digits = value.removeprefix("-")
    number = parse_integer(digits)
    if number is None:
        limit = f" of at most {MAX_DIGITS} digits" if digits.isdigit() else ""
        raise BadValue(parameter, f"an integer{limit}", value)
    return -number if value.startswith("-") else number


def name_of(parameter: Any) -> str:
    """Return what messages call a parameter: its longest option, or its metavar."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name).strip("[]")
    return max(map(str, parameter.opts), key=len)


def explain(error: Any, argv: Sequence[str], verbs: Sequence[str]) -> RvrunError:
    """Return the error that says what a `UsageError` of the parser means.

    - `argv`: the command line, whose first verb is the subject if the parser names none.
    """
    context = error.ctx
    verb = next((word for word in argv if word in verbs), "")
    call = context.command_path if context is not None else f"rvrun {verb}".rstrip()
    kind = type(error).__name__
    if kind == "NoSuchOption" and context is not None:
        names = [name for p in context.command.get_params(context) for name in (*p.opts,)]
        options = tuple(sorted(name for name in names if name.startswith("--")))
        return UnknownName("option", str(error.option_name), options, f"`{call}`")
    if kind == "MissingParameter" and context is not None and error.param is not None:
        return missing(name_of(error.param), context)
    message = str(error.format_message()).replace("'", "`").rstrip(".")
    if extra := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message, re.DOTALL):
        given = shorten(extra[1])
        return BadUsage(f"`{call}` does not accept so many arguments; remove `{given}`")
    problem = shorten(message[:1].lower() + message[1:])
    return BadUsage(f"{problem}; type `{call} --help` to see its arguments and options")


def missing(name: str, context: Any) -> RvrunError:
    """Return the error that says that a call lacks the argument `name`."""
    call = context.command_path
    runner = context.params.get("runner")
    if name == "CONFIG" and isinstance(runner, str):
        check_runner(runner, call)
    pieces = " ".join(context.command.collect_usage_pieces(context)[1:]).replace(
        "[CONFIG]", "CONFIG"
    )
    create = ", or create a `pipeline.toml` with `rvrun init`" if name == "CONFIG" else ""
    return BadUsage(f"`{call}` requires {name}; write `{call} {pieces}`{create}")


def check_runner(runner: str, call: str) -> None:
    """Raise `BadUsage` if the RUNNER of `call` is a config, and RUNNER was forgotten."""
    if plugins.is_own(runner):
        return
    names = plugins.runner_names()
    if runner in names:
        return
    if runner.endswith((".py", ".toml", ".json")) or os.path.isfile(f"{runner}.py"):
        listed = ", ".join(f"`{name}`" for name in names)
        raise BadUsage(
            f"RUNNER must be one of {listed}, got {quoted(runner)}, which looks like a config; "
            f"write `{call} RUNNER CONFIG`"
        )
    check_known("runner", runner, names)
