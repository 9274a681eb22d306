from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from rvrun.model import (
    DeclaredPipeline,
    Need,
    NeedKind,
    Plan,
    PlannedPipeline,
    Resources,
    Stage,
)
from rvrun.plan.compile import compile_plan
from rvrun.plan.serialize import NotAPlan, plan_from_json, plan_to_json
from tests.strategies import declared_pipelines, plans

PLAN = Plan(
    (
        PlannedPipeline(
            name="tiny",
            config_digest="sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
            stages=(
                Stage(command="chip", num_splits=4, config_keys=()),
                Stage(
                    command="predict",
                    num_splits=4,
                    gpu=True,
                    needs=(Need("chip", NeedKind.ALIGNED),),
                    config_keys=("model.lr", "top"),
                    resources=Resources(gpus=1, memory_mib=2048),
                ),
                Stage(command="eval", needs=(Need("predict"),)),
            ),
        ),
    )
)
TEXT = """\
{
  "rvrun_plan": 1,
  "pipelines": [
    {
      "name": "tiny",
      "config": "config/tiny.json",
      "config_digest": "sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
      "stages": [
        {
          "command": "chip",
          "splits": 4,
          "gpu": false,
          "needs": [],
          "config_keys": [],
          "resources": {},
          "argv": [
            "rvrun",
            "run_command",
            "{config}",
            "chip",
            "--split-ind",
            "{split_ind}",
            "--num-splits",
            "{num_splits}"
          ]
        },
        {
          "command": "predict",
          "splits": 4,
          "gpu": true,
          "needs": [
            {
              "command": "chip",
              "kind": "aligned"
            }
          ],
          "config_keys": [
            "model.lr",
            "top"
          ],
          "resources": {
            "memory_mib": 2048,
            "gpus": 1
          },
          "argv": [
            "rvrun",
            "run_command",
            "{config}",
            "predict",
            "--split-ind",
            "{split_ind}",
            "--num-splits",
            "{num_splits}"
          ]
        },
        {
          "command": "eval",
          "splits": null,
          "gpu": false,
          "needs": [
            {
              "command": "predict",
              "kind": "all"
            }
          ],
          "config_keys": null,
          "resources": {},
          "argv": [
            "rvrun",
            "run_command",
            "{config}",
            "eval"
          ]
        }
      ]
    }
  ]
}
"""


def refusal(text: str) -> str:
    with pytest.raises(NotAPlan) as caught:
        plan_from_json(text, "plan.json")
    prefix = "plan.json is no plan that this rvrun can read: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    """The text of `PLAN` with a change in its first pipeline."""
    document = json.loads(TEXT)
    change(document["pipelines"][0])
    return json.dumps(document)


def test_a_plan_is_written_to_the_byte() -> None:
    """The whole text of a plan."""
    assert plan_to_json(PLAN) == TEXT
    assert plan_from_json(TEXT) == PLAN


@given(plans())
@settings(max_examples=50)
def test_any_plan_comes_back(plan: Plan) -> None:
    """A plan read from its text is the same, and is written the same."""
    text = plan_to_json(plan)
    again = plan_from_json(text)
    assert plan == again
    assert text == plan_to_json(again)


@given(declared_pipelines())
@settings(max_examples=50)
def test_any_compiled_plan_comes_back(pipelines: list[DeclaredPipeline]) -> None:
    """So is what the compiler makes."""
    plan = compile_plan(pipelines)
    assert plan == plan_from_json(plan_to_json(plan))


def test_the_size_of_a_plan_is_that_of_its_stages() -> None:
    """A million splits take no more room than four, but for the digits."""

    def plan(num_splits: int) -> Plan:
        stage = Stage(command="chip", num_splits=num_splits)
        return Plan((PlannedPipeline(name="tiny", config_digest="", stages=(stage,)),))

    assert len(plan_to_json(plan(4))) + 6 == len(plan_to_json(plan(1_000_000)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[]", "it has no `rvrun_plan` version"),
        ("5", "it has no `rvrun_plan` version"),
        ("{}", "it has no `rvrun_plan` version"),
        ('{"rvrun_plan": 2}', "it is of version 2, this rvrun reads 1"),
    ],
)
def test_a_text_that_is_no_plan_is_refused(text: str, problem: str) -> None:
    """The error names the place and what is missing."""
    assert problem == refusal(text)


def test_without_a_place_it_is_the_text() -> None:
    """The place may be left out."""
    with pytest.raises(NotAPlan) as caught:
        plan_from_json("{}")
    expected = "the text is no plan that this rvrun can read: it has no `rvrun_plan` version"
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda pipeline: pipeline.pop("stages"),
        lambda pipeline: pipeline.update(stages=5),
        lambda pipeline: pipeline.update(stages=["chip"]),
        lambda pipeline: pipeline["stages"][0].pop("splits"),
        lambda pipeline: pipeline["stages"][1].update(needs=["chip"]),
        lambda pipeline: pipeline["stages"][1].update(needs=5),
        lambda pipeline: pipeline["stages"][1]["needs"][0].update(kind="some"),
        lambda pipeline: pipeline["stages"][1].update(resources={"vcpu": 1}),
        lambda pipeline: pipeline["stages"][1].update(resources={"vcpus": 0}),
        lambda pipeline: pipeline["stages"][1].update(resources=[1]),
    ],
)
def test_a_plan_with_a_wrong_part_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    """Missing keys and values of another shape are no plan."""
    refusal(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda pipeline: pipeline.update(name=5),
        lambda pipeline: pipeline.update(name="../tiny"),
        lambda pipeline: pipeline["stages"][0].update(command="a b"),
        lambda pipeline: pipeline["stages"][0].update(splits="4"),
        lambda pipeline: pipeline["stages"][0].update(splits=0),
        lambda pipeline: pipeline["stages"][0].update(splits=True),
        lambda pipeline: pipeline["stages"][0].update(gpu="no"),
        lambda pipeline: pipeline["stages"][1].update(config_keys="top"),
        lambda pipeline: pipeline["stages"][1]["needs"][0].update(command="gone"),
        lambda pipeline: pipeline["stages"][1]["needs"][0].update(command="eval"),
        lambda pipeline: pipeline["stages"][1].update(splits=5),
    ],
    ids=[
        "name is no text",
        "name leaves the run directory",
        "command is no name",
        "splits is a text",
        "no splits",
        "splits is true",
        "gpu is a text",
        "config_keys is a text",
        "needs what is not there",
        "needs what comes later",
        "aligned with another count",
    ],
)
def test_a_plan_that_no_compiler_made_is_refused(
    change: Callable[[dict[str, Any]], object],
) -> None:
    """A plan is checked when read: who reads it relies on names, counts and order."""
    refusal(changed(change))


def test_a_wrong_value_is_told_in_a_sentence() -> None:
    """Without the internals of what checks it."""
    text = changed(lambda pipeline: pipeline["stages"][1].update(resources={"vcpus": "x"}))
    expected = "`vcpus` must be a whole number of at least 1, not 'x'"
    assert refusal(text).endswith(expected)
