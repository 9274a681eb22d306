"""The page about SageMaker and its template: every request, policy and setting in them is sound."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shlex
from typing import Any

import botocore.session
import cfnlint.decode.cfn_yaml
import pytest
from botocore import xform_name

from rvrun.aws import request_check as shapes
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import parse_splits
from rvrun.remote.upload import Shipment
from rvrun.runners.sagemaker.definition import compact, render_definition
from rvrun.runners.sagemaker.steps import Place, definitions
from rvrun.runners.sagemaker.validate import definition_problems
from rvrun.settings.schema import load_settings
from tests.build import pipeline
from tests.conftest import ROOT, Project
from tests.examples.test_aws import actions
from tests.test_readme import blocks

TEMPLATE = ROOT / "examples/aws/sagemaker.yml"
PAGE = (ROOT / "docs/sagemaker.md").read_text(encoding="utf-8")
#: Verbs of the command line that are no calls of AWS.
HIGH_LEVEL = {
    ("cloudformation", "deploy"),
    ("cloudformation", "wait"),
    ("ecr", "get-login-password"),
}
#: Actions that are named unlike the calls that need them.
NAMED = {"s3:ListBucket": "ListObjectsV2", "iam:PassRole": None}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    read: dict[str, Any] = cfnlint.decode.cfn_yaml.load(str(TEMPLATE))
    return read


def json_blocks() -> list[dict[str, Any]]:
    return [json.loads(text) for text in blocks(PAGE, "json")]


def called() -> set[str]:
    """Every operation of SageMaker and its logs that the runner names, as actions of IAM."""
    found = set()
    for service, modules in (("sagemaker", ("runner", "state", "submit")), ("logs", ("logs",))):
        known = botocore.session.Session().get_service_model(service).operation_names
        for module in modules:
            path = ROOT / f"rvrun/runners/sagemaker/{module}.py"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and node.value in known:
                    found.add(f"{service}:{node.value}")
    return found


def test_cfn_lint_finds_nothing(project: Project) -> None:
    """No error, no warning, not even a remark."""
    done = project.run("cfn-lint", "--include-checks", "I", "--", str(TEMPLATE))
    assert (done.stdout, done.stderr) == ("", "")


def test_the_submitters_policy_is_what_rvrun_calls(template: dict[str, Any]) -> None:
    """Each call of SageMaker and its logs, nothing more, and nothing on all resources."""
    policy = template["Resources"]["SubmitterPolicy"]["Properties"]["PolicyDocument"]
    allowed = {each for each in actions(policy) if each.startswith(("sagemaker:", "logs:"))}
    assert allowed == called()
    assert "*" not in [each["Resource"] for each in policy["Statement"]]


def test_actions_are_calls_of_aws(template: dict[str, Any]) -> None:
    """Those of the page and of the template, by botocore's models of the services."""
    session = botocore.session.Session()
    documents = [each for each in json_blocks() if "Statement" in each]
    resources = template["Resources"].values()
    for properties in (each.get("Properties", {}) for each in resources):
        policies = [each["PolicyDocument"] for each in properties.get("Policies", ())]
        documents += [*policies, *filter(None, [properties.get("PolicyDocument")])]
    for action in {action for each in documents for action in actions(each)}:
        service, _, operation = action.partition(":")
        name = NAMED.get(action, operation)
        if name is not None:
            assert name in session.get_service_model(service).operation_names, action


def test_page_and_template_give_the_role_the_same(template: dict[str, Any]) -> None:
    """The policies on the page are those of the template, together."""
    trust, policy, *_ = (each for each in json_blocks() if "Statement" in each)
    role = template["Resources"]["JobRole"]["Properties"]
    assert trust == json.loads(json.dumps(role["AssumeRolePolicyDocument"]))
    said = [action for each in role["Policies"] for action in actions(each["PolicyDocument"])]
    passing = template["Resources"]["PassJobRole"]["Properties"]["PolicyDocument"]
    assert sorted([*said, *actions(passing)]) == sorted(actions(policy))


def commands() -> list[list[str]]:
    """The words of each `aws` on the page."""
    lines = [
        line
        for text in blocks(PAGE, "sh")
        for line in re.sub(r"\$\((aws [^)]*)\)", r"\n\1\n", text).splitlines()
    ]
    return [shlex.split(each.split(" | ")[0])[1:] for each in lines if each.startswith("aws ")]


def test_the_pages_calls_are_taken() -> None:
    """Each `aws SERVICE CALL --parameter value`, held to botocore's model of it."""
    tried = 0
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
        # The command line makes tokens itself.
        assert (
            shapes.problems(service, by_verb[verb], params, without=("ClientRequestToken",)) == []
        )
        tried += 1
    assert tried >= 8


def test_the_pages_steps_are_taken() -> None:
    """Strictly, by the checker that runs use."""
    steps = [each for each in json_blocks() if "Type" in each]
    for step in steps:
        others = [{**step, "Name": name, "DependsOn": []} for name in step["DependsOn"]]
        definition = {"Version": "2020-12-01", "Metadata": {}, "Steps": [step, *others]}
        assert definition_problems(definition) == []
    assert len(steps) == 1


def settings(folder: pathlib.Path) -> Any:
    """Those of the page."""
    (folder / "rvrun.toml").write_text("".join(blocks(PAGE, "toml")), encoding="utf-8")
    return load_settings().sagemaker


def test_the_pages_settings_are_settings(in_folder: pathlib.Path) -> None:
    """The page's rvrun.toml loads."""
    said = settings(in_folder)
    assert (said.use_spot_instances, said.spot_instance_max_wait_time) == (True, 172800)
    assert said.commands["predict*"].split_by == "instances"


def test_the_page_tells_a_measured_size(in_folder: pathlib.Path) -> None:
    """300 splits after 300 others, with the page's settings and each split a step."""
    said = settings(in_folder)
    declared = pipeline("landcover", "chip*", "reduce*")
    plan = compile_plan([declared], splits=parse_splits(["300"]))
    uri = "s3://BUCKET/landcover/rvrun/config/landcover-0123456789abcdef.json"
    shipment = Shipment(config_uri=uri, files={})
    place = Place(shipment=shipment, root_uri="s3://BUCKET/landcover")
    (definition,) = definitions(plan, said, {"landcover": place}, "run")
    size = len(compact(render_definition(definition, said)))
    assert f"are {definition.num_steps} steps of {size:,} characters" in PAGE.replace("\n", " ")


def test_the_pages_run_renders(project: Project) -> None:
    """Without an account, what the page types gives its definition."""
    project.write("rvrun.toml", "".join(blocks(PAGE, "toml")))
    args, render = (
        line for line in PAGE.splitlines() if line.startswith(("ARGS=", "rvrun render sagemaker"))
    )
    said = args.removeprefix("ARGS=(").rstrip(")").replace("$BUCKET", "s3://bucket")
    words = render.replace('"${ARGS[@]}"', said).replace("examples/", f"{ROOT}/examples/")
    project.run(*words.split())
    definition = json.loads(project.read("runs/landcover/sagemaker/landcover.definition.json"))
    kinds = [step["Type"] for step in definition["Steps"]]
    assert (kinds.count("Processing"), kinds.count("Training")) == (8, 1)
