"""Files, JSON, TOML and numbers as users get them wrong."""

from __future__ import annotations

import os
import pathlib
import re

import pytest

from rvrun import inputs
from rvrun.errors import RvrunError
from rvrun.inputs import CannotRead, CannotWrite, NotUtf8
from rvrun.text import MAX_SHOWN, quoted, shorten


def refusal(content: bytes, kind: str = "json", folder: pathlib.Path = pathlib.Path()) -> str:
    """The problem with a file of that content."""
    file = folder / f"file.{kind}"
    file.write_bytes(content)
    read = {"json": inputs.read_json, "toml": inputs.read_toml, "txt": inputs.read_text}[kind]
    with pytest.raises(CannotRead) as caught:
        read(str(file), "fix it")
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert message.endswith("; fix it")
    assert caught.value.how_to_fix() == "fix it"
    return message.removeprefix(f"{file}: ").removesuffix("; fix it")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"{", "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2"),
        (b"1\0", "is not JSON (Extra data: line 1 column 2 (char 1))"),
        (b'"a\xff"', "is not UTF-8 (byte 0xff at offset 2)"),
        (b'"\xed\xa0\x80"', "is not UTF-8 (byte 0xed at offset 1)"),
        (b'{"a": 1, "b": 2, "a": 3}', "must not have key 'a' twice"),
        (rb'["\ud800"]', "must not have a string with half of a surrogate pair"),
        (b"[" * 100_000, "must not nest objects and lists more than 100 levels deep"),
        (b"[" * 101 + b"]" * 101, "must not nest objects and lists more than 100 levels deep"),
        (b"9" * 5000, "must not have a number of more than 4,300 digits"),
    ],
)
def test_json_that_cannot_be_read(content: bytes, problem: str, tmp_path: pathlib.Path) -> None:
    """Each defect has a sentence of its own."""
    assert refusal(content, "json", tmp_path).startswith(problem)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a", "is not TOML ("),
        (b"a = 1\na = 2", "is not TOML ("),
        (b"a = '\xff'", "is not UTF-8 ("),
        (b"a = '\0'", "is not TOML ("),
        (b"a = " + b"[" * 100_000, "must not nest objects and lists"),
        (b".".join([b"a"] * 500) + b" = 1", "must not nest objects and lists"),
        (b"a = " + b"9" * 5000, "has a value that cannot be read: "),
        (b"a = 2026-02-31", "is not TOML ("),
    ],
)
def test_toml_that_cannot_be_read(content: bytes, problem: str, tmp_path: pathlib.Path) -> None:
    """Also what tomllib raises other errors for."""
    assert refusal(content, "toml", tmp_path).startswith(problem)


def test_a_byte_order_mark_is_skipped(tmp_path: pathlib.Path) -> None:
    """Some editors write one."""
    (tmp_path / "file").write_bytes(b'\xef\xbb\xbf{"a": [1e2, "\\ud83d\\ude00"]}')
    assert inputs.read_json(str(tmp_path / "file")) == {"a": [100.0, "😀"]}


def test_what_is_not_a_readable_file(tmp_path: pathlib.Path) -> None:
    """None of them hangs, exhausts memory, or raises another error."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for name, problem in (
        ("", "cannot be read: Is a directory"),
        ("fifo", "must be a regular file"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("huge", "must not be larger than 64 MiB, got 1,048,576 MiB"),
        ("none", "cannot be read: No such file or directory"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "must not have a NUL character in its path"),
    ):
        with pytest.raises(CannotRead) as caught:
            inputs.read_bytes(str(tmp_path / name))
        assert caught.value.problem == problem


def test_an_object_is_required(tmp_path: pathlib.Path) -> None:
    """The value is in the message."""
    (tmp_path / "file").write_text("[1]")
    with pytest.raises(CannotRead, match=r"must be a JSON object, got \[1\]"):
        inputs.read_object(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5000, None)]
    + [(text, None) for text in ("", "-1", "+1", "1.0", "1_0", " 1", "٣", "x")],
)
def test_integers(text: str, number: int | None) -> None:
    """ASCII digits, not too many."""
    assert inputs.parse_integer(text) == number


def test_arguments_must_be_utf8() -> None:
    """They become parts of configs and Makefiles, which are."""
    inputs.check_arguments(["ü", "😀"])
    with pytest.raises(NotUtf8) as caught:
        inputs.check_arguments(["ok", os.fsdecode(b"a\xff")])
    assert str(caught.value) == (
        "an argument must be UTF-8, got b'a\\xff'; rename it or leave it out"
    )


def test_a_file_that_cannot_be_written() -> None:
    """The error names the file that the operating system refused."""
    with (
        pytest.raises(
            CannotWrite, match=re.escape("/dev/null/x cannot be written: Not a directory")
        ),
        inputs.writing("other"),
    ):
        os.makedirs("/dev/null/x")


class Long(RvrunError):
    """A message with facts of any length."""

    name: str
    problem: str = ""
    template = "{name} and {name!r}{problem}"
    fix = "rename {name}"


def test_long_facts_are_shortened() -> None:
    """Their beginning and length are shown; a sentence, which ends in its fix, stays whole."""
    beginning = "x" * MAX_SHOWN
    assert str(Long("x" * 5000)) == (
        f"{beginning}… (5,000 characters) and '{beginning}'… (5,000 characters)"
    )
    assert Long("x" * 5000).how_to_fix() == f"rename {beginning}… (5,000 characters)"
    assert str(Long("", " " + "y" * 5000)).endswith("y" * 5000)
    assert str(Long("short")) == "short and 'short'"


class Broken:
    """An object whose `repr` fails."""

    def __repr__(self) -> str:
        raise RuntimeError


def test_every_value_can_be_quoted() -> None:
    """Also those whose `repr` raises."""
    assert quoted("a") == "'a'"
    assert quoted(b"x" * 400).endswith("… (400 bytes)")
    assert quoted(10**5000) == "a value of type int that cannot be shown"
    assert quoted(Broken()) == "a value of type Broken that cannot be shown"
    assert shorten("x" * MAX_SHOWN) == "x" * MAX_SHOWN
