"""Damaged files are one sentence, whatever is wrong with them."""

from __future__ import annotations

import pathlib
import random

import pytest

from rvrun.errors import RvrunError
from rvrun.load.source import load
from tests.conftest import ROOT
from tests.load.toml.invalid import OTHERS, SCHEMA

TRIALS = 60
FULL = (
    *(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("examples/**/*.toml"))),
    (ROOT / "templates/init/pipeline.toml").read_text(encoding="utf-8"),
)
#: What is inserted: all that means something in TOML, in placeholders or in a shell.
PIECES = (*"{}[]\"'=.,#\n$`\\()<>|&; é\0\r\t", "{item}", "{items...}", '"""', "'''", "= 1")


def damage(text: str, source: random.Random) -> str:
    """Remove, repeat or insert something, up to three times."""
    for _ in range(source.randint(1, 3)):
        start = source.randrange(len(text) + 1)
        end = min(len(text), start + source.choice((0, 1, 1, 5, 40)))
        middle = source.choice(("", text[start:end] * 2, source.choice(PIECES)))
        text = text[:start] + middle + text[end:]
    return text


def message(text: str) -> str | None:
    """Return the error for a file with that text, in the current directory; None if it is fine."""
    pathlib.Path("pipeline.toml").write_text(text, encoding="utf-8", newline="")
    try:
        load("pipeline.toml", "local", {})
    except RvrunError as error:
        return str(error)
    return None


@pytest.mark.parametrize("index", range(len(FULL)))
def test_damaged_examples(in_folder: pathlib.Path, index: int) -> None:
    source = random.Random(index)
    messages = [message(damage(FULL[index], source)) for _ in range(TRIALS)]
    # Line breaks in values are escaped.
    assert [text for text in messages if text and "\n" in text] == []
    assert any(messages)


@pytest.mark.parametrize("name", [*SCHEMA, *OTHERS])
def test_damaged_invalid_files(in_folder: pathlib.Path, name: str) -> None:
    source = random.Random(name)
    for _ in range(20):
        message(damage({**SCHEMA, **OTHERS}[name], source))
