from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rvrun.render.quote import Unquotable, for_make, for_recipe, for_shell
from tests.conftest import clean_environment

AWKWARD = [
    "",
    " ",
    "a b",
    "a  b\tc",
    "$HOME",
    "$(shell echo no)",
    "${HOME} $$ $@ $* $<",
    "`echo no`",
    "#no comment",
    "a # b",
    "it's",
    "''",
    '"quoted"',
    "100%",
    "%.o",
    "a;b",
    "a:b=c:=d",
    "a\\b\\",
    "\\",
    "\\\\server\\share",
    "äöü 木 🌳",
    "-n",
    "--split-ind",
    "-",
    "@a",
    "+a",
    "*",
    "?[a-z]*",
    "~/a",
    "{a,b}",
    "a&&b|c>d<e",
    "!history",
    "(a)",
    "s3://bucket/key with spaces/$.json",
    "\x0b\x0c\x1b\x7f\x85\u2028",
]
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=20
) | st.text("$#'\"\\%;:=*?[]~ \t-@+(){}&|<>!`,a", max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, processes: None) -> pathlib.Path:
    """A folder with a script that prints its arguments as JSON."""
    folder = tmp_path_factory.mktemp("quote")
    (folder / "show.py").write_text(
        "import json, os, sys\nprint(json.dumps([os.fsencode(a).hex() for a in sys.argv[1:]]))\n"
    )
    return folder


def arguments_after_make(folder: pathlib.Path, words: list[str]) -> list[str]:
    """The arguments of a process that make starts with `words` quoted in the recipe."""
    quoted = " ".join(for_recipe(word) for word in words)
    python = for_recipe(sys.executable)
    makefile = f"show:\n\t@{python} -I -S show.py {quoted}\n"
    (folder / "Makefile").write_bytes(makefile.encode())
    done = subprocess.run(
        ["make", "-s"],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return [bytes.fromhex(argument).decode() for argument in json.loads(done.stdout)]


@given(st.lists(texts, min_size=1, max_size=8))
@example(AWKWARD)
@settings(max_examples=25)
def test_a_text_goes_through_make_and_shell_as_it_is(
    folder: pathlib.Path, words: list[str]
) -> None:
    """Quoted for a recipe, any text arrives in the process byte for byte."""
    assert words == arguments_after_make(folder, words)


@given(st.lists(texts, min_size=1, max_size=8))
@settings(max_examples=10)
def test_a_text_goes_through_the_shell_as_it_is(folder: pathlib.Path, words: list[str]) -> None:
    """Quoted for the shell alone, too."""
    line = " ".join(for_shell(word) for word in [sys.executable, "-I", "-S", "show.py", *words])
    done = subprocess.run(["/bin/sh", "-c", line], cwd=folder, capture_output=True, check=True)
    assert words == [bytes.fromhex(argument).decode() for argument in json.loads(done.stdout)]


@pytest.mark.parametrize("text", ["a\nb", "\n", "a\r", "a\r\nb", "it's\n$HOME"])
@pytest.mark.parametrize("quote", [for_make, for_recipe])
def test_a_line_break_is_refused(quote: Callable[[str], str], text: str) -> None:
    """A recipe cannot hold a line break in a word; the error shows the text as it was given."""
    with pytest.raises(Unquotable) as caught:
        quote(text)
    expected = f"{text!r} holds a line break, which no Makefile recipe can; rename it"
    assert expected == str(caught.value)


def test_plain_texts_are_left_alone() -> None:
    """What a person would not quote is not quoted."""
    for text in ("config/tiny.json", "--split-ind", "4", "a.b-c_d", "s3://b/k"):
        assert text == for_recipe(text)


def test_quotes_are_for_the_shell_first_then_for_make() -> None:
    """The exact texts."""
    expected = ("'a b'", "'$$HOME'", "$$HOME", "'it'\"'\"'s'")
    found = (for_recipe("a b"), for_recipe("$HOME"), for_make("$HOME"), for_shell("it's"))
    assert expected == found
