"""`rvrun check --runner sagemaker`: settings, limits, and what AWS answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Project
from tests.engines.moto import Moto

WORDS = """
import rvrun

class WordsConfig(rvrun.PipelineConfig):
    def build(self):
        return Words(self)

class Words(rvrun.Pipeline):
    commands = ("chip", "train")
    gpu_commands = ("train",)
    def chip(self): ...
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
def check(project: Project, moto: Moto) -> Check:
    """Runs the check; returns the texts of findings that are not ok, by subject."""
    project.write("words.py", WORDS)
    project.write("rvrun.toml", SETTINGS)

    def run(*words: str, code: int = 2, **env: str) -> dict[str, list[str]]:
        command = ("check", "words.py", "--runner", "sagemaker", "--json", *words)
        done = project.rvrun(*command, code=code, **{**moto.variables, **env})
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
