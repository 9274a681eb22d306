"""Raster Vision's own pipelines on AWS Batch and SageMaker: as its own runners, without their bugs.

The jobs are real processes, and run Raster Vision's own worker with its plugins for S3 and Batch,
as its images have them. What they leave on S3 is compared with what `rastervision run` leaves.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun import indices
from rvrun.runners.batch.boot import BOOT, booted
from tests.conftest import Project
from tests.engines.batch import BatchEngine
from tests.engines.moto import Moto
from tests.engines.sagemaker import SagemakerEngine
from tests.test_rastervision import CONFIG, CONFIGS, PLUGINS

ROOT = ("tiles.py", "-a", "root_uri", "s3://bucket/ours")
WORKER = ["python", "-m", "rastervision.pipeline.cli"]
URI = "s3://bucket/ours/pipeline-config.json"
#: A file of Raster Vision's settings, as its users have them.
PROFILE = """
[BATCH]
cpu_job_queue=cpu-queue
cpu_job_def=cpu-definition
gpu_job_queue=gpu-queue
gpu_job_def=gpu-definition
attempts=3

[SAGEMAKER]
role=arn:aws:iam::123456789012:role/rv
cpu_image=cpu-image
cpu_instance_type=ml.m5.large
gpu_image=gpu-image
gpu_instance_type=ml.p3.2xlarge
train_instance_type=ml.p3.8xlarge
use_spot_instances=yes
spot_instance_max_wait_time=7200
max_run_time=3600
"""


@attrs.frozen
class Site(Project):
    """A project whose AWS is on loopback, with Raster Vision's settings in its home."""

    moto: Moto
    batch: BatchEngine
    sagemaker: SagemakerEngine

    def run(
        self, *command: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        variables = {
            **self.moto.variables,
            **self.sagemaker.variables,
            # Both engines have logs; each test looks at those of one.
            **self.batch.variables,
            "PYTHONPATH": str(PLUGINS),
            "HOME": str(self.folder),
            "RVRUN_SAGEMAKER_MAX_STEPS": "2000",
        }
        return super().run(*command, code=code, cwd=cwd, **(variables | env))

    def left(self, root: str = "ours") -> dict[str, str]:
        """What is on S3 below `root`, as if `root` were called ROOT."""
        found = {key: content.decode() for key, content in self.moto.objects().items()}
        return {
            key.removeprefix(f"{root}/"): text.replace(f"bucket/{root}", "ROOT")
            for key, text in found.items()
            if key.startswith(f"{root}/")
        }

    def put(self, key: str, text: str = "") -> None:
        self.moto.client("s3").put_object(Bucket="bucket", Key=key, Body=text.encode())

    def remove(self, key: str) -> None:
        self.moto.client("s3").delete_object(Bucket="bucket", Key=key)

    def specs(self, run: str = "tiles") -> dict[str, dict[str, Any]]:
        """The rendered requests of Batch, by the key of their job."""
        requests = [
            json.loads(path.read_text())
            for path in sorted((self.folder / "runs" / run / "batch").glob("*-*.json"))
        ]
        return {each["tags"]["rvrun:job"]: each for each in requests}

    def steps(self, run: str = "tiles", name: str = "tiles") -> dict[str, dict[str, Any]]:
        """The rendered steps of SageMaker, by name; those that are joined too."""
        definition = json.loads(self.read(f"runs/{run}/sagemaker/{name}.definition.json"))
        found = {}
        for step in definition["Steps"]:
            inner = step["Arguments"].get("IfSteps", []) if step["Type"] == "Condition" else []
            found.update({each["Name"]: each for each in (step, *inner)})
        return found


@pytest.fixture
def site(tmp_path: pathlib.Path, moto: Moto) -> Iterator[Site]:
    """Configs, settings, a bucket, and engines with queues and definitions of all names."""
    moto.bucket()
    jobs = {**moto.variables, "PYTHONPATH": str(PLUGINS)}
    with (
        BatchEngine(environment=jobs) as batch,
        SagemakerEngine(environment=jobs) as sagemaker,
    ):
        for queue in ("tiles-queue", "cpu-queue", "gpu-queue"):
            batch.add_queue(queue)
        for definition in ("train-definition", "cpu-definition", "gpu-definition"):
            batch.add_definition(definition)
        made = Site(tmp_path, moto, batch, sagemaker)
        made.write("tiles.py", CONFIG)
        made.write("both.py", CONFIGS)
        made.write(".rastervision/default", PROFILE)
        yield made


def command(spec: dict[str, Any]) -> list[str]:
    found: list[str] = spec["containerOverrides"]["command"]
    return found


# What the jobs leave.


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_jobs_leave_what_raster_vision_leaves(site: Site, runner: str) -> None:
    """The same files on S3, the config with its settings and plugins among them."""
    words = ("tiles.py", "--splits", "3", "-a", "root_uri")
    site.run("rastervision", "run", "inprocess", *words, "s3://bucket/theirs")
    site.rvrun("run", runner, *words, "s3://bucket/ours", "--wait")
    assert len(site.left("theirs")) == 11
    assert site.left() == site.left("theirs")
    saved = json.loads(site.left()["pipeline-config.json"])
    assert saved["rv_config"]["batch_cpu_job_queue"] == "cpu-queue"
    assert "rastervision.aws_s3" in saved["plugin_versions"]


def test_only_failed_splits_go_again(site: Site) -> None:
    """Each by Raster Vision's worker, told by a wrapper which split it is."""
    site.put("ours/fail")
    words = ("--splits", "4", "-a", "fail", "predict c", "--wait")
    site.rvrun("run", "batch", *ROOT, *words, code=1, RVRUN_BATCH_ATTEMPTS="1")
    assert {"predict/a.txt", "predict/b.txt", "predict/d.txt"} <= site.left().keys()
    assert "eval.json" not in site.left()
    site.remove("ours/fail")
    assert "2 targets" in site.rvrun("retry", "@latest", "--wait").stderr
    assert json.loads(site.left()["eval.json"]) == {"predictions": 4}
    again = {each["tags"]["rvrun:job"]: each for each in site.batch.submitted[4:]}
    assert list(again) == ["tiles/predict", "tiles/eval"]
    assert command(again["tiles/predict"])[:4] == ["python", "-c", BOOT, "python"]


def test_several_failed_splits_are_a_smaller_array(site: Site) -> None:
    """As large as there are failed splits; a second failure of one of them is told right."""
    site.put("ours/fail")
    words = ("predict", "--splits", "5", "-a", "fail", "predict", "--wait")
    site.put("ours/model.json", "{}")
    site.rvrun("run", "batch", *ROOT, *words, code=1, RVRUN_BATCH_ATTEMPTS="1")
    site.rvrun("retry", "@latest", "--wait", code=1)
    site.remove("ours/fail")
    site.rvrun("retry", "@latest", "--wait")
    assert [each["arrayProperties"] for each in site.batch.submitted] == [{"size": 5}] * 3
    assert command(site.batch.submitted[2]).count(BOOT) == 1
    assert {f"predict/{scene}.txt" for scene in "abcd"} <= site.left().keys()


def test_more_splits_than_an_array_takes(site: Site) -> None:
    """Parts, each told where in all splits it begins; here arrays are of two at most."""
    site.write("sitecustomize.py", "import rvrun.runners.batch.jobs as jobs\njobs.MAX_ARRAY = 2\n")
    path = f"{site.folder}{os.pathsep}{PLUGINS}"
    words = ("chip", "train", "--splits", "3", "--wait")
    site.rvrun("run", "batch", *ROOT, *words, PYTHONPATH=path)
    assert {f"chip/{scene}.txt" for scene in "abcd"} <= site.left().keys()
    specs = site.specs()
    assert list(specs) == ["tiles/chip.0", "tiles/chip.1", "tiles/train"]
    assert [spec.get("arrayProperties") for spec in specs.values()] == [{"size": 2}, None, None]
    assert command(specs["tiles/chip.1"])[-4:] == ["--split-ind", "2", "--num-splits", "3"]


def boot(environment: dict[str, str]) -> str:
    """What the wrapper would execute for a job of that environment: its split."""
    executed: list[list[str]] = []
    code = BOOT.replace("os.execvp(sys.argv[1], ", "execute(").replace("os.environ", "environ")
    code = code.replace("sys.argv", "argv")
    exec(
        code,
        {"environ": environment, "argv": ["-c", "worker"], "execute": executed.append},
    )
    (words,) = executed
    assert words[:2] == ["worker", "--split-ind"]
    return words[2]


@given(st.sets(st.integers(0, 60_000), min_size=1, max_size=400), st.data())
def test_the_wrapper_reads_what_is_written(splits: set[int], data: st.DataObject) -> None:
    """Lists, and maps where lists would be long: each child of the array finds its split."""
    listed = sorted(splits)
    index = data.draw(st.integers(0, len(listed) - 1))
    environment = {"RVRUN_SPLITS": indices.write(listed), "AWS_BATCH_JOB_ARRAY_INDEX": str(index)}
    assert boot(environment) == str(listed[index])
    assert boot({"RVRUN_SPLITS": indices.write(listed[:1])}) == str(listed[0])


def test_both_ways_of_writing_are_met() -> None:
    """The property above is about both."""
    assert indices.write([0, 1, 2, 7]) == "0-2,7"
    text = indices.write(range(0, 20_000, 2))
    assert base64.b64decode(text.partition(":")[2])
    assert boot({"RVRUN_SPLITS": text, "AWS_BATCH_JOB_ARRAY_INDEX": "9999"}) == "19998"


@pytest.mark.parametrize(
    "words",
    [
        ["rvrun", "run_command", "s3://b/c.json", "chip", "--num-splits", "3"],
        ["/entry.sh", "rvrun", "run_command", "s3://b/c.json", "chip", "--num-splits", "3"],
        ["sh", "-c", "rvrun run_command s3://b/c.json chip --num-splits 3"],
        ["true"],
        [*WORKER, "run_command", URI, "chip", "--split-ind", "1", "--num-splits", "3"],
    ],
    ids=" ".join,
)
def test_what_needs_no_wrapper_gets_none(words: list[str]) -> None:
    """rvrun's own worker also behind a user's program; a join; what is told its split already."""
    assert booted(words) == words


def test_a_users_program_may_stand_before_the_worker() -> None:
    """As a template has put it there."""
    words = ["/entry.sh", *WORKER, "run_command", URI, "chip", "--num-splits", "3"]
    assert booted(words) == ["python", "-c", BOOT, *words]
    assert booted(booted(words)) == booted(words)
