"""`rvrun check --runner batch`: settings, limits, job queues, job definitions and buckets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rvrun.aws.client import Client
from rvrun.model import Plan
from rvrun.runners.batch.api import SubmitJobRequest
from rvrun.runners.batch.check import check_definitions, check_queues
from tests.conftest import Project
from tests.engines.batch import BatchEngine
from tests.engines.faults import Refuse
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
    """Runs the check and returns the texts of findings that are not ok, by subject."""
    project.write("words.py", WORDS)
    project.write("rvrun.toml", SETTINGS)

    def run(
        *words: str, code: int = 2, config: str = "words.py", **env: str
    ) -> dict[str, list[str]]:
        variables = {**moto.variables, **engine.variables, **env}
        variables |= {f"AWS_ENDPOINT_URL_{service}": moto.url for service in ("S3", "STS")}
        command = ("check", config, "--runner", "batch", "--json", *words)
        findings = json.loads(project.rvrun(*command, code=code, **variables).stdout)
        bad: dict[str, list[str]] = {}
        for finding in findings:
            if finding["level"] != "ok":
                bad.setdefault(finding["subject"], []).append(finding["text"])
        return bad

    return run


def test_all_is_well(check: Check, moto: Moto) -> None:
    """Queues, definitions and the bucket exist."""
    moto.bucket()
    assert check(code=0) == {}


def test_missing_resources(check: Check, engine: BatchEngine) -> None:
    """A missing queue, definition and bucket are all reported."""
    del engine.queues["gpu"], engine.definitions["heavy"]
    bad = check()
    assert bad["job queue"] == ["`gpu` does not exist"]
    assert bad["job definition"] == ["`heavy` does not exist, or is not active"]
    assert bad["bucket"][0].startswith("bucket: AWS s3 HeadBucket")


def test_resources_that_would_refuse_jobs(check: Check, engine: BatchEngine, moto: Moto) -> None:
    """A disabled queue, a queue with a scheduling policy, GPUs on Fargate."""
    moto.bucket()
    engine.add_queue("cpu", state="DISABLED")
    engine.add_queue("gpu", fair_share=True)
    engine.add_definition("heavy", fargate=True)
    bad = check()
    assert bad["job queue"] == [
        "`cpu` is disabled",
        "`gpu` has a scheduling policy, so its jobs must have a share identifier",
    ]
    assert bad["job definition"] == [
        "`heavy:2` runs on Fargate, which has no GPUs, but its jobs require GPUs"
    ]
    assert "job queue" not in check(
        "--splits", "2", RVRUN_BATCH_SHARE_IDENTIFIER="me", RVRUN_BATCH_CPU_JOB_QUEUE="gpu"
    )


PROGRAMS = """
name = "tiles"
root = "s3://bucket/tiles"
[commands.same]
run = ["ls"]
container = "registry.example.com/rvrun"
[commands.other]
run = ["ls"]
container = { image = "ghcr.io/osgeo/gdal:3.9" }
[commands.none]
run = ["ls"]
"""


def test_image_of_a_program(
    check: Check, engine: BatchEngine, moto: Moto, project: Project
) -> None:
    """A job runs in the image of its definition; the registry may be a mirror."""
    moto.bucket()
    project.write("pipeline.toml", PROGRAMS)
    assert check(config="pipeline.toml", code=0)["job definition"] == [
        "tiles/other names the image ghcr.io/osgeo/gdal:3.9, but its job definition `work` runs "
        "rvrun:latest, and AWS Batch uses that of the definition"
    ]


def test_definitions_of_other_kinds(check: Check, engine: BatchEngine, moto: Moto) -> None:
    """Definitions for EKS and with several containers ignore rvrun's overrides."""
    moto.bucket()
    engine.add_definition("work", eksProperties={"podProperties": {}})
    engine.add_definition("heavy", ecsProperties={"taskProperties": []})
    for name in ("work", "heavy"):
        engine.definitions[name][-1].pop("containerProperties")
    assert check()["job definition"] == [
        "`work:2` must have `containerProperties`, but it runs on EKS",
        "`heavy:2` must have `containerProperties`, but it has `ecsProperties`",
    ]
    # The revision and the ARN of one that is usable.
    arn = engine.definitions["heavy"][0]["jobDefinitionArn"]
    usable = {"RVRUN_BATCH_CPU_JOB_DEF": "work:1", "RVRUN_BATCH_GPU_JOB_DEF": arn}
    assert check(code=0, **usable) == {}
    engine.definitions["work"][0]["status"] = "INACTIVE"
    assert check(**usable)["job definition"] == ["`work:1` does not exist, or is not active"]


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("AccessDeniedException", "add the `batch:DescribeJob{}` permission"),
        ("ServerException", "check the settings `aws.region` and `aws.profile`, or try again"),
    ],
)
def test_look_ups_that_fail(engine: BatchEngine, code: str, fix: str) -> None:
    """The fix is about what failed: not every error is a missing permission."""
    engine.fault = lambda operation, request, number: Refuse(code)
    batch = Client("batch", engine.client("batch"))
    request: SubmitJobRequest = {"jobName": "", "jobQueue": "q", "jobDefinition": "d", "tags": {}}
    (queue,) = check_queues(batch, [request])
    (definition,) = check_definitions(batch, Plan(()), [request])
    assert [queue.fix, definition.fix] == [fix.format("Queues"), fix.format("Definitions")]


def test_a_queue_without_a_status(engine: BatchEngine) -> None:
    """The member is optional."""

    class WithoutStatus(Client):
        def call(self, operation: str, **params: Any) -> dict[str, Any]:
            answer = super().call(operation, **params)
            for queue in answer["jobQueues"]:
                del queue["status"]
            return answer

    batch = WithoutStatus("batch", engine.client("batch"))
    request: SubmitJobRequest = {"jobName": "", "jobQueue": "cpu", "jobDefinition": "", "tags": {}}
    (finding,) = check_queues(batch, [request])
    assert finding.text == "`cpu` accepts jobs"


def test_missing_settings_are_reported_without_a_call(
    check: Check, project: Project, engine: BatchEngine
) -> None:
    """Each with its key, the file and the environment variable."""
    project.write("rvrun.toml", '[batch]\ncpu_job_def = "work"\n')
    bad = check()
    assert bad["batch"][0] == (
        "words/chip: no job queue; set `batch.cpu_job_queue` in rvrun.toml, or "
        "RVRUN_BATCH_CPU_JOB_QUEUE in the environment"
    )
    assert len(bad["batch"]) == 3
    assert engine.calls == []


def test_a_local_root(check: Check) -> None:
    """The text is that of the error."""
    (text,) = check("-a", "root_uri", "out")["files"]
    assert text.startswith("jobs of AWS Batch run on other machines")


def test_no_credentials(check: Check) -> None:
    """Nothing else is checked then."""
    nobody: dict[str, Any] = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_SESSION_TOKEN": "",
    }
    bad = check(**nobody)
    assert list(bad) == ["aws"]
    assert "log in" in bad["aws"][0]
