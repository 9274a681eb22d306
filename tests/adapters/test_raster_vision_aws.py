"""Raster Vision's own pipelines on AWS Batch and SageMaker, without its own runners' defects.

The jobs are real processes that run Raster Vision's own worker, with its plugins for S3 and Batch,
as in its images. What they write to S3 is compared with what `rastervision run` writes.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import queue
import signal
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun import split_ranges
from rvrun.runners.batch.boot import BOOT, prepend_boot
from rvrun.runners.batch.risks import risks
from rvrun.runners.batch.specs import retry_strategy
from tests.adapters.test_raster_vision import CHIPS, CONFIG, CONFIGS, PLUGINS, TORCH, in_order
from tests.conftest import Project, clean_environment
from tests.engines.batch import BatchEngine
from tests.engines.faults import DropReplyAfter, Fault
from tests.engines.moto import Moto
from tests.engines.sagemaker import SagemakerEngine

ROOT = ("tiles.py", "-a", "root_uri", "s3://bucket/ours")
WORKER = ["python", "-m", "rastervision.pipeline.cli"]
URI = "s3://bucket/ours/pipeline-config.json"
#: Raster Vision's settings, as its users write them.
PROFILE = """
[BATCH]
cpu_job_queue=cpu-queue
cpu_job_def=cpu-definition
gpu_job_queue=gpu-queue
gpu_job_def=gpu-definition
attempts=3

[SAGEMAKER]
role=rv-role
cpu_image=cpu-image
cpu_instance_type=ml.m5.large
gpu_image=gpu-image
gpu_instance_type=ml.p3.2xlarge
train_instance_type=ml.p3.8xlarge
use_spot_instances=yes
spot_instance_max_wait_time=7200
max_run_time=3600
"""
#: A plugin whose pipeline does not name a queue.
PLAIN_PLUGIN = """
import rastervision.pipeline
from rastervision.pipeline.config import register_config
from rastervision.tiles.pipeline import Tiles, TilesConfig

class PlainPipeline(Tiles):
    job_queue = None
    def train(self): ...

@register_config("plain.plain")
class Plain(TilesConfig):
    def build(self, tmp_dir):
        return PlainPipeline(self, tmp_dir)

def register_plugin(registry):
    registry.set_plugin_version("rastervision.plain", 0)
"""
PLAIN = "from rastervision.plain import Plain\n"
#: Folders of a run directory with rendered files.
RENDERED = ("config", "batch", "sagemaker")
#: The services that may assume a role.
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@attrs.frozen
class Site(Project):
    """A project with Raster Vision's settings, whose AWS endpoints are on the loopback."""

    moto: Moto
    batch: BatchEngine
    sagemaker: SagemakerEngine

    def rendered(self, out: str) -> dict[str, str]:
        """The rendered files of a run directory, and their content."""
        folder = self.folder / out
        paths = [folder / "plan.json", *(p for n in RENDERED for p in folder.glob(f"{n}/**/*.*"))]
        return {str(path.relative_to(folder)): path.read_text() for path in paths}

    @property
    def variables(self) -> dict[str, str]:
        return {
            **self.moto.variables,
            **self.sagemaker.variables,
            # Both engines serve logs; tests read those of Batch.
            **self.batch.variables,
            "PYTHONPATH": str(PLUGINS),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "RVRUN_SAGEMAKER_MAX_STEPS": "2000",
            # The engine lists a job immediately.
            "RVRUN_BATCH_LISTING_DELAY": "1",
        }

    def run(
        self, *command: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        return super().run(*command, code=code, cwd=cwd, **(self.variables | env))

    def stored(self, root: str = "ours") -> dict[str, str]:
        """The objects on S3 below `root`, with ROOT for `root` in their content."""
        objects = {key: content.decode() for key, content in self.moto.objects().items()}
        return {
            key.removeprefix(f"{root}/"): in_order(text).replace(f"bucket/{root}", "ROOT")
            for key, text in objects.items()
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
            for path in sorted((self.folder / "runs" / run / "batch").glob("[0-9]*.json"))
        ]
        return {request["tags"]["rvrun:job"]: request for request in requests}

    def steps(self, run: str = "tiles", name: str = "tiles") -> dict[str, dict[str, Any]]:
        """The rendered steps of SageMaker by name, including those within joins."""
        definition = json.loads(self.read(f"runs/{run}/sagemaker/{name}.definition.json"))
        steps = {}
        for step in definition["Steps"]:
            inner = step["Arguments"].get("IfSteps", []) if step["Type"] == "Condition" else []
            steps.update({part["Name"]: part for part in (step, *inner)})
        return steps


@pytest.fixture
def site(tmp_path: pathlib.Path, moto: Moto) -> Iterator[Site]:
    """Configs, settings, a bucket, and engines with all queues and job definitions."""
    moto.bucket()
    role = {"RoleName": "rv-role", "AssumeRolePolicyDocument": json.dumps(TRUST)}
    moto.client("iam").create_role(**role)
    jobs = {**moto.variables, "PYTHONPATH": str(PLUGINS)}
    with (
        BatchEngine(environment=jobs) as batch,
        SagemakerEngine(environment=jobs) as sagemaker,
    ):
        for queue in ("tiles-queue", "cpu-queue", "gpu-queue"):
            batch.add_queue(queue)
        for definition in ("train-definition", "cpu-definition", "gpu-definition"):
            batch.add_definition(definition)
        site = Site(tmp_path, moto, batch, sagemaker)
        site.write("tiles.py", CONFIG)
        site.write("both.py", CONFIGS)
        site.write(".rastervision/default", PROFILE)
        site.write("tmp/none", "")
        yield site


def command(spec: dict[str, Any]) -> list[str]:
    words: list[str] = spec["containerOverrides"]["command"]
    return words


# What the jobs write.


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_jobs_write_what_raster_vision_writes(site: Site, runner: str) -> None:
    """The same files on S3, including the config with its settings and plugins."""
    words = ("tiles.py", "--splits", "2", "-a", "root_uri")
    site.run("rastervision", "run", "inprocess", *words, "s3://bucket/theirs")
    site.rvrun("run", runner, *words, "s3://bucket/ours", "--wait")
    assert len(site.stored("theirs")) == 11
    assert site.stored() == site.stored("theirs")
    saved = json.loads(site.stored()["pipeline-config.json"])
    assert saved["rv_config"]["batch_cpu_job_queue"] == "cpu-queue"
    assert "rastervision.aws_s3" in saved["plugin_versions"]


def test_only_failed_splits_are_submitted_again(site: Site) -> None:
    """They run Raster Vision's worker behind a wrapper that determines the split."""
    site.put("ours/fail")
    site.put("ours/model.json", "{}")
    words = ("predict", "eval", "--splits", "4", "-a", "fail", "predict c", "--wait")
    site.rvrun("run", "batch", *ROOT, *words, code=1, RVRUN_BATCH_ATTEMPTS="1")
    assert {"predict/a.txt", "predict/b.txt", "predict/d.txt"} <= site.stored().keys()
    assert "eval.json" not in site.stored()
    site.remove("ours/fail")
    assert "2 targets" in site.rvrun("retry", "@latest", "--wait").stderr
    assert json.loads(site.stored()["eval.json"]) == {"predictions": 4}
    retried = {spec["tags"]["rvrun:job"]: spec for spec in site.batch.submitted[2:]}
    assert list(retried) == ["tiles/predict", "tiles/eval"]
    assert command(retried["tiles/predict"])[:4] == ["python", "-c", BOOT, "python"]


def test_several_failed_splits_are_a_smaller_array(site: Site) -> None:
    """The array has as many jobs as failed splits, and each job finds its split."""
    site.put("ours/fail")
    words = ("predict", "--splits", "3", "-a", "fail", "predict", "--wait")
    site.put("ours/model.json", "{}")
    site.rvrun("run", "batch", *ROOT, *words, code=1, RVRUN_BATCH_ATTEMPTS="1")
    site.remove("ours/fail")
    site.rvrun("retry", "@latest", "--wait")
    assert [spec["arrayProperties"] for spec in site.batch.submitted] == [{"size": 3}] * 2
    assert {f"predict/{scene}.txt" for scene in "abcd"} <= site.stored().keys()


def test_more_splits_than_an_array_allows(site: Site) -> None:
    """They become several arrays, each with the offset of its splits; here, of at most two."""
    site.write("sitecustomize.py", "import rvrun.runners.batch.jobs as jobs\njobs.MAX_ARRAY = 2\n")
    path = f"{site.folder}{os.pathsep}{PLUGINS}"
    words = ("chip", "train", "--splits", "3", "--wait")
    site.rvrun("run", "batch", *ROOT, *words, PYTHONPATH=path)
    assert {f"chip/{scene}.txt" for scene in "abcd"} <= site.stored().keys()
    specs = site.specs()
    assert list(specs) == ["tiles/chip.0", "tiles/chip.1", "tiles/train"]
    assert [spec.get("arrayProperties") for spec in specs.values()] == [{"size": 2}, None, None]
    assert command(specs["tiles/chip.1"])[-4:] == ["--split-ind", "2", "--num-splits", "3"]


def boot(environment: dict[str, str]) -> str:
    """The split that the wrapper determines for a job with this environment."""
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
    """Each child of an array finds its split, whether splits are a list or, if many, a map."""
    listed = sorted(splits)
    index = data.draw(st.integers(0, len(listed) - 1))
    environment = {
        "RVRUN_SPLITS": split_ranges.write(listed),
        "AWS_BATCH_JOB_ARRAY_INDEX": str(index),
    }
    assert boot(environment) == str(listed[index])
    assert boot({"RVRUN_SPLITS": split_ranges.write(listed[:1])}) == str(listed[0])


def test_both_formats_of_splits_are_covered() -> None:
    """The property above covers lists and maps."""
    assert split_ranges.write([0, 1, 2, 7]) == "0-2,7"
    text = split_ranges.write(range(0, 20_000, 2))
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
def test_other_commands_get_no_wrapper(words: list[str]) -> None:
    """The worker of rvrun, also behind a user's program; a join; a command that has its split."""
    assert prepend_boot(words) == words


def test_a_users_program_may_precede_the_worker() -> None:
    """A user's template may put it there; the wrapper comes first, and only once."""
    words = ["/entry.sh", *WORKER, "run_command", URI, "chip", "--num-splits", "3"]
    assert prepend_boot(words) == ["python", "-c", BOOT, *words]
    assert prepend_boot(prepend_boot(words)) == prepend_boot(words)


# What settings and pipelines specify for jobs.


def test_settings_and_pipelines_reach_the_specs(site: Site) -> None:
    """Queue and definition are the method's, else the pipeline's, else those of the settings."""
    site.write("plain.py", CONFIG.replace("TilesConfig(", "Plain(") + PLAIN)
    site.write("rastervision/plain/__init__.py", PLAIN_PLUGIN)
    path = f"{PLUGINS}{os.pathsep}{site.folder}"
    site.rvrun("render", "batch", *ROOT, "--splits", "2")
    site.rvrun("render", "batch", "plain.py", *ROOT[1:], BATCH_GPU_JOB_DEF="env", PYTHONPATH=path)
    jobs = {
        key: (spec["jobQueue"], spec["jobDefinition"])
        for specs in (site.specs(), site.specs("plain"))
        for key, spec in specs.items()
    }
    assert jobs == {
        "tiles/chip": ("tiles-queue", "cpu-definition"),
        "tiles/train": ("tiles-queue", "train-definition"),
        "tiles/predict": ("tiles-queue", "cpu-definition"),
        "tiles/eval": ("tiles-queue", "cpu-definition"),
        "plain/chip": ("cpu-queue", "cpu-definition"),
        "plain/train": ("gpu-queue", "env"),
        "plain/predict": ("cpu-queue", "cpu-definition"),
        "plain/eval": ("cpu-queue", "cpu-definition"),
    }


def test_config_shows_where_settings_come_from(site: Site) -> None:
    """The file of the active profile, or the variable that overrides it."""
    site.write(".rastervision/mine", "[BATCH]\ncpu_job_queue=mine\n")
    table = site.rvrun("-p", "mine", "config", SAGEMAKER_TRAIN_INSTANCE_COUNT="2").stdout
    origins = {line.split()[0]: line.split()[1:3] for line in table.splitlines() if line.strip()}
    assert origins["batch.cpu_job_queue"] == ["mine", f"{site.folder}/.rastervision/mine"]
    assert origins["sagemaker.train_instance_count"] == ["2", "SAGEMAKER_TRAIN_INSTANCE_COUNT"]


def test_the_active_profile_is_saved_for_jobs(site: Site) -> None:
    """Its settings, not its name, which images need not have; jobs also get the verbosity."""
    site.write(".rastervision/mine", PROFILE + "[tiles]\ngreeting=from my profile\n")
    words = ("chip", "train", "eval", "-a", "analyze", "true", "--wait")
    site.put("ours/predict/a.txt")
    site.rvrun("-p", "mine", "-v", "run", "batch", *ROOT, *words, "-a", "scenes", "a")
    surroundings = json.loads(site.stored()["surroundings.json"])
    assert (surroundings["greeting"], surroundings["verbosity"]) == ("from my profile", 2)


def test_sagemaker_jobs_get_the_verbosity(site: Site) -> None:
    """Raster Vision's worker as options, rvrun's worker as an environment variable."""
    site.rvrun("-vv", "render", "sagemaker", *ROOT, SAGEMAKER_TRAIN_INSTANCE_COUNT="2")
    steps = site.steps()
    chip = steps["tiles-chip"]["Arguments"]
    assert chip["AppSpecification"]["ContainerArguments"][2:5] == ["-v", "-v", "run_command"]
    assert steps["tiles-train"]["Arguments"]["Environment"] == {"RVRUN_VERBOSITY": "2"}


def test_splits_on_instances_run_rvruns_worker(site: Site) -> None:
    """It reads the list of instances; Raster Vision's worker does not."""
    env = {"RVRUN_SAGEMAKER_SPLIT_BY": "instances", "RVRUN_SAGEMAKER_MAX_INSTANCES": "2"}
    site.rvrun("run", "sagemaker", *ROOT, "chip", "--splits", "3", "--wait", code=0, **env)
    assert {f"chip/{scene}.txt" for scene in "abcd"} <= site.stored().keys()
    assert site.steps()["tiles-chip-0"]["Arguments"]["AppSpecification"] == {
        "ImageUri": "cpu-image",
        "ContainerEntrypoint": ["rvrun"],
        "ContainerArguments": [
            *("run_command", URI, "chip", "--num-splits", "3", "--runner", "sagemaker")
        ],
    }


# Known defects of Raster Vision's own runners.


def test_attempts_are_made(site: Site) -> None:
    """It never reads the setting `attempts`."""
    site.put("ours/fail")
    words = ("train", "-a", "fail", "train", "--wait")
    site.rvrun("run", "batch", *ROOT, *words, code=1, BATCH_ATTEMPTS="2")
    (job,) = site.batch.jobs.values()
    assert [len(unit.attempts) for unit in job.units] == [2]


def test_training_runs_on_spot_instances(site: Site) -> None:
    """It disables them for all commands after the first one that is not training."""
    site.rvrun("render", "sagemaker", *ROOT)
    train = site.steps()["tiles-train"]
    assert train["Type"] == "Training"
    assert train["Arguments"]["EnableManagedSpotTraining"] is True
    assert train["Arguments"]["StoppingCondition"] == {
        "MaxWaitTimeInSeconds": 7200,
        "MaxRuntimeInSeconds": 3600,
    }
    assert train["Arguments"]["AlgorithmSpecification"]["TrainingImage"] == "gpu-image"
    assert train["Arguments"]["ResourceConfig"]["InstanceType"] == "ml.p3.8xlarge"
    others = [step["Type"] for name, step in site.steps().items() if name != "tiles-train"]
    assert others == ["Processing"] * 3


def test_steps_depend_on_what_they_need(site: Site) -> None:
    """Each of its steps depends on all before it; with 300 splits, SageMaker refuses them."""
    site.rvrun("render", "sagemaker", *ROOT, "--splits", "300")
    text = site.read("runs/tiles/sagemaker/tiles.request.json")
    assert "PipelineDefinitionS3Location" in text
    steps = site.steps()
    assert steps["tiles-predict-299"]["DependsOn"] == ["tiles-train"]
    assert steps["tiles-chip-299"].get("DependsOn") is None
    assert len(steps["tiles-eval"]["DependsOn"]) == 300


def test_a_crash_half_way_leaves_no_job_untracked(site: Site) -> None:
    """It only logs the jobs' ids; here, the same command continues where the ledger ends."""
    command = ("rvrun", "run", "batch", *ROOT, "chip", "train", "eval", "-a", "scenes", "a")
    site.put("ours/predict/a.txt")
    environment = clean_environment(**site.variables)
    started: queue.Queue[subprocess.Popen[bytes]] = queue.Queue()

    def killed(operation: str, request: dict[str, Any], number: int) -> Fault | None:
        is_second = operation == "SubmitJob" and number == 2
        return DropReplyAfter(then=lambda: started.get().kill()) if is_second else None

    # Before it starts, so that no call is too early.
    site.batch.fault = killed
    with subprocess.Popen(
        command, cwd=site.folder, env=environment, stdout=subprocess.DEVNULL
    ) as process:
        started.put(process)
    assert process.returncode == -signal.SIGKILL
    status = site.rvrun("status", "@latest", code=1).stdout
    assert "interrupted while it was submitted" in status
    changed = site.rvrun(*command[1:], "-a", "epochs", "2", code=2).stderr
    assert "the files to submit have changed since" in changed
    site.rvrun(*command[1:], "--wait")
    submitted = [spec["tags"]["rvrun:job"] for spec in site.batch.submitted]
    assert submitted == ["tiles/chip", "tiles/train", "tiles/eval"]
    assert json.loads(site.stored()["eval.json"]) == {"predictions": 1}


def test_two_configs_are_one_run(site: Site) -> None:
    """It submits them one after the other; here, one run has the jobs of both."""
    words = ("both.py", "chip", "-a", "root_uri", "s3://bucket/o.r", "--wait")
    site.rvrun("run", "sagemaker", *words)
    assert list(site.sagemaker.pipelines) == ["both"]
    assert sorted(site.sagemaker.statuses()) == ["tiles-one-chip", "tiles-two-chip"]
    assert {"one/chip/a.txt", "two/chip/a.txt", "one/pipeline-config.json"} <= set(
        site.stored("o.r")
    )


# Roles and names that SageMaker does not accept as they are.


def test_a_role_may_be_a_name(site: Site) -> None:
    """As in Raster Vision; the account is looked up when the run is submitted."""
    site.rvrun("run", "sagemaker", *ROOT, "chip")
    rendered = json.loads(site.read("runs/tiles/sagemaker/tiles.request.json"))
    assert rendered["RoleArn"] == "arn:aws:iam::000000000000:role/rv-role"
    (call,) = [call for call in site.sagemaker.calls if call.operation == "CreatePipeline"]
    assert call.request["RoleArn"] == "arn:aws:iam::123456789012:role/rv-role"
    (step,) = json.loads(call.request["PipelineDefinition"])["Steps"]
    assert step["Arguments"]["RoleArn"] == "arn:aws:iam::123456789012:role/rv-role"


def test_an_unknown_role_is_refused(site: Site) -> None:
    """The error names it, and nothing is uploaded or submitted."""
    words = ("run", "sagemaker", *ROOT, "chip")
    stderr = site.rvrun(*words, code=2, SAGEMAKER_ROLE="none").stderr
    assert "AWS iam GetRole: Role none not found (NoSuchEntity)" in stderr
    assert site.moto.objects() == {}


def test_names_are_converted_for_sagemaker(site: Site) -> None:
    """Names of pipelines must not contain `_`, names of steps must not contain `.`."""
    site.write("odd.py", CONFIGS.replace('"one", "two"', '"v1.0", "v_2"'))
    words = ("odd.py", "chip", "-a", "root_uri", "s3://bucket/ours")
    env = {"RVRUN_SAGEMAKER_DEFINITIONS": "each"}
    site.rvrun("render", "sagemaker", *words, code=0, **env)
    folder = site.folder / "runs/odd/sagemaker"
    assert sorted(path.name for path in folder.glob("*.request.json")) == [
        "tiles-v-2.request.json",
        "tiles-v1-0.request.json",
    ]
    assert list(site.steps("odd", "tiles-v1-0")) == ["tiles-v1-0-chip"]
    site.write("odd.py", CONFIGS.replace('"one", "two"', '"a.b", "a_b"'))
    assert "but `tiles-a.b`, `tiles-a_b` all become `tiles-a-b`; rename one" in (
        site.rvrun("render", "sagemaker", *words, code=2, **env).stderr
    )


# The other verbs.


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_plans_are_the_same_on_each_machine(site: Site, runner: str) -> None:
    """Rendered files contain neither plugins nor their settings."""
    site.write("plugins/rastervision/more/__init__.py", "")
    path = f"{PLUGINS}{os.pathsep}{site.folder}/plugins"
    words = ("render", runner, *ROOT, "--splits", "2", "--out")
    site.rvrun(*words, "one", TILES_GREETING="hello")
    site.rvrun(*words, "two", PYTHONPATH=path, TMPDIR="/tmp")
    one, two = site.rendered("one"), site.rendered("two")
    assert one == two
    assert "rv_config" not in "".join(one.values()).replace('"rv_config": null', "")
    assert site.moto.objects() == {}


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_plan_diff_explain_and_check(site: Site, runner: str) -> None:
    """They work as with any other pipeline; nothing is written to the root."""
    site.rvrun("render", runner, *ROOT)
    words = (*ROOT, "-a", "epochs", "3")
    assert "tiles/train" in site.rvrun("plan", *words, "--runner", runner).stdout
    diff = site.rvrun("diff", "runs/tiles", *words, code=1).stdout
    assert "~ tiles  config: epochs 1 → 3" in diff
    assert "tiles/train would run" in site.rvrun("explain", "tiles/train").stdout
    site.rvrun("check", *ROOT, "--runner", runner)
    assert site.moto.objects() == {}


def test_check_lists_images_that_require_rvrun(site: Site) -> None:
    """Those of steps with several instances, which Raster Vision's worker does not support."""
    env = {"RVRUN_SAGEMAKER_SPLIT_BY": "instances", "RVRUN_SAGEMAKER_TRAIN_INSTANCE_COUNT": "2"}
    words = ("check", *ROOT, "--splits", "2", "--runner", "sagemaker")
    report = site.rvrun(*words, code=0, **env).stdout
    assert (
        "tiles/chip, tiles/train, tiles/predict: jobs with several instances require rvrun in "
        "their image"
    ) in report
    report = site.rvrun(*words, code=0, **env, RVRUN_SAGEMAKER_WORKER="rvrun").stdout
    assert "several instances" not in report


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_local_roots_and_files_are_refused(site: Site, runner: str) -> None:
    """Jobs can reach neither a root on this machine nor a class in a loose file."""
    local = site.rvrun("render", runner, "tiles.py", "-a", "root_uri", "out", code=2).stderr
    assert "`tiles` has out as `root_uri`; use one such as s3://BUCKET/FOLDER" in local
    site.write(
        "mine.py",
        "from rastervision.pipeline.config import register_config\n"
        "from rastervision.tiles import TilesConfig\n"
        "@register_config('mine.mine')\n"
        "class MineConfig(TilesConfig):\n    extra: int = 1\n"
        "def get_config(runner, root_uri):\n    return MineConfig(root_uri=root_uri)\n",
    )
    loose = site.rvrun("render", runner, "mine.py", *ROOT[1:], code=2).stderr
    assert "which jobs on other machines cannot import; move it into a plugin" in loose


def test_a_missing_bucket_is_refused(site: Site) -> None:
    """The error names the config's URI, and no job is submitted."""
    words = ("tiles.py", "-a", "root_uri", "s3://nowhere/run")
    stderr = site.rvrun("run", "batch", *words, code=2).stderr
    assert "s3://nowhere/run/pipeline-config.json: AWS s3 PutObject: The specified bucket" in stderr
    assert site.batch.submitted == []


# Chips: Raster Vision's worker adds a file with each attempt.


CHIP_PLUGINS = f"{PLUGINS}{os.pathsep}{TORCH}"
CHIP = ("chips.py", "--splits", "2", "-a", "root_uri", "s3://bucket/ours")
ALL = ["a.txt", "b.txt", "c.txt", "d.txt"]
SECOND_ATTEMPT = (
    "a second attempt of chips/chip adds files to those of the first one in s3://bucket/ours/chip, "
    "and `train` uses both"
)


@pytest.fixture
def chips(site: Site) -> Site:
    """A site with a pipeline that writes chips, whose jobs have its plugin."""
    site.batch.environment["PYTHONPATH"] = site.sagemaker.environment["PYTHONPATH"] = CHIP_PLUGINS
    site.write("chips.py", CHIPS)
    return site


def written(site: Site) -> list[str]:
    """The chips in all files in the folder of chips."""
    objects = site.moto.objects().items()
    zips = [content for key, content in objects if key.startswith("ours/chip/")]
    return sorted(name for zip_ in zips for name in zipfile.ZipFile(io.BytesIO(zip_)).namelist())


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_check_warns_about_second_attempts(chips: Site, runner: str) -> None:
    """If `chip` is planned and Raster Vision's worker runs it; with a fix."""
    env = {"PYTHONPATH": CHIP_PLUGINS}
    report = chips.rvrun("check", *CHIP, "--runner", runner, code=0, **env).stdout
    assert SECOND_ATTEMPT in report
    assert f'install rvrun in the image, and set `{runner}.worker = "rvrun"`' in report


RISKS = (
    f"{SECOND_ATTEMPT}, and its jobs have up to 3 attempts; install rvrun in the image and set "
    '`batch.worker = "rvrun"`, or set `attempts = 1` in [batch.commands."chips/chip"]'
)


def test_run_warns_if_batch_may_retry(chips: Site) -> None:
    """Raster Vision's own setting `attempts` allows it here."""
    stderr = chips.rvrun("run", "batch", *CHIP, PYTHONPATH=CHIP_PLUGINS).stderr
    assert stderr.startswith(f"warning: {RISKS}\n")


def rendered(attempts: int, retry: str, once: Mapping[str, str]) -> dict[str, str]:
    """The files of a rendered job that writes chips."""
    strategy = retry_strategy(attempts, retry)
    request = {"tags": {"rvrun:job": "chips/chip.1"}, "retryStrategy": strategy}
    return {"batch/1-chips-chip-1.json": json.dumps(request), "batch/once.json": json.dumps(once)}


def test_risks_are_retries_of_non_idempotent_stages() -> None:
    """Retrying only reclaimed instances is not a risk, as a killed job has written nothing."""
    once = {"chips/chip": SECOND_ATTEMPT.removeprefix("a second attempt of chips/chip ")}
    assert list(risks(rendered(3, "any", once))) == [RISKS]
    for files in (rendered(3, "spot", once), rendered(1, "any", once), rendered(3, "any", {})):
        assert list(risks(files)) == []


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_retry_warns_about_duplicate_chips(chips: Site, runner: str) -> None:
    """Raster Vision's worker writes the chips of a failed split again."""
    env = {"PYTHONPATH": CHIP_PLUGINS, "RVRUN_BATCH_ATTEMPTS": "1"}
    chips.put("ours/fail-d")
    chips.rvrun("run", runner, *CHIP, "chip", "--wait", code=1, **env)
    chips.remove("ours/fail-d")
    stderr = chips.rvrun("retry", "@latest", "--wait", code=0, **env).stderr
    assert (
        f"warning: {SECOND_ATTEMPT}; if the failed attempt wrote files, cancel this retry, empty "
        "that directory, and start a new run\n"
    ) in stderr
    assert written(chips) == sorted([*ALL, "c.txt", "d.txt"])


def test_rvruns_worker_writes_chips_once(chips: Site) -> None:
    """On S3 as on a disk: after a failed split and a retry, and if everything runs again."""
    env = {
        "PYTHONPATH": CHIP_PLUGINS,
        "RVRUN_BATCH_ATTEMPTS": "1",
        "RVRUN_BATCH_WORKER": "rvrun",
    }
    chips.put("ours/fail-d")
    chips.rvrun("run", "batch", *CHIP, "chip", "--wait", code=1, **env)
    assert written(chips) == ["a.txt", "b.txt"]
    chips.remove("ours/fail-d")
    assert "second attempt" not in chips.rvrun("retry", "@latest", "--wait", code=0, **env).stderr
    assert written(chips) == ALL
    report = chips.rvrun("check", *CHIP, "--runner", "batch", code=0, **env).stdout
    assert "second attempt" not in report
    chips.rvrun("run", "batch", *CHIP[:2], "1", *CHIP[3:], "--wait", code=0, **env)
    assert written(chips) == json.loads(chips.moto.objects()["ours/model.json"]) == ALL


def test_rvruns_worker_gets_the_verbosity(site: Site) -> None:
    """As an environment variable."""
    site.rvrun("-v", "render", "batch", *ROOT, RVRUN_BATCH_WORKER="rvrun")
    spec = site.specs()["tiles/chip"]
    assert command(spec)[:3] == ["rvrun", "run_command", URI]
    assert spec["containerOverrides"]["environment"] == [{"name": "RVRUN_VERBOSITY", "value": "1"}]
