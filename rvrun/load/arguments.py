"""`-a KEY VALUE` as typed, made the arguments of the user's `get_config`."""

from __future__ import annotations

import enum
import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from rvrun.errors import RvrunError, UnknownName


class BadArgument(RvrunError):
    """An argument that does not fit the user's function."""

    def __init__(self, function: str, problem: str) -> None:
        self.function = function
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem}; {self.function}"


def bind(function: Callable[..., Any], texts: Mapping[str, str], place: str) -> dict[str, Any]:
    """The keyword arguments that `texts` mean to `function(runner, **args)`.

    Raises `UnknownName` or `BadArgument`, naming the function and its parameters, for a key it
    does not take, a value its annotation does not allow, a parameter left without a value.
    """
    parameters = _own_parameters(function)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    others = next((p for p in parameters if p.kind is p.VAR_KEYWORD), None)
    shown = f"{place} takes {', '.join(map(_shown, parameters)) or 'no arguments'}"
    values = {}
    for key, text in texts.items():
        parameter = named.get(key, others)
        if parameter is None:
            raise UnknownName("argument", key, tuple(named), f"-a {key} {text} for {place}")
        try:
            values[key] = _convert(text, _type(function, parameter))
        except ValueError as error:
            raise BadArgument(shown, f"-a {key} {text}: {error}") from None
    for name, parameter in named.items():
        if name not in values and parameter.default is parameter.empty:
            raise BadArgument(shown, f"argument `{name}` is missing: give -a {name} VALUE")
    return values


def _own_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """All parameters but the first, which is the runner's name."""
    return list(inspect.signature(function).parameters.values())[1:]


def _shown(parameter: inspect.Parameter) -> str:
    """As a person writes it: an annotation that was postponed is a text, shown without quotes."""
    annotation, empty = parameter.annotation, inspect.Parameter.empty
    if not isinstance(annotation, str):
        return f"`{parameter}`"
    default = "" if parameter.default is empty else f" = {parameter.default!r}"
    return f"`{parameter.replace(annotation=empty, default=empty)}: {annotation}{default}`"


def _type(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The parameter's type: as annotated, else that of its default."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        known = isinstance(parameter.default, (bool, int, float, str))
        return type(parameter.default) if known else annotation
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    try:
        return typing.get_type_hints(holder, function.__globals__)[parameter.name]
    except NameError as error:
        raise ValueError(f"its annotation `{annotation}` cannot be looked up: {error}") from None


def _convert(text: str, type_: Any) -> Any:
    origin, members = typing.get_origin(type_), typing.get_args(type_)
    if origin in (typing.Union, types.UnionType):
        return _convert_any(text, members)
    if origin is typing.Literal:
        return _convert_choice(text, {str(member): member for member in members})
    if type_ is inspect.Parameter.empty or type_ is Any:
        return _TRUTH.get(text.lower(), text)
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return _convert_choice(text, {str(member.value): member for member in type_})
    if type_ in _CONVERTERS:
        return _CONVERTERS[type_](text)
    raise ValueError(f"a value of type {type_} cannot be given on the command line")


def _convert_any(text: str, members: tuple[Any, ...]) -> Any:
    """The first member of a union, text last, that takes `text`; `none` is None."""
    if types.NoneType in members and text.lower() in ("none", "null"):
        return None
    problems = []
    for member in sorted(members, key=lambda member: member is str):
        if member is types.NoneType:
            continue
        try:
            return _convert(text, member)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(", ".join(problems))


def _convert_choice(text: str, choices: Mapping[str, Any]) -> Any:
    if text not in choices:
        raise ValueError(f"choose one of {', '.join(choices)}")
    return choices[text]


_TRUTH = {"true": True, "false": False}


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError("is neither true nor false")
    return _TRUTH[text.lower()]


def _number(kind: type[int | float], what: str) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"is no {what}") from None

    return convert


_CONVERTERS: dict[Any, Callable[[str], Any]] = {
    bool: _truth,
    int: _number(int, "whole number"),
    float: _number(float, "number"),
    str: str,
    pathlib.Path: pathlib.Path,
}
