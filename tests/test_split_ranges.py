"""Writing and reading split indices."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rvrun import split_ranges


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        ([0], "0"),
        ([0, 1, 2, 3, 7], "0-3,7"),
        ([5, 6, 9, 11, 12], "5-6,9,11-12"),
        (range(10_000, 20_000), "10000-19999"),
    ],
)
def test_consecutive_splits_are_ranges(splits: list[int], text: str) -> None:
    """Ranges have their first and last index, as a person would write them."""
    assert split_ranges.write(splits) == text
    assert split_ranges.read(text) == list(splits)


def test_many_ranges_are_a_bitmap() -> None:
    """The bitmap has a bit per index from the first on."""
    splits = range(8, 2_008, 2)
    text = split_ranges.write(splits)
    assert text == "8:" + "VVVV" * 83 + "VQ=="
    assert split_ranges.read(text) == list(splits)


@given(
    first=st.integers(0, 290_000),
    chosen=st.sets(st.integers(0, 9_999), min_size=1, max_size=300),
)
@example(first=290_000, chosen=set(range(0, 10_000, 2)))
@example(first=290_000, chosen=set(random.Random(1).sample(range(10_000), 5_000)))
@example(first=290_000, chosen=set(range(10_000)) - set(range(0, 10_000, 3)))
def test_any_splits_survive_a_round_trip(first: int, chosen: set[int]) -> None:
    """Any of 10,000 consecutive splits take few enough characters for a job's environment."""
    splits = sorted(first + index for index in chosen)
    text = split_ranges.write(splits)
    assert split_ranges.read(text) == splits
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
def test_a_malformed_list_is_rejected(text: str) -> None:
    """A mistyped or truncated list is never read as another list."""
    with pytest.raises(ValueError, match=r"is not a list|invalid literal|base64|Only"):
        split_ranges.read(text)


@given(st.sets(st.integers(0, 3_000), min_size=1), st.integers(0, 500_000))
@example(set(range(0, 3_000, 2)), 0)
@example({i for i in range(3_000) if i % 3 != 2}, 0)
@example({i for i in range(600) if i % 3 != 2}, 7)
def test_no_list_is_longer_than_announced(indices: set[int], first: int) -> None:
    """Requests reserve that much for the splits of a retry."""
    splits = sorted(first + index for index in indices)
    size = splits[-1] - splits[0] + 1
    assert len(split_ranges.write(splits)) <= split_ranges.max_length(splits[-1], size)
