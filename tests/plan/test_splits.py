"""Parsing `--splits`, and choosing the number of splits of a command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.plan.splits import BadSplits, SplitRequest, choose_num_splits, parse_splits
from tests.strategies import command_names, pipeline_names


@st.composite
def requests(draw: st.DrawFn) -> SplitRequest:
    command = draw(st.just("") | command_names)
    pipeline = draw(st.just("") | pipeline_names) if command else ""
    return SplitRequest(count=draw(st.integers(1, 10_000_000)), command=command, pipeline=pipeline)


def test_each_form_is_parsed() -> None:
    """A number for all, for a command and for a pipeline's command, in the order given."""
    expected = (
        SplitRequest(4),
        SplitRequest(16, command="predict"),
        SplitRequest(8, command="chip", pipeline="tiny"),
    )
    assert expected == parse_splits(["4", "predict=16", "tiny/chip=8"])
    assert parse_splits([]) == ()


@given(requests())
def test_str_of_a_request_parses_to_it(request: SplitRequest) -> None:
    """`str(request)` is what to type after `--splits`."""
    assert (request,) == parse_splits([str(request)])


@pytest.mark.parametrize(
    "text", ["", "x", "-1", " 4", "4 ", "1e3", "1.5", "²", "a=", "a=b", "=4", "tiny/=4", "tiny/4"]
)
def test_a_malformed_value_is_rejected(text: str) -> None:
    """The error lists the valid forms."""
    with pytest.raises(BadSplits) as caught:
        parse_splits([text])
    rule = "must be NUMBER, COMMAND=NUMBER or PIPELINE/COMMAND=NUMBER; NUMBER may be `each`"
    assert f"--splits {text}: {rule}" == str(caught.value)
    assert f"change --splits {text}" == caught.value.how_to_fix()


@pytest.mark.parametrize("text", ["0", "chip=0", "tiny/chip=00"])
def test_zero_splits_are_rejected(text: str) -> None:
    """A command has at least one split."""
    with pytest.raises(BadSplits) as caught:
        parse_splits([text])
    assert f"--splits {text}: the number must be between 1 and 10,000,000" == str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"), [("4", "5"), ("chip=4", "chip=5"), ("tiny/chip=4", "tiny/chip=5")]
)
def test_conflicting_requests_are_rejected(one: str, other: str) -> None:
    """Two requests for the same command must give the same number."""
    with pytest.raises(BadSplits) as caught:
        parse_splits([one, other])
    assert f"--splits {other}: conflicts with --splits {one}; keep one" == str(caught.value)
    assert len(parse_splits([one, one])) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_request_wins(order: int) -> None:
    """PIPELINE/COMMAND overrides COMMAND, which overrides a number for all, in any order."""
    split_requests = parse_splits(["2", "chip=3", "tiny/chip=4"][::order])
    expected = (4, 3, 2, 2)
    places = [("tiny", "chip"), ("big", "chip"), ("tiny", "predict"), ("big", "predict")]
    assert expected == tuple(choose_num_splits(split_requests, *place) for place in places)


def test_the_default_is_one_split() -> None:
    """Requests for other commands do not change it."""
    others = parse_splits(["predict=4", "big/chip=4"])
    assert choose_num_splits((), "tiny", "chip") == 1
    assert choose_num_splits(others, "tiny", "chip") == 1
