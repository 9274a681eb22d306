"""Convert `-a KEY VALUE`, which are strings, to the arguments of the user's `get_config`."""

from __future__ import annotations

import enum
import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from rvrun.errors import RvrunError, UnknownName
from rvrun.text import shorten

#: The most characters of a number.
MAX_CHARACTERS = 300


class BadArgument(RvrunError):
    """A value that does not fit a parameter of the user's function, or is missing.

    - `signature`: the function and its parameters, as a person writes them.
    """

    signature: str
    problem: str
    template = "{problem}; {signature}"
    fix = "change the -a arguments"


class UnknownArgument(UnknownName):
    """An argument that the user's function does not accept."""

    def how_to_fix(self) -> str:
        return f"remove -a {self.name}, or give it a known name"


def bind(
    function: Callable[..., Any], strings: Mapping[str, str], function_label: str
) -> dict[str, Any]:
    """Convert `strings`, by name, to keyword arguments of `function(runner, **arguments)`.

    - `function_label`: what messages call the function.

    Defaults are not filled in. Raises `UnknownArgument` for a name that the function does not
    accept, `BadArgument` for a value that its annotation does not allow and for a required
    parameter without a value.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    others = next((p for p in parameters if p.kind is p.VAR_KEYWORD), None)
    signature = f"{function_label} takes {', '.join(map(_to_text, parameters)) or 'no arguments'}"
    values = {}
    for key, string in strings.items():
        parameter = named.get(key, others)
        if parameter is None:
            place = f"-a {shorten(key)} {shorten(string)} for {function_label}"
            raise UnknownArgument("argument", key, tuple(named), place)
        try:
            values[key] = convert(string, _type(function, parameter))
        except ValueError as error:
            raise BadArgument(signature, f"-a {key} {shorten(string)}: {error}") from None
    for name, parameter in named.items():
        if name not in values and parameter.default is parameter.empty:
            raise BadArgument(signature, f"argument `{name}` is missing: add -a {name} VALUE")
    return values


def _to_text(parameter: inspect.Parameter) -> str:
    """A parameter as a person writes it: without quotes around a postponed annotation."""
    annotation, empty = parameter.annotation, inspect.Parameter.empty
    if not isinstance(annotation, str):
        return f"`{parameter}`"
    default = "" if parameter.default is empty else f" = {parameter.default!r}"
    return f"`{parameter.replace(annotation=empty, default=empty)}: {annotation}{default}`"


def _type(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The parameter's type: its annotation, else the type of its default; empty if unknown."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        is_simple = isinstance(parameter.default, (bool, int, float, str))
        return type(parameter.default) if is_simple else annotation
    if not isinstance(annotation, str):
        return annotation
    # Only this annotation is resolved: those of other parameters may be for type checkers alone.
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    try:
        return typing.get_type_hints(holder, function.__globals__)[parameter.name]
    except (NameError, AttributeError):
        # A name that is imported only for type checkers. Raster Vision never looks at annotations.
        return parameter.empty


def convert(string: str, type_: Any) -> Any:
    """Convert a string to a type. Raises `ValueError`, whose message continues the string."""
    origin, members = typing.get_origin(type_), typing.get_args(type_)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(string, members)
    if origin is typing.Literal:
        return _convert_choice(string, {str(member): member for member in members})
    if type_ is inspect.Parameter.empty or type_ is Any:
        return _BOOLEANS.get(string.lower(), string)
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return _convert_choice(string, {str(member.value): member for member in type_})
    if type_ in _CONVERTERS:
        return _CONVERTERS[type_](string)
    if (origin or type_) in _STRINGS and members in ((), (str,), (str, ...)):
        return string
    raise ValueError(f"a value of type {type_} cannot be given on the command line")


def _convert_union(string: str, members: tuple[Any, ...]) -> Any:
    """Convert to the first member that accepts `string`, str last; `none` is None.

    `1` or `yes` is a boolean only if no other member accepts it.
    """
    if types.NoneType in members and string.lower() in ("none", "null"):
        return None
    problems = []
    is_word = string.lower() not in _BOOLEANS
    for member in sorted(members, key=lambda m: 2 if m is bool and is_word else m is str):
        if member is types.NoneType:
            continue
        try:
            return convert(string, member)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(", ".join(problems))


def _convert_choice(string: str, choices: Mapping[str, Any]) -> Any:
    if string not in choices:
        raise ValueError(f"must be one of {', '.join(choices)}")
    return choices[string]


_BOOLEANS = {"true": True, "false": False}
#: What else is a boolean where nothing but a boolean can be meant.
_WORDS = {**_BOOLEANS, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}
#: Types whose values users often make of a string themselves, as for Raster Vision: `a,b`.
_STRINGS = (list, tuple, set, frozenset, Sequence, Iterable, Collection)


def _convert_boolean(string: str) -> bool:
    if string.lower() not in _WORDS:
        raise ValueError("must be true or false")
    return _WORDS[string.lower()]


def _number_converter(type_: type[int | float], kind: str) -> Callable[[str], Any]:
    def convert(string: str) -> Any:
        if len(string) > MAX_CHARACTERS:
            # Python refuses to convert more than 4,300 digits, and to print what it then has.
            raise ValueError(f"must have at most {MAX_CHARACTERS} digits, got {len(string):,}")
        try:
            return type_(string)
        except ValueError:
            raise ValueError(f"is not {kind}") from None

    return convert


_CONVERTERS: dict[Any, Callable[[str], Any]] = {
    bool: _convert_boolean,
    int: _number_converter(int, "an integer"),
    float: _number_converter(float, "a number"),
    str: str,
    pathlib.Path: pathlib.Path,
}
