"""Lists of splits as text."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rvrun import split_ranges as indices


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        ([0], "0"),
        ([0, 1, 2, 3, 7], "0-3,7"),
        ([5, 6, 9, 11, 12], "5-6,9,11-12"),
        (range(10_000, 20_000), "10000-19999"),
    ],
)
def test_runs_are_written_by_their_ends(splits: list[int], text: str) -> None:
    """As a person would write them."""
    assert indices.write(splits) == text
    assert indices.read(text) == list(splits)


def test_what_would_be_long_is_a_map() -> None:
    """A bit for each from the first on."""
    splits = range(8, 2_008, 2)
    text = indices.write(splits)
    assert text == "8:" + "VVVV" * 83 + "VQ=="
    assert indices.read(text) == list(splits)


@given(
    first=st.integers(0, 290_000),
    chosen=st.sets(st.integers(0, 9_999), min_size=1, max_size=300),
)
@example(first=290_000, chosen=set(range(0, 10_000, 2)))
@example(first=290_000, chosen=set(random.Random(1).sample(range(10_000), 5_000)))
@example(first=290_000, chosen=set(range(10_000)) - set(range(0, 10_000, 3)))
def test_what_is_written_is_read(first: int, chosen: set[int]) -> None:
    """Any of 10,000 splits after each other come back, from a text that fits into a job."""
    splits = sorted(first + each for each in chosen)
    text = indices.write(splits)
    assert indices.read(text) == splits
    assert len(text) <= 1_700


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "1,",
        "3-",
        "-3",
        "5-3",
        "3,3",
        "3,1",
        "1-2-3",
        "0 1",
        "1,2",
        "+1",
        "5:",
        "5:!",
        ":AQ==",
    ],
)
def test_what_is_never_written_is_refused(text: str) -> None:
    """A list that was mistyped or cut off does not pass for a shorter one."""
    with pytest.raises(ValueError, match=r"is no list|invalid literal|base64|Only"):
        indices.read(text)
