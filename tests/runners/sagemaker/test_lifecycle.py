"""Runs on SageMaker Pipelines from rendering to retrying, on an engine that executes them."""

from __future__ import annotations

import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from botocore.stub import Stubber

from rvrun.aws.client import Client, Patience
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import State
from rvrun.runners.sagemaker import limits, runner
from rvrun.runners.sagemaker.calls import Calls
from rvrun.runners.sagemaker.events import started_executions
from rvrun.runners.sagemaker.files import Job, Submission
from rvrun.runners.sagemaker.state import read_executions
from rvrun.runners.sagemaker.submit import display_name, start_once
from tests.conftest import PATIENCE, ROOT, Project, unmeasured_environment
from tests.disks import fill_disk, obey_modes, protect, unprotect
from tests.engines import faults
from tests.engines.moto import Moto
from tests.engines.sagemaker import SagemakerEngine
from tests.engines.sagemaker_rules import MAX_INLINE

#: The commands write to a folder of this machine; the roots are on S3, as the runner requires.
SHOP = """
import json, os, pathlib
import rvrun

class ShopConfig(rvrun.PipelineConfig):
    folder: str = "."
    note: str = ""
    def build(self):
        return Shop(self)

class Shop(rvrun.Pipeline):
    commands = ("chip", "train", "predict", "eval")
    split_commands = ("chip", "predict")

    @property
    def folder(self):
        return pathlib.Path(self.config.folder, self.config.name)

    def save(self, name, *needed):
        for file in needed:
            self.folder.joinpath(file).read_text()
        if self.folder.joinpath(f"fail-{name}").exists():
            raise ValueError(f"{name} fails as configured")
        print("made", name)
        self.folder.joinpath(name).write_text(os.environ.get("RVRUN_SPLITS", ""))

    def chip(self, split_ind, num_splits):
        self.save(f"chip-{split_ind}")

    def train(self):
        self.save("train", *(f"chip-{i}" for i in range(3)))

    def predict(self, split_ind, num_splits):
        self.save(f"predict-{split_ind}", "train")

    def eval(self):
        self.save("eval", *(f"predict-{i}" for i in range(3)))

def get_configs(runner, folder, names="shop", note=""):
    return [
        ShopConfig(root_uri=f"s3://bucket/{name}", name=name, folder=folder, note=note)
        for name in names.split(",")
    ]
"""
SETTINGS = """
[sagemaker]
role = "arn:aws:iam::123456789012:role/rvrun"
cpu_image = "image"
cpu_instance_type = "ml.m5.large"
"""
CHIPS = ("chip-0", "chip-1", "chip-2")
ALL = (*CHIPS, "train", "predict-0", "predict-1", "predict-2", "eval")


@attrs.frozen
class Site:
    """A project with an AWS on loopback."""

    project: Project
    engine: SagemakerEngine
    moto: Moto

    @property
    def variables(self) -> dict[str, str]:
        return {**self.moto.variables, **self.engine.variables}

    def rvrun(self, *words: str, code: int = 0, **env: str) -> str:
        """Run a command; return what it printed to stdout, then to stderr."""
        done = self.project.rvrun(*words, code=code, **self.variables, **env)
        return done.stdout + done.stderr

    def run(self, *words: str, code: int = 0, names: str = "shop", **env: str) -> str:
        for name in names.split(","):
            self.folder(name).mkdir(parents=True, exist_ok=True)
        args = ("-a", "folder", str(self.project.folder / "out"), "-a", "names", names)
        return self.rvrun(
            "run", "sagemaker", "shop.py", "--splits", "3", *args, *words, code=code, **env
        )

    def folder(self, name: str = "shop") -> pathlib.Path:
        return self.project.folder / "out" / name

    def made(self, name: str = "shop") -> set[str]:
        return {p.name for p in self.folder(name).iterdir() if not p.name.startswith("fail")}

    def fail(self, name: str) -> pathlib.Path:
        """Make a target fail while the returned file exists."""
        self.folder().mkdir(parents=True, exist_ok=True)
        path = self.folder() / f"fail-{name}"
        path.touch()
        return path

    def status(self, code: int = 0) -> dict[str, Any]:
        printed = self.rvrun("status", "@latest", "--json", code=code)
        state: dict[str, Any] = json.loads(printed.partition("\nrvrun")[0])
        return state

    @property
    def ledger(self) -> Ledger:
        return ledgers.ledgers(self.project.folder / "runs/shop")[-1]


@pytest.fixture
def make(project: Project, moto: Moto) -> Iterator[Callable[..., Site]]:
    """Return a function that makes sites; its options are the engine's."""
    engines: list[SagemakerEngine] = []
    moto.bucket()
    project.write("shop.py", SHOP)
    project.write("rvrun.toml", SETTINGS)

    def read(bucket: str, key: str) -> bytes:
        content: bytes = moto.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def begin(**options: Any) -> Site:
        engines.append(SagemakerEngine(environment=moto.variables, read_s3=read, **options))
        engine = engines[-1]
        engine.environment.update(engine.variables)
        return Site(project, engine, moto)

    yield begin
    for engine in engines:
        engine.close()


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()


@pytest.mark.parametrize("split_by", ["steps", "instances"])
def test_a_run_runs_all_targets(site: Site, split_by: str) -> None:
    """Each target runs once, after what it needs, however splits run; the code is uploaded."""
    text = site.run("--wait", RVRUN_SAGEMAKER_SPLIT_BY=split_by)
    assert "succeeded after" in text
    assert site.made() == set(ALL)
    state = site.status()
    assert state["state"] == "succeeded"
    assert [(stage["name"], stage["succeeded"]) for stage in state["stages"]] == [
        ("shop/chip", 3),
        ("shop/train", 1),
        ("shop/predict", 3),
        ("shop/eval", 1),
    ]
    keys = sorted(key.split("-")[0] for key in site.moto.objects())
    assert [key.partition("code/")[0] for key in keys] == ["shop/rvrun/", "shop/rvrun/config/shop"]
    assert len(site.engine.statuses()) == (8 if split_by == "steps" else 4)


def test_more_splits_than_instances_per_step(site: Site) -> None:
    """Each instance of each step determines its own split."""
    env = {"RVRUN_SAGEMAKER_SPLIT_BY": "instances", "RVRUN_SAGEMAKER_MAX_INSTANCES": "2"}
    site.run("chip", "--wait", code=0, **env)
    assert site.made() == set(CHIPS)
    contents = [site.folder().joinpath(f"chip-{split}").read_text() for split in range(3)]
    assert contents == ["", "", ""]
    assert set(site.engine.statuses()) >= {"shop-chip-0", "shop-chip-2"}


def test_a_second_run_waits_for_the_first(make: Callable[..., Site]) -> None:
    """Afterwards it updates the pipeline and starts it again."""
    site = make(slots=0)
    first = site.run().splitlines()[0]
    assert f"run {first} is still running" in site.run(code=2)
    site.rvrun("cancel", "@latest")
    second = site.run().splitlines()[0]
    assert second != first
    assert site.engine.count("CreatePipeline") == 2
    assert site.engine.count("UpdatePipeline") == 1
    listed = site.rvrun("list")
    assert [line.split()[0] for line in listed.splitlines()[2:4]] == [first, second]


def test_a_failure_is_reported_and_retried(site: Site) -> None:
    """With its log and what depends on it; only these run again."""
    failure = site.fail("predict-1")
    text = site.run("--wait", code=1)
    assert "first failure: shop/predict/1 (exit 1): ClientError: AlgorithmError" in text
    assert "ValueError: predict-1 fails as configured" in text
    state = site.status(code=1)
    assert state["state"] == "failed"
    assert state["stages"][3] == {**state["stages"][3], "name": "shop/eval", "failed": 1}
    site.rvrun("report", "@latest", "--html", "report.html")
    page = site.project.read("report.html")
    for part in (
        "SageMaker does not report how much memory",
        '<b class="failed">shop/predict/1</b> (exit 1)',
        "ValueError: predict-1 fails as configured",
        '<b class="failed">shop/eval</b> <span class="muted">was not started',
    ):
        assert part in page
    site.rvrun("records", "summary", "@latest")
    summaries = json.loads(site.project.read("estimates.json"))["stages"]
    assert summaries["shop/predict"]["targets"] == state["stages"][2]["succeeded"]
    assert "shop/eval" not in summaries
    assert " failed " in site.rvrun("list")
    failure.unlink()
    assert "submitted" in site.rvrun("retry", "@latest")
    assert " submitted " in site.rvrun("list")
    site.rvrun("status", "@latest", "--watch")
    assert " succeeded " in site.rvrun("list")
    assert site.made() == set(ALL)
    assert site.engine.attempts("shop-train") == 1
    assert site.engine.attempts("shop-predict-1") == 2
    assert (
        f"nothing in run {site.ledger.run_id} failed, so there is nothing to retry"
        in site.rvrun("retry", "@latest", code=2)
    )


def test_the_log_of_an_instance(site: Site) -> None:
    """Each has its own; for a stage with one step all are printed, with the host in each line."""
    site.run("chip", "train", "--wait", RVRUN_SAGEMAKER_SPLIT_BY="instances")
    assert "made chip-2\n" in site.rvrun("logs", "@latest", "shop/chip/2")
    lines = site.rvrun("logs", "@latest", "shop/chip").splitlines()
    assert [line for line in lines if "made" in line] == [
        f"algo-{number + 1}: made chip-{number}" for number in range(3)
    ]
    assert "made train\n" in site.rvrun("logs", "@latest", "shop/train")
    assert "shop/chip has no target shop/chip/3" in site.rvrun(
        "logs", "@latest", "shop/chip/3", code=2
    )


def test_the_log_of_a_step(make: Callable[..., Site]) -> None:
    """A stage with several steps has no single log; pages of logs may be empty."""
    site = make(log_gaps=True)
    site.run("chip", "train", "--wait")
    assert "made chip-1\n" in site.rvrun("logs", "@latest", "shop/chip/1", "-f")
    assert "shop/chip is split; specify one target, such as shop/chip/0" in site.rvrun(
        "logs", "@latest", "shop/chip", code=2
    )
    assert "did you mean `shop/train`" in site.rvrun("logs", "@latest", "shop/trian", code=2)


def test_a_cancelled_run_stops(make: Callable[..., Site]) -> None:
    """What runs is stopped, what waits is never started and has no log."""
    site = make(execute=lambda attempt: attempt.wait_until_stopped())
    site.run()
    site.engine.wait_for(lambda: "Executing" in site.engine.statuses().values())
    assert "cancelled shop-" in site.rvrun("cancel", "@latest")
    assert site.engine.wait() == ["Stopped"]
    state = site.status(code=1)
    assert (state["state"], state["stages"][3]["failed"]) == ("cancelled", 1)
    assert (
        "shop/eval has no log: it was not started, because another step failed or was stopped\n"
    ) in site.rvrun("logs", "@latest", "shop/eval", code=2)
    assert "was waiting or running" in site.rvrun("cancel", "@latest")
    assert "submitted 8 targets" in site.rvrun("retry", "@latest")


@pytest.mark.parametrize(("definitions", "names"), [("one", ["run-2"]), ("each", ["a", "b"])])
def test_several_pipelines(site: Site, definitions: str, names: list[str]) -> None:
    """They run side by side, in one execution or each in its own."""
    words = ("chip", "train", "--wait", "--run-name", "run-2")
    site.run(*words, names="a,b", RVRUN_SAGEMAKER_DEFINITIONS=definitions)
    assert sorted(site.engine.pipelines) == names
    assert site.made("a") == site.made("b") == {*CHIPS, "train"}
    assert [stage["name"] for stage in site.status()["stages"]][::2] == ["a/chip", "b/chip"]


def test_a_long_definition_goes_through_s3(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request has its location, and it is uploaded before the request is made."""
    site.project.write(
        "sitecustomize.py",
        "from rvrun.runners.sagemaker import limits\nlimits.INLINE_BYTES = 100\n",
    )
    site.run("chip", "--wait", PYTHONPATH=str(site.project.folder))
    (call,) = [call for call in site.engine.calls if call.operation == "CreatePipeline"]
    location = call.request["PipelineDefinitionS3Location"]
    assert "PipelineDefinition" not in call.request
    definition = json.loads(site.moto.objects()[location["ObjectKey"]])
    assert len(definition["Steps"]) == 3
    assert site.made() == set(CHIPS)


def test_training_on_several_instances(site: Site) -> None:
    """Each host starts its processes under torchrun; each process gets its rank among all."""
    source = SHOP.replace(
        'self.save("train", *(f"chip-{i}" for i in range(3)))',
        'self.save("train" if os.environ["RANK"] == "0" else "train-" + os.environ["RANK"])',
    )
    site.project.write("shop.py", source)
    torchrun = (ROOT / "tests/engines/torchrun.py").read_text()
    path = site.project.write("bin/torchrun", f"#!{sys.executable}\n{torchrun}")
    path.chmod(0o755)
    scripts = os.path.dirname(sys.executable)
    site.engine.environment["PATH"] = f"{path.parent}:{scripts}:/usr/bin:/bin"
    env = {
        "RVRUN_SAGEMAKER_TRAIN_INSTANCE_COUNT": "2",
        "RVRUN_SAGEMAKER_PROCESSES_PER_INSTANCE": "2",
    }
    site.run("chip", "train", "--wait", code=0, **env)
    assert site.made() == {*CHIPS, "train", "train-1", "train-2", "train-3"}
    lines = site.rvrun("logs", "@latest", "shop/train").splitlines()
    assert {line.split(": ")[0] for line in lines if "made" in line} == {"algo-1", "algo-2"}


def test_faults_of_the_service_are_retried(make: Callable[..., Site]) -> None:
    """As often as configured, without the run noticing."""
    fault = "SageMaker.CAPACITY_ERROR"
    site = make(job_fault=lambda name, attempt: fault if attempt < 4 else None)
    site.run("chip", "train", "--wait")
    assert site.engine.attempts("shop-train") == 4
    site.run("chip", "train", "--wait", code=1, RVRUN_SAGEMAKER_ATTEMPTS="3")
    state = site.status(code=1)
    assert state["failure"]["reason"] == f"ClientError: {fault}"
    assert "has no log" in site.rvrun("logs", "@latest", "shop/train", code=2)


def test_render_writes_everything_that_is_submitted(site: Site) -> None:
    """It starts nothing, and removes files of an earlier plan."""
    args = ("-a", "folder", "x", "--splits", "2")
    site.rvrun("render", "sagemaker", "shop.py", *args, "-a", "names", "old")
    site.rvrun("render", "sagemaker", "shop.py", *args)
    folder = site.project.folder / "runs/shop/sagemaker"
    names = sorted(path.name for path in folder.glob("*.json"))
    assert names == [
        "shop.definition.json",
        "shop.request.json",
        "shop.steps.json",
        "uploads.json",
    ]
    steps = json.loads((folder / "shop.steps.json").read_text())
    assert steps["shop-chip-1"] == {"stage": "shop/chip", "splits": "1"}
    assert steps["shop-train"] == {"stage": "shop/train", "splits": None}
    assert site.engine.calls == []


def test_all_problems_are_reported_together(site: Site) -> None:
    """Settings, names, limits, secrets and quotas, before the first call."""
    site.project.write(
        "rvrun.toml",
        "[sagemaker]\nmax_steps = 5\ncpu_instance_type = 'ml.m5.huge'\nattempts = 21\n"
        "cache_expire_after = '30 days'\nuse_spot_instances = true\nmax_run_time = 90000\n"
        "spot_instance_max_wait_time = 80000\nkms_key = 'a key'\n"
        "[sagemaker.environment]\nAPI_KEY = 'x'\nLONG = '" + "x" * 300 + "'\n",
    )
    text = site.run(code=2, names="a.b")
    assert text.startswith(
        "rvrun: SageMaker Pipelines would not accept this plan, 13 problems:\n  "
    )
    chips = "a-b-chip-0, a-b-chip-1, a-b-chip-2"
    predicts = "a-b-predict-0, a-b-predict-1, a-b-predict-2, a-b-eval"
    for part in (
        "\n  `sagemaker.role` is required for all jobs; set it in rvrun.toml or as "
        "RVRUN_SAGEMAKER_ROLE\n",
        "\n  `sagemaker.cpu_image` is required for `a.b/chip`, `a.b/predict`, `a.b/eval`; set",
        "\n  `sagemaker.train_image` is required for `a.b/train`; set it in",
        "\n  pipeline `a-b` must have at most 5 steps (`sagemaker.max_steps`), got 8; set "
        '`sagemaker.split_by = "instances"` to get 4 steps\n',
        f"\n  {chips}, {predicts}: Environment.LONG must have at most 256 characters, got 300 ('x",
        f"\n  {chips}, a-b-train, {predicts}: environment variable `API_KEY` looks like a secret, "
        "and everyone who may describe the pipeline can read it; fetch it in the command, for "
        "example from Secrets Manager, or add its name to `sagemaker.not_secret` if it is not "
        "one\n",
        ", got 'ml.m5.huge'; did you mean 'ml.m5.large'?\n",
        "ClusterConfig.VolumeKmsKeyId must match [a-zA-Z0-9:/_-]*, got 'a key'\n",
        "\n  a-b-train: StoppingCondition.MaxWaitTimeInSeconds must be at least "
        "MaxRuntimeInSeconds (90000), got 80000; raise `sagemaker.spot_instance_max_wait_time` or "
        "lower `sagemaker.max_run_time`\n",
        f"\n  {chips}, a-b-train, {predicts}: CacheConfig.ExpireAfter must be a duration such as "
        "`P30D` or `PT12H`, got '30 days'; change `sagemaker.cache_expire_after`\n",
    ):
        assert part in text
    assert site.engine.calls == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("[sagemaker.commands.'tra*n2']\nimage = 'x'", "matches no command"),
        (
            "[sagemaker]\ndefinitions = 'each'\npipeline_name = 'x'",
            "`sagemaker.pipeline_name` ('x') conflicts with `sagemaker.definitions = \"each\"`, "
            "which names each definition after its pipeline; remove one of them\n",
        ),
        (
            "[sagemaker]\ntrain_commands = ['trian']",
            "`sagemaker.train_commands`: 'trian' matches no command; commands: `shop/chip`, "
            "`shop/train`, `shop/predict`, `shop/eval`\n",
        ),
    ],
)
def test_settings_without_effect_are_refused(site: Site, settings: str, problem: str) -> None:
    """A glob that matches no command, a shared name if nothing is shared."""
    site.project.write("rvrun.toml", settings)
    assert problem in site.run(code=2)


def test_a_local_root_is_refused(site: Site) -> None:
    """SageMaker's machines cannot reach it."""
    source = SHOP.replace("s3://bucket/{name}", "here/{name}")
    site.project.write("shop.py", source)
    text = site.run(code=2)
    assert "can access s3:// URIs but not the directories of this one: `shop` has here/shop" in text


class Died(BaseException):
    """The process ends here."""


@attrs.frozen
class World:
    """A ledger, and an engine to submit to, in this process."""

    ledger: Ledger
    engine: SagemakerEngine

    def submit(self, submissions: list[Submission]) -> None:
        client = Client("sagemaker", self.engine.client("sagemaker"))
        patience = Patience(attempts=20, wait_initial=0, wait_max=0, wait_jitter=0)
        calls = Calls(ledger=self.ledger, sagemaker=client, patience=patience)
        for submission in submissions:
            start_once(submission, calls)


def one_step(name: str) -> Submission:
    """A pipeline with one step that never runs."""
    definition = {
        "Version": "2020-12-01",
        "Steps": [
            {
                "Name": "a",
                "Type": "Condition",
                "Arguments": {
                    "Conditions": [{"Type": "Equals", "LeftValue": 1, "RightValue": 1}],
                    "IfSteps": [],
                    "ElseSteps": [],
                },
            }
        ],
    }
    request = {
        "PipelineName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/rvrun",
        "PipelineDefinition": json.dumps(definition),
        "Tags": [{"Key": "team", "Value": "maps"}],
    }
    return Submission(
        name=name, request=request, jobs=(Job(name="a", stage=f"{name}/a", splits=None),)
    )


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("seed", range(25))
def test_each_pipeline_starts_once_whatever_happens(
    seed: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are throttled or not answered, and the process ends before or after any event."""
    dice = random.Random(seed)
    submissions = [one_step(name) for name in ("a", "b", "c")]
    note = Ledger.note

    def noting(self: Ledger, event: str, **facts: Any) -> None:
        if dice.random() < 0.2:
            raise Died
        note(self, event, **facts)
        if dice.random() < 0.2:
            raise Died

    with SagemakerEngine(slots=0, fault=faults.seeded(seed, rate=0.4)) as engine:
        monkeypatch.setattr(Ledger, "note", noting)
        world = World(Ledger(tmp_path / "run-20260102-030405-abcd"), engine)
        world.ledger.folder.mkdir()
        for _ in range(200):
            try:
                world.submit(submissions)
                break
            except Died:
                continue
        else:
            raise AssertionError("the submission never succeeded")
        names = [execution.pipeline for execution in engine.executions.values()]
        assert (sorted(names), engine.errors) == (["a", "b", "c"], [])
        assert sorted(started_executions(world.ledger)) == ["a", "b", "c"]


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(("exists", "tags"), [(False, ["team"]), (True, ["other", "team"])])
def test_the_version_just_defined_is_started(
    exists: bool, tags: list[str], tmp_path: pathlib.Path
) -> None:
    """Even if someone updates the pipeline in between; one that exists also gets its tags."""
    with SagemakerEngine(slots=0) as engine:
        if exists:
            request = {**one_step("a").request, "Tags": [{"Key": "other", "Value": "1"}]}
            engine.client("sagemaker").create_pipeline(**request)

        def meddle(operation: str, request: dict[str, Any], number: int) -> faults.Fault | None:
            if operation in {"ListPipelineVersions", "StartPipelineExecution"}:
                pipeline = engine.pipelines["a"]
                pipeline.versions.append({"Version": "2020-12-01", "Steps": []})
            return None

        engine.fault = meddle
        world = World(Ledger(tmp_path / "run"), engine)
        world.ledger.folder.mkdir()
        world.submit([one_step("a")])
        (execution,) = engine.executions.values()
        assert list(execution.steps) == ["a"]
        assert [tag["Key"] for tag in engine.pipelines["a"].request["Tags"]] == tags


def test_removing_the_limit_of_parallel_steps_takes_effect(site: Site) -> None:
    """Each start and retry says how many, whatever the pipeline had before."""
    site.fail("train")
    site.run("chip", "train", "--wait", code=1, RVRUN_SAGEMAKER_PARALLEL_STEPS="1")
    site.rvrun("retry", "@latest", "--wait", code=1)
    site.run("chip", "train", "--wait", code=1)
    calls = [
        (call.operation, call.request["ParallelismConfiguration"]["MaxParallelExecutionSteps"])
        for call in site.engine.calls
        if call.operation.endswith(("Execution", "Pipeline"))
        and not call.operation.startswith("Describe")
    ]
    assert [call for call in calls if call[0] != "CreatePipeline"] == [
        ("StartPipelineExecution", 1),
        ("RetryPipelineExecution", 1),
        ("UpdatePipeline", 4),
        ("StartPipelineExecution", 4),
    ]


def test_a_single_attempt_is_not_repeated(make: Callable[..., Site]) -> None:
    """Also not after a fault that SageMaker retries by default."""
    site = make(job_fault=lambda name, attempt: "Step.SERVICE_FAULT" if attempt < 2 else None)
    site.run("chip", "--wait", code=1, RVRUN_SAGEMAKER_ATTEMPTS="1")
    assert site.engine.attempts("shop-chip-0") == 1


def test_cancelling_twice_reports_the_jobs_once(make: Callable[..., Site]) -> None:
    """While the first cancel takes effect, nothing is left to cancel."""
    gate = threading.Event()
    site = make(execute=lambda attempt: 0 if gate.wait(PATIENCE) else 1)
    site.run("chip")
    site.engine.wait_for(lambda: "Executing" in site.engine.statuses().values())
    assert "3 jobs ended" in site.rvrun("cancel", "@latest")
    assert "was waiting or running" in site.rvrun("cancel", "@latest")
    gate.set()
    assert site.engine.wait() == ["Stopped"]
    assert site.engine.count("StopPipelineExecution") == 1


#: Training that continues from a checkpoint, and says from which.
RESUMING = """
        saved = pathlib.Path(os.environ["ENGINE_ROOT"] + "/opt/ml/checkpoints/epoch")
        epoch = int(saved.read_text()) if saved.exists() else 0
        print("from epoch", epoch)
        saved.write_text(str(epoch + 1))
"""


def test_training_resumes_on_new_spot_instances_and_in_a_retry(make: Callable[..., Site]) -> None:
    """From its checkpoints, which another run does not use unless it is configured."""
    site = make(reclaim=lambda name, times: times == 0)
    train = 'self.save("train", *(f"chip-{i}" for i in range(3)))'
    site.project.write("shop.py", SHOP.replace(train, RESUMING + f"        {train}"))
    spot = {"RVRUN_SAGEMAKER_USE_SPOT_INSTANCES": "true"}

    def epochs() -> list[str]:
        streams = site.engine.logs["Training"].streams.values()
        lines = [event.message for events in streams for event in events]
        return [line.rpartition(" ")[2] for line in lines if line.startswith("from epoch")]

    failure = site.fail("train")
    site.run("chip", "train", "--wait", code=1, **spot)
    assert epochs() == ["0", "1"]
    failure.unlink()
    site.rvrun("retry", "@latest", "--wait")
    assert epochs()[2:] == ["2", "3"]
    site.run("chip", "train", "--wait", code=0, **spot)
    assert epochs()[4:] == ["0", "1"]
    everywhere = {**spot, "RVRUN_SAGEMAKER_CHECKPOINT_URI": "s3://bucket/mine/"}
    for _ in range(2):
        site.run("chip", "train", "--wait", code=0, **everywhere)
    assert epochs()[6:] == ["0", "1", "2", "3"]
    assert "s3://bucket/mine/shop/train" in site.engine.checkpoints


@pytest.mark.parametrize("stops", [True, False])
def test_nothing_depends_on_what_starts_after_a_failure(
    make: Callable[..., Site], stops: bool
) -> None:
    """Whether SageMaker starts further steps or not, a retry runs everything that is left."""
    site = make(stops=stops, slots=1)
    failure = site.fail("chip-0")
    site.run("--wait", code=1)
    assert site.made() == (set() if stops else {"chip-1", "chip-2"})
    state = site.status(code=1)
    assert (state["state"], state["failure"]["target"]) == ("failed", "shop/chip/0")
    failure.unlink()
    site.rvrun("retry", "@latest", "--wait")
    assert site.made() == set(ALL)


def test_splits_that_need_many_others_run_after_them(site: Site) -> None:
    """Through a join; the limit is lowered, because as many processes would take long."""
    site.project.write(
        "sitecustomize.py",
        "from rvrun.runners.sagemaker import steps\nsteps.MAX_DIRECT_EDGES = 3\n",
    )
    source = SHOP.replace('"chip", "train", "predict", "eval"', '"chip", "predict"')
    source = source.replace('"train")\n\n    def eval', "*CHIPS)\n\n    def eval")
    source = source.replace("class Shop(", f"CHIPS = {CHIPS}\nclass Shop(")
    site.project.write("shop.py", source)
    site.run("--wait", PYTHONPATH=str(site.project.folder))
    assert site.engine.statuses()["shop-predict--join"] == "Succeeded"
    assert site.made() == {*CHIPS, "predict-0", "predict-1", "predict-2"}


def test_cancel_finds_an_execution_that_is_not_in_the_ledger(make: Callable[..., Site]) -> None:
    """The process ended after the start and before noting it."""
    site = make(slots=0)
    site.run()
    ledger = site.ledger
    events = ledger.folder / "events.jsonl"
    lines = events.read_text().splitlines()
    events.write_text(
        "".join(
            f"{line}\n" for line in lines if '"started"' not in line and '"submitted"' not in line
        )
    )
    assert site.status(code=1)["state"] == "interrupted"
    site.rvrun("cancel", "@latest")
    assert site.engine.wait() == ["Stopped"]


def test_an_interrupted_run_that_never_started_can_be_cancelled(make: Callable[..., Site]) -> None:
    """Then it is over, and another can begin."""
    site = make(slots=0, fault=refuse_starts)
    text = site.run(code=2)
    run = site.ledger.run_id
    assert "AWS sagemaker StartPipelineExecution: " in text
    assert "AccessDeniedException" in text
    assert (
        f"\n0 of 1 pipelines of run {run} were started\nrepeat the same command to continue, or "
        f"end what was started with `rvrun cancel {run}`\n"
    ) in text
    assert (
        f"run {run} was interrupted while it was submitted, and the files to submit have changed"
    ) in site.run("-a", "note", "x", code=2)
    site.rvrun("cancel", "@latest")
    assert site.status(code=1)["state"] == "cancelled"


def rvrun_in(site: Site, limit: Callable[[], None], *words: str) -> tuple[int, str]:
    """Call rvrun in a process that `limit` restricts; return its code and what it printed."""
    done = subprocess.run(
        ["rvrun", *words],
        cwd=site.project.folder,
        env=unmeasured_environment(**site.variables),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("limit", [fill_disk, obey_modes])
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_run_is_stopped_without_writing(
    make: Callable[..., Site], limit: Callable[[], None], is_lost: bool
) -> None:
    """On a full disk and in a read-only directory, also if the ledger lacks the execution."""
    site = make(slots=0)
    site.run()
    events = site.ledger.folder / "events.jsonl"
    if is_lost:
        lines = [line for line in events.read_text().splitlines() if '"started"' not in line]
        events.write_text("".join(f"{line}\n" for line in lines))
    content = events.read_bytes()
    runs = site.project.folder / "runs"
    if limit is obey_modes:
        protect(runs)
    try:
        assert rvrun_in(site, limit, "status", "@latest")[0] == 0
        assert "8 jobs ended" in rvrun_in(site, limit, "cancel", "@latest")[1]
        assert site.engine.wait() == ["Stopped"]
        if not is_lost:
            code, text = rvrun_in(site, limit, "status", "@latest")
            assert (code, "cancelled after" in text) == (1, True)
        assert events.read_bytes() == content
        # Not taken for the first one: nothing is left to stop.
        assert "was waiting or running" in rvrun_in(site, limit, "cancel", "@latest")[1]
    finally:
        unprotect(runs)


def test_an_execution_is_stopped_again_after_a_retry(make: Callable[..., Site]) -> None:
    """Although the first stop could not be noted."""
    site = make(slots=0)
    site.run()
    rvrun_in(site, fill_disk, "cancel", "@latest")
    assert site.engine.wait() == ["Stopped"]
    site.rvrun("retry", "@latest")
    assert site.status()["state"] == "running"
    site.rvrun("cancel", "@latest")
    assert site.engine.wait() == ["Stopped"]


def test_nothing_is_started_on_a_full_disk(make: Callable[..., Site]) -> None:
    """The error names the file, what was started and what to do, which then works."""
    site = make(slots=0, fault=refuse_starts)
    site.run(code=2)
    site.engine.fault = lambda operation, request, number: None
    run = site.ledger.run_id
    events = site.ledger.folder / "events.jsonl"
    size = events.stat().st_size

    def fill() -> None:
        # The first half of an intention can still be written.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60, size + 60))

    words = ["run", "sagemaker", "shop.py", "--splits", "3", "-a", "folder"]
    code, text = rvrun_in(
        site, fill, *words, str(site.project.folder / "out"), "-a", "names", "shop"
    )
    assert code == 2
    assert text.endswith(
        f"events.jsonl: File too large; free disk space, or make the directory writable\n"
        f"0 of 1 pipelines of run {run} were started\nrepeat the same command to continue, or end "
        f"what was started with `rvrun cancel {run}`\n"
    )
    assert site.engine.executions == {}
    site.run()
    assert len(site.engine.executions) == 1


def refuse_starts(operation: str, request: dict[str, Any], number: int) -> faults.Fault | None:
    return faults.Refuse("AccessDeniedException") if operation == "StartPipelineExecution" else None


def test_moto_accepts_the_calls(moto: Moto, project: Project) -> None:
    """Update and start, on another implementation of the service, which has no versions."""
    moto.bucket()
    moto.client("sagemaker").create_pipeline(
        PipelineName="shop", RoleArn="arn:aws:iam::123456789012:role/rvrun", PipelineDefinition="{}"
    )
    project.write("shop.py", SHOP)
    project.write("rvrun.toml", SETTINGS + "[sagemaker.tags]\nteam = 'maps'\n")
    args = ("run", "sagemaker", "shop.py", "-a", "folder", "x")
    for name in ("one", "two"):
        project.rvrun(*args, "--out", f"runs/{name}", code=0, **moto.variables)
    sagemaker = moto.client("sagemaker")
    described = sagemaker.describe_pipeline(PipelineName="shop")
    assert len(json.loads(described["PipelineDefinition"])["Steps"]) == 4
    listed = sagemaker.list_pipeline_executions(PipelineName="shop")["PipelineExecutionSummaries"]
    assert len(listed) == 2


@pytest.mark.usefixtures("processes")
def test_replies_of_aws_become_states(tmp_path: pathlib.Path) -> None:
    """Steps in all states on two pages, which botocore validates against its model."""
    ledger = Ledger(tmp_path / "run")
    ledger.folder.mkdir()
    names = ["wait", "run", "done", "bad", "stop", "new", "later", "bare"]
    jobs = {name: {"stage": f"p/{name}", "splits": None} for name in names}
    folder = ledger.round_folder(1) / "sagemaker"
    folder.mkdir(parents=True)
    (folder / "p.request.json").write_text('{"PipelineName": "p"}')
    (folder / "p.definition.json").write_text('{"Steps": []}')
    (folder / "p.steps.json").write_text(json.dumps(jobs))
    arn = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/p/execution/abcdefghijkl"
    ledger.note("started", pipeline="p", execution=arn)
    with SagemakerEngine(slots=0) as engine:
        boto = engine.client("sagemaker")
    statuses = ["Starting", "Executing", "Succeeded", "Failed", "Stopped", "OfALaterVersion"]
    steps = [
        {"StepName": name, "StepStatus": status, "AttemptCount": 1}
        for name, status in zip(names, statuses, strict=False)
    ]
    # By the model, no member is certain.
    steps += [{"StepName": "bare", "Metadata": {"ProcessingJob": {}}}, {}]
    with Stubber(boto) as stubber:
        request = {"PipelineExecutionArn": arn}
        reply = {**request, "PipelineExecutionStatus": "Executing"}
        stubber.add_response("describe_pipeline_execution", reply, request)
        for page, position, token in (
            (steps[:3], {}, {"NextToken": "t"}),
            (steps[3:], {"NextToken": "t"}, {}),
        ):
            stubber.add_response(
                "list_pipeline_execution_steps",
                {"PipelineExecutionSteps": page, **token},
                {**request, "MaxResults": 100, **position},
            )
        (execution,) = read_executions(ledger, Client("sagemaker", boto))
    states = [execution.state(job) for job in execution.submission.jobs]
    assert states == [
        State.RUNNABLE,
        State.RUNNING,
        State.SUCCEEDED,
        State.FAILED,
        State.FAILED,
        State.PENDING,
        State.PENDING,
        State.PENDING,
    ]
    # A step of an execution that has ended does not wait any more, whatever its status is called.
    new = execution.submission.jobs[5]
    for status, state in (("Failed", State.FAILED), ("Succeeded", State.SUCCEEDED)):
        assert attrs.evolve(execution, status=status).state(new) is state


def test_display_names_are_valid() -> None:
    """They have no underscores, and keep the end, which distinguishes runs."""
    assert display_name("my_run-20260102-030405-abcd") == "my-run-20260102-030405-abcd"
    long = display_name("x" * 90 + "_-20260102-030405-abcd")
    assert (len(long), long.endswith("-20260102-030405-abcd")) == (82, True)


def test_what_goes_into_a_request_fits_it() -> None:
    """The engine refuses what the API does not accept, which is more than what the SDKs send."""
    assert limits.INLINE_BYTES < MAX_INLINE
    assert runner.OWNS == ("sagemaker",)
