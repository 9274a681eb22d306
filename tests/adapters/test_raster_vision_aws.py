"""Raster Vision's own pipelines on AWS Batch and SageMaker: as its own runners, without their bugs.

The jobs are real processes, and run Raster Vision's own worker with its plugins for S3 and Batch,
as its images have them. What they leave on S3 is compared with what `rastervision run` leaves.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import signal
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvrun import split_ranges as indices
from rvrun.runners.batch.boot import BOOT, prepend_boot
from rvrun.runners.batch.runner import risks
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
#: A file of Raster Vision's settings, as its users have them.
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
#: A plugin whose pipeline names no queue.
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
#: Folders of a run directory that hold what is rendered.
RENDERED = ("config", "batch", "sagemaker")
#: Who may take a role on.
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
    """A project whose AWS is on loopback, with Raster Vision's settings in its home."""

    moto: Moto
    batch: BatchEngine
    sagemaker: SagemakerEngine

    def rendered(self, out: str) -> dict[str, str]:
        """The files of a run directory that are for its reader, and what they hold."""
        folder = self.folder / out
        paths = [folder / "plan.json", *(p for n in RENDERED for p in folder.glob(f"{n}/**/*.*"))]
        return {str(path.relative_to(folder)): path.read_text() for path in paths}

    @property
    def variables(self) -> dict[str, str]:
        return {
            **self.moto.variables,
            **self.sagemaker.variables,
            # Both engines have logs; tests look at those of Batch.
            **self.batch.variables,
            "PYTHONPATH": str(PLUGINS),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "RVRUN_SAGEMAKER_MAX_STEPS": "2000",
        }

    def run(
        self, *command: str, code: int = 0, cwd: str = ".", **env: str
    ) -> subprocess.CompletedProcess[str]:
        return super().run(*command, code=code, cwd=cwd, **(self.variables | env))

    def left(self, root: str = "ours") -> dict[str, str]:
        """What is on S3 below `root`, as if `root` were called ROOT."""
        found = {key: content.decode() for key, content in self.moto.objects().items()}
        return {
            key.removeprefix(f"{root}/"): in_order(text).replace(f"bucket/{root}", "ROOT")
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
            for path in sorted((self.folder / "runs" / run / "batch").glob("[0-9]*.json"))
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
        made = Site(tmp_path, moto, batch, sagemaker)
        made.write("tiles.py", CONFIG)
        made.write("both.py", CONFIGS)
        made.write(".rastervision/default", PROFILE)
        made.write("tmp/none", "")
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
    site.put("ours/model.json", "{}")
    words = ("predict", "eval", "--splits", "4", "-a", "fail", "predict c", "--wait")
    site.rvrun("run", "batch", *ROOT, *words, code=1, RVRUN_BATCH_ATTEMPTS="1")
    assert {"predict/a.txt", "predict/b.txt", "predict/d.txt"} <= site.left().keys()
    assert "eval.json" not in site.left()
    site.remove("ours/fail")
    assert "2 targets" in site.rvrun("retry", "@latest", "--wait").stderr
    assert json.loads(site.left()["eval.json"]) == {"predictions": 4}
    again = {each["tags"]["rvrun:job"]: each for each in site.batch.submitted[2:]}
    assert list(again) == ["tiles/predict", "tiles/eval"]
    assert command(again["tiles/predict"])[:4] == ["python", "-c", BOOT, "python"]


def test_several_failed_splits_are_a_smaller_array(site: Site) -> None:
    """As large as there are failed splits, each of which finds its own."""
    site.put("ours/fail")
    words = ("predict", "--splits", "3", "-a", "fail", "predict", "--wait")
    site.put("ours/model.json", "{}")
    site.rvrun("run", "batch", *ROOT, *words, code=1, RVRUN_BATCH_ATTEMPTS="1")
    site.remove("ours/fail")
    site.rvrun("retry", "@latest", "--wait")
    assert [each["arrayProperties"] for each in site.batch.submitted] == [{"size": 3}] * 2
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
    assert prepend_boot(words) == words


def test_a_users_program_may_stand_before_the_worker() -> None:
    """As a template has put it there."""
    words = ["/entry.sh", *WORKER, "run_command", URI, "chip", "--num-splits", "3"]
    assert prepend_boot(words) == ["python", "-c", BOOT, *words]
    assert prepend_boot(prepend_boot(words)) == prepend_boot(words)


# What settings and pipelines say of jobs.


def test_settings_and_pipelines_reach_the_specs(site: Site) -> None:
    """The queue and definition of a command's method, else of the pipeline, else of settings."""
    site.write("plain.py", CONFIG.replace("TilesConfig(", "Plain(") + PLAIN)
    site.write("rastervision/plain/__init__.py", PLAIN_PLUGIN)
    path = f"{PLUGINS}{os.pathsep}{site.folder}"
    site.rvrun("render", "batch", *ROOT, "--splits", "2")
    site.rvrun("render", "batch", "plain.py", *ROOT[1:], BATCH_GPU_JOB_DEF="env", PYTHONPATH=path)
    found = {
        key: (each["jobQueue"], each["jobDefinition"])
        for specs in (site.specs(), site.specs("plain"))
        for key, each in specs.items()
    }
    assert found == {
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
    """The file of the profile in force, or the variable over it."""
    site.write(".rastervision/mine", "[BATCH]\ncpu_job_queue=mine\n")
    said = site.rvrun("-p", "mine", "config", SAGEMAKER_TRAIN_INSTANCE_COUNT="2").stdout
    origins = {line.split()[0]: line.split()[1:3] for line in said.splitlines() if line.strip()}
    assert origins["batch.cpu_job_queue"] == ["mine", f"{site.folder}/.rastervision/mine"]
    assert origins["sagemaker.train_instance_count"] == ["2", "SAGEMAKER_TRAIN_INSTANCE_COUNT"]


def test_the_profile_in_force_is_saved_for_jobs(site: Site) -> None:
    """Its settings, not its name, which images need not know; they are told how much to tell."""
    site.write(".rastervision/mine", PROFILE + "[tiles]\ngreeting=from my profile\n")
    words = ("chip", "train", "eval", "-a", "analyze", "true", "--wait")
    site.put("ours/predict/a.txt")
    site.rvrun("-p", "mine", "-v", "run", "batch", *ROOT, *words, "-a", "scenes", "a")
    told = json.loads(site.left()["surroundings.json"])
    assert (told["greeting"], told["verbosity"]) == ("from my profile", 2)


def test_sagemaker_jobs_are_told_how_much_to_tell(site: Site) -> None:
    """On the command line of Raster Vision's worker; rvrun's finds it in its environment."""
    site.rvrun("-vv", "render", "sagemaker", *ROOT, SAGEMAKER_TRAIN_INSTANCE_COUNT="2")
    steps = site.steps()
    chip = steps["tiles-chip"]["Arguments"]
    assert chip["AppSpecification"]["ContainerArguments"][2:5] == ["-v", "-v", "run_command"]
    assert steps["tiles-train"]["Arguments"]["Environment"] == {"RVRUN_VERBOSITY": "2"}


def test_splits_on_instances_run_by_rvruns_worker(site: Site) -> None:
    """It reads the list of instances, which Raster Vision's does not."""
    env = {"RVRUN_SAGEMAKER_SPLIT_BY": "instances", "RVRUN_SAGEMAKER_MAX_INSTANCES": "2"}
    site.rvrun("run", "sagemaker", *ROOT, "chip", "--splits", "3", "--wait", **env)
    assert {f"chip/{scene}.txt" for scene in "abcd"} <= site.left().keys()
    assert site.steps()["tiles-chip-0"]["Arguments"]["AppSpecification"] == {
        "ImageUri": "cpu-image",
        "ContainerEntrypoint": ["rvrun"],
        "ContainerArguments": [
            *("run_command", URI, "chip", "--num-splits", "3", "--runner", "sagemaker")
        ],
    }


# What Raster Vision's own runners are known to do wrong.


def test_attempts_are_made(site: Site) -> None:
    """It never reads that setting."""
    site.put("ours/fail")
    words = ("train", "-a", "fail", "train", "--wait")
    site.rvrun("run", "batch", *ROOT, *words, code=1, BATCH_ATTEMPTS="2")
    (job,) = site.batch.jobs.values()
    assert [len(unit.attempts) for unit in job.units] == [2]


def test_training_is_on_spot_instances(site: Site) -> None:
    """It turns them off for all that comes after the first command that is none of training."""
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
    others = [each["Type"] for name, each in site.steps().items() if name != "tiles-train"]
    assert others == ["Processing"] * 3


def test_steps_depend_on_what_they_need(site: Site) -> None:
    """Each of its steps depends on all before it: 300 splits are more than SageMaker takes."""
    site.rvrun("render", "sagemaker", *ROOT, "--splits", "300")
    text = site.read("runs/tiles/sagemaker/tiles.request.json")
    assert "PipelineDefinitionS3Location" not in text
    steps = site.steps()
    assert steps["tiles-predict-299"]["DependsOn"] == ["tiles-train"]
    assert steps["tiles-chip-299"].get("DependsOn") is None
    assert len(steps["tiles-eval"]["DependsOn"]) == 300


def test_a_crash_half_way_leaves_no_job_untracked(site: Site) -> None:
    """It only logs the jobs' ids; here the same words go on where the ledger ends."""
    command = ("rvrun", "run", "batch", *ROOT, "chip", "train", "eval", "-a", "scenes", "a")
    site.put("ours/predict/a.txt")
    environment = clean_environment(**site.variables)
    with subprocess.Popen(
        command, cwd=site.folder, env=environment, stdout=subprocess.DEVNULL
    ) as process:

        def killed(operation: str, request: dict[str, Any], number: int) -> Fault | None:
            is_second = operation == "SubmitJob" and number == 2
            return DropReplyAfter(then=process.kill) if is_second else None

        site.batch.fault = killed
    assert process.returncode == -signal.SIGKILL
    assert "cut off" in site.rvrun("status", "@latest", code=1).stdout
    changed = site.rvrun(*command[1:], "-a", "epochs", "2", code=2).stderr
    assert "what would be submitted now is not the same" in changed
    site.rvrun(*command[1:], "--wait")
    submitted = [each["tags"]["rvrun:job"] for each in site.batch.submitted]
    assert submitted == ["tiles/chip", "tiles/train", "tiles/eval"]
    assert json.loads(site.left()["eval.json"]) == {"predictions": 1}


def test_two_configs_are_one_run(site: Site) -> None:
    """It submits one after the other; each has its own jobs, config and root here."""
    words = ("both.py", "chip", "-a", "root_uri", "s3://bucket/o.r", "--wait")
    site.rvrun("run", "sagemaker", *words)
    assert list(site.sagemaker.pipelines) == ["both"]
    assert sorted(site.sagemaker.statuses()) == ["tiles-one-chip", "tiles-two-chip"]
    assert {"one/chip/a.txt", "two/chip/a.txt", "one/pipeline-config.json"} <= set(site.left("o.r"))


# Roles and names that SageMaker does not take as they are.


def test_a_role_may_be_a_name(site: Site) -> None:
    """As Raster Vision has it; its account is known when the run is submitted."""
    site.rvrun("run", "sagemaker", *ROOT, "chip")
    rendered = json.loads(site.read("runs/tiles/sagemaker/tiles.request.json"))
    assert rendered["RoleArn"] == "arn:aws:iam::000000000000:role/rv-role"
    (call,) = [each for each in site.sagemaker.calls if each.operation == "CreatePipeline"]
    assert call.request["RoleArn"] == "arn:aws:iam::123456789012:role/rv-role"
    (step,) = json.loads(call.request["PipelineDefinition"])["Steps"]
    assert step["Arguments"]["RoleArn"] == "arn:aws:iam::123456789012:role/rv-role"


def test_a_role_that_is_not_there(site: Site) -> None:
    """One sentence that says which, and nothing is begun."""
    words = ("run", "sagemaker", *ROOT, "chip")
    said = site.rvrun(*words, code=2, SAGEMAKER_ROLE="none").stderr
    assert "AWS iam GetRole: Role none not found (NoSuchEntity)" in said
    assert site.moto.objects() == {}


def test_names_become_those_that_sagemaker_takes(site: Site) -> None:
    """`semantic_segmentation` is no name of a pipeline there, `tiles-v1.0` none of a step."""
    site.write("odd.py", CONFIGS.replace('"one", "two"', '"v1.0", "v_2"'))
    words = ("odd.py", "chip", "-a", "root_uri", "s3://bucket/ours")
    each = {"RVRUN_SAGEMAKER_DEFINITIONS": "each"}
    site.rvrun("render", "sagemaker", *words, **each)
    folder = site.folder / "runs/odd/sagemaker"
    assert sorted(path.name for path in folder.glob("*.request.json")) == [
        "tiles-v-2.request.json",
        "tiles-v1-0.request.json",
    ]
    assert list(site.steps("odd", "tiles-v1-0")) == ["tiles-v1-0-chip"]
    site.write("odd.py", CONFIGS.replace('"one", "two"', '"a.b", "a_b"'))
    assert "`tiles-a.b`, `tiles-a_b` would all be named 'tiles-a-b'" in (
        site.rvrun("render", "sagemaker", *words, code=2, **each).stderr
    )


# The other verbs.


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_plans_are_the_same_on_each_machine(site: Site, runner: str) -> None:
    """Neither settings of plugins nor the plugins themselves are in what is rendered."""
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
    """As of any other pipeline; nothing is written to the root."""
    site.rvrun("render", runner, *ROOT)
    words = (*ROOT, "-a", "epochs", "3")
    assert "tiles/train" in site.rvrun("plan", *words, "--runner", runner).stdout
    told = site.rvrun("diff", "runs/tiles", *words, code=1).stdout
    assert "~ tiles  config: epochs 1 → 3" in told
    assert "tiles/train would run" in site.rvrun("explain", "tiles/train").stdout
    site.rvrun("check", *ROOT, "--runner", runner)
    assert site.moto.objects() == {}


def test_check_tells_which_images_need_rvrun(site: Site) -> None:
    """Those of steps of several instances, which Raster Vision's worker knows nothing of."""
    env = {"RVRUN_SAGEMAKER_SPLIT_BY": "instances", "RVRUN_SAGEMAKER_TRAIN_INSTANCE_COUNT": "2"}
    words = ("check", *ROOT, "--splits", "2", "--runner", "sagemaker")
    told = site.rvrun(*words, **env).stdout
    assert (
        "tiles/chip, tiles/train, tiles/predict: several instances at once, so rvrun must be in "
        "the image"
    ) in told
    said = site.rvrun(*words, **env, RVRUN_SAGEMAKER_WORKER="rvrun").stdout
    assert "several instances" not in said


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_what_jobs_cannot_reach_is_refused(site: Site, runner: str) -> None:
    """A root of this machine; a class that only this machine's file has."""
    local = site.rvrun("render", runner, "tiles.py", "-a", "root_uri", "out", code=2).stderr
    assert "`tiles` has out for `root_uri`; give such as s3://BUCKET/FOLDER" in local
    site.write(
        "mine.py",
        "from rastervision.pipeline.config import register_config\n"
        "from rastervision.tiles import TilesConfig\n"
        "@register_config('mine.mine')\n"
        "class MineConfig(TilesConfig):\n    extra: int = 1\n"
        "def get_config(runner, root_uri):\n    return MineConfig(root_uri=root_uri)\n",
    )
    loose = site.rvrun("render", runner, "mine.py", *ROOT[1:], code=2).stderr
    assert "which jobs elsewhere cannot import; put it into a plugin" in loose


def test_a_bucket_that_is_not_there(site: Site) -> None:
    """One sentence with the config's place; no job was submitted."""
    words = ("tiles.py", "-a", "root_uri", "s3://nowhere/run")
    said = site.rvrun("run", "batch", *words, code=2).stderr
    assert "s3://nowhere/run/pipeline-config.json: AWS s3 PutObject: The specified bucket" in said
    assert site.batch.submitted == []


# Chips: Raster Vision's worker adds a file at each try.


CHIP_PLUGINS = f"{PLUGINS}{os.pathsep}{TORCH}"
CHIP = ("chips.py", "--splits", "2", "-a", "root_uri", "s3://bucket/ours")
ALL = ["a.txt", "b.txt", "c.txt", "d.txt"]
SECOND_TRY = (
    "a second try of chips/chip leaves what the first one wrote in s3://bucket/ours/chip, and "
    "`train` uses both"
)


@pytest.fixture
def chips(site: Site) -> Site:
    """A site with a pipeline that chips, whose jobs have its plugin."""
    site.batch.environment["PYTHONPATH"] = site.sagemaker.environment["PYTHONPATH"] = CHIP_PLUGINS
    site.write("chips.py", CHIPS)
    return site


def written(site: Site) -> list[str]:
    """What is in all files of chips."""
    objects = site.moto.objects().items()
    zips = [content for key, content in objects if key.startswith("ours/chip/")]
    return sorted(name for each in zips for name in zipfile.ZipFile(io.BytesIO(each)).namelist())


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_check_tells_of_second_tries(chips: Site, runner: str) -> None:
    """Where the command is planned and Raster Vision's worker runs it; and the way out."""
    env = {"PYTHONPATH": CHIP_PLUGINS}
    told = chips.rvrun("check", *CHIP, "--runner", runner, **env).stdout
    assert SECOND_TRY in told
    assert f'have rvrun in the image, and set `{runner}.worker = "rvrun"`' in told


RISKS = (
    f"{SECOND_TRY}, and its jobs are tried up to 3 times; have rvrun in the image and set "
    '`batch.worker = "rvrun"`, or set `attempts = 1` in [batch.commands."chips/chip"]'
)


def test_run_warns_where_batch_may_try_again(chips: Site) -> None:
    """As the attempts of Raster Vision's own settings may."""
    told = chips.rvrun("run", "batch", *CHIP, PYTHONPATH=CHIP_PLUGINS).stderr
    assert told.startswith(f"warning: {RISKS}\n")


def rendered(attempts: int, retry: str, once: Mapping[str, str]) -> dict[str, str]:
    """The files of a rendered job that chips."""
    strategy = retry_strategy(attempts, retry)
    request = {"tags": {"rvrun:job": "chips/chip.1"}, "retryStrategy": strategy}
    return {"batch/1-chips-chip-1.json": json.dumps(request), "batch/once.json": json.dumps(once)}


def test_risks_are_tries_of_what_is_to_be_tried_once() -> None:
    """Not where Batch tries again after a reclaimed instance alone: that leaves nothing."""
    once = {"chips/chip": SECOND_TRY.removeprefix("a second try of chips/chip ")}
    assert list(risks(rendered(3, "any", once))) == [RISKS]
    for files in (rendered(3, "spot", once), rendered(1, "any", once), rendered(3, "any", {})):
        assert list(risks(files)) == []


@pytest.mark.parametrize("runner", ["batch", "sagemaker"])
def test_retry_warns_of_chips_that_are_there_twice(chips: Site, runner: str) -> None:
    """Raster Vision's worker adds those of a split that failed."""
    env = {"PYTHONPATH": CHIP_PLUGINS, "RVRUN_BATCH_ATTEMPTS": "1"}
    chips.put("ours/fail-d")
    chips.rvrun("run", runner, *CHIP, "chip", "--wait", code=1, **env)
    chips.remove("ours/fail-d")
    told = chips.rvrun("retry", "@latest", "--wait", **env).stderr
    assert (
        f"warning: {SECOND_TRY}; if the failed one wrote some, cancel this retry, empty that "
        "folder, and run all of it again\n"
    ) in told
    assert written(chips) == sorted([*ALL, "c.txt", "d.txt"])


def test_rvruns_worker_writes_chips_once(chips: Site) -> None:
    """On S3 as on a disk: after a failed split and a retry, and when all runs again."""
    env = {
        "PYTHONPATH": CHIP_PLUGINS,
        "RVRUN_BATCH_ATTEMPTS": "1",
        "RVRUN_BATCH_WORKER": "rvrun",
    }
    chips.put("ours/fail-d")
    chips.rvrun("run", "batch", *CHIP, "chip", "--wait", code=1, **env)
    assert written(chips) == ["a.txt", "b.txt"]
    chips.remove("ours/fail-d")
    assert "second try" not in chips.rvrun("retry", "@latest", "--wait", **env).stderr
    assert written(chips) == ALL
    assert "second try" not in chips.rvrun("check", *CHIP, "--runner", "batch", **env).stdout
    chips.rvrun("run", "batch", *CHIP[:2], "1", *CHIP[3:], "--wait", **env)
    assert written(chips) == json.loads(chips.moto.objects()["ours/model.json"]) == ALL


def test_rvruns_worker_is_told_how_much_to_tell(site: Site) -> None:
    """In its environment."""
    site.rvrun("-v", "render", "batch", *ROOT, RVRUN_BATCH_WORKER="rvrun")
    spec = site.specs()["tiles/chip"]
    assert command(spec)[:3] == ["rvrun", "run_command", URI]
    assert spec["containerOverrides"]["environment"] == [{"name": "RVRUN_VERBOSITY", "value": "1"}]
