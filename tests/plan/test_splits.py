from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.plan.splits import BadSplits, SplitRequest, num_splits, parse_splits
from tests.strategies import command_names, pipeline_names


@st.composite
def requests(draw: st.DrawFn) -> SplitRequest:
    command = draw(st.just("") | command_names)
    pipeline = draw(st.just("") | pipeline_names) if command else ""
    return SplitRequest(count=draw(st.integers(1, 10_000_000)), command=command, pipeline=pipeline)


def test_what_is_typed_is_read() -> None:
    """A number, a command's and a pipeline's command's, in the order typed."""
    expected = (
        SplitRequest(4),
        SplitRequest(16, command="predict"),
        SplitRequest(8, command="chip", pipeline="tiny"),
    )
    assert expected == parse_splits(["4", "predict=16", "tiny/chip=8"])
    assert parse_splits([]) == ()


@given(requests())
def test_a_request_reads_as_it_is_written(request: SplitRequest) -> None:
    """`str` is what to type for it."""
    assert (request,) == parse_splits([str(request)])


@pytest.mark.parametrize(
    "text", ["", "x", "-1", " 4", "4 ", "1e3", "1.5", "²", "a=", "a=b", "=4", "tiny/=4", "tiny/4"]
)
def test_what_is_no_request_is_refused(text: str) -> None:
    """The error says what can be written."""
    with pytest.raises(BadSplits) as caught:
        parse_splits([text])
    mend = "write a number, COMMAND=NUMBER or PIPELINE/COMMAND=NUMBER"
    assert f"--splits {text}: {mend}" == str(caught.value)


@pytest.mark.parametrize("text", ["0", "chip=0", "tiny/chip=00"])
def test_no_splits_at_all_is_refused(text: str) -> None:
    """There is always one."""
    with pytest.raises(BadSplits) as caught:
        parse_splits([text])
    assert f"--splits {text}: a command has 1 to 10,000,000 splits" == str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"), [("4", "5"), ("chip=4", "chip=5"), ("tiny/chip=4", "tiny/chip=5")]
)
def test_two_requests_that_differ_are_refused(one: str, other: str) -> None:
    """What is said twice must be the same."""
    with pytest.raises(BadSplits) as caught:
        parse_splits([one, other])
    assert f"--splits {other}: --splits {one} says otherwise; keep one" == str(caught.value)
    assert len(parse_splits([one, one])) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_the_most_precise_request_counts(order: int) -> None:
    """A pipeline's command before a command before all, in whatever order they stand."""
    found = parse_splits(["2", "chip=3", "tiny/chip=4"][::order])
    expected = (4, 3, 2, 2)
    places = [("tiny", "chip"), ("big", "chip"), ("tiny", "predict"), ("big", "predict")]
    assert expected == tuple(num_splits(found, *place) for place in places)


def test_without_a_request_there_is_one_split() -> None:
    """Neither none nor another command's request changes that."""
    assert num_splits((), "tiny", "chip") == 1
    assert num_splits(parse_splits(["predict=4", "big/chip=4"]), "tiny", "chip") == 1
