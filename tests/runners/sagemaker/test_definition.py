"""Pipeline definitions of plans: exact text, dependencies, and that SageMaker accepts them."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from rvrun.model import Plan, Resources
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.remote.upload import Upload
from rvrun.render.jinja import BadTemplate
from rvrun.runners.sagemaker.definition import (
    create_request,
    find_problems,
    render_definition,
    to_compact_json,
)
from rvrun.runners.sagemaker.files import RenderedPipeline, render_files
from rvrun.runners.sagemaker.functions import EXECUTION_ID, join, resolve
from rvrun.runners.sagemaker.machine import find_missing
from rvrun.runners.sagemaker.quota import quota_problems
from rvrun.runners.sagemaker.settings import SagemakerCommandSettings, SagemakerSettings
from rvrun.runners.sagemaker.steps import JobContext, SagemakerPipeline, plan_steps
from rvrun.runners.sagemaker.validate import all_steps, step_name, validate_definition
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


def contexts(plan: Plan) -> dict[str, JobContext]:
    return {
        planned.name: JobContext(
            upload=Upload(
                config_uri=f"s3://bucket/{planned.name}/rvrun/config-0123456789abcdef.json",
                files={},
            ),
            root_uri=f"s3://bucket/{planned.name}",
        )
        for planned in plan.pipelines
    }


def steps(plan: Plan, used: SagemakerSettings) -> tuple[SagemakerPipeline, ...]:
    return plan_steps(plan, used, contexts(plan), "run")


def rendered(plan: Plan, used: SagemakerSettings = SETTINGS) -> Mapping[str, Any]:
    """The only definition of `plan`, which SageMaker must accept."""
    (single,) = steps(plan, used)
    definition = render_definition(single, used)
    assert find_problems(definition, create_request(single, used)) == []
    return definition


def raster(*splits: str, **more: Any) -> Plan:
    declared = pipeline("rv", *RASTER, gpu=("train", "predict"), **more)
    return compile_plan([declared], splits=parse_splits(splits))


def edges(definition: Mapping[str, Any]) -> dict[str, list[str]]:
    """The dependencies of each step; steps in a join also have those of the join."""
    dependencies: dict[str, list[str]] = {}
    for step in definition["Steps"]:
        joined = step.get("DependsOn", []) if step["Type"] == "Condition" else []
        jobs = step["Arguments"]["IfSteps"] if step["Type"] == "Condition" else [step]
        dependencies |= {job["Name"]: [*joined, *job.get("DependsOn", [])] for job in jobs}
    return dependencies


def arguments(definition: Mapping[str, Any], name: str) -> dict[str, Any]:
    (step,) = (step for step in all_steps(definition) if step["Name"] == name)
    values: dict[str, Any] = step["Arguments"]
    return values


def pretty(values: Any) -> str:
    return json.dumps(values, indent=2) + "\n"


def test_golden_of_a_raster_pipeline(golden: Callable[[str, str], None]) -> None:
    """Split, joined, training and GPU stages; each split is a step."""
    golden("raster.sagemaker.json", pretty(rendered(raster("2"))))


def test_golden_of_splits_on_instances(golden: Callable[[str, str], None]) -> None:
    """A stage is one step with an instance for each split."""
    golden(
        "raster-instances.sagemaker.json",
        pretty(rendered(raster("2", "predict=16"), settings(split_by="instances"))),
    )


def test_golden_of_all_settings(golden: Callable[[str, str], None]) -> None:
    """Keys, networks, spot instances, caching, tags, environments, several pipelines."""
    first = pipeline("first", "clean*", "train", "look*", needs={"look": ["clean", "train"]})
    plan = compile_plan([first, pipeline("second", "only")], splits=parse_splits(["2"]))
    used = settings(
        train_image=f"{REGISTRY}/rvrun:1-train",
        train_instance_type="ml.p3.2xlarge",
        train_instance_count=2,
        use_spot_instances=True,
        spot_instance_max_wait_time=100_000,
        checkpoint_uri="s3://bucket/saved",
        metrics={"loss": "loss=([0-9.]+)"},
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
    (single,) = steps(plan, used)
    golden(
        "all.sagemaker.json",
        pretty({"request": create_request(single, used), "definition": rendered(plan, used)}),
    )


def test_steps_depend_only_on_what_their_stage_needs() -> None:
    """A step does not depend on every earlier step."""
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
    """Split i depends on split i, also inside of a join for another stage that is needed whole."""
    needs = {"b": ["=a"], "d": ["=b", "c"]}
    declared = pipeline("p", "a*", "b*", "c*", "d*", needs=needs)
    needed = edges(rendered(compile_plan([declared], splits=parse_splits(["2"]))))
    assert needed["p-b-1"] == ["p-a-1"]
    assert needed["p-d-1"] == ["p-c-0", "p-c-1", "p-b-1"]


def test_aligned_splits_on_instances_depend_on_the_steps_that_run_them() -> None:
    """A step depends on the steps that run its splits, whatever their numbers of instances."""
    declared = pipeline("p", "a*", "b*", needs={"b": ["=a"]})
    plan = compile_plan([declared], splits=parse_splits(["25"]))
    commands = {
        "a": SagemakerCommandSettings(split_by="instances", max_instances=10),
        "b": SagemakerCommandSettings(split_by="instances", max_instances=4),
    }
    needed = edges(rendered(plan, settings(commands=commands)))
    assert list(needed)[:4] == ["p-a-0", "p-a-10", "p-a-20", "p-b-0"]
    assert needed["p-b-4"] == ["p-a-0"]
    assert needed["p-b-8"] == ["p-a-0", "p-a-10"]
    assert needed["p-b-24"] == ["p-a-20"]


def test_more_splits_than_instances_per_step_are_several_steps() -> None:
    """Each step passes its splits to its instances."""
    definition = rendered(raster("predict=250"), settings(split_by="instances"))
    requests = [arguments(definition, f"rv-predict-{first}") for first in (0, 100, 200)]
    clusters = [request["ProcessingResources"]["ClusterConfig"] for request in requests]
    assert [cluster["InstanceCount"] for cluster in clusters] == [100, 100, 50]
    assert [request.get("Environment") for request in requests] == [
        {"RVRUN_SPLITS": "0-99"},
        {"RVRUN_SPLITS": "100-199"},
        {"RVRUN_SPLITS": "200-249"},
    ]
    words = requests[1]["AppSpecification"]["ContainerArguments"]
    assert words[2:] == ["predict", "--num-splits", "250", "--runner", "sagemaker"]


def test_a_step_with_a_single_split_gets_its_index() -> None:
    """A last step with one instance needs no list of hosts."""
    commands = {"predict": SagemakerCommandSettings(max_instances=2)}
    definition = rendered(raster("predict=3"), settings(split_by="instances", commands=commands))
    words = arguments(definition, "rv-predict-2")["AppSpecification"]["ContainerArguments"]
    assert words[3:7] == ["--split-ind", "2", "--num-splits", "3"]


def test_settings_select_the_training_commands() -> None:
    """Globs match commands; each split of a training command is a step."""
    used = settings(train_commands=("rv/pre*",), split_by="instances")
    kinds = {step["Name"]: step["Type"] for step in all_steps(rendered(raster("2"), used))}
    assert kinds["rv-predict-0"] == kinds["rv-predict-1"] == "Training"
    assert kinds["rv-train"] == kinds["rv-chip"] == "Processing"


def test_training_on_several_instances_uses_torchrun() -> None:
    """One process per GPU, or a configured number; on one instance only if it is configured."""

    def options(**changed: Any) -> list[str]:
        request = arguments(rendered(raster("2"), settings(**changed)), "rv-train")
        words: list[str] = request["AlgorithmSpecification"]["ContainerArguments"]
        return words[5:]

    assert options() == []
    assert options(train_instance_count=4) == ["--torchrun", "gpu"]
    assert options(train_instance_count=4, processes_per_instance=2) == ["--torchrun", "2"]
    assert options(processes_per_instance=8) == ["--torchrun", "8"]


def test_spot_training_may_take_at_least_its_run_time() -> None:
    """By default exactly that; a command's own timeout overrides the settings."""
    declared = pipeline("p", "train")
    (train,) = declared.commands
    slow = attrs.evolve(train, resources=Resources(timeout_seconds=200_000))
    plan = compile_plan([attrs.evolve(declared, commands=(slow,))])
    definition = rendered(plan, settings(use_spot_instances=True))
    stopping = {"MaxWaitTimeInSeconds": 200_000, "MaxRuntimeInSeconds": 200_000}
    assert arguments(definition, "p-train")["StoppingCondition"] == stopping
    used = settings(use_spot_instances=True, spot_instance_max_wait_time=100_000)
    (single,) = steps(plan, used)
    assert validate_definition(render_definition(single, used)) == [
        "p-train: StoppingCondition.MaxWaitTimeInSeconds must be at least MaxRuntimeInSeconds "
        "(200000), got 100000; raise `sagemaker.spot_instance_max_wait_time` or lower "
        "`sagemaker.max_run_time`"
    ]


def checkpoints(**changed: Any) -> object:
    """Where the checkpoints of `rv/train` are."""
    request = arguments(rendered(raster("2"), settings(**changed)), "rv-train")
    return request.get("CheckpointConfig", {}).get("S3Uri")


def test_spot_training_has_checkpoints() -> None:
    """For each execution, below the root; other training only where it is configured."""
    folder = "s3://bucket/rv/sagemaker-checkpoints"
    assert checkpoints() is None
    assert checkpoints(use_spot_instances=True) == {
        "Std:Join": {
            "On": "/",
            "Values": [folder, {"Get": "Execution.PipelineExecutionId"}, "rv/train"],
        }
    }
    assert checkpoints(checkpoint_uri="s3://mine/") == "s3://mine/rv/train"
    used = settings(use_spot_instances=True, checkpoint_path="/saved")
    config = arguments(rendered(raster("2"), used), "rv-train")["CheckpointConfig"]
    assert config["LocalPath"] == "/saved"


def test_cached_training_has_checkpoints_of_its_config() -> None:
    """SageMaker compares where they are: a place for each execution would never match."""
    uri = checkpoints(use_spot_instances=True, cache_expire_after="P30D")
    assert isinstance(uri, str)
    prefix = "s3://bucket/rv/sagemaker-checkpoints/"
    assert re.fullmatch(re.escape(prefix) + r"[0-9a-f]{16}/rv/train", uri)


def test_splits_of_training_do_not_share_checkpoints() -> None:
    """Each has a place of its own."""
    plan = compile_plan([pipeline("p", "train*")], splits=parse_splits(["2"]))
    definition = rendered(plan, settings(checkpoint_uri="s3://mine"))
    uris = [step["Arguments"]["CheckpointConfig"]["S3Uri"] for step in all_steps(definition)]
    assert uris == ["s3://mine/p/train/0", "s3://mine/p/train/1"]


def test_warm_pools_and_metrics_are_for_training() -> None:
    """Processing jobs have neither, and warm pools are not for spot instances."""
    used = settings(keep_alive=600, metrics={"loss": "loss=([0-9.]+)", "acc": "acc=(.*)"})
    definition = rendered(raster("2"), used)
    train = arguments(definition, "rv-train")
    assert train["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert train["AlgorithmSpecification"]["MetricDefinitions"] == [
        {"Name": "acc", "Regex": "acc=(.*)"},
        {"Name": "loss", "Regex": "loss=([0-9.]+)"},
    ]
    assert "KeepAlive" not in json.dumps(arguments(definition, "rv-eval"))
    spot = attrs.evolve(used, use_spot_instances=True)
    (single,) = steps(raster("2"), spot)
    assert validate_definition(render_definition(single, spot)) == [
        "rv-train: ResourceConfig.KeepAlivePeriodInSeconds conflicts with spot instances; remove "
        "`sagemaker.keep_alive` or `sagemaker.use_spot_instances`"
    ]


def test_functions_are_checked_as_what_they_return() -> None:
    """Those that rvrun does not use stay as they are, and are reported."""
    assert resolve(join("s3://b", EXECUTION_ID, "x")) == "s3://b/a1b2c3d4e5f6/x"
    other = {"Get": "Parameters.Bucket"}
    assert resolve({"a": [join("s3:/", other), 1]}) == {"a": [join("s3:/", other), 1]}


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, ["run"]),
        ({"pipeline_name": "mine"}, ["mine"]),
        ({"definitions": "each"}, ["a", "b"]),
    ],
)
def test_several_pipelines_share_a_definition_or_have_their_own(
    changed: Mapping[str, Any], names: Sequence[str]
) -> None:
    """A shared definition is named by the setting, or after the run directory."""
    plan = compile_plan([pipeline("a", "x", "y"), pipeline("b", "x")])
    pipelines = steps(plan, settings(**changed))
    assert [planned.name for planned in pipelines] == names
    assert [step.name for planned in pipelines for step in planned.jobs()] == ["a-x", "a-y", "b-x"]


def pair(num: int, **changed: Any) -> Mapping[str, Any]:
    """The definition of `num` splits that all need `num` others."""
    declared = pipeline("landcover", "chip*", "predict*")
    plan = compile_plan([declared], splits=parse_splits([str(num)]))
    return rendered(plan, settings(**changed))


def test_splits_within_the_usual_quota_depend_directly_on_each_other() -> None:
    """A definition of at most 50 steps has no Condition step, whatever its stages are."""
    assert {step["Type"] for step in all_steps(pair(25))} == {"Processing"}
    direct = pair(24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rvrun.runners.sagemaker.steps.MAX_DIRECT_EDGES", 0)
        joined = pair(24)
    assert edges(joined) == edges(direct)
    assert 0 < len(to_compact_json(direct)) - len(to_compact_json(joined)) < 12_000
    declared = pipeline("p", "a*", "b*", "c*", "d*", needs={"d": ["a", "b", "c"]})
    plan = compile_plan([declared], splits=parse_splits(["a=8", "b=8", "c=9", "d=25"]))
    assert {step["Type"] for step in all_steps(rendered(plan))} == {"Processing"}


def test_many_splits_are_joined_by_a_condition_step() -> None:
    """It says what it does, so that it is not mistaken for a decision."""
    (join,) = (step for step in pair(300)["Steps"] if step["Type"] == "Condition")
    assert join["DisplayName"] == "Start-landcover-predict"
    assert join["Description"] == (
        "Always true: starts the steps of landcover/predict when all steps that they need have "
        "succeeded"
    )
    assert (len(join["DependsOn"]), len(join["Arguments"]["IfSteps"])) == (300, 300)


@pytest.mark.parametrize(("num", "in_s3"), [(24, False), (300, True)])
def test_large_definitions_are_uploaded(num: int, in_s3: bool) -> None:
    """From 100 KiB; then the request only has their location."""
    declared = pipeline("landcover", "chip*", "predict*")
    plan = compile_plan([declared], splits=parse_splits([str(num)]))
    (single,) = steps(plan, SETTINGS)
    definition = render_definition(single, SETTINGS)
    made = RenderedPipeline(
        pipeline=single,
        definition=definition,
        request=create_request(single, SETTINGS),
        root_uri="s3://bucket/landcover",
    )
    files = render_files([made], {})
    request = json.loads(files["sagemaker/landcover.request.json"])
    assert ("PipelineDefinitionS3Location" in request) is in_s3
    text = to_compact_json(definition)
    assert (len(text.encode()) >= 100 * 1024) is in_s3
    assert (text in files.values()) is in_s3


def test_size_is_linear_in_splits() -> None:
    """300 splits that all need 300 others, and twice as many."""

    def size(num: int) -> int:
        return len(to_compact_json(pair(num)))

    assert size(300) < 620_000
    assert size(600) < 2.05 * size(300)


def test_steps_are_described_by_their_targets() -> None:
    """As `rvrun status` and `rvrun logs` name them; on instances, with the range of splits."""

    def names(plan: Plan, **changed: Any) -> list[str]:
        return [step["Description"] for step in all_steps(rendered(plan, settings(**changed)))]

    declared = [pipeline("a.b", "clean*", "train")]
    plan = compile_plan(declared, splits=parse_splits(["3"]))
    assert names(plan) == ["a.b/clean/0", "a.b/clean/1", "a.b/clean/2", "a.b/train"]
    assert names(plan, split_by="instances", max_instances=2) == [
        "a.b/clean/0-1",
        "a.b/clean/2",
        "a.b/train",
    ]


def test_names_have_only_characters_that_sagemaker_accepts() -> None:
    """Each other character becomes a hyphen."""
    plan = compile_plan([pipeline("a.b_c", "x")])
    (single,) = steps(plan, SETTINGS)
    assert single.name == "a-b-c"
    assert [step["Name"] for step in all_steps(rendered(plan))] == ["a-b_c-x"]


def test_the_number_of_parallel_steps_is_always_set() -> None:
    """By default that of all steps, so that it replaces an earlier limit of the same pipeline."""

    def limit(**changed: Any) -> object:
        (single,) = steps(raster("2"), settings(**changed))
        return create_request(single, settings(**changed))["ParallelismConfiguration"]

    assert limit(parallel_steps=3) == {"MaxParallelExecutionSteps": 3}
    assert limit() == {"MaxParallelExecutionSteps": 8}


def test_a_single_attempt_is_not_retried() -> None:
    """Also not after the faults that SageMaker retries by default."""
    definition = rendered(raster("2"), settings(attempts=1))
    (first, *_) = all_steps(definition)
    assert first["RetryPolicies"] == [
        {"ExceptionType": ["Step.SERVICE_FAULT", "Step.THROTTLING"], "MaxAttempts": 0}
    ]


def test_missing_settings_name_the_commands_that_need_them() -> None:
    """Each once, with the key, the file and the variable."""
    used = SagemakerSettings(cpu_image="image", train_image="image")
    cpu = "`rv/analyze`, `rv/chip`, `rv/eval`, `rv/bundle`"
    assert find_missing(raster("2"), used, "rvrun.toml") == [
        f"`sagemaker.{key}` is required for {commands}; set it in rvrun.toml or as "
        f"RVRUN_SAGEMAKER_{key.upper()}"
        for key, commands in (
            ("role", "all jobs"),
            ("cpu_instance_type", cpu),
            ("train_instance_type", "`rv/train`"),
            ("gpu_image", "`rv/predict`"),
            ("gpu_instance_type", "`rv/predict`"),
        )
    ]


def too_many(plan: Plan, **changed: Any) -> list[str]:
    return quota_problems(plan, settings(**changed), contexts(plan), "run")


def test_too_many_steps_name_the_setting_that_makes_them_fit() -> None:
    """The smallest change that suffices; if none does, what else to do."""
    many = raster("30")
    assert too_many(many, max_steps=64) == []
    start = "pipeline `rv` must have at most 50 steps (`sagemaker.max_steps`), got 64; "
    assert too_many(many) == [f'{start}set `sagemaker.split_by = "instances"` to get 6 steps']
    assert too_many(raster("30"), max_steps=5) == [
        "pipeline `rv` must have at most 5 steps (`sagemaker.max_steps`), got 64; use fewer "
        "splits, or raise that quota of your account and then `sagemaker.max_steps`"
    ]
    pair = compile_plan([pipeline("a", "x*"), pipeline("b", "x*")], splits=parse_splits(["30"]))
    assert too_many(pair) == [
        "pipeline `run` must have at most 50 steps (`sagemaker.max_steps`), got 60; set "
        '`sagemaker.definitions = "each"` to get 30 steps'
    ]


def test_a_users_template_replaces_ours(tmp_path: Any) -> None:
    """What it renders must be a JSON object without duplicate keys."""
    plan = compile_plan([pipeline("p", "a")])
    (single,) = steps(plan, SETTINGS)

    def render(text: str) -> Any:
        (tmp_path / "sagemaker.json.j2").write_text(text)
        return render_definition(single, SETTINGS, str(tmp_path))

    assert render('{"Steps": [], "Version": {{ definition.name | tojson }}}') == {
        "Steps": [],
        "Version": "p",
    }
    for text, problem in (
        ('{"Steps": [}', "must render JSON, but it is not JSON (Expecting value"),
        ('{"Steps": [], "Steps": []}', "must render JSON, but it must not have key 'Steps' twice"),
        ("[]", "must render a JSON object, got '[]'"),
    ):
        with pytest.raises(BadTemplate, match=re.escape(f"template sagemaker.json.j2: {problem}")):
            render(text)


#: As rvrun's own template was before it had the filter `request`.
OLD_STYLE = """
{% macro processing(step) %}
{
  "ProcessingResources": {
    "ClusterConfig": {
      "InstanceCount": {{ step.instance_count | json }},
      "InstanceType": {{ step.machine.instance_type | json }},
{% if settings.kms_key %}
      "VolumeKmsKeyId": {{ settings.kms_key | json }},
{% endif %}
      "VolumeSizeInGB": {{ step.machine.volume_size | json }}
    }
  },
  "AppSpecification": {
    "ImageUri": {{ step.machine.image | json }},
    "ContainerEntrypoint": {{ step.entrypoint | json }},
    "ContainerArguments": {{ step.arguments | json }}
  },
{% if step.environment %}
  "Environment": {{ step.environment | json }},
{% endif %}
  "StoppingCondition": {"MaxRuntimeInSeconds": {{ step.machine.max_run_time | json }}},
  "RoleArn": {{ role | json }}
}
{% endmacro %}
{
  "Version": "2020-12-01",
  "Metadata": {},
  "Parameters": [],
  "Steps": [
{% for step in definition.steps %}
    {
      "Name": {{ step.name | json }},
      "Description": {{ step.description | json }},
      "RetryPolicies": [
        {"ExceptionType": ["Step.SERVICE_FAULT", "Step.THROTTLING"], "MaxAttempts": 0}
      ],
      "Type": "Processing",
{% if step.depends_on %}
      "DependsOn": {{ step.depends_on | json }},
{% endif %}
      "Arguments": {{ processing(step) }}
    }{{ "," if not loop.last }}
{% endfor %}
  ]
}
"""


def test_a_template_can_be_written_with_conditions_and_commas(tmp_path: pathlib.Path) -> None:
    """Rather than with the filter `request`; the definition is the same."""
    plan = compile_plan([pipeline("p", "a*", "b")], splits=parse_splits(["2"]))
    used = settings(attempts=1, environment={"A": '"1"'}, kms_key="arn:aws:kms:key")
    (single,) = steps(plan, used)
    (tmp_path / "sagemaker.json.j2").write_text(OLD_STYLE)
    assert render_definition(single, used, str(tmp_path)) == render_definition(single, used)


def _fits(planned: SagemakerPipeline) -> bool:
    """Whether the plan itself has nothing that SageMaker does not accept."""
    return all(
        "." not in step.name and step.machine.max_run_time <= 777_600 for step in planned.jobs()
    )


@pytest.fixture(params=[0, 625])
def direct_edges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many dependencies are direct before there is a join; 0 joins whenever it is possible."""
    monkeypatch.setattr("rvrun.runners.sagemaker.steps.MAX_DIRECT_EDGES", request.param)


@pytest.mark.usefixtures("direct_edges")
@hypothesis.settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans(), st.sampled_from(["steps", "instances"]), st.integers(1, 4))
def test_the_definition_of_every_plan_is_accepted(plan: Plan, split_by: str, most: int) -> None:
    """Whatever is compiled, except for names and times."""
    used = settings(split_by=split_by, max_instances=most, train_commands=("[a-m]*",))
    for planned in steps(plan, used):
        definition = render_definition(planned, used)
        problems = validate_definition(definition)
        allowed = ("names of steps must be 1 to 64", "MaxRuntimeInSeconds")
        assert all(any(text in problem for text in allowed) for problem in problems)
        assert problems == [] or not _fits(planned)
        assert planned.num_steps == len(list(all_steps(definition)))
        names = {step_name(step) for step in all_steps(definition)}
        assert all(set(needed) <= names for needed in edges(definition).values())


@pytest.mark.usefixtures("direct_edges")
@hypothesis.settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans(max_pipelines=1), st.integers(1, 4))
def test_every_split_runs_after_what_it_needs(plan: Plan, most: int) -> None:
    """Each split is in one step, and depends directly on each split that its stage needs."""
    used = settings(split_by="instances", max_instances=most)
    (single,) = steps(plan, used)
    by_target = {
        (step.stage, split): step.name
        for step in single.jobs()
        for split in (step.splits or [None])
    }
    assert len(by_target) == plan.num_targets
    needed = edges(render_definition(single, used))
    (planned,) = plan.pipelines
    for stage in planned.stages:
        for target in stage.targets(planned.name):
            own = needed[by_target[f"{planned.name}/{stage.command}", target.split_ind]]
            for need in stage.needs:
                other = planned.stage(need.command)
                indices = [target.split_ind] if need.kind == "aligned" else None
                for needed_target in other.targets(planned.name):
                    if indices is None or needed_target.split_ind in indices:
                        key = f"{planned.name}/{other.command}", needed_target.split_ind
                        assert by_target[key] in own
