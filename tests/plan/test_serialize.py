"""Writing and reading plan.json."""

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
from rvrun.plan.serialize import RENDER, NotAPlan, plan_from_json, plan_to_json
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
          "items": null,
          "gpu": false,
          "needs": [],
          "config_keys": [],
          "code": "off",
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
          "items": null,
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
          "code": "off",
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
          "items": null,
          "gpu": false,
          "needs": [
            {
              "command": "predict",
              "kind": "all"
            }
          ],
          "config_keys": null,
          "code": "off",
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
    """The problem that rvrun has with an invalid plan."""
    with pytest.raises(NotAPlan) as caught:
        plan_from_json(text, "plan.json")
    prefix, ending = "plan.json is not a plan that this rvrun can read: ", f"; {RENDER}"
    assert str(caught.value).startswith(prefix)
    assert str(caught.value).endswith(ending)
    return str(caught.value).removeprefix(prefix).removesuffix(ending)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    """`PLAN` as JSON, with a change to its first pipeline."""
    document = json.loads(TEXT)
    change(document["pipelines"][0])
    return json.dumps(document)


def test_a_plan_as_json() -> None:
    """Writing gives exactly these bytes, and reading gives the plan."""
    assert plan_to_json(PLAN) == TEXT
    assert plan_from_json(TEXT) == PLAN


@given(plans())
@settings(max_examples=50)
def test_any_plan_survives_a_round_trip(plan: Plan) -> None:
    """Reading what was written gives an equal plan, which is written as the same bytes."""
    text = plan_to_json(plan)
    copy = plan_from_json(text)
    assert plan == copy
    assert text == plan_to_json(copy)


@given(declared_pipelines())
@settings(max_examples=50)
def test_any_compiled_plan_survives_a_round_trip(pipelines: list[DeclaredPipeline]) -> None:
    """Reading what was written gives what the compiler returned."""
    plan = compile_plan(pipelines)
    assert plan == plan_from_json(plan_to_json(plan))


def test_the_size_of_a_plan_does_not_depend_on_the_number_of_splits() -> None:
    """A million splits take six more characters than four: the digits."""

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
        ('{"rvrun_plan": 2}', "it has version 2, this rvrun reads version 1"),
    ],
)
def test_a_document_that_is_not_a_plan_is_rejected(text: str, problem: str) -> None:
    """The error names the document and what is missing."""
    assert problem == refusal(text)


def test_the_place_is_optional() -> None:
    """Without a place, the error is about "the document"."""
    with pytest.raises(NotAPlan) as caught:
        plan_from_json("{}")
    problem = "it has no `rvrun_plan` version"
    expected = f"the document is not a plan that this rvrun can read: {problem}; {RENDER}"
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
def test_a_plan_with_an_invalid_part_is_rejected(
    change: Callable[[dict[str, Any]], object],
) -> None:
    """Keys are required, and values must have the right type."""
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
        "name is not a string",
        "name is outside of the run directory",
        "command is not a name",
        "splits is a string",
        "splits is 0",
        "splits is true",
        "gpu is a string",
        "config_keys is a string",
        "needs a stage that does not exist",
        "needs a later stage",
        "aligned with another number of splits",
    ],
)
def test_an_inconsistent_plan_is_rejected(
    change: Callable[[dict[str, Any]], object],
) -> None:
    """Reading checks names, numbers and order, because readers rely on them."""
    refusal(changed(change))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"resources": {"vcpus": "x"}}, "`vcpus` must be an integer of at least 1, got 'x'"),
        ({"gpu": "no"}, "`gpu` must be a boolean, got 'no'"),
        ({"config_keys": "top"}, "`config_keys` must be a list of strings or null, got 'top'"),
        (
            {"splits": 5},
            "`tiny/predict` needs `chip` aligned, so both must have the same number of splits, "
            "got 5 and 4",
        ),
        (
            {"needs": [{"command": "eval", "kind": "all"}]},
            "`tiny/predict` needs `eval`, which is not a stage before it",
        ),
    ],
)
def test_an_invalid_value_is_one_sentence(changes: dict[str, Any], problem: str) -> None:
    """The error has the rule and the value, without the internals of the validator."""
    assert refusal(changed(lambda pipeline: pipeline["stages"][1].update(changes))) == problem
