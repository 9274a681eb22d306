"""Every key and value of a TOML file has the place where it is written."""

from __future__ import annotations

import pathlib
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.load.toml.positions import line_and_column, locate
from tests.conftest import ROOT

TEXT = '''
title = "a \\" # b" # comment
"quoted key" . 'other'.x = 1
list = [ # comment ]
  1, "two", [3, '4'], { a = 5, b.c = [6] }, # more
]
multi = """
x = "y" # no comment
""\\""""
literal = \'\'\'a '' b\'\'\'\'
date = 1979-05-27T07:32:00Z
[table.sub]
key=0.5
[[array]]
n = 1
[array.inner]
m = 2
[[array]]
n = 3
inline = {}
empty = []
'''


def values(
    value: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in members:
        yield (*path, key), member
        if isinstance(member, dict | list):
            yield from values(member, (*path, key))


def check(text: str) -> None:
    """A value, read from its place on, is the value; a table has the place of its header."""
    places = locate(text)
    for path, value in values(tomllib.loads(text)):
        rest = text[places[path].value :]
        if rest.startswith("[") and isinstance(value, dict):
            continue
        if isinstance(value, list) and rest.startswith("[["):
            continue
        assert any(read(rest[:end]) == value for end in range(1, len(rest) + 1)) or isinstance(
            value, dict
        ), (path, value, rest)


def read(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return None


def test_every_kind_of_value() -> None:
    check(TEXT)


def test_lines_and_columns() -> None:
    places = locate(TEXT)
    assert line_and_column(TEXT, places["list", 3, "b", "c", 0].value) == (5, 39)
    assert line_and_column(TEXT, places["array", 1, "n"].key) == (19, 1)
    assert line_and_column(TEXT, places["quoted key", "other", "x"].value) == (3, 28)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.toml")), ids=lambda path: path.name)
def test_real_files(path: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8")
    places = locate(text)
    assert {path for path, _ in values(tomllib.loads(text))} <= places.keys()


@given(
    st.dictionaries(
        st.text("abc"),
        st.recursive(
            st.integers()
            | st.booleans()
            | st.text(st.characters(codec="ascii", min_codepoint=32, exclude_characters="\x7f")),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_values(table: dict[str, Any]) -> None:
    text = "".join(f"{to_toml(key)} = {to_toml(value)}\n" for key, value in table.items())
    assert tomllib.loads(text) == table
    check(text)


def to_toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{to_toml(key)} = {to_toml(member)}" for key, member in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower()
