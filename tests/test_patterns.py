"""Declared paths: globs as Python's own, which patterns overlap, and placeholders."""

from __future__ import annotations

import glob
import os
import pathlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvrun.patterns import (
    any_split,
    covers,
    escape,
    fill,
    is_plain,
    output_path,
    overlap,
    placeholders,
)

#: Few names, so that patterns often match, and all of what a pattern can have.
NAMES = ("a", "b", "ab", "ba")
PIECES = ("a", "b", "ab", "*", "?", "a*", "*b", "[ab]", "[!a]", "[a-b]?")
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
patterns = st.lists(st.sampled_from((*PIECES, "**")), min_size=1, max_size=3).map("/".join)


@settings(max_examples=300)
@given(patterns, st.lists(paths, min_size=1, max_size=6))
def test_a_pattern_covers_what_glob_finds_and_all_below(pattern: str, files: list[str]) -> None:
    """`covers` decides without the file system as `glob` does with it."""
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            path = pathlib.Path(folder, file)
            # A name may be a folder already, or a folder's name that of a file.
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
        present = [
            os.path.relpath(os.path.join(where, name), folder)
            for where, _, names in os.walk(folder)
            for name in names
        ]
        matches = glob.glob(pattern, root_dir=folder, recursive=True)
        expected = {p for p in present if any(p == f or p.startswith(f"{f}/") for f in matches)}
        expected |= {p for p in present if "" in matches}
        assert {path for path in present if covers(pattern, path)} == expected


@settings(max_examples=300)
@given(patterns, patterns, paths)
def test_patterns_that_cover_the_same_file_overlap(one: str, other: str, path: str) -> None:
    """`overlap` misses nothing."""
    if covers(one, path) and covers(other, path):
        assert overlap(one, other)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("out/a", "out/a", True),
        ("out/a", "out/b", False),
        ("out", "out/a/b", True),
        ("out/a*", "out/b*", False),
        ("out/*.json", "out/e*.json", True),
        ("out/*.json", "out/*.tif", False),
        ("a*b", "ab", True),
        ("a?", "a", False),
        ("[ab]*", "c*", False),
        ("**/x", "a/b/x", True),
        ("a/**/b", "c/d", False),
        ("s3://b/x/*", "s3://b/x/y", True),
    ],
)
def test_overlaps(*, one: str, other: str, expected: bool) -> None:
    """In both directions."""
    assert overlap(one, other) is overlap(other, one) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("out/chips/*.npy", "out/**/x", False),
        ("out/chips", "out/**/x", True),
        ("out", "out/a", True),
        ("out/**", "out/a/b", True),
        ("out/*.npy", "out/a.npy/b", False),
        ("out/*.npy", "out/a.npy", True),
        ("out/**/x", "out/**/y", True),
    ],
)
def test_likely_overlaps(*, one: str, other: str, expected: bool) -> None:
    """Files with an ending are not taken for folders."""
    assert overlap(one, other, is_likely=True) is overlap(other, one, is_likely=True) is expected


@given(st.text(alphabet="a{}/", max_size=8))
def test_escaped_text_is_itself(text: str) -> None:
    """A value with braces does not become a placeholder."""
    assert placeholders(escape(text)) == []
    assert fill(escape(text), {}) == text


def test_outputs_of_splits() -> None:
    """Placeholders become numbers, or what matches all of them."""
    output = "out/{{x}}/{split_ind}-of-{num_splits}.npy"
    assert output_path(output, 3, 4) == "out/{x}/3-of-4.npy"
    assert any_split(output) == "out/{x}/*-of-*.npy"


@pytest.mark.parametrize(
    "path", ["a b", "a$b", "a#b", "a:b", "a%b", "a,b", "a=b", "~a", "(a)", "a;b"]
)
def test_paths_that_make_gives_a_meaning(path: str) -> None:
    """Such a path is left to the fingerprint."""
    assert not is_plain(path)
    assert is_plain("../data/ä-1_2.tif")
    assert is_plain("out/[ab]*.tif", may_be_glob=True)
    assert not is_plain("out/**/x", may_be_glob=True)
    assert not is_plain("out/*.tif")
