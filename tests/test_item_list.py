"""How people know items."""

from __future__ import annotations

from typing import Any

import pytest

from rvrun.item_list import make_list


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["a", 1, True], ["a", "1", "true"]),
        ([{"id": 7, "x": "a"}, {"id": 8, "x": "b"}], ["7", "8"]),
        # Neither names an item; only `sample` tells them apart.
        (
            [{"group": "g", "sample": "s1", "r": "r1"}, {"group": "g", "sample": "s2", "r": "r2"}],
            ["s1", "s2"],
        ),
        ([{"x": 1.5, "y": "a"}, {"x": 2.5, "y": "b"}], ["a", "b"]),
        ([{"x": "a"}, {"x": "a"}], ['{"x": "a"}', '{"x": "a"}']),
        ([{"x": "a"}, {"y": "b"}], ['{"x": "a"}', '{"y": "b"}']),
        ([{"$type": "t", "x": [1]}], ['{"x": [1]}']),
        ([], []),
    ],
)
def test_labels(values: list[Any], labels: list[str]) -> None:
    assert list(make_list(values).labels) == labels
