"""estimates.json: what is written is read, and whatever else it contains is an error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rvrun.cli.schema import SchemaName, read_schema
from rvrun.plan.durations import Sample, StageSummary, summarize
from rvrun.plan.summaries import NotSummaries, summaries_from_json, summaries_to_json

SCHEMA = json.loads(read_schema(SchemaName.ESTIMATES))


def random_summary(seed: int) -> StageSummary:
    rng = random.Random(seed)
    samples = [
        Sample(
            seconds=rng.uniform(0, 1000),
            splits=rng.randint(1, 50),
            items=rng.randint(1, 9) if seed % 2 else None,
            gap=rng.choice([None, 0.25]),
            interval=rng.choice([None, 0.125]),
            cpu_seconds=rng.choice([None, rng.uniform(0, 4000)]),
            peak_memory_kib=rng.choice([None, rng.randint(1, 10**8)]),
        )
        for _ in range(rng.randint(1, 20))
    ]
    summary = summarize(samples)
    assert summary is not None
    return summary


SUMMARIES = {f"p/c{seed:02}": random_summary(seed) for seed in range(30)}


def test_what_is_written_is_read() -> None:
    """Equal values, the same bytes again, whatever the order; and the schema accepts it."""
    text = summaries_to_json(SUMMARIES)
    read = summaries_from_json(text, "estimates.json")
    assert read == SUMMARIES
    assert {summary.source for summary in read.values()} == {"estimates.json"}
    assert summaries_to_json(dict(reversed(read.items()))) == text
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(json.loads(text))


def test_the_file_is_small_and_readable(golden: Callable[[str, str], None]) -> None:
    """A line for each value, and a list of numbers in one."""
    summary = summarize([Sample(seconds=3.0, splits=2, items=4, peak_memory_kib=2048)] * 2)
    assert summary is not None
    golden("estimates.json", summaries_to_json({"tiny/chip": summary}))


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(summaries_to_json({"p/a": SUMMARIES["p/c01"]}))
    change(document)
    return json.dumps(document)


CASES: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "it is not JSON"),
    "a list": ("[]", "it has no `rvrun_estimates` version"),
    "another version": (changed(lambda d: d.update(rvrun_estimates=2)), "it has version 2"),
    "no stages": (changed(lambda d: d.update(stages=[])), "`stages` must be an object, got []"),
    "a stage that is none": (
        changed(lambda d: d["stages"].update({"p/a": 3})),
        "stage `p/a`: it must be an object, got 3",
    ),
    "no targets": (
        changed(lambda d: d["stages"]["p/a"].update(targets=0)),
        "stage `p/a`: `targets` must be an integer of at least 1, got 0",
    ),
    "an unknown key": (
        changed(lambda d: d["stages"]["p/a"].update(source="x")),
        "stage `p/a`: unknown key `source`",
    ),
    "no rates": (
        changed(lambda d: d["stages"]["p/a"].update(by_split=None)),
        "stage `p/a`: `by_split` must have `amount`, `mean` and `quantiles`, got None",
    ),
    "not a number": (
        changed(lambda d: d["stages"]["p/a"]["by_split"].update(mean="1")),
        "stage `p/a`: `by_split.mean` must be a number between 0 and 1e12, got '1'",
    ),
    "infinite": (
        changed(lambda d: d["stages"]["p/a"].update(gap=float("inf"))),
        "must be",
    ),
    "no amount": (
        changed(lambda d: d["stages"]["p/a"]["by_split"].update(amount=0)),
        "stage `p/a`: `by_split` must have an amount above 0 and sorted quantiles",
    ),
    "quantiles that fall": (
        changed(lambda d: d["stages"]["p/a"]["by_split"]["quantiles"].reverse()),
        "sorted quantiles",
    ),
    "too few quantiles": (
        changed(lambda d: d["stages"]["p/a"]["by_split"]["quantiles"].pop()),
        "`by_split.quantiles` must be 11 numbers",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_a_file_of_estimates(name: str) -> None:
    """The error names the file, the stage and the value, and how to write it again."""
    text, problem = CASES[name]
    with pytest.raises(NotSummaries) as caught:
        summaries_from_json(text, "e.json")
    message = str(caught.value)
    assert message.startswith("e.json must be a file of estimates: ")
    assert problem in message
    assert message.endswith("; write it again with `rvrun records summary`")


def test_splits_without_items_do_not_count() -> None:
    """They did nothing, which tells nothing about others."""
    idle, busy = Sample(seconds=0.1, items=0), Sample(seconds=9.0, items=3)
    assert summarize([idle]) is None
    summary = summarize([idle, busy])
    assert summary is not None
    assert (summary.targets, summary.by_item and summary.by_item.mean) == (1, 3.0)
