"""What the offline check of definitions reports, in whole sentences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from rvrun.model import Plan
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.remote.upload import Upload
from rvrun.runners.sagemaker.definition import create_request, find_problems, render_definition
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import JobContext, plan_steps
from rvrun.runners.sagemaker.validate import validate_definition
from tests.build import pipeline

Json = dict[str, Any]
Change = Callable[[Json], object]
Check = Callable[[Change], list[str]]

SETTINGS = SagemakerSettings(
    role="arn:aws:iam::123456789012:role/rvrun",
    cpu_image="image",
    cpu_instance_type="ml.m5.large",
    cache_expire_after="P30D",
    use_spot_instances=True,
)


@pytest.fixture(scope="module")
def rendered() -> Json:
    """A valid definition: two splits, two splits in a join, and a training step."""
    plan = compile_plan([pipeline("p", "prepare*", "chip*", "train")], splits=parse_splits(["2"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rvrun.runners.sagemaker.steps.MAX_DIRECT_EDGES", 0)
        (single,) = plan_steps(plan, SETTINGS, {"p": context("p")}, "run")
    definition = render_definition(single, SETTINGS)
    assert validate_definition(definition) == []
    return dict(definition)


def context(name: str) -> JobContext:
    upload = Upload(config_uri=f"s3://bucket/{name}/config.json", files={})
    return JobContext(upload=upload, root_uri=f"s3://bucket/{name}")


@pytest.fixture
def problems(rendered: Json) -> Check:
    """Return a function that changes a copy of the definition and returns its problems."""

    def check(change: Change) -> list[str]:
        definition = copy.deepcopy(rendered)
        change(definition)
        return validate_definition(definition)

    return check


def step(definition: Json, name: str) -> Json:
    """The step of that name, also inside of a join."""
    steps = definition["Steps"]
    inner = [s for join in steps for s in join["Arguments"].get("IfSteps", [])]
    return next(s for s in [*steps, *inner] if s["Name"] == name)


def changed(name: str, **members: Any) -> Change:
    """A change that sets members of the step of that name."""
    return lambda definition: step(definition, name).update(members)


def argument(name: str, path: str, value: Any) -> Change:
    """A change that sets the argument `A.B` of the step of that name; None removes it."""

    def change(definition: Json) -> None:
        values = step(definition, name)["Arguments"]
        *parents, last = path.split(".")
        for parent in parents:
            values = values.setdefault(parent, {})
        values[last] = value
        if value is None:
            del values[last]

    return change


def policy(**members: Any) -> Change:
    """A change that gives `p-train` a retry policy, valid except for these members."""
    valid = {"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": 1, "IntervalSeconds": 1}
    return changed("p-train", RetryPolicies=[{**valid, **members}])


EXCEPTIONS = (
    "Step.SERVICE_FAULT, Step.THROTTLING, SageMaker.JOB_INTERNAL_ERROR, SageMaker.CAPACITY_ERROR, "
    "SageMaker.RESOURCE_LIMIT"
)
JOIN = "p-chip--join"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda d: d.update(Version="2020"),
            ["Version must be '2020-12-01', got '2020'"],
        ),
        (
            lambda d: d.update(Stages=[]),
            [
                "unknown key `Stages`; known keys: Metadata, Parameters, PipelineExperimentConfig, "
                "Steps, Version"
            ],
        ),
        (lambda d: d.update(Steps=[]), ["Steps must not be empty"]),
        (lambda d: d.update(Steps={}), ["Steps must be a list of objects, got {}"]),
        (
            changed("p-train", Name="p.train"),
            [
                "p.train: names of steps must be 1 to 64 characters of a-z, A-Z, 0-9, `-` and "
                "`_`; rename the pipeline"
            ],
        ),
        (
            changed("p-train", Name="p-chip-0", DependsOn=[]),
            ["p-chip-0: names of steps must be unique, got 2 steps of this name"],
        ),
        (
            changed("p-train", Type="Lambda"),
            ["p-train: Type must be Processing, Training or Condition, got 'Lambda'"],
        ),
        (changed("p-train", Needs=[]), ["p-train: unknown key `Needs` in a Training step"]),
        (
            changed(JOIN, CacheConfig={}),
            [f"{JOIN}: unknown key `CacheConfig` in a Condition step"],
        ),
        (
            changed("p-train", DependsOn="p-chip-0"),
            ["p-train: DependsOn must be a list of names, got 'p-chip-0'"],
        ),
        (changed("p-train", Arguments=[]), ["p-train: Arguments must be an object, got []"]),
        (
            argument(JOIN, "ElseSteps", None),
            [f"{JOIN}: ElseSteps must be a list of objects, got None"],
        ),
        (
            lambda d: step(d, JOIN)["Arguments"]["IfSteps"].append(
                {**step(d, JOIN), "Name": "inner", "Arguments": {}, "DependsOn": []}
            ),
            [
                f"{JOIN}: Condition steps must not be nested, got `inner` inside",
                *(
                    f"inner: {key} must be a list of objects, got None"
                    for key in ("Conditions", "IfSteps", "ElseSteps")
                ),
            ],
        ),
        (
            argument("p-train", "ResourceConfig.InstanceCount", 101),
            ["p-train: ResourceConfig.InstanceCount must be between 1 and 100, got 101"],
        ),
        (
            argument("p-train", "StoppingCondition.MaxWaitTimeInSeconds", None),
            [
                "p-train: StoppingCondition.MaxWaitTimeInSeconds is required with spot instances",
            ],
        ),
        (
            argument("p-train", "EnableManagedSpotTraining", None),
            [
                "p-train: StoppingCondition.MaxWaitTimeInSeconds requires spot instances, got "
                "86400 without them"
            ],
        ),
        (
            argument("p-train", "Environment", {"DB_PASSWORD": "x"}),
            [
                "p-train: environment variable `DB_PASSWORD` looks like a secret, and everyone "
                "who may describe the pipeline can read it; fetch it in the command, for example "
                "from Secrets Manager, or add its name to `sagemaker.not_secret` if it is not one"
            ],
        ),
        (
            argument("p-train", "Environment", {"DATABASE_URL": "postgres://me:hunter2@db/x"}),
            [
                "p-train: environment variable `DATABASE_URL` contains a URL with a password, and "
                "everyone who may describe the pipeline can read it; fetch it in the command, for "
                "example from Secrets Manager, or add its name to `sagemaker.not_secret` if it is "
                "not one"
            ],
        ),
        (
            argument("p-train", "Tags", [{"Key": "api-key", "Value": "x"}]),
            [
                "p-train: tag `api-key` looks like a secret, and everyone who may describe the "
                "pipeline can read it; remove it, or add its name to `sagemaker.not_secret` if it "
                "is not one"
            ],
        ),
        (
            changed("p-train", RetryPolicies={}),
            ["p-train: RetryPolicies must be a list of objects, got {}"],
        ),
        (
            changed(JOIN, DisplayName="Start p/chip", Description="x" * 3073),
            [
                f"{JOIN}: DisplayName must be 1 to 64 characters of a-z, A-Z, 0-9, `-` and `_`, "
                "got 'Start p/chip'",
                f"{JOIN}: Description must be a string of at most 3072 characters, got '{'x' * 59}",
            ],
        ),
        (policy(MaxAttempts=0), []),
        (
            argument("p-train", "Tags", [{"Key": "a", "Value": ""}, {"Key": "aws:x", "Value": ""}]),
            [
                "p-train: Tags[1].Key must not begin with `aws:`, which AWS reserves, got 'aws:x'; "
                "rename the tag"
            ],
        ),
        (
            argument("p-train", "AlgorithmSpecification.TrainingImage", "a b"),
            ["p-train: AlgorithmSpecification.TrainingImage must not contain spaces, got 'a b'"],
        ),
        (
            argument("p-chip-0", "AppSpecification.ImageUri", "a\tb"),
            ["p-chip-0: AppSpecification.ImageUri must not contain spaces, got 'a\\tb'"],
        ),
        (
            policy(MaxAttempts=30),
            ["p-train: RetryPolicies[0].MaxAttempts must be between 0 and 20, got 30"],
        ),
        (
            policy(IntervalSeconds="60"),
            ["p-train: RetryPolicies[0].IntervalSeconds must be between 1 and 43200, got '60'"],
        ),
        (
            policy(ExceptionType=["Any"]),
            [
                "p-train: RetryPolicies[0].ExceptionType must be one or more of "
                f"{EXCEPTIONS}, got 'Any'"
            ],
        ),
        (
            policy(ExceptionType=[]),
            [
                "p-train: RetryPolicies[0].ExceptionType must be one or more of "
                f"{EXCEPTIONS}, got None"
            ],
        ),
        (
            changed("p-train", CacheConfig={"ExpireAfter": "P1D"}),
            ["p-train: CacheConfig.Enabled must be true or false, got {'ExpireAfter': 'P1D'}"],
        ),
        (
            changed("p-train", CacheConfig={"Enabled": True, "ExpireAfter": "a day"}),
            [
                "p-train: CacheConfig.ExpireAfter must be a duration such as `P30D` or `PT12H`, "
                "got 'a day'; change `sagemaker.cache_expire_after`"
            ],
        ),
        (
            changed("p-train", DependsOn=["p-evil"]),
            ["p-train: depends on `p-evil`, which does not exist"],
        ),
        (
            changed("p-train", DependsOn=[JOIN]),
            [f"p-train: must not depend on a Condition step, got `{JOIN}`"],
        ),
        (
            changed("p-prepare-0", DependsOn=["p-train"]),
            [
                f"steps depend on each other: p-prepare-0 -> p-train -> p-chip-0 -> {JOIN} -> "
                "p-prepare-0"
            ],
        ),
        (
            changed("p-train", DependsOn=["p-train"]),
            ["steps depend on each other: p-train -> p-train"],
        ),
    ],
)
def test_each_problem_states_the_rule_and_the_value(
    problems: Check,
    change: Change,
    expected: list[str],
) -> None:
    """A problem of a step begins with its name."""
    assert problems(change) == expected


@pytest.mark.parametrize("key", ["AlgorithmSpecification", "ResourceConfig", "StoppingCondition"])
def test_training_steps_have_required_arguments(problems: Check, key: str) -> None:
    """Also arguments that CreateTrainingJob itself does not require."""
    assert f"p-train: {key} is required in a Training step" in problems(
        argument("p-train", key, None)
    )


def test_a_cycle_through_many_steps_is_found() -> None:
    """Its length is not limited by recursion."""
    names = [f"s{number}" for number in range(3000)]
    steps = [
        {"Name": name, "Type": "Condition", "DependsOn": [need], "Arguments": None}
        for name, need in zip(names, [names[-1], *names], strict=False)
    ]
    *_, last = validate_definition({"Version": "2020-12-01", "Steps": steps})
    assert last.count(" -> ") == 3000


def test_names_of_pipelines_are_limited() -> None:
    """SageMaker derives the names of jobs from them."""
    name = "p" * 83
    plan: Plan = compile_plan([pipeline(name, "a")])
    (single,) = plan_steps(plan, SETTINGS, {name: context(name)}, "run")
    definition, request = render_definition(single, SETTINGS), create_request(single, SETTINGS)
    assert (
        find_problems(definition, request)[0]
        == f"PipelineName must have at most 82 characters, got 83 ({name})"
    )


def test_tags_of_pipelines_are_checked_too() -> None:
    """By the same rule as those of jobs."""
    used = attrs.evolve(SETTINGS, tags={"AWS:team": "maps"})
    (single,) = plan_steps(compile_plan([pipeline("p", "a")]), used, {"p": context("p")}, "run")
    request = create_request(single, used)
    problem = (
        "Tags[0].Key must not begin with `aws:`, which AWS reserves, got 'AWS:team'; rename the tag"
    )
    assert find_problems(render_definition(single, SETTINGS), request) == [
        problem,
        f"p-a: {problem}",
    ]


def test_secrets_may_be_declared_harmless() -> None:
    """In variables, and in the tags of the pipeline and its jobs."""
    (single,) = plan_steps(
        compile_plan([pipeline("p", "a")]),
        attrs.evolve(SETTINGS, tags={"team:token": "red"}, environment={"AUTH": "none at all"}),
        {"p": context("p")},
        "run",
    )
    used = attrs.evolve(SETTINGS, tags={"team:token": "red"})
    definition, request = render_definition(single, used), create_request(single, used)
    assert [text.partition("looks")[0] for text in find_problems(definition, request)] == [
        "tag `team:token` ",
        "p-a: environment variable `AUTH` ",
        "p-a: tag `team:token` ",
    ]
    assert find_problems(definition, request, ["team:token", "AUTH"]) == []
