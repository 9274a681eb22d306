"""`rvrun check --runner sagemaker`: settings, limits, and what AWS answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from rvrun.aws.client import Account, Client, Refused
from rvrun.runners.sagemaker.instance_quotas import read_quotas
from rvrun.runners.sagemaker.permissions import PERMISSIONS
from tests.conftest import Project
from tests.engines import faults
from tests.engines.iam import Iam
from tests.engines.moto import Moto
from tests.engines.sagemaker import SagemakerEngine

WORDS = """
import rvrun

class WordsConfig(rvrun.PipelineConfig):
    def build(self):
        return Words(self)

class Words(rvrun.Pipeline):
    commands = ("chip", "train")
    split_commands = ("chip",)
    gpu_commands = ("train",)
    def chip(self, split_ind=0, num_splits=1): ...
    def train(self): ...

def get_config(runner, root_uri="s3://bucket/words"):
    return WordsConfig(root_uri=root_uri)
"""
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
SETTINGS = f"""
[sagemaker]
role = "arn:aws:iam::123456789012:role/rvrun"
cpu_image = "{REGISTRY}/rvrun:1"
cpu_instance_type = "ml.m5.large"
gpu_image = "{REGISTRY}/rvrun"
gpu_instance_type = "ml.g4dn.xlarge"
"""
Check = Callable[..., dict[str, list[str]]]


@pytest.fixture
def engine(processes: None) -> Iterator[SagemakerEngine]:
    """Service Quotas, with what the plan needs."""
    with SagemakerEngine(slots=0) as started:
        # Many others are listed before them, on other pages.
        others = [f"ml.x{number}.large for training job usage" for number in range(250)]
        started.quotas.update(dict.fromkeys(others, 0.0))
        started.quotas["ml.m5.large for processing job usage"] = 4.0
        started.quotas["ml.g4dn.xlarge for training job usage"] = 1.0
        yield started


@pytest.fixture
def iam(moto: Moto) -> Iterator[Iam]:
    with Iam(moto.url) as started:
        yield started


@pytest.fixture
def check(project: Project, moto: Moto, engine: SagemakerEngine, iam: Iam) -> Check:
    """Runs the check; returns the texts of findings that are not ok, by subject."""
    project.write("words.py", WORDS)
    project.write("rvrun.toml", SETTINGS)

    def run(*words: str, code: int = 2, **env: str) -> dict[str, list[str]]:
        command = ("check", "words.py", "--runner", "sagemaker", "--json", *words)
        variables = {**moto.variables, **engine.variables, **iam.variables, **env}
        done = project.rvrun(*command, code=code, **variables)
        texts: dict[str, list[str]] = {}
        for finding in json.loads(done.stdout):
            if finding["level"] != "ok":
                texts.setdefault(finding["subject"], []).append(finding["text"])
        return texts

    return run


def make_role(moto: Moto, service: str = "sagemaker.amazonaws.com") -> None:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        ],
    }
    moto.client("iam").create_role(RoleName="rvrun", AssumeRolePolicyDocument=json.dumps(trust))


def push(moto: Moto, tag: str) -> None:
    """Push an image as `docker push` does, but without layers."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"size": 1, "digest": f"sha256:{tag.encode().hex():0>64}"},
        "layers": [],
    }
    moto.client("ecr").put_image(
        repositoryName="rvrun", imageManifest=json.dumps(manifest), imageTag=tag
    )


def test_everything_exists(check: Check, moto: Moto) -> None:
    """A role that SageMaker can assume, images with and without a tag, the bucket."""
    moto.bucket()
    make_role(moto)
    moto.client("ecr").create_repository(repositoryName="rvrun")
    push(moto, "1")
    push(moto, "latest")
    assert check(code=0) == {}


def allow(moto: Moto, name: str, actions: Sequence[str], resource: str, **more: Any) -> None:
    """Add an inline policy to the role."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    moto.client("iam").put_role_policy(RoleName="rvrun", PolicyName=name, PolicyDocument=document)


KEY = "arn:aws:kms:us-east-1:123456789012:key/1234"
VPC = {"RVRUN_SAGEMAKER_SUBNETS": "subnet-1", "RVRUN_SAGEMAKER_SECURITY_GROUPS": "sg-1"}


def test_permissions_that_settings_need(check: Check, moto: Moto) -> None:
    """A VPC and a key need more than other jobs; what is missing is listed."""
    make_role(moto)
    assert "permissions" not in check()
    env = {**VPC, "RVRUN_SAGEMAKER_KMS_KEY": KEY}
    assert check(**env)["permissions"] == [
        f"`rvrun` lacks {', '.join(PERMISSIONS['subnets'])}, which jobs with `sagemaker.subnets` "
        "need",
        f"`rvrun` lacks {', '.join(PERMISSIONS['kms_key'])}, which jobs with `sagemaker.kms_key` "
        "need",
    ]
    allow(moto, "vpc", PERMISSIONS["subnets"][:-1], "*")
    allow(moto, "key", PERMISSIONS["kms_key"][1:], KEY)
    grant = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    allow(moto, "grant", PERMISSIONS["kms_key"][:1], KEY, Condition=grant)
    env |= {"RVRUN_SAGEMAKER_ROLE": "rvrun", "RVRUN_SAGEMAKER_KMS_KEY": "1234"}
    assert check(**env)["permissions"] == [
        "`rvrun` lacks ec2:DescribeVpcs, which jobs with `sagemaker.subnets` need"
    ]


def test_permissions_that_cannot_be_checked(check: Check, moto: Moto, iam: Iam) -> None:
    """An alias, or a user who may not simulate policies: a warning, and not an error."""
    make_role(moto)
    alias = {"RVRUN_SAGEMAKER_KMS_KEY": "alias/mine"}
    assert check(**alias)["permissions"] == [
        "cannot check the permissions that `sagemaker.kms_key` needs: it is an alias"
    ]
    iam.denied = ("SimulatePrincipalPolicy",)
    assert check(**VPC)["permissions"] == [
        "cannot check the permissions of the role: User is not authorized to perform: "
        "iam:SimulatePrincipalPolicy"
    ]


def test_quotas_of_instances(check: Check, engine: SagemakerEngine) -> None:
    """One that is too small for a job, or for jobs in parallel; spot instances have their own."""
    assert "quota" not in check()
    engine.quotas["ml.m5.large for processing job usage"] = 0.0
    engine.quotas["ml.g4dn.xlarge for spot training job usage"] = 1.0
    env = {
        "RVRUN_SAGEMAKER_USE_SPOT_INSTANCES": "true",
        "RVRUN_SAGEMAKER_TRAIN_INSTANCE_COUNT": "2",
    }
    assert check(**env)["quota"] == [
        "quota `ml.m5.large for processing job usage` is 0, but a job needs 1 instance",
        "quota `ml.g4dn.xlarge for spot training job usage` is 1, but a job needs 2 instances",
    ]


def test_quotas_whatever_the_instance_type(check: Check, engine: SagemakerEngine) -> None:
    """Of the instances of a job, and of all jobs of a kind."""
    engine.quotas["Maximum number of instances per processing job"] = 20.0
    engine.quotas["Maximum number of instances per training job"] = 1.0
    engine.quotas["Number of instances across all processing jobs"] = 24.0
    engine.quotas["ml.m5.large for processing job usage"] = 100.0
    engine.quotas["ml.g4dn.xlarge for training job usage"] = 2.0
    env = {
        "RVRUN_SAGEMAKER_SPLIT_BY": "instances",
        "RVRUN_SAGEMAKER_TRAIN_INSTANCE_COUNT": "2",
    }
    assert check("--splits", "25", **env)["quota"] == [
        "quota `Maximum number of instances per processing job` is 20, but a job needs 25 "
        "instances",
        "quota `Number of instances across all processing jobs` is 24, but a job needs 25 "
        "instances",
        "quota `Maximum number of instances per training job` is 1, but a job needs 2 instances",
    ]
    env["RVRUN_SAGEMAKER_MAX_INSTANCES"] = "20"
    env["RVRUN_SAGEMAKER_TRAIN_INSTANCE_COUNT"] = "1"
    assert check("--splits", "25", **env)["quota"] == [
        "quota `Number of instances across all processing jobs` is 24, but 25 instances may run "
        "in parallel"
    ]


def test_quotas_of_parallel_jobs(check: Check, engine: SagemakerEngine) -> None:
    """The steps of a stage run at once, unless their number is limited."""
    words = ("--splits", "6")
    assert check(*words)["quota"] == [
        "quota `ml.m5.large for processing job usage` is 4, but 6 instances may run in parallel"
    ]
    assert "quota" not in check(*words, RVRUN_SAGEMAKER_PARALLEL_STEPS="4")
    engine.quotas["ml.g4dn.xlarge for training warm pool usage"] = 0.0
    env = {"RVRUN_SAGEMAKER_PARALLEL_STEPS": "4", "RVRUN_SAGEMAKER_KEEP_ALIVE": "60"}
    assert check(*words, **env)["quota"] == [
        "quota `ml.g4dn.xlarge for training warm pool usage` is 0, but jobs keep 1"
    ]


def test_quotas_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the model, neither name nor value is certain."""
    quotas = [{"QuotaName": "a"}, {"Value": 1.0}, {"QuotaName": "b", "Value": 2.0}]
    monkeypatch.setattr(Account, "reader", lambda self, service: Client(service, None))
    monkeypatch.setattr(Client, "call", lambda self, operation, **params: {"Quotas": quotas})
    assert read_quotas(Account()) == {"b": 2.0}


def test_quotas_that_cannot_be_read(check: Check, engine: SagemakerEngine) -> None:
    """A missing permission is a warning that names it."""
    engine.fault = lambda operation, request, number: faults.Refuse("AccessDeniedException")
    assert check()["quota"][0].startswith("cannot check quotas of instances: ")
    error = Refused("service-quotas", "ListServiceQuotas", "AccessDeniedException", "no")
    assert error.how_to_fix() == "add the `servicequotas:ListServiceQuotas` permission"


def test_nothing_exists(check: Check) -> None:
    """Role, images and bucket are all reported."""
    texts = check()
    assert set(texts) == {"role", "image", "bucket"}
    assert "NoSuchEntity" in texts["role"][0]
    assert [text.split(":")[0] for text in texts["image"]] == [f"{REGISTRY}/rvrun"] * 2
    assert "RepositoryNotFoundException" in texts["image"][0]


def test_a_role_for_something_else(check: Check, moto: Moto) -> None:
    """The role exists, but SageMaker cannot assume it; or it belongs to another account."""
    make_role(moto, "batch.amazonaws.com")
    assert check()["role"] == ["sagemaker.amazonaws.com cannot assume `rvrun`"]
    other = "arn:aws:iam::999999999999:role/rvrun"
    (text,) = check(RVRUN_SAGEMAKER_ROLE=other)["role"]
    account = "123456789012"
    assert text == (
        f"`sagemaker.role` is {other}, but `rvrun` of this account is "
        f"arn:aws:iam::{account}:role/rvrun"
    )


def test_an_image_outside_of_ecr(check: Check, moto: Moto) -> None:
    """SageMaker pulls images only from ECR."""
    texts = check(RVRUN_SAGEMAKER_CPU_IMAGE="python:3.12")
    assert texts["image"][0] == "python:3.12 is not in ECR, from which SageMaker pulls images"


def test_problems_of_the_definition_are_found_offline(check: Check) -> None:
    """Each is a finding of the check, which then does not ask AWS."""
    texts = check(RVRUN_SAGEMAKER_CPU_INSTANCE_TYPE="ml.m5.huge", RVRUN_SAGEMAKER_VOLUME_SIZE="1")
    assert list(texts) == ["sagemaker"]
    (text,) = texts["sagemaker"]
    assert text.startswith("words-chip: ProcessingResources.ClusterConfig.InstanceType must be one")
    assert text.endswith(", got 'ml.m5.huge'; did you mean 'ml.m5.large'?")
