"""The CloudFormation template is sound, and the page about it tells of what is in it."""

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
#: What rvrun calls on behalf of who submits.
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
    said = [statement["Action"] for statement in policy["Statement"]]
    return [each for one in said for each in ([one] if isinstance(one, str) else one)]


def test_cfn_lint_finds_nothing(project: Project) -> None:
    """No error, no warning, not even a remark."""
    done = project.run("cfn-lint", "--include-checks", "I", "--", str(TEMPLATE))
    assert (done.stdout, done.stderr) == ("", "")


def test_the_submitters_policy_is_what_rvrun_calls(template: dict[str, Any]) -> None:
    """Each action once, nothing more; only what knows no resources is allowed on all."""
    policy = template["Resources"]["SubmitterPolicy"]["Properties"]["PolicyDocument"]
    assert sorted(SUBMITTER) == sorted(actions(policy))
    everywhere = [each for each in policy["Statement"] if each["Resource"] == "*"]
    assert [each["Sid"] for each in everywhere] == ["Look"]
    assert all(
        name.startswith(("batch:Describe", "batch:List")) for name in everywhere[0]["Action"]
    )


def test_jobs_reach_their_bucket_alone(template: dict[str, Any]) -> None:
    """The job role reads, writes and lists the stack's bucket."""
    (policy,) = template["Resources"]["JobRole"]["Properties"]["Policies"]
    assert {"s3:GetObject", "s3:PutObject", "s3:ListBucket"} <= {*actions(policy["PolicyDocument"])}
    assert "*" not in [each["Resource"] for each in policy["PolicyDocument"]["Statement"]]


def test_the_page_names_what_the_template_has(template: dict[str, Any]) -> None:
    """Each parameter stands in the page's table with its default, each output is one."""
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for name, said in template["Parameters"].items():
        (row,) = [line for line in table if f"`{name}`" in line.split("|")[1]]
        assert str(said["Default"]) in row
    named = re.findall(r"OutputKey=='(\w+)'|\(`(\w+)`(?: in the outputs)?\)", PAGE)
    assert {"ImageUri", "BucketUri", "SubmitterPolicyArn", "JobRoleArn"} == {
        one or other for one, other in named
    }
    assert {one or other for one, other in named} <= {*template["Outputs"]}


def test_the_pages_settings_are_settings(template: dict[str, Any], in_folder: pathlib.Path) -> None:
    """The page's rvrun.toml loads, and names the stack's queues and definitions."""
    text = "".join(blocks(PAGE, "toml"))
    (in_folder / "rvrun.toml").write_text(text, encoding="utf-8")
    batch = load_settings().of(BatchSettings)
    assert (batch.attempts, batch.retry) == (3, "spot")
    outputs = template["Outputs"]
    said = tomllib.loads(text)["batch"]
    for output, key in {
        "CpuJobQueue": "cpu_job_queue",
        "CpuJobDef": "cpu_job_def",
        "GpuJobQueue": "gpu_job_queue",
        "GpuJobDef": "gpu_job_def",
    }.items():
        assert outputs[output]["Description"] == f"{key} in rvrun.toml"
        value = outputs[output]["Value"]["Fn::Sub"]
        assert said[key] == value.replace("${AWS::StackName}", "rvrun")
    assert batch.commands["predict*"].vcpus == 8


def test_the_pages_run_renders(project: Project) -> None:
    """Without an account, what the page types gives its requests, one a job."""
    project.write("rvrun.toml", "".join(blocks(PAGE, "toml")))
    args, render = (
        line for line in PAGE.splitlines() if line.startswith(("ARGS=", "rvrun render batch"))
    )
    said = args.removeprefix("ARGS=(").rstrip(")").replace("$BUCKET", "s3://bucket")
    words = render.replace('"${ARGS[@]}"', said).replace("examples/", f"{ROOT}/examples/")
    project.run(*words.split())
    specs = [path.name for path in project.folder.rglob("[0-9]-landcover-*.json")]
    assert sorted(name.split("-")[2] for name in specs) == [
        f"{command}.json" for command in ("analyze", "bundle", "chip", "eval", "predict", "train")
    ]
