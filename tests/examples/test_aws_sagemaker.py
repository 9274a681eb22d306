"""The page about SageMaker and its stack: AWS accepts its requests, policies and settings."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shlex
from typing import Any

import attrs
import botocore.session
import cfnlint.decode.cfn_yaml
import pytest
from botocore import xform_name

from rvrun.aws import request_check
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.remote.upload import Upload
from rvrun.runners.sagemaker.definition import render_definition, to_compact_json
from rvrun.runners.sagemaker.permissions import PERMISSIONS
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import MAX_DIRECT_EDGES, JobContext, plan_steps
from rvrun.runners.sagemaker.validate import validate_definition
from rvrun.settings.layers import load_settings
from tests.build import pipeline
from tests.conftest import ROOT, Project
from tests.examples.test_aws import actions
from tests.test_readme import blocks

TEMPLATE = ROOT / "examples/aws/sagemaker.yml"
PAGE = (ROOT / "docs/sagemaker.md").read_text(encoding="utf-8")
#: Commands of the AWS CLI that are not operations of AWS.
HIGH_LEVEL = {
    ("cloudformation", "deploy"),
    ("cloudformation", "wait"),
    ("ecr", "get-login-password"),
}
#: Actions whose names differ from the operations that need them.
NAMED = {"s3:ListBucket": "ListObjectsV2", "iam:PassRole": None}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    stack: dict[str, Any] = cfnlint.decode.cfn_yaml.load(str(TEMPLATE))
    return stack


def json_blocks() -> list[dict[str, Any]]:
    return [json.loads(text) for text in blocks(PAGE, "json")]


#: The modules of `runners/` that call a service for this runner.
CALLERS = {
    "sagemaker": tuple(f"sagemaker/{name}" for name in ("submit", "state", "cancel", "retry")),
    "logs": ("sagemaker/logs", "aws_common"),
    "iam": ("sagemaker/check", "sagemaker/permissions", "sagemaker/role"),
    "ecr": ("sagemaker/check",),
    "service-quotas": ("sagemaker/instance_quotas",),
}
#: The prefixes of actions whose service has another name in botocore.
SERVICES = {"servicequotas": "service-quotas"}


def service_of(action: str) -> str:
    """The name in botocore of the service of an action."""
    prefix = action.partition(":")[0]
    return SERVICES.get(prefix, prefix)


def called() -> set[str]:
    """Every operation that the runner names, by its service, as `service:Operation`."""
    names = set()
    for service, modules in CALLERS.items():
        operations = botocore.session.Session().get_service_model(service).operation_names
        for module in modules:
            path = ROOT / f"rvrun/runners/{module}.py"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and node.value in operations:
                    names.add(f"{service}:{node.value}")
    return names


def test_cfn_lint_finds_nothing(project: Project) -> None:
    """No error, no warning, no information."""
    done = project.run("cfn-lint", "--include-checks", "I", "--", str(TEMPLATE))
    assert (done.stdout, done.stderr) == ("", "")


def test_the_submitters_policy_is_what_rvrun_calls(template: dict[str, Any]) -> None:
    """It allows each call, no other; on all resources only what has none."""
    policy = template["Resources"]["SubmitterPolicy"]["Properties"]["PolicyDocument"]
    operations = {f"{service_of(a)}:{a.partition(':')[2]}" for a in actions(policy)}
    others = ("s3:", "iam:PassRole")
    assert {name for name in operations if not name.startswith(others)} == called()
    on_all = [s["Sid"] for s in policy["Statement"] if s["Resource"] == "*"]
    assert on_all == ["Quotas"]


@pytest.mark.parametrize("setting", PERMISSIONS)
def test_permissions_of_settings_are_on_the_page_and_in_the_template(
    template: dict[str, Any], setting: str
) -> None:
    """Of the job role: for each setting that needs more than other jobs."""
    field = attrs.fields_dict(SagemakerSettings)[setting]
    assert field.metadata["help"]
    documents = [block for block in json_blocks() if "Statement" in block]
    (on_page,) = (d for d in documents if set(PERMISSIONS[setting]) <= set(actions(d)))
    (statement,) = (
        s for s in on_page["Statement"] if sorted(s["Action"]) == sorted(PERMISSIONS[setting])
    )
    assert statement["Effect"] == "Allow"
    assert f"`{setting}`" in PAGE
    granted = [
        sorted(actions(resource["Properties"]["PolicyDocument"]))
        for resource in template["Resources"].values()
        if {"Ref": "JobRole"} in resource["Properties"].get("Roles", ())
    ]
    assert sorted(PERMISSIONS[setting]) in granted


def test_the_page_names_the_templates_parameters(template: dict[str, Any]) -> None:
    """Its table has each."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for name in template["Parameters"]:
        assert [row for row in rows if f"`{name}`" in row]


def test_actions_are_operations_of_aws(template: dict[str, Any]) -> None:
    """On the page and in the template, by botocore's models of the services."""
    session = botocore.session.Session()
    documents = [block for block in json_blocks() if "Statement" in block]
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        policies = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
        documents += [*policies, *filter(None, [properties.get("PolicyDocument")])]
    for action in {action for document in documents for action in actions(document)}:
        name = NAMED.get(action, action.partition(":")[2])
        if name is not None:
            assert name in session.get_service_model(service_of(action)).operation_names, action


def test_page_and_template_have_the_same_role(template: dict[str, Any]) -> None:
    """The policies on the page contain what those of the template contain together."""
    trust, policy, *_ = (block for block in json_blocks() if "Statement" in block)
    role = template["Resources"]["JobRole"]["Properties"]
    assert trust == json.loads(json.dumps(role["AssumeRolePolicyDocument"]))
    own = [action for part in role["Policies"] for action in actions(part["PolicyDocument"])]
    passing = template["Resources"]["PassJobRole"]["Properties"]["PolicyDocument"]
    assert sorted([*own, *actions(passing)]) == sorted(actions(policy))


def commands() -> list[list[str]]:
    """The words of each `aws` command on the page."""
    lines = [
        line
        for text in blocks(PAGE, "sh")
        for line in re.sub(r"\$\((aws [^)]*)\)", r"\n\1\n", text).splitlines()
    ]
    return [shlex.split(line.split(" | ")[0])[1:] for line in lines if line.startswith("aws ")]


def test_the_pages_aws_commands_are_valid() -> None:
    """Each `aws SERVICE OPERATION --parameter value`, by botocore's model of the operation."""
    checked = 0
    for service, verb, *words in commands():
        if service == "s3" or (service, verb) in HIGH_LEVEL:
            continue
        model = botocore.session.Session().get_service_model(service)
        by_verb = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(by_verb[verb]).input_shape
        members = {xform_name(name, "-"): name for name in shape.members} if shape else {}
        params: dict[str, Any] = {}
        for name, value in zip(words[::2], words[1::2], strict=True):
            option = name.removeprefix("--")
            if option not in ("query", "output"):
                member = members[option]
                kind = shape.members[member].type_name if shape else ""
                number = {"integer": int, "double": float}.get(kind)
                params[member] = number(value) if number else value
        # The AWS CLI generates tokens itself.
        token = ("ClientRequestToken",)
        assert request_check.problems(service, by_verb[verb], params, without=token) == []
        checked += 1
    assert checked >= 8


def test_the_pages_steps_are_valid() -> None:
    """By the same checks as rendered steps."""
    steps = [block for block in json_blocks() if "Type" in block]
    for step in steps:
        others = [{**step, "Name": name, "DependsOn": []} for name in step["DependsOn"]]
        definition = {"Version": "2020-12-01", "Metadata": {}, "Steps": [step, *others]}
        assert validate_definition(definition) == []
    assert len(steps) == 1


def settings(folder: pathlib.Path) -> SagemakerSettings:
    """The settings on the page."""
    (folder / "rvrun.toml").write_text("".join(blocks(PAGE, "toml")), encoding="utf-8")
    return load_settings().of(SagemakerSettings)


def test_the_pages_settings_are_settings(in_folder: pathlib.Path) -> None:
    """The page's rvrun.toml loads."""
    used = settings(in_folder)
    assert (used.use_spot_instances, used.spot_instance_max_wait_time) == (True, 172800)
    assert used.commands["predict*"].split_by == "instances"


def test_the_size_on_the_page_is_measured(in_folder: pathlib.Path) -> None:
    """300 splits after 300 others, with the page's settings and a step for each split."""
    used = settings(in_folder)
    declared = pipeline("landcover", "chip*", "reduce*")
    plan = compile_plan([declared], splits=parse_splits(["300"]))
    uri = "s3://BUCKET/landcover/rvrun/config/landcover-0123456789abcdef.json"
    upload = Upload(config_uri=uri, files={})
    context = JobContext(upload=upload, root_uri="s3://BUCKET/landcover")
    (single,) = plan_steps(plan, used, {"landcover": context}, "run")
    size = len(to_compact_json(render_definition(single, used)))
    text = PAGE.replace("\n", " ")
    assert f"are {single.num_steps} steps of {size:,} characters" in text
    assert f"more than {MAX_DIRECT_EDGES} dependencies between them" in text


def test_the_pages_run_renders(project: Project) -> None:
    """The commands on the page render the definition without an account."""
    project.write("rvrun.toml", "".join(blocks(PAGE, "toml")))
    args, render = (
        line for line in PAGE.splitlines() if line.startswith(("ARGS=", "rvrun render sagemaker"))
    )
    values = args.removeprefix("ARGS=(").rstrip(")").replace("$BUCKET", "s3://bucket")
    words = render.replace('"${ARGS[@]}"', values).replace("examples/", f"{ROOT}/examples/")
    project.run(*words.split())
    definition = json.loads(project.read("runs/landcover/sagemaker/landcover.definition.json"))
    kinds = [step["Type"] for step in definition["Steps"]]
    assert (kinds.count("Processing"), kinds.count("Training")) == (8, 1)
