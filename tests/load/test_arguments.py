# ruff: noqa: ANN001, ANN201, B006, FBT002, PLR0917 - functions as users write them
from __future__ import annotations

import enum
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest

from rvrun.load.arguments import BadArgument, UnknownArgument, bind

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

PLACE = "`get_config` of cfg.py"


class Size(enum.Enum):
    SMALL = "small"
    LARGE = 2


def annotated(
    runner: str,
    text: str = "",
    integer: int = 0,
    number: float = 0.0,
    boolean: bool = False,
    path: pathlib.Path = pathlib.Path(),
    size: Size = Size.SMALL,
    choice: Literal["a", 1] = "a",
    optional: int | None = None,
    either: int | str = 0,
    anything: Any = None,
    numbers: list[int] | None = None,
) -> None: ...


def defaults(  # type: ignore[no-untyped-def]
    runner,
    text="",
    integer=3,
    number=0.5,
    boolean=False,
    nothing=None,
) -> None: ...


def required(runner: str, root_uri: str, *, size: int) -> None: ...


def bare(runner, root_uri): ...  # type: ignore[no-untyped-def]


def nothing_more(runner: str) -> None: ...


def any_keyword(runner: str, size: int = 0, **more: str) -> None: ...


def integer_keywords(runner: str, **more: int) -> None: ...


def any_positional(runner: str, *rest: str, size: int = 0) -> None: ...


def hidden_result(runner: Unknown, size: int = 0) -> Unknown: ...


def hidden_parameter(runner: str, size: Unknown = 0) -> None: ...


def refusal(function: Callable[..., Any], **strings: str) -> str:
    with pytest.raises(BadArgument) as caught:
        bind(function, strings, PLACE)
    assert caught.value.how_to_fix() == "change the -a arguments"
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "string", "value"),
    [
        ("text", "a b", "a b"),
        ("text", "true", "true"),
        ("text", "", ""),
        ("integer", "-7", -7),
        ("number", "1e-3", 0.001),
        ("number", "2", 2.0),
        ("number", "inf", math.inf),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("path", "a/b", pathlib.Path("a/b")),
        ("size", "small", Size.SMALL),
        ("size", "2", Size.LARGE),
        ("choice", "a", "a"),
        ("choice", "1", 1),
        ("optional", "5", 5),
        ("optional", "none", None),
        ("optional", "NULL", None),
        ("either", "5", 5),
        ("either", "five", "five"),
        ("anything", "5", "5"),
        ("anything", "true", True),
    ],
)
def test_a_string_is_converted_to_its_annotation(name: str, string: str, value: object) -> None:
    """The result has exactly the annotated type."""
    arguments = bind(annotated, {name: string}, PLACE)
    assert {name: value} == arguments
    assert type(value) is type(arguments[name])


@pytest.mark.parametrize(
    ("name", "string", "value"),
    [
        ("integer", "4", 4),
        ("number", "2", 2.0),
        ("boolean", "TRUE", True),
        ("text", "abc", "abc"),
        ("text", "true", "true"),
        ("nothing", "abc", "abc"),
        ("nothing", "false", False),
        ("nothing", "True", True),
    ],
)
def test_without_annotation_the_default_decides(name: str, string: str, value: object) -> None:
    """The default's type replaces the annotation; without either, true and false are booleans."""
    arguments = bind(defaults, {name: string}, PLACE)
    assert {name: value} == arguments
    assert type(value) is type(arguments[name])


@pytest.mark.parametrize("first", ["", "from __future__ import annotations\n"])
def test_annotations_may_be_types_or_strings(first: str) -> None:
    """The result is the same whether a file postpones its annotations or quotes them."""
    code = "import pathlib\ndef get_config(runner: 'str', size: int, where: 'pathlib.Path'): ...\n"
    names: dict[str, Any] = {}
    exec(compile(first + code, "cfg.py", "exec", dont_inherit=True), names)
    expected = {"size": 4, "where": pathlib.Path("x")}
    assert expected == bind(names["get_config"], {"size": "4", "where": "x"}, PLACE)


@pytest.mark.parametrize(
    ("name", "string", "problem"),
    [
        ("integer", "x", "is not an integer"),
        ("integer", "1.5", "is not an integer"),
        ("number", "x", "is not a number"),
        ("boolean", "2", "must be true or false"),
        ("size", "medium", "must be one of small, 2"),
        ("choice", "b", "must be one of a, 1"),
        ("optional", "x", "is not an integer"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, string: str, problem: str) -> None:
    """The error begins with what was typed and what is required."""
    assert f"-a {name} {string}: {problem}; {PLACE} takes " in refusal(annotated, **{name: string})


@pytest.mark.parametrize("string", ["yes", "On", "1", "true", "no", "OFF", "0", "False"])
def test_words_are_booleans_where_nothing_else_can_be_meant(string: str) -> None:
    """A number or a string that another type of a union accepts is not one."""

    def booleans(  # type: ignore[no-untyped-def]
        runner: str,
        flag: bool,
        optional: bool | None = None,
        number: bool | int = 0,
        text: bool | str = "",
        default=True,
        bare=None,
    ) -> None: ...

    names = ("flag", "optional", "number", "text", "default", "bare")
    values = bind(booleans, dict.fromkeys(names, string), PLACE)
    value = string.lower() in ("yes", "on", "1", "true")
    strict = value if string.lower() in ("true", "false") else string
    number = int(string) if string.isdigit() else value
    expected = {"flag": value, "optional": value, "number": number, "text": strict}
    assert repr(expected | {"default": value, "bare": strict}) == repr(values)


def test_the_function_makes_a_list_of_a_string() -> None:
    """As configs for Raster Vision do, whose command line only has strings."""

    def lists(
        runner: str,
        scenes: list[str],
        bands: Sequence[str] = (),
        pair: tuple[str, ...] = (),
        anything: list = [],  # type: ignore[type-arg]
        optional: list[str] | None = None,
    ) -> None: ...

    values = dict.fromkeys(("scenes", "bands", "pair", "anything", "optional"), "a,b")
    assert bind(lists, values, PLACE) == values
    assert bind(lists, {"scenes": "a", "optional": "none"}, PLACE)["optional"] is None


def test_an_unsupported_type_is_refused() -> None:
    """A list of numbers cannot be given on the command line; its default still works."""

    def lists(runner: str, numbers: list[int] = []) -> None: ...

    problem = "a value of type list[int] cannot be given on the command line"
    assert f"-a numbers 1: {problem}; {PLACE} takes " in refusal(lists, numbers="1")
    assert bind(lists, {}, PLACE) == {}


def test_an_error_shows_the_functions_parameters() -> None:
    """As a person writes them: without the runner, and without quotes."""
    expected = f"-a size x: is not an integer; {PLACE} takes `root_uri: str`, `size: int`"
    assert expected == refusal(required, root_uri="out", size="x")


def test_an_unknown_argument_is_refused_with_a_suggestion() -> None:
    """The error names the known arguments, and its fix the one to remove."""
    with pytest.raises(UnknownArgument) as caught:
        bind(required, {"rot_uri": "out", "size": "1"}, PLACE)
    expected = (
        "unknown argument `rot_uri` in -a rot_uri out for `get_config` of cfg.py; "
        "did you mean `root_uri`? Known arguments: `root_uri`, `size`"
    )
    assert expected == str(caught.value)
    assert caught.value.how_to_fix() == "remove -a rot_uri, or give it a known name"


def test_a_function_without_parameters_accepts_no_arguments() -> None:
    """Any argument is unknown."""
    assert bind(nothing_more, {}, PLACE) == {}
    with pytest.raises(UnknownArgument) as caught:
        bind(nothing_more, {"size": "1"}, PLACE)
    expected = (
        "unknown argument `size` in -a size 1 for `get_config` of cfg.py; known arguments: none"
    )
    assert expected == str(caught.value)


def test_a_missing_argument_is_refused() -> None:
    """A parameter without a default is required; the error says how to give it."""
    expected = (
        "argument `root_uri` is missing: add -a root_uri VALUE; "
        "`get_config` of cfg.py takes `root_uri`"
    )
    assert expected == refusal(bare)
    assert bind(bare, {"root_uri": "out"}, PLACE) == {"root_uri": "out"}


def test_any_keyword_is_accepted() -> None:
    """With `**more`, unknown names are passed on; the others are still converted."""
    expected = {"size": 2, "other": "3", "third": "x"}
    assert expected == bind(any_keyword, {"size": "2", "other": "3", "third": "x"}, PLACE)


def test_the_annotation_of_keywords_applies_to_each() -> None:
    """`**more: int` converts each of them to an integer."""
    assert bind(integer_keywords, {"a": "1", "b": "2"}, PLACE) == {"a": 1, "b": 2}


def test_positional_parameters_are_not_required() -> None:
    """`*rest` remains empty, as it cannot be given by name."""
    assert bind(any_positional, {"size": "1"}, PLACE) == {"size": 1}


def test_names_only_for_type_checkers_are_allowed() -> None:
    """Annotations of the runner and the result are not resolved."""
    assert bind(hidden_result, {"size": "1"}, PLACE) == {"size": 1}


def test_an_annotation_that_cannot_be_resolved_is_ignored() -> None:
    """The argument is treated as one without an annotation: only booleans are converted."""
    assert bind(hidden_parameter, {}, PLACE) == {}
    assert bind(hidden_parameter, {"size": "1"}, PLACE) == {"size": "1"}
    assert bind(hidden_parameter, {"size": "true"}, PLACE) == {"size": True}


def test_defaults_are_not_filled_in() -> None:
    """Arguments that are not given are left to the function."""
    assert bind(annotated, {}, PLACE) == {}
    assert bind(defaults, {}, PLACE) == {}
