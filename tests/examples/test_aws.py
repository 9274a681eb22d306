"""The CloudFormation template is valid, and its page describes what it contains."""

from __future__ import annotations

import pathlib
import re
import tomllib
from typing import Any

import cfnlint.decode.cfn_yaml
import pytest

from rvrun.runners.batch.settings import BatchSettings
from rvrun.settings.layers import load_settings
from tests.conftest import ROOT, Project
from tests.test_readme import blocks

TEMPLATE = ROOT / "examples/aws/batch.yml"
PAGE = (ROOT / "docs/aws-batch.md").read_text(encoding="utf-8")
#: What rvrun calls for the user who submits.
SUBMITTER = {
    "batch:DescribeJobDefinitions",
    "batch:DescribeJobQueues",
    "batch:DescribeJobs",
    "batch:ListJobs",
    "batch:SubmitJob",
    "batch:TagResource",
    "batch:TerminateJob",
    "logs:GetLogEvents",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:PutObject",
}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    read: dict[str, Any] = cfnlint.decode.cfn_yaml.load(str(TEMPLATE))
    return read


def actions(policy: dict[str, Any]) -> list[str]:
    """All actions that a policy document allows."""
    entries = [statement["Action"] for statement in policy["Statement"]]
    lists = [[entry] if isinstance(entry, str) else entry for entry in entries]
    return [action for actions in lists for action in actions]


def test_cfn_lint_finds_nothing(project: Project) -> None:
    """There are no errors, warnings or remarks."""
    done = project.run("cfn-lint", "--include-checks", "I", "--", str(TEMPLATE))
    assert (done.stdout, done.stderr) == ("", "")


def test_the_submitters_policy_is_what_rvrun_calls(template: dict[str, Any]) -> None:
    """It has each action once; only actions without resources are allowed on all resources."""
    policy = template["Resources"]["SubmitterPolicy"]["Properties"]["PolicyDocument"]
    assert sorted(SUBMITTER) == sorted(actions(policy))
    on_all = [statement for statement in policy["Statement"] if statement["Resource"] == "*"]
    assert [statement["Sid"] for statement in on_all] == ["Look"]
    assert all(name.startswith(("batch:Describe", "batch:List")) for name in on_all[0]["Action"])


def test_jobs_reach_only_their_bucket(template: dict[str, Any]) -> None:
    """The job role may read, write and list the stack's bucket."""
    (policy,) = template["Resources"]["JobRole"]["Properties"]["Policies"]
    assert {"s3:GetObject", "s3:PutObject", "s3:ListBucket"} <= {*actions(policy["PolicyDocument"])}
    statements = policy["PolicyDocument"]["Statement"]
    assert "*" not in [statement["Resource"] for statement in statements]


def test_the_page_names_what_the_template_has(template: dict[str, Any]) -> None:
    """Its table has each parameter with its default, and the outputs it names exist."""
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for name, parameter in template["Parameters"].items():
        (row,) = [line for line in table if f"`{name}`" in line.split("|")[1]]
        assert str(parameter["Default"]) in row
    named = re.findall(r"OutputKey=='(\w+)'|\(`(\w+)`(?: in the outputs)?\)", PAGE)
    names = {queried or in_text for queried, in_text in named}
    assert names == {"ImageUri", "BucketUri", "SubmitterPolicyArn", "JobRoleArn"}
    assert names <= {*template["Outputs"]}


def test_the_pages_settings_are_settings(template: dict[str, Any], in_folder: pathlib.Path) -> None:
    """The page's rvrun.toml is valid, and names the stack's queues and definitions."""
    text = "".join(blocks(PAGE, "toml"))
    (in_folder / "rvrun.toml").write_text(text, encoding="utf-8")
    batch = load_settings().of(BatchSettings)
    assert (batch.attempts, batch.retry) == (3, "spot")
    outputs = template["Outputs"]
    section = tomllib.loads(text)["batch"]
    for output, key in {
        "CpuJobQueue": "cpu_job_queue",
        "CpuJobDef": "cpu_job_def",
        "GpuJobQueue": "gpu_job_queue",
        "GpuJobDef": "gpu_job_def",
    }.items():
        assert outputs[output]["Description"] == f"{key} in rvrun.toml"
        value = outputs[output]["Value"]["Fn::Sub"]
        assert section[key] == value.replace("${AWS::StackName}", "rvrun")
    assert batch.commands["predict*"].vcpus == 8


def test_the_pages_run_renders(project: Project) -> None:
    """Without an account, the page's commands render one request per job."""
    project.write("rvrun.toml", "".join(blocks(PAGE, "toml")))
    args, render = (
        line for line in PAGE.splitlines() if line.startswith(("ARGS=", "rvrun render batch"))
    )
    arguments = args.removeprefix("ARGS=(").rstrip(")").replace("$BUCKET", "s3://bucket")
    words = render.replace('"${ARGS[@]}"', arguments).replace("examples/", f"{ROOT}/examples/")
    project.run(*words.split())
    specs = [path.name for path in project.folder.rglob("[0-9]-landcover-*.json")]
    assert sorted(name.split("-")[2] for name in specs) == [
        f"{command}.json" for command in ("analyze", "bundle", "chip", "eval", "predict", "train")
    ]
