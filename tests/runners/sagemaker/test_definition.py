"""Plans as pipeline definitions: their exact text, their edges, and that SageMaker takes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun.model import Plan, Resources
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.remote.upload import Shipment
from rvrun.render.jinja import BadTemplate
from rvrun.runners.sagemaker.definition import compact, problems, render_definition, request
from rvrun.runners.sagemaker.machine import missing
from rvrun.runners.sagemaker.quota import quota_problems
from rvrun.runners.sagemaker.steps import Definition, Place, definitions
from rvrun.runners.sagemaker.validate import all_steps, definition_problems, name_of
from rvrun.settings.schema import SagemakerCommandSettings, SagemakerSettings
from tests.build import pipeline
from tests.strategies import plans

REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
SETTINGS = SagemakerSettings(
    role="arn:aws:iam::123456789012:role/rvrun",
    cpu_image=f"{REGISTRY}/rvrun:1",
    cpu_instance_type="ml.m5.xlarge",
    gpu_image=f"{REGISTRY}/rvrun:1-gpu",
    gpu_instance_type="ml.g4dn.xlarge",
)
RASTER = ("analyze", "chip*", "train", "predict*", "eval", "bundle")


def settings(**changed: Any) -> SagemakerSettings:
    return attrs.evolve(SETTINGS, **changed)


def places(plan: Plan) -> dict[str, Place]:
    return {
        each.name: Place(
            shipment=Shipment(
                config_uri=f"s3://bucket/{each.name}/rvrun/config-0123456789abcdef.json", files={}
            ),
            root_uri=f"s3://bucket/{each.name}",
        )
        for each in plan.pipelines
    }


def rendered(plan: Plan, said: SagemakerSettings = SETTINGS) -> dict[str, Any]:
    """The one definition of `plan`, which must be one that SageMaker takes."""
    (definition,) = definitions(plan, said, places(plan), "run")
    values = render_definition(definition, said)
    assert problems(values, request(definition, said)) == []
    return values


def raster(*splits: str, **more: Any) -> Plan:
    declared = pipeline("rv", *RASTER, gpu=("train", "predict"), **more)
    return compile_plan([declared], splits=parse_splits(splits))


def edges(definition: Mapping[str, Any]) -> dict[str, list[str]]:
    """What each step depends on; those in a join on what that depends on, too."""
    found = {}
    for step in definition["Steps"]:
        joined = step.get("DependsOn", []) if step["Type"] == "Condition" else []
        inner = step["Arguments"]["IfSteps"] if step["Type"] == "Condition" else [step]
        found.update({each["Name"]: [*joined, *each.get("DependsOn", [])] for each in inner})
    return found


def arguments(definition: Mapping[str, Any], name: str) -> dict[str, Any]:
    (step,) = (step for step in all_steps(definition) if step["Name"] == name)
    found: dict[str, Any] = step["Arguments"]
    return found


def pretty(values: Any) -> str:
    return json.dumps(values, indent=2) + "\n"


def test_golden_of_a_raster_pipeline(golden: Callable[[str, str], None]) -> None:
    """Split, joined, training and GPU stages; each split a step."""
    golden("raster.sagemaker.json", pretty(rendered(raster("2"))))


def test_golden_of_splits_on_instances(golden: Callable[[str, str], None]) -> None:
    """A stage is one step, of as many instances as it has splits."""
    golden(
        "raster-instances.sagemaker.json",
        pretty(rendered(raster("2", "predict=16"), settings(split_by="instances"))),
    )


def test_golden_of_all_settings(golden: Callable[[str, str], None]) -> None:
    """Keys, networks, spot instances, caches, tags, environments, several pipelines."""
    first = pipeline("first", "clean*", "train", "look*", needs={"look": ["clean", "train"]})
    plan = compile_plan([first, pipeline("second", "only")], splits=parse_splits(["2"]))
    said = settings(
        train_image=f"{REGISTRY}/rvrun:1-train",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=2,
        use_spot_instances=True,
        spot_instance_max_wait_time=100_000,
        kms_key="arn:aws:kms:eu-west-1:123456789012:key/1234abcd",
        subnets=("subnet-1", "subnet-2"),
        security_groups=("sg-1",),
        encrypt_traffic=True,
        cache_expire_after="P30D",
        parallel_steps=8,
        pipeline_name="both",
        tags={"team": "maps"},
        environment={"B": "2", "A": '"1" & <2>'},
        commands={
            "look": SagemakerCommandSettings(
                instance_type="ml.c5.xlarge", volume_size=100, tags={"cost": "look"}
            ),
            "second/*": SagemakerCommandSettings(attempts=1, environment={"A": "3"}),
        },
    )
    (definition,) = definitions(plan, said, places(plan), "run")
    golden(
        "all.sagemaker.json",
        pretty({"request": request(definition, said), "definition": rendered(plan, said)}),
    )


def test_steps_depend_on_what_their_stage_needs_and_no_more() -> None:
    """Not on all that came before."""
    assert edges(rendered(raster("2"))) == {
        "rv-analyze": [],
        "rv-chip-0": ["rv-analyze"],
        "rv-chip-1": ["rv-analyze"],
        "rv-train": ["rv-chip-0", "rv-chip-1"],
        "rv-predict-0": ["rv-train"],
        "rv-predict-1": ["rv-train"],
        "rv-eval": ["rv-predict-0", "rv-predict-1"],
        "rv-bundle": ["rv-eval"],
    }


def test_aligned_splits_depend_on_their_own() -> None:
    """Split i on split i, and together with a join where another stage is needed whole."""
    needs = {"b": ["=a"], "d": ["=b", "c"]}
    declared = pipeline("p", "a*", "b*", "c*", "d*", needs=needs)
    found = edges(rendered(compile_plan([declared], splits=parse_splits(["2"]))))
    assert found["p-b-1"] == ["p-a-1"]
    assert found["p-d-1"] == ["p-c-0", "p-c-1", "p-b-1"]


def test_aligned_splits_on_instances_depend_on_the_steps_that_run_them() -> None:
    """A step of ten instances needs those that have its splits, whatever their size."""
    declared = pipeline("p", "a*", "b*", needs={"b": ["=a"]})
    plan = compile_plan([declared], splits=parse_splits(["25"]))
    commands = {
        "a": SagemakerCommandSettings(split_by="instances", max_instances=10),
        "b": SagemakerCommandSettings(split_by="instances", max_instances=4),
    }
    found = edges(rendered(plan, settings(commands=commands)))
    assert list(found)[:4] == ["p-a-0", "p-a-10", "p-a-20", "p-b-0"]
    assert found["p-b-4"] == ["p-a-0"]
    assert found["p-b-8"] == ["p-a-0", "p-a-10"]
    assert found["p-b-24"] == ["p-a-20"]


def test_splits_on_instances_over_a_step_s_instances_are_several_steps() -> None:
    """Each tells its instances which splits are theirs."""
    found = rendered(raster("predict=250"), settings(split_by="instances"))
    told = [arguments(found, f"rv-predict-{first}") for first in (0, 100, 200)]
    counts = [each["ProcessingResources"]["ClusterConfig"]["InstanceCount"] for each in told]
    assert counts == [100, 100, 50]
    assert [each.get("Environment") for each in told] == [
        {"RVRUN_SPLITS": "0-99"},
        {"RVRUN_SPLITS": "100-199"},
        {"RVRUN_SPLITS": "200-249"},
    ]
    words = told[1]["AppSpecification"]["ContainerArguments"]
    assert words[2:] == ["predict", "--num-splits", "250", "--runner", "sagemaker"]


def test_one_split_is_told_its_index() -> None:
    """A last step of one instance needs no list of hosts."""
    commands = {"predict": SagemakerCommandSettings(max_instances=2)}
    found = rendered(raster("predict=3"), settings(split_by="instances", commands=commands))
    words = arguments(found, "rv-predict-2")["AppSpecification"]["ContainerArguments"]
    assert words[3:7] == ["--split-ind", "2", "--num-splits", "3"]


def test_training_is_a_matter_of_settings() -> None:
    """Commands named there, also by glob, are training steps; a split of one is a step."""
    said = settings(train_commands=("rv/pre*",), split_by="instances")
    kinds = {step["Name"]: step["Type"] for step in all_steps(rendered(raster("2"), said))}
    assert kinds["rv-predict-0"] == kinds["rv-predict-1"] == "Training"
    assert kinds["rv-train"] == kinds["rv-chip"] == "Processing"


def test_training_on_several_instances_is_told_to_use_torchrun() -> None:
    """One process a GPU, or as many as said; also on one instance if said."""

    def told(**changed: Any) -> list[str]:
        found = arguments(rendered(raster("2"), settings(**changed)), "rv-train")
        words: list[str] = found["AlgorithmSpecification"]["ContainerArguments"]
        return words[5:]

    assert told() == []
    assert told(train_instance_count=4) == ["--torchrun", "gpu"]
    assert told(train_instance_count=4, processes_per_instance=2) == ["--torchrun", "2"]
    assert told(processes_per_instance=8) == ["--torchrun", "8"]


def test_spot_training_waits_at_least_as_long_as_it_may_run() -> None:
    """Unless said, exactly so long; a command's own timeout goes before the settings'."""
    declared = pipeline("p", "train")
    (train,) = declared.commands
    slow = attrs.evolve(train, resources=Resources(timeout_seconds=200_000))
    plan = compile_plan([attrs.evolve(declared, commands=(slow,))])
    found = rendered(plan, settings(use_spot_instances=True))
    stopping = {"MaxWaitTimeInSeconds": 200_000, "MaxRuntimeInSeconds": 200_000}
    assert arguments(found, "p-train")["StoppingCondition"] == stopping
    said = settings(use_spot_instances=True, spot_instance_max_wait_time=100_000)
    (definition,) = definitions(plan, said, places(plan), "run")
    assert definition_problems(render_definition(definition, said)) == [
        "step `p-train`: StoppingCondition.MaxWaitTimeInSeconds is 100000, less than "
        "MaxRuntimeInSeconds, 200000: raise `sagemaker.spot_instance_max_wait_time` or lower "
        "`sagemaker.max_run_time`"
    ]


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({}, ["run"]),
        ({"pipeline_name": "mine"}, ["mine"]),
        ({"definitions": "each"}, ["a", "b"]),
    ],
)
def test_several_pipelines_are_one_definition_or_one_each(
    said: Mapping[str, Any], names: Sequence[str]
) -> None:
    """One is named by setting or run directory, and its branches know nothing of each other."""
    plan = compile_plan([pipeline("a", "x", "y"), pipeline("b", "x")])
    found = definitions(plan, settings(**said), places(plan), "run")
    assert [each.name for each in found] == names
    assert [step.name for each in found for step in each.jobs()] == ["a-x", "a-y", "b-x"]


def test_size_is_linear_in_splits() -> None:
    """300 splits that all need 300 others are half of what may be sent, not many times it."""
    declared = pipeline("landcover", "chip*", "predict*")

    def size(num: int) -> int:
        plan = compile_plan([declared], splits=parse_splits([str(num)]))
        return len(compact(rendered(plan)))

    assert size(300) < 600_000
    assert size(600) < 2.05 * size(300)


def test_missing_settings_are_told_with_who_needs_them() -> None:
    """Each once, with the key, the file and the variable."""
    said = SagemakerSettings(cpu_image="image", train_image="image")
    found = missing(raster("2"), said, "rvrun.toml")
    assert [each.partition(" cannot do")[0] for each in found] == [
        "`sagemaker.role` is not set, which the jobs",
        "`sagemaker.cpu_instance_type` is not set, which `rv/analyze`, `rv/chip`, `rv/eval`, "
        "`rv/bundle`",
        "`sagemaker.train_instance_type` is not set, which `rv/train`",
        "`sagemaker.gpu_image` is not set, which `rv/predict`",
        "`sagemaker.gpu_instance_type` is not set, which `rv/predict`",
    ]
    mend = "without: set it in rvrun.toml or as RVRUN_SAGEMAKER_CPU_INSTANCE_TYPE"
    assert found[1].endswith(mend)


def too_many(plan: Plan, **said: Any) -> list[str]:
    return quota_problems(plan, settings(**said), places(plan), "run")


def test_too_many_steps_name_the_setting_that_would_fit() -> None:
    """The mildest change that is enough; where none is, what else can be done."""
    many = raster("30")
    assert too_many(many, max_steps=64) == []
    start = "pipeline `rv` has 64 steps, more than `sagemaker.max_steps`, 50: "
    assert too_many(many) == [f'{start}`sagemaker.split_by = "instances"` makes it 6 steps']
    assert too_many(raster("30"), max_steps=5)[0].endswith(
        "5: give fewer splits, or raise that quota of your account and then `sagemaker.max_steps`"
    )
    pair = compile_plan([pipeline("a", "x*"), pipeline("b", "x*")], splits=parse_splits(["30"]))
    assert too_many(pair)[0].endswith('50: `sagemaker.definitions = "each"` makes it 30 steps')


def test_a_template_of_the_users_replaces_ours(tmp_path: Any) -> None:
    """What it renders is checked like ours; what is no JSON, or not of one mind, is refused."""
    plan = compile_plan([pipeline("p", "a")])
    (definition,) = definitions(plan, SETTINGS, places(plan), "run")

    def render(text: str) -> Any:
        (tmp_path / "sagemaker.json.j2").write_text(text)
        return render_definition(definition, SETTINGS, str(tmp_path))

    assert render('{"Steps": [], "Version": {{ definition.name | tojson }}}') == {
        "Steps": [],
        "Version": "p",
    }
    for text, problem in (
        ('{"Steps": [],}', "is not JSON"),
        ('{"Steps": [], "Steps": []}', "a key is there twice"),
        ("[]", "is no JSON object"),
    ):
        with pytest.raises(BadTemplate, match=problem):
            render(text)


def _fits(definition: Definition) -> bool:
    """Whether nothing in the plan itself is too much for SageMaker."""
    return all(
        "." not in step.name and step.machine.max_run_time <= 777_600 for step in definition.jobs()
    )


@given(plans(), st.sampled_from(["steps", "instances"]), st.integers(1, 4))
def test_every_plan_s_definition_is_taken(plan: Plan, split_by: str, most: int) -> None:
    """Whatever is compiled, SageMaker takes it, but for names and times."""
    said = settings(split_by=split_by, max_instances=most, train_commands=("[a-m]*",))
    for definition in definitions(plan, said, places(plan), "run"):
        values = render_definition(definition, said)
        found = definition_problems(values)
        allowed = ("cannot be named so", "MaxRuntimeInSeconds is")
        assert all(any(each in problem for each in allowed) for problem in found)
        assert found == [] or not _fits(definition)
        assert definition.num_steps == len(list(all_steps(values)))
        reached = {name_of(step) for step in all_steps(values)}
        assert all(set(needed) <= reached for needed in edges(values).values())


@given(plans(max_pipelines=1), st.integers(1, 4))
def test_every_split_runs_after_what_it_needs(plan: Plan, most: int) -> None:
    """Each split is in one step, and depends on each split that its stage needs, directly."""
    said = settings(split_by="instances", max_instances=most)
    (definition,) = definitions(plan, said, places(plan), "run")
    by_target = {
        (step.stage, split): step.name
        for step in definition.jobs()
        for split in (step.splits or [None])
    }
    assert len(by_target) == plan.num_targets
    needed = edges(render_definition(definition, said))
    (planned,) = plan.pipelines
    for stage in planned.stages:
        for target in stage.targets(planned.name):
            own = needed[by_target[f"{planned.name}/{stage.command}", target.split_ind]]
            for need in stage.needs:
                other = planned.stage(need.command)
                indices = [target.split_ind] if need.kind == "aligned" else None
                for each in other.targets(planned.name):
                    if indices is None or each.split_ind in indices:
                        key = f"{planned.name}/{other.command}", each.split_ind
                        assert by_target[key] in own
