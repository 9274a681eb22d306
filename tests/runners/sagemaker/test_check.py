"""`rvrun check --runner sagemaker`: settings, limits, and what AWS says of role and images."""

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
    """Runs the check; the texts of findings that are not ok, by their subject."""
    project.write("words.py", WORDS)
    project.write("rvrun.toml", SETTINGS)

    def run(*words: str, code: int = 2, **env: str) -> dict[str, list[str]]:
        command = ("check", "words.py", "--runner", "sagemaker", "--json", *words)
        done = project.rvrun(*command, code=code, **{**moto.variables, **env})
        found: dict[str, list[str]] = {}
        for each in json.loads(done.stdout):
            if each["level"] != "ok":
                found.setdefault(each["subject"], []).append(each["text"])
        return found

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
    """As `docker push` would, but for the layers."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"size": 1, "digest": f"sha256:{tag.encode().hex():0>64}"},
        "layers": [],
    }
    moto.client("ecr").put_image(
        repositoryName="rvrun", imageManifest=json.dumps(manifest), imageTag=tag
    )


def test_all_is_well(check: Check, moto: Moto) -> None:
    """A role that SageMaker may take on, images by tag and without one, the bucket."""
    moto.bucket()
    make_role(moto)
    moto.client("ecr").create_repository(repositoryName="rvrun")
    push(moto, "1")
    push(moto, "latest")
    assert check(code=0) == {}


def test_nothing_is_there(check: Check) -> None:
    """Role, images and bucket are all told of."""
    found = check()
    assert set(found) == {"role", "image", "bucket"}
    assert "NoSuchEntity" in found["role"][0]
    assert [text.split(":")[0] for text in found["image"]] == [f"{REGISTRY}/rvrun"] * 2
    assert "RepositoryNotFoundException" in found["image"][0]


def test_a_role_of_something_else(check: Check, moto: Moto) -> None:
    """It is there, but SageMaker may not take it on; or it is that of another account."""
    make_role(moto, "batch.amazonaws.com")
    assert check()["role"] == ["`rvrun` cannot be taken on by sagemaker.amazonaws.com"]
    other = "arn:aws:iam::999999999999:role/rvrun"
    (text,) = check(RVRUN_SAGEMAKER_ROLE=other)["role"]
    assert text.startswith(f"`sagemaker.role` is {other}, but this account's `rvrun` is arn:aws:")


def test_an_image_that_sagemaker_cannot_take(check: Check, moto: Moto) -> None:
    """It takes images from ECR."""
    found = check(RVRUN_SAGEMAKER_CPU_IMAGE="python:3.12")
    assert found["image"][0] == "python:3.12 is not in ECR, where SageMaker takes images from"


def test_what_sagemaker_refuses_is_found_without_it(check: Check) -> None:
    """Each finding of the definition is one of the check's; AWS is not asked then."""
    found = check(RVRUN_SAGEMAKER_CPU_INSTANCE_TYPE="ml.m5.huge", RVRUN_SAGEMAKER_VOLUME_SIZE="1")
    assert list(found) == ["SageMaker Pipelines"]
    (text,) = found["SageMaker Pipelines"]
    assert "is 'ml.m5.huge', did you mean 'ml.m5.large'?" in text
