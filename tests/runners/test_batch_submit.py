"""Submitting to AWS Batch when calls are throttled, replies lost, and whoever submits dies."""

from __future__ import annotations

import collections
import pathlib
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rvrun.aws.client import Account, Client, Pace, Patience
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import SplitRequest
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.remote.upload import Shipment
from rvrun.runners.batch.specs import Source, render_specs
from rvrun.runners.batch.submit import ACCEPTED, NotAllSubmitted, Submitter, read_tickets
from rvrun.settings.schema import BatchSettings
from tests.build import pipeline
from tests.conftest import Project, clean_environment
from tests.engines import faults
from tests.engines.batch import BatchEngine
from tests.engines.faults import Delay, DropReplyAfter, ServerError, Throttle
from tests.engines.moto import Moto

PLAN = compile_plan(
    [
        pipeline("a", "chip*", "train", "predict*", "eval", needs={"predict": ["=chip", "train"]}),
        pipeline("b", "chip*", "train"),
        pipeline("c.1", "train"),
    ],
    splits=[SplitRequest(3)],
)
SETTINGS = BatchSettings(cpu_job_queue="cpu", cpu_job_def="work")
READS = ("ListJobs", "DescribeJobs", "TerminateJob")
#: Tried again at once.
HASTY = Patience(wait_initial=0.001, wait_max=0.002, wait_jitter=0.0, attempts=30)


class Died(BaseException):
    """The process is no more."""


class Life:
    """Ends at the step of that number, or never; after that every step of every thread ends it."""

    def __init__(self, last: int | None) -> None:
        self.last = last
        self.steps = 0
        self.lock = threading.Lock()

    def step(self) -> None:
        with self.lock:
            self.steps += 1
            if self.last is not None and self.steps >= self.last:
                raise Died


class MortalClient(Client):
    """A client whose caller may die before a call and after it."""

    def __init__(self, engine: BatchEngine, life: Life) -> None:
        super().__init__("batch", engine.client("batch"))
        object.__setattr__(self, "life", life)

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        self.life.step()
        answer = super().call(operation, **params)
        self.life.step()
        return answer


class MortalLedger(Ledger):
    """A ledger whose writer may die before a line and after it."""

    def __init__(self, ledger: Ledger, life: Life) -> None:
        super().__init__(ledger.folder)
        object.__setattr__(self, "life", life)

    def note(self, event: str, **facts: Any) -> None:
        self.life.step()
        super().note(event, **facts)
        self.life.step()


@pytest.fixture
def new_engine(processes: None) -> Iterator[Any]:
    """Starts engines whose jobs stay where they are."""
    engines: list[BatchEngine] = []

    def begin(**options: Any) -> BatchEngine:
        engine = BatchEngine(slots=0, **options)
        engine.add_queue("cpu")
        engine.add_definition("work", command=["true"])
        engines.append(engine)
        return engine

    yield begin
    for engine in engines:
        engine.close()


def specs(plan: Any = PLAN) -> dict[str, str]:
    names = [f"{p.name}/{stage.command}" for p in plan.pipelines for stage in p.stages]
    source = Source(
        settings=SETTINGS,
        shipments={
            p.name: Shipment(config_uri=f"s3://bucket/{p.name}.json", files={})
            for p in plan.pipelines
        },
        names=names,
        settings_file="rvrun.toml",
        run_name="run",
    )
    return render_specs(plan, source)


def new_ledger(folder: pathlib.Path, files: Mapping[str, str] | None = None) -> Ledger:
    return ledgers.create(folder, "run", "batch", Account(region="us-east-1"), files or specs())


def submitter(engine: BatchEngine, ledger: Ledger, life: Life | None = None) -> Submitter:
    life = life or Life(None)
    client = MortalClient(engine, life)
    return Submitter(
        ledger=MortalLedger(ledger, life),
        maker=client,
        reader=client,
        pace=Pace(100_000),
        patience=HASTY,
        looks=(0.0, 0.02),
    )


def submit(by: Submitter) -> dict[str, str]:
    return by.submit(read_tickets(by.ledger, 1), lambda key: None)


def jobs(engine: BatchEngine, run: Ledger) -> collections.Counter[str]:
    """How many jobs of each key are there, those ended as duplicates left out."""
    living = [job for job in engine.jobs.values() if job.status != "FAILED"]
    return collections.Counter(
        job.tags["rvrun:job"] for job in living if job.tags["rvrun:run"] == run.run_id
    )


KEYS = ["a/chip", "a/train", "a/predict", "a/eval", "b/chip", "b/train", "c.1/train"]


def test_each_spec_becomes_a_job(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """Under its own name and tags, with the ids of what it depends on."""
    engine, run = new_engine(), new_ledger(tmp_path)
    ids = submit(submitter(engine, run))
    assert sorted(ids) == sorted(KEYS)
    requests = {each["tags"]["rvrun:job"]: each for each in engine.submitted}
    assert requests["c.1/train"]["jobName"] == f"{run.run_id}-c-1-train"
    assert requests["a/predict"]["tags"]["rvrun:run"] == run.run_id
    assert requests["a/predict"]["dependsOn"] == [
        {"jobId": ids["a/train"]},
        {"jobId": ids["a/chip"], "type": "N_TO_N"},
    ]
    assert "dependsOn" not in requests["a/chip"]
    assert engine.count("ListJobs") == 0
    # All that again asks nothing.
    assert submit(submitter(engine, run)) == ids
    assert engine.count("SubmitJob") == len(KEYS)


@pytest.mark.parametrize("chunk", range(4))
def test_whatever_happens_each_spec_is_one_job(
    chunk: int, tmp_path: pathlib.Path, new_engine: Any
) -> None:
    """Throttled, replies lost, the service failing, and dying between any two steps."""
    engine = new_engine(list_lag=0.01)
    files = specs()
    deaths = 0
    for seed in range(50 * chunk, 50 * chunk + 50):
        dice = random.Random(seed)
        run = new_ledger(tmp_path / str(seed), files)
        submitting = faults.seeded(seed, rate=0.3, operations=("SubmitJob",))
        reading = faults.seeded(seed, rate=0.05, operations=READS)
        engine.fault = lambda *call, s=submitting, r=reading: s(*call) or r(*call)
        for _ in range(40):
            life = Life(dice.choice([None, dice.randrange(1, 60)]))
            try:
                ids = submit(submitter(engine, run, life))
                break
            except Died:
                deaths += 1
            except NotAllSubmitted:
                pass
        else:
            raise AssertionError(f"seed {seed}: never all submitted")
        assert jobs(engine, run) == dict.fromkeys(KEYS, 1), f"seed {seed}"
        by_key = {j.tags["rvrun:job"]: j for j in engine.jobs.values() if j.id in ids.values()}
        assert by_key.keys() == set(KEYS)
        assert {need["jobId"] for need in by_key["a/predict"].request["dependsOn"]} == {
            ids["a/train"],
            ids["a/chip"],
        }
    assert deaths > 20


def test_a_lost_reply_is_looked_up(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """A job whose reply was lost is found by its name and tags, and not submitted again."""
    engine = new_engine(fault=lambda op, _, number: DropReplyAfter() if op == "SubmitJob" else None)
    run = new_ledger(tmp_path)
    submit(submitter(engine, run))
    assert engine.count("SubmitJob") == len(KEYS)
    assert jobs(engine, run) == dict.fromkeys(KEYS, 1)


def test_a_strangers_job_of_that_name_is_not_taken(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """The tags must be those of the job, too."""
    engine = new_engine()
    run = new_ledger(tmp_path)
    by = submitter(engine, run)
    (ticket, *_) = read_tickets(run, 1)
    request = ticket.filled(run.run_id, {})
    engine.client("batch").submit_job(**{**request, "tags": {"rvrun:run": "another"}})
    assert by.find(request) is None
    mine = engine.client("batch").submit_job(**request)["jobId"]
    assert by.find(request) == mine


def test_a_job_submitted_twice_after_all_is_ended(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """Of several with the same name and tags the oldest stays."""
    engine = new_engine()
    run = new_ledger(tmp_path)
    (ticket, *_) = read_tickets(run, 1)
    request = ticket.filled(run.run_id, {})
    first, second = (engine.client("batch").submit_job(**request)["jobId"] for _ in range(2))
    engine.jobs[second].head.created = engine.jobs[first].head.created + 1
    assert submitter(engine, run).find(request) == first
    assert engine.jobs[second].status == "FAILED"
    assert engine.jobs[first].status != "FAILED"


def test_throttling_is_waited_out(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """Each job is asked for until the service takes it, and then once."""
    engine = new_engine(
        fault=lambda op, _, number: Throttle() if op == "SubmitJob" and number % 3 else None
    )
    run = new_ledger(tmp_path)
    submit(submitter(engine, run))
    assert jobs(engine, run) == dict.fromkeys(KEYS, 1)
    assert engine.count("ListJobs") == 0


def test_what_cannot_be_submitted_is_told(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """With what went, its ids, and what to do; nothing that hangs on it is begun."""
    engine = new_engine()
    files = specs(compile_plan([pipeline("a", "chip", "train", "eval")]))
    files = {
        path: text.replace('"cpu"', '"gone"') if "train" in path else text
        for path, text in files.items()
    }
    run = new_ledger(tmp_path, files)
    with pytest.raises(NotAllSubmitted) as caught:
        submit(submitter(engine, run))
    (accepted,) = run.events(ACCEPTED)
    assert str(caught.value) == (
        "AWS batch SubmitJob: Error executing request, Exception : JobQueue gone not found "
        "(ClientException)\n"
        f"1 of 3 jobs of run {run.run_id} were submitted:\n"
        f"  a/chip  {accepted['id']}\n"
        f"type the same command again to go on, or `rvrun cancel {run.handle}` to end them"
    )
    assert [each["tags"]["rvrun:job"] for each in engine.submitted] == ["a/chip"]


def test_an_endless_silence_is_an_error(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """A service that never answers is asked so often and no more."""
    engine = new_engine(fault=lambda op, _, number: ServerError() if op == "SubmitJob" else None)
    run = new_ledger(tmp_path, specs(compile_plan([pipeline("a", "chip")])))
    with pytest.raises(NotAllSubmitted, match="AWS batch SubmitJob"):
        submit(submitter(engine, run))
    assert engine.count("SubmitJob") == 6


def test_independent_jobs_go_at_the_same_time(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """Calls of different pipelines overlap."""
    inside = most = 0
    lock = threading.Lock()
    met = threading.Barrier(3)

    def fault(operation: str, request: dict[str, Any], number: int) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        if request["jobName"].endswith(("a-chip", "b-chip", "c-1-train")):
            met.wait(20)
        with lock:
            inside -= 1

    engine = new_engine(fault=fault)
    submit(submitter(engine, new_ledger(tmp_path)))
    assert most >= 3


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_goes_on(seed: int, project: Project, moto: Moto, new_engine: Any) -> None:
    """`rvrun run batch`, killed when its call of a random number came, ends with one job a spec."""
    moto.bucket()
    project.write("words.py", WORDS)
    project.write("rvrun.toml", '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n')
    dice = random.Random(seed)
    engine = new_engine()
    variables = {**moto.variables, **engine.variables, "AWS_ENDPOINT_URL_S3": moto.url}
    command = [sys.executable, "-m", "rvrun", "run", "batch", "words.py", "--splits", "2"]
    codes = []
    for last in (dice.randrange(1, 4), dice.randrange(1, 3), None):
        process = subprocess.Popen(
            command,
            cwd=project.folder,
            env=clean_environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        engine.fault = killing(process, last, after=dice.random() < 0.5)
        _, said = process.communicate()
        codes.append((process.returncode, said))
        if process.returncode == 0:
            break
    assert codes[0][0] == -signal.SIGKILL
    assert codes[-1][0] == 0, codes
    (run,) = ledgers.ledgers(project.folder / "runs" / "words")
    assert jobs(engine, run) == {"words/chip": 1, "words/count": 1, "words/sum": 1}


def killing(process: subprocess.Popen[bytes], last: int | None, *, after: bool) -> faults.Hook:
    """Kills the process when so many SubmitJobs came, before or after they are served."""
    seen = 0

    def hook(operation: str, request: dict[str, Any], number: int) -> faults.Fault | None:
        nonlocal seen
        seen += operation == "SubmitJob"
        if last is None or seen != last or operation != "SubmitJob":
            return None
        if after:
            return DropReplyAfter(then=lambda: process.send_signal(signal.SIGKILL))
        process.send_signal(signal.SIGKILL)
        return Delay(0.05)

    return hook


WORDS = """
import rvrun

class WordsConfig(rvrun.PipelineConfig):
    def build(self):
        return Words(self)

class Words(rvrun.Pipeline):
    commands = ("chip", "count", "sum")
    split_commands = ("chip", "count")
    def chip(self, split_ind, num_splits): ...
    def count(self, split_ind, num_splits): ...
    def sum(self): ...

def get_config(runner):
    return WordsConfig(root_uri="s3://bucket/words")
"""
