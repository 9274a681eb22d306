"""`rvrun check --runner batch`: settings, limits, and what AWS says of queues and definitions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Project
from tests.engines.batch import BatchEngine
from tests.engines.moto import Moto

WORDS = """
import rvrun

class WordsConfig(rvrun.PipelineConfig):
    def build(self):
        return Words(self)

class Words(rvrun.Pipeline):
    commands = ("chip", "train")
    split_commands = ("chip",)
    gpu_commands = ("train",)
    resources = {"train": rvrun.Resources(gpus=1)}
    def chip(self, split_ind=0, num_splits=1): ...
    def train(self): ...

def get_config(runner, root_uri="s3://bucket/words"):
    return WordsConfig(root_uri=root_uri)
"""
SETTINGS = """
[batch]
cpu_job_queue = "cpu"
cpu_job_def = "work"
gpu_job_queue = "gpu"
gpu_job_def = "heavy"
"""
Check = Callable[..., dict[str, list[str]]]


@pytest.fixture
def engine(processes: None) -> Iterator[BatchEngine]:
    with BatchEngine(slots=0) as engine:
        engine.add_queue("cpu")
        engine.add_queue("gpu")
        engine.add_definition("work")
        engine.add_definition("heavy")
        yield engine


@pytest.fixture
def check(project: Project, engine: BatchEngine, moto: Moto) -> Check:
    """Runs the check; the texts of findings that are not ok, by their subject."""
    project.write("words.py", WORDS)
    project.write("rvrun.toml", SETTINGS)

    def run(*words: str, code: int = 2, **env: str) -> dict[str, list[str]]:
        variables = {**moto.variables, **engine.variables, **env}
        variables |= {f"AWS_ENDPOINT_URL_{each}": moto.url for each in ("S3", "STS")}
        command = ("check", "words.py", "--runner", "batch", "--json", *words)
        found = json.loads(project.rvrun(*command, code=code, **variables).stdout)
        bad: dict[str, list[str]] = {}
        for finding in found:
            if finding["level"] != "ok":
                bad.setdefault(finding["subject"], []).append(finding["text"])
        return bad

    return run


def test_all_is_well(check: Check, moto: Moto) -> None:
    """Queues, definitions and the bucket are there."""
    moto.bucket()
    assert check(code=0) == {}


def test_what_is_not_there_is_told(check: Check, engine: BatchEngine) -> None:
    """A missing queue, definition and bucket, all at once."""
    del engine.queues["gpu"], engine.definitions["heavy"]
    bad = check()
    assert bad["job queue"] == ["there is no `gpu`"]
    assert bad["job def"] == ["there is no active `heavy`"]
    assert bad["bucket"][0].startswith("bucket: AWS s3 HeadBucket")


def test_what_takes_no_jobs_is_told(check: Check, engine: BatchEngine, moto: Moto) -> None:
    """A disabled queue, one that shares fairly, GPUs on Fargate."""
    moto.bucket()
    engine.add_queue("cpu", state="DISABLED")
    engine.add_queue("gpu", fair_share=True)
    engine.add_definition("heavy", fargate=True)
    bad = check()
    assert bad["job queue"] == [
        "`cpu` is disabled",
        "`gpu` shares fairly, so each job must say whose share it is of",
    ]
    assert bad["job def"] == ["`heavy:2` runs on Fargate, which has no GPUs, and is asked for them"]
    assert "job queue" not in check(
        "--splits", "2", RVRUN_BATCH_SHARE_IDENTIFIER="me", RVRUN_BATCH_CPU_JOB_QUEUE="gpu"
    )


def test_missing_settings_are_told_before_aws_is_asked(
    check: Check, project: Project, engine: BatchEngine
) -> None:
    """Each with its key, the file and the variable."""
    project.write("rvrun.toml", '[batch]\ncpu_job_def = "work"\n')
    bad = check()
    assert bad["AWS Batch"][0] == (
        "words/chip: no job queue; set `batch.cpu_job_queue` in rvrun.toml, or "
        "RVRUN_BATCH_CPU_JOB_QUEUE in the environment"
    )
    assert len(bad["AWS Batch"]) == 3
    assert engine.calls == []


def test_a_local_root_is_told(check: Check) -> None:
    """With the sentence that says why."""
    (text,) = check("-a", "root_uri", "out")["files"]
    assert text.startswith("jobs of AWS Batch run on other machines")


def test_no_credentials_are_told(check: Check) -> None:
    """Nothing else is asked then."""
    nobody: dict[str, Any] = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_SESSION_TOKEN": "",
    }
    bad = check(**nobody)
    assert list(bad) == ["aws"]
    assert "log in" in bad["aws"][0]
