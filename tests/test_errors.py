"""Errors: facts, the message made of them, and how to fix it."""

from __future__ import annotations

import pathlib

import pytest

from rvrun.errors import Problem, RvrunError, UnknownName, check_known, describe


class TooMany(RvrunError):
    """Facts with and without a default."""

    count: int
    limit: int = 3
    template = "{count} jobs exceed the limit of {limit}"
    fix = "use at most {limit} splits"


class TooManyHere(TooMany):
    """A subclass adds a fact after those of its base."""

    place: str = "here"
    template = "{place}: {count} jobs"


def test_facts_are_fields_and_form_the_message() -> None:
    """Given in their order or by name; the fix is a template, too."""
    assert str(TooMany(4)) == "4 jobs exceed the limit of 3"
    error = TooMany(count=9, limit=8)
    assert (error.count, error.limit) == (9, 8)
    assert (str(error), error.how_to_fix()) == (
        "9 jobs exceed the limit of 8",
        "use at most 8 splits",
    )


def test_a_subclass_has_the_facts_of_its_base() -> None:
    """First those of the base, then its own."""
    assert str(TooManyHere(4, 3, "there")) == "there: 4 jobs"
    assert TooManyHere(4).how_to_fix() == "use at most 3 splits"


@pytest.mark.parametrize(
    "facts", [((), {}), ((1, 2, 3), {}), ((1,), {"colour": "red"}), ((1,), {"count": 2, "x": 1})]
)
def test_facts_that_do_not_fit(
    facts: tuple[tuple[int, ...], dict[str, object]],
) -> None:
    """`mypy` reports them; so does the constructor, for code that is not checked."""
    values, named = facts
    with pytest.raises(TypeError, match="TooMany"):
        TooMany(*values, **named)  # type: ignore[arg-type]


def test_braces_in_a_fact_stay_as_they_are() -> None:
    """A fact is not a template."""
    assert str(Problem("no {name} in {}")) == "no {name} in {}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "jobz",
            "unknown setting `jobz` in file; did you mean `jobs`? Known settings: `jobs`, `gpus`",
        ),
        ("x", "unknown setting `x` in file; known settings: `jobs`, `gpus`"),
    ],
)
def test_an_unknown_name_suggests_a_close_one(name: str, message: str) -> None:
    """And lists those that exist."""
    with pytest.raises(UnknownName) as caught:
        check_known("setting", name, ("jobs", "gpus"), "file")
    assert str(caught.value) == message
    assert caught.value.how_to_fix() == f"remove `{name}` from file, or give it a known name"


def test_nearby_names_are_listed_instead_of_all() -> None:
    """The suggestion still comes from all."""
    error = UnknownName("key", "ab", ("abc", "x"), nearby=("x",))
    assert str(error) == "unknown key `ab`; did you mean `abc`? Known keys: `x`"


def test_an_exception_in_a_sentence() -> None:
    """With its type."""
    assert describe(ValueError("no")) == "ValueError: no"
    assert describe(OSError(2, "gone", str(pathlib.Path("x")))).startswith("FileNotFoundError: ")


def test_a_long_list_of_known_names_is_cut_off() -> None:
    """A message with hundreds of names would hide the problem."""
    names = tuple(f"option{number}" for number in range(100, 130))
    message = str(UnknownName("option", "x", names))
    assert message.endswith("`option110`, `option111` and 18 more")
    assert str(UnknownName("option", "x", names[:24])).endswith("`option123`")
