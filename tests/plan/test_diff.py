"""Comparing two plans: a table of cases, each with its complete output."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given

from rvrun.model import DeclaredPipeline, Plan, PlannedPipeline, Resources, Stage
from rvrun.pipelines.serialize import digest
from rvrun.plan.compile import compile_plan
from rvrun.plan.diff import Side, diff_plans
from rvrun.plan.diff_formats import to_github, to_json, to_markdown, to_text
from rvrun.plan.splits import parse_splits
from tests.build import pipeline
from tests.strategies import plans

CONFIG = {"$type": "m:C", "root_uri": "out", "lr": 0.1, "model": {"depth": 3}, "scenes": ["a", "b"]}
COMMANDS = ("chip*", "train", "predict*", "eval")


def side(
    *declared: DeclaredPipeline,
    splits: str = "4",
    config: Mapping[str, Any] | None = None,
    has_configs: bool = True,
    keys: Mapping[str, tuple[str, ...]] | None = None,
    **changes: Any,
) -> Side:
    """A plan of pipelines with equal configs; `changes` are fields to change, by command."""
    values = {**CONFIG, **(config or {})}
    pipelines = [
        attrs.evolve(
            item,
            config_digest=digest(values),
            commands=tuple(
                attrs.evolve(c, config_keys=(keys or {}).get(c.name), **changes.get(c.name, {}))
                for c in item.commands
            ),
        )
        for item in declared
    ]
    plan = compile_plan(pipelines, splits=parse_splits([splits]))
    return Side(plan=plan, configs={p.name: values for p in pipelines} if has_configs else {})


TINY = pipeline("tiny", *COMMANDS)
OTHER = pipeline("other", "fetch")
KEYS = {"chip": ("scenes",), "train": ("lr", "model"), "predict": ("model.depth",)}

CASES = {
    "nothing": (side(TINY), side(TINY), ""),
    "more splits": (
        side(TINY, splits="predict=10"),
        side(TINY, splits="predict=20"),
        """\
~ tiny/predict  splits 10 → 20
would run again:
  tiny/predict  20 targets, splits changed
  tiny/eval     after predict
""",
    ),
    "another root": (
        side(TINY, config={"root_uri": "a/run", "scenes": ["a/run/chip/x", "s3://b/y", "adam"]}),
        side(TINY, config={"root_uri": "b/run", "scenes": ["b/run/chip/x", "s3://b/z", "sgd"]}),
        """\
~ tiny  config: root_uri and 1 more key: a → b
~ tiny  config: scenes.1 s3://b/y → s3://b/z
~ tiny  config: scenes.2 adam → sgd
would run again:
  tiny/chip     4 targets, config changed
  tiny/train    after chip
  tiny/predict  4 targets, after train
  tiny/eval     after predict
""",
    ),
    "values that change alike": (
        side(TINY, config={"lr": "low", "scenes": ["low", "out/"]}),
        side(TINY, config={"lr": "high", "scenes": ["high", "new/"]}),
        """\
~ tiny  config: lr low → high
~ tiny  config: scenes.0 low → high
~ tiny  config: scenes.1 out/ → new/
would run again:
  tiny/chip     4 targets, config changed
  tiny/train    after chip
  tiny/predict  4 targets, after train
  tiny/eval     after predict
""",
    ),
    "a command added": (
        side(TINY),
        side(pipeline("tiny", *COMMANDS, "bundle")),
        """\
+ tiny/bundle
""",
    ),
    "a command added between others": (
        side(TINY),
        side(pipeline("tiny", "chip*", "clean*", "train", "predict*", "eval")),
        """\
+ tiny/clean  4 splits
~ tiny/train  needs chip → clean
would run again:
  tiny/train    after clean
  tiny/predict  4 targets, after train
  tiny/eval     after predict
""",
    ),
    "a command removed": (
        side(TINY),
        side(pipeline("tiny", "chip*", "train", "predict*")),
        """\
- tiny/eval
""",
    ),
    "a command renamed": (
        side(TINY),
        side(pipeline("tiny", "chip*", "train", "infer*", "eval")),
        """\
+ tiny/infer    4 splits
~ tiny/eval     needs predict → infer
- tiny/predict  4 splits
would run again:
  tiny/eval  after infer
""",
    ),
    "commands in another order": (
        side(pipeline("tiny", "a", "b", "c", needs={"b": [], "c": ["a", "b"]})),
        side(pipeline("tiny", "b", "a", "c", needs={"a": [], "b": [], "c": ["a", "b"]})),
        """\
~ tiny  order a, b, c → b, a, c
""",
    ),
    "changed needs": (
        side(TINY),
        side(pipeline("tiny", *COMMANDS, needs={"eval": ["train"], "predict": ["train", "=chip"]})),
        """\
~ tiny/predict  needs train → train, chip (aligned)
~ tiny/eval     needs predict → train
""",
    ),
    "a pipeline added": (
        side(TINY),
        side(TINY, OTHER),
        """\
+ other  1 stage, 1 target
""",
    ),
    "a pipeline removed": (
        side(OTHER, TINY),
        side(OTHER),
        """\
- tiny  4 stages, 10 targets
""",
    ),
    "a pipeline renamed": (
        side(TINY, OTHER),
        side(pipeline("small", *COMMANDS), OTHER),
        """\
+ small  4 stages, 10 targets
- tiny   4 stages, 10 targets
""",
    ),
    "pipelines in another order": (
        side(TINY, OTHER),
        side(OTHER, TINY),
        """\
~ pipelines  order tiny, other → other, tiny
""",
    ),
    "a config value": (
        side(TINY),
        side(TINY, config={"lr": 0.01}),
        """\
~ tiny  config: lr 0.1 → 0.01
would run again:
  tiny/chip     4 targets, config changed
  tiny/train    after chip
  tiny/predict  4 targets, after train
  tiny/eval     after predict
""",
    ),
    "a config value that few commands depend on": (
        side(TINY, keys=KEYS),
        side(TINY, keys=KEYS, config={"lr": 0.01}),
        """\
~ tiny  config: lr 0.1 → 0.01
would run again:
  tiny/train    config changed
  tiny/predict  4 targets, after train
  tiny/eval     after predict
""",
    ),
    "config keys added, removed, nested, of another type": (
        side(TINY, keys={**KEYS, "eval": ()}, config={"old": None, "n": 1}),
        side(
            TINY,
            keys={**KEYS, "eval": ()},
            config={"n": True, "model": {"depth": 4, "kind": "forest"}, "scenes": ["a", "c", "d"]},
        ),
        """\
~ tiny  config: model.depth 3 → 4
~ tiny  config: model.kind added: forest
~ tiny  config: scenes.1 b → c
~ tiny  config: scenes.2 added: d
~ tiny  config: n 1 → true
~ tiny  config: old removed: null
would run again:
  tiny/chip     4 targets, config changed
  tiny/train    after chip
  tiny/predict  4 targets, after train
  tiny/eval     after predict
""",
    ),
    "items added to a list and removed from one": (
        side(OTHER, config={"tiles": [{"at": 1}, {"at": 2}], "bands": [[1], [2], [3]]}),
        side(
            OTHER,
            config={"tiles": [{"at": 0}, {"at": 1}, {"at": 2}], "bands": [[2]], "scenes": ["b"]},
        ),
        """\
~ other  config: scenes a, b → b
~ other  config: tiles: 1 added
~ other  config: bands: 2 removed
would run again:
  other/fetch  config changed
""",
    ),
    "a list with other items": (
        side(OTHER, config={"tiles": [{"at": 1}, {"at": 2}]}),
        side(OTHER, config={"tiles": [{"at": 1}, {"at": 3}, {"at": 4}]}),
        """\
~ other  config: tiles.1.at 2 → 3
~ other  config: tiles.2.at added: 4
would run again:
  other/fetch  config changed
""",
    ),
    "another class, and another version of a class": (
        side(OTHER, config={"model": {"$type": "m:A"}}),
        side(OTHER, config={"$version": 2, "model": {"$type": "m:B"}}),
        """\
~ other  config: class of model m:A → m:B
~ other  config: config_version added: 2
would run again:
  other/fetch  config changed
""",
    ),
    "an object that was empty": (
        side(OTHER, config={"model": {}, "old": {"a": 1}, "tags": {}}),
        side(OTHER, config={"model": {"depth": 3}, "tags": []}),
        """\
~ other  config: model.depth added: 3
~ other  config: tags {} → none
~ other  config: old.a removed: 1
would run again:
  other/fetch  config changed
""",
    ),
    "a config that is not available": (
        side(OTHER, has_configs=False),
        side(OTHER, config={"lr": 0.01}),
        f"""\
~ other  config {digest(CONFIG)[:19]} → {digest({**CONFIG, "lr": 0.01})[:19]}
would run again:
  other/fetch  config changed
""",
    ),
    "gpu, resources, config keys": (
        side(TINY),
        side(
            TINY,
            keys={"eval": ("lr",)},
            train={"gpu": True, "resources": Resources(vcpus=8, memory_mib=4096)},
        ),
        """\
~ tiny/train  gpu false → true
~ tiny/train  resources {} → {"vcpus": 8, "memory_mib": 4096}
~ tiny/eval   config keys all → lr
would run again:
  tiny/eval  config keys changed
""",
    ),
}


def test_an_input_that_another_stage_now_writes() -> None:
    """It is not in the fingerprint any more, so the stage runs again, and the line says why."""

    def with_produced(*paths: str) -> Side:
        stage = Stage(command="train", inputs=("chips",), produced=paths)
        planned = PlannedPipeline(name="tiny", config_digest="", stages=(stage,))
        return Side(plan=Plan((planned,)), configs={})

    difference = diff_plans(with_produced(), with_produced("chips"))
    assert to_text(difference).splitlines() == [
        "~ tiny/train  produced inputs none → chips",
        "would run again:",
        "  tiny/train  inputs changed",
    ]


@pytest.mark.parametrize("case", CASES)
def test_text(case: str) -> None:
    """Changes first, then the stages that would run again because of them."""
    old, new, expected = CASES[case]
    assert to_text(diff_plans(old, new)) == expected


def test_json() -> None:
    """Values are JSON values; a key that exists on one side only has no value on the other."""
    old, new, _ = CASES["config keys added, removed, nested, of another type"]
    document = json.loads(to_json(diff_plans(old, new)))
    assert document["same"] is False
    assert document["changes"][0] == {
        "kind": "changed",
        "name": "tiny",
        "what": "config: model.depth",
        "old": 3,
        "new": 4,
    }
    assert "old" not in document["changes"][1]
    assert "new" not in document["changes"][-1]
    assert document["runs_again"][0] == {
        "name": "tiny/chip",
        "targets": 4,
        "reason": "config changed",
    }
    empty = json.loads(to_json(diff_plans(old, old)))
    assert empty == {"same": True, "changes": [], "runs_again": []}


def test_markdown() -> None:
    """Tables that GitHub shows, with special characters escaped."""
    new = side(TINY, splits="predict=20", config={"lr": "a|b`c"}, keys=KEYS)
    difference = diff_plans(side(TINY, splits="predict=10", keys=KEYS), new)
    assert (
        to_markdown(difference)
        == """\
**rvrun plan**: 2 changes, 3 stages (22 targets) would run again

| | where | what |
| --- | --- | --- |
| ~ | `tiny` | config: lr 0.1 → a\\|b\\`c |
| ~ | `tiny/predict` | splits 10 → 20 |

| would run again | why |
| --- | --- |
| `tiny/train` | config changed |
| `tiny/predict` | 20 targets, splits changed |
| `tiny/eval` | after predict |
"""
    )
    assert to_markdown(diff_plans(new, new)) == "**rvrun plan**: no changes\n"


def test_github() -> None:
    """A workflow command per line; characters that would end it are escaped."""
    difference = diff_plans(side(OTHER), side(OTHER, config={"lr": "5%\n::error::x"}))
    assert to_github(difference) == (
        '::notice title=plan changed::~ other  config: lr 0.1 → "5%25\\n::error::x"\n'
        "::warning title=would run again::other/fetch: config changed\n"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a b", "a b"), ("", '""'), ("a\n::error::x", '"a\\n::error::x"'), (["a", ""], 'a, ""')],
)
def test_a_change_is_one_line(value: object, shown: str) -> None:
    """Whatever its values are; and an empty string can be seen."""
    difference = diff_plans(side(OTHER), side(OTHER, config={"lr": value}))
    assert to_text(difference).splitlines()[0] == f"~ other  config: lr 0.1 → {shown}"


@given(plans())
def test_a_plan_does_not_differ_from_itself(plan: Plan) -> None:
    """Comparing a plan with itself finds no change."""
    alone = Side(plan=plan, configs={})
    assert diff_plans(alone, alone).same


@given(plans(), plans())
def test_different_plans_differ(one: Plan, other: Plan) -> None:
    """There are no changes if and only if the plans are equal."""
    difference = diff_plans(Side(plan=one, configs={}), Side(plan=other, configs={}))
    assert difference.same == (one == other)


def test_a_million_targets_are_compared_quickly() -> None:
    """Time and size of the output do not depend on the number of splits."""

    def large(splits: int) -> Side:
        stages = (Stage(command="a", num_splits=splits), Stage(command="b", num_splits=splits))
        planned = PlannedPipeline(name="large", config_digest="", stages=stages)
        return Side(plan=Plan((planned,)), configs={})

    began = time.process_time()
    text = to_text(diff_plans(large(500_000), large(500_001)))
    assert len(text.splitlines()) == 5
    assert time.process_time() - began < 1
