"""Formatting numbers and durations."""

from __future__ import annotations

import pytest

from rvrun.text import count, duration, short_duration


def test_count() -> None:
    """Zero and several things are plural, and thousands are separated."""
    assert [count(number, "split") for number in (0, 1, 2, 10_000)] == [
        "0 splits",
        "1 split",
        "2 splits",
        "10,000 splits",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0426, "43 ms"),
        (0.0999, "0.1 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """The longer a duration, the coarser its units."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.00094, "0.94 ms"), (0.0094, "9.4 ms"), (0.0994, "99 ms"), (0.0995, "0.1 s")],
)
def test_short_durations(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text
