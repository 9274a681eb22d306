from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rvrun.render.quote import Unquotable, for_definition, for_make, for_recipe, for_shell
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
    "\\#",
    "a\\\\#b\\\\\\#",
    "#",
    "trailing #  ",
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
strings = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=20
) | st.text("$#'\"\\%;:=*?[]~ \t-@+(){}&|<>!`,a", max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Create a folder with a script that prints its arguments as JSON."""
    folder = tmp_path_factory.mktemp("quote")
    (folder / "show.py").write_text(
        "import json, os, sys\nprint(json.dumps([os.fsencode(a).hex() for a in sys.argv[1:]]))\n"
    )
    return folder


def decode(line: str) -> list[str]:
    """Return the arguments in a line that show.py printed."""
    return [bytes.fromhex(argument).decode() for argument in json.loads(line)]


def arguments_after_make(folder: pathlib.Path, makefile: str) -> list[str]:
    """Return the arguments of show.py when make runs it."""
    (folder / "Makefile").write_bytes(makefile.encode())
    done = subprocess.run(
        ["make", "-s"],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return decode(done.stdout.decode())


def command_line(words: list[str]) -> str:
    """Return the command line of show.py with `words`, quoted for a recipe."""
    return " ".join(for_recipe(word) for word in [sys.executable, "-I", "-S", "show.py", *words])


@given(st.lists(strings, min_size=1, max_size=8))
@example(AWKWARD)
@settings(max_examples=25)
@pytest.mark.usefixtures("processes")
def test_a_string_survives_make_and_the_shell(folder: pathlib.Path, words: list[str]) -> None:
    """Quoted for a recipe, any string arrives in the process byte for byte."""
    assert words == arguments_after_make(folder, f"show:\n\t@{command_line(words)}\n")


@given(st.lists(strings, min_size=1, max_size=8))
@example(AWKWARD)
@example(["\\" * n + "#" for n in range(7)])
@settings(max_examples=25)
@pytest.mark.usefixtures("processes")
def test_a_string_survives_a_variable_definition(folder: pathlib.Path, words: list[str]) -> None:
    """So does a recipe that is kept in a variable, and more words can follow it."""
    definition = for_definition(command_line(words))
    makefile = f"a.run = {definition}\n\nshow:\n\t@$(a.run) more {for_recipe('#')}\n"
    assert [*words, "more", "#"] == arguments_after_make(folder, makefile)


@given(st.lists(strings, min_size=1, max_size=8))
@settings(max_examples=10)
@pytest.mark.usefixtures("processes")
def test_a_string_survives_the_shell(folder: pathlib.Path, words: list[str]) -> None:
    """Quoted for the shell alone, any string arrives too."""
    line = " ".join(for_shell(word) for word in [sys.executable, "-I", "-S", "show.py", *words])
    done = subprocess.run(["/bin/sh", "-c", line], cwd=folder, capture_output=True, check=True)
    assert words == decode(done.stdout.decode())


@pytest.mark.parametrize("string", ["a\nb", "\n", "a\r", "a\r\nb", "it's\n$HOME"])
@pytest.mark.parametrize("quote", [for_make, for_recipe])
def test_a_line_break_is_refused(quote: Callable[[str], str], string: str) -> None:
    """A recipe cannot contain a line break; the error shows the string before it was quoted."""
    with pytest.raises(Unquotable) as caught:
        quote(string)
    expected = (
        f"a Makefile recipe cannot contain a line break, got {string!r}",
        f"rename {string!r}",
    )
    assert expected == (str(caught.value), caught.value.how_to_fix())


def test_plain_strings_are_not_quoted() -> None:
    """Strings that a person would not quote stay as they are."""
    for string in ("config/tiny.json", "--split-ind", "4", "a.b-c_d", "s3://b/k"):
        assert string == for_recipe(string)


def test_quotes_are_for_the_shell_first_then_for_make() -> None:
    """The exact results of each function."""
    expected = ("'a b'", "'$$HOME'", "$$HOME", "'it'\"'\"'s'")
    quoted = (for_recipe("a b"), for_recipe("$HOME"), for_make("$HOME"), for_shell("it's"))
    assert expected == quoted


@pytest.mark.parametrize(
    ("recipe", "definition"),
    [
        ("echo '$$a'", "echo '$$a'"),
        ("echo '#'", r"echo '\#'"),
        (r"echo '\#'", r"echo '\\\#'"),
        (r"echo '\a' '\\#b#'", r"echo '\a' '\\\\\#b\#'"),
    ],
)
def test_only_number_signs_are_escaped_in_a_definition(recipe: str, definition: str) -> None:
    """And the backslashes directly before them, which make would halve."""
    assert definition == for_definition(recipe)
