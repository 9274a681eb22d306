# ruff: noqa: ANN001, ANN201, B006, FBT002, PLR0917 - functions as users write them
from __future__ import annotations

import enum
import math
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest

from rvrun.errors import UnknownName
from rvrun.load.arguments import BadArgument, bind

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

PLACE = "`get_config` of cfg.py"


class Size(enum.Enum):
    SMALL = "small"
    LARGE = 2


def annotated(
    runner: str,
    text: str = "",
    whole: int = 0,
    real: float = 0.0,
    truth: bool = False,
    path: pathlib.Path = pathlib.Path(),
    size: Size = Size.SMALL,
    choice: Literal["a", 1] = "a",
    maybe: int | None = None,
    either: int | str = 0,
    anything: Any = None,
    numbers: list[int] | None = None,
) -> None: ...


def defaults(
    runner,
    text="",
    whole=3,
    real=0.5,
    truth=False,
    nothing=None,
) -> None: ...


def required(runner: str, root_uri: str, *, size: int) -> None: ...


def bare(runner, root_uri): ...


def nothing_more(runner: str) -> None: ...


def any_keyword(runner: str, size: int = 0, **more: str) -> None: ...


def whole_keywords(runner: str, **more: int) -> None: ...


def any_positional(runner: str, *rest: str, size: int = 0) -> None: ...


def hidden_result(runner: Unknown, size: int = 0) -> Unknown: ...


def hidden_parameter(runner: str, size: Unknown = 0) -> None: ...


def refusal(function: Callable[..., Any], **texts: str) -> str:
    with pytest.raises(BadArgument) as caught:
        bind(function, texts, PLACE)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "a b", "a b"),
        ("text", "true", "true"),
        ("text", "", ""),
        ("whole", "-7", -7),
        ("real", "1e-3", 0.001),
        ("real", "2", 2.0),
        ("real", "inf", math.inf),
        ("truth", "true", True),
        ("truth", "False", False),
        ("path", "a/b", pathlib.Path("a/b")),
        ("size", "small", Size.SMALL),
        ("size", "2", Size.LARGE),
        ("choice", "a", "a"),
        ("choice", "1", 1),
        ("maybe", "5", 5),
        ("maybe", "none", None),
        ("maybe", "NULL", None),
        ("either", "5", 5),
        ("either", "five", "five"),
        ("anything", "5", "5"),
        ("anything", "true", True),
    ],
)
def test_a_text_becomes_what_the_annotation_says(name: str, text: str, value: object) -> None:
    """Each kind of annotation takes its texts, and gives a value of its very type."""
    found = bind(annotated, {name: text}, PLACE)
    assert {name: value} == found
    assert type(value) is type(found[name])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("whole", "4", 4),
        ("real", "2", 2.0),
        ("truth", "TRUE", True),
        ("text", "abc", "abc"),
        ("text", "true", "true"),
        ("nothing", "abc", "abc"),
        ("nothing", "false", False),
        ("nothing", "True", True),
    ],
)
def test_without_annotation_the_default_tells_the_type(name: str, text: str, value: object) -> None:
    """A default's type stands for an annotation; without either, true and false are bools."""
    found = bind(defaults, {name: text}, PLACE)
    assert {name: value} == found
    assert type(value) is type(found[name])


@pytest.mark.parametrize("first", ["", "from __future__ import annotations\n"])
def test_annotations_may_be_types_or_texts(first: str) -> None:
    """It is the same whether a file postpones its annotations or quotes them."""
    text = "import pathlib\ndef get_config(runner: 'str', size: int, where: 'pathlib.Path'): ...\n"
    names: dict[str, Any] = {}
    exec(compile(first + text, "cfg.py", "exec", dont_inherit=True), names)
    expected = {"size": 4, "where": pathlib.Path("x")}
    assert expected == bind(names["get_config"], {"size": "4", "where": "x"}, PLACE)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("whole", "x", "is no whole number"),
        ("whole", "1.5", "is no whole number"),
        ("real", "x", "is no number"),
        ("truth", "1", "is neither true nor false"),
        ("size", "medium", "choose one of small, 2"),
        ("choice", "b", "choose one of a, 1"),
        ("maybe", "x", "is no whole number"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(name: str, text: str, problem: str) -> None:
    """The error begins with what was typed and what would do."""
    assert f"-a {name} {text}: {problem}; {PLACE} takes " in refusal(annotated, **{name: text})


def test_a_type_that_cannot_be_typed_is_refused() -> None:
    """A list cannot be given, though its default may stand."""

    def lists(runner: str, numbers: list[int] = []) -> None: ...

    problem = "a value of type list[int] cannot be given on the command line"
    assert f"-a numbers 1: {problem}; {PLACE} takes " in refusal(lists, numbers="1")
    assert bind(lists, {}, PLACE) == {}


def test_an_error_shows_what_the_function_takes() -> None:
    """Parameters are shown as a person writes them, without the runner and without quotes."""
    expected = f"-a size x: is no whole number; {PLACE} takes `root_uri: str`, `size: int`"
    assert expected == refusal(required, root_uri="out", size="x")


def test_an_unknown_argument_is_told_with_the_nearest() -> None:
    """A key that the function does not take is an error with a suggestion."""
    with pytest.raises(UnknownName) as caught:
        bind(required, {"rot_uri": "out", "size": "1"}, PLACE)
    expected = (
        "unknown argument `rot_uri` in -a rot_uri out for `get_config` of cfg.py, "
        "did you mean `root_uri`?; known: `root_uri`, `size`"
    )
    assert expected == str(caught.value)


def test_a_function_without_arguments_takes_none() -> None:
    """Nothing is asked of it, and anything given is unknown."""
    assert bind(nothing_more, {}, PLACE) == {}
    with pytest.raises(UnknownName) as caught:
        bind(nothing_more, {"size": "1"}, PLACE)
    expected = "unknown argument `size` in -a size 1 for `get_config` of cfg.py; known: none"
    assert expected == str(caught.value)


def test_a_missing_argument_is_told_with_the_mend() -> None:
    """A parameter without default must be given."""
    expected = (
        "argument `root_uri` is missing: give -a root_uri VALUE; "
        "`get_config` of cfg.py takes `root_uri`"
    )
    assert expected == refusal(bare)
    assert bind(bare, {"root_uri": "out"}, PLACE) == {"root_uri": "out"}


def test_any_keyword_is_taken() -> None:
    """With `**more` unknown keys go through, known ones are still converted."""
    expected = {"size": 2, "other": "3", "third": "x"}
    assert expected == bind(any_keyword, {"size": "2", "other": "3", "third": "x"}, PLACE)


def test_the_annotation_of_keywords_is_that_of_each() -> None:
    """`**more: int` makes each of them a whole number."""
    assert bind(whole_keywords, {"a": "1", "b": "2"}, PLACE) == {"a": 1, "b": 2}


def test_any_positional_is_not_asked_for() -> None:
    """`*rest` may stay empty; it has no name to give it by."""
    assert bind(any_positional, {"size": "1"}, PLACE) == {"size": 1}


def test_names_for_type_checkers_only_do_no_harm() -> None:
    """Annotations of the runner and the result are not looked up."""
    assert bind(hidden_result, {"size": "1"}, PLACE) == {"size": 1}


def test_an_annotation_that_cannot_be_looked_up_is_told() -> None:
    """Where a given argument's type is not to be found, the error is about that argument."""
    assert bind(hidden_parameter, {}, PLACE) == {}
    assert refusal(hidden_parameter, size="1").startswith("-a size 1: ")


def test_what_is_not_given_is_left_to_the_function() -> None:
    """Defaults are not filled in."""
    assert bind(annotated, {}, PLACE) == {}
    assert bind(defaults, {}, PLACE) == {}
