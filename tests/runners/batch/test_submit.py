"""Submit to AWS Batch when calls are throttled, replies are lost, or the process dies."""

from __future__ import annotations

import collections
import concurrent.futures as cf
import pathlib
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest

from rvrun.aws.client import Account, Client, Pace, Patience
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import SplitRequest
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.remote.upload import Upload
from rvrun.runners.aws_common import account_facts
from rvrun.runners.batch.inventory import ACCEPTED, DUPLICATE_REASON
from rvrun.runners.batch.render import render_specs
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.spec_files import read_specs
from rvrun.runners.batch.specs import Source
from rvrun.runners.batch.state import read_state
from rvrun.runners.batch.submit import NotAllSubmitted, Submitter
from tests.build import pipeline
from tests.conftest import PATIENCE, Project, clean_environment
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
#: Repeats calls almost immediately.
HASTY = Patience(wait_initial=0.001, wait_max=0.002, wait_jitter=0.0, attempts=30)
#: More than any submission that is disturbed at random needs: each life completes one in four.
MOST_LIVES = 1000


class Died(BaseException):
    """The process has died."""


class Life:
    """A process that dies at step `last`, or never; no thread takes a step after that."""

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
    """A client whose process may die before and after each call."""

    life: Life

    def __init__(self, engine: BatchEngine, life: Life) -> None:
        super().__init__("batch", engine.client("batch"))
        object.__setattr__(self, "life", life)

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        self.life.step()
        answer = super().call(operation, **params)
        self.life.step()
        return answer


class MortalLedger(Ledger):
    """A ledger whose process may die before and after each line is written."""

    life: Life

    def __init__(self, ledger: Ledger, life: Life) -> None:
        super().__init__(ledger.folder)
        object.__setattr__(self, "life", life)

    def note(self, event: str, **facts: Any) -> None:
        self.life.step()
        super().note(event, **facts)
        self.life.step()


@pytest.fixture
def new_engine() -> Iterator[Any]:
    """Starts engines whose jobs never run."""
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
    source = Source(
        settings=SETTINGS,
        uploads={
            p.name: Upload(config_uri=f"s3://bucket/{p.name}.json", files={})
            for p in plan.pipelines
        },
        command_names=[f"{p.name}/{stage.command}" for p in plan.pipelines for stage in p.stages],
        settings_file="rvrun.toml",
        run_name="run",
    )
    return render_specs(plan, source)


def new_ledger(folder: pathlib.Path, files: Mapping[str, str] | None = None) -> Ledger:
    facts = account_facts(Account(region="us-east-1"))
    return ledgers.create(folder, "run", "batch", files or specs(), facts)


def submitter(
    engine: BatchEngine, ledger: Ledger, life: Life | None = None, listing_delay: float = 0.03
) -> Submitter:
    life = life or Life(None)
    client = MortalClient(engine, life)
    return Submitter(
        ledger=MortalLedger(ledger, life),
        maker=client,
        reader=client,
        pace=Pace(100_000),
        patience=HASTY,
        listing_delay=listing_delay,
        report=lambda text: None,
    )


def submit(submitter: Submitter) -> dict[str, str]:
    return submitter.submit(read_specs(submitter.ledger, 1), lambda done, total: None)


def jobs(engine: BatchEngine, run: Ledger) -> collections.Counter[str]:
    """How many jobs there are of each key, without those that were ended as duplicates.

    One that waits for others has not failed yet.
    """
    living = [job for job in engine.jobs.values() if job.head.stop != DUPLICATE_REASON]
    return collections.Counter(
        job.tags["rvrun:job"] for job in living if job.tags["rvrun:run"] == run.run_id
    )


KEYS = ["a/chip", "a/train", "a/predict", "a/eval", "b/chip", "b/train", "c.1/train"]


@pytest.mark.usefixtures("processes")
def test_each_spec_becomes_a_job(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """With its own name and tags, and the ids of the jobs it depends on."""
    engine, run = new_engine(), new_ledger(tmp_path)
    ids = submit(submitter(engine, run))
    assert sorted(ids) == sorted(KEYS)
    requests = {request["tags"]["rvrun:job"]: request for request in engine.submitted}
    assert requests["c.1/train"]["jobName"] == f"{run.run_id}-c-1-train"
    assert requests["a/predict"]["tags"]["rvrun:run"] == run.run_id
    assert requests["a/predict"]["dependsOn"] == [
        {"jobId": ids["a/train"]},
        {"jobId": ids["a/chip"], "type": "N_TO_N"},
    ]
    assert "dependsOn" not in requests["a/chip"]
    # Repeating all that submits nothing.
    assert submit(submitter(engine, run)) == ids
    assert engine.count("SubmitJob") == len(KEYS)


@pytest.mark.parametrize("chunk", range(2))
@pytest.mark.usefixtures("processes")
def test_each_spec_becomes_one_job_whatever_happens(
    chunk: int, tmp_path: pathlib.Path, new_engine: Any
) -> None:
    """Calls are throttled or fail, replies are lost, the process dies between any two steps."""
    engine = new_engine(list_lag=0.01)
    files = specs()
    deaths = 0
    for seed in range(50 * chunk, 50 * chunk + 50):
        dice = random.Random(seed)
        run = new_ledger(tmp_path / str(seed), files)
        submitting = faults.seeded(seed, rate=0.3, operations=("SubmitJob",))
        reading = faults.seeded(seed, rate=0.05, operations=READS)
        engine.fault = lambda *call, s=submitting, r=reading: s(*call) or r(*call)
        for _ in range(MOST_LIVES):
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


@pytest.mark.usefixtures("processes")
def test_a_lost_reply_is_looked_up(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """A job whose reply was lost is found by its name and tags, and not submitted again."""
    engine = new_engine(fault=lambda op, _, number: DropReplyAfter() if op == "SubmitJob" else None)
    run = new_ledger(tmp_path)
    submit(submitter(engine, run))
    assert engine.count("SubmitJob") == len(KEYS)
    assert jobs(engine, run) == dict.fromkeys(KEYS, 1)


@pytest.mark.usefixtures("processes")
def test_another_job_of_that_name_is_not_adopted(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """The tags must be those of the job too."""
    engine = new_engine()
    run = new_ledger(tmp_path)
    (spec, *_) = read_specs(run, 1)
    request = spec.fill_in(run.run_id, {})
    engine.client("batch").submit_job(**{**request, "tags": {"rvrun:run": "another"}})
    assert submitter(engine, run).find(spec) is None
    own = engine.client("batch").submit_job(**request)["jobId"]
    assert submitter(engine, run).find(spec) == own


@pytest.mark.usefixtures("processes")
def test_throttling_is_waited_out(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """Each job is submitted until the service accepts it, and then no more."""
    engine = new_engine(
        fault=lambda op, _, number: Throttle() if op == "SubmitJob" and number % 3 else None
    )
    run = new_ledger(tmp_path)
    submit(submitter(engine, run))
    assert jobs(engine, run) == dict.fromkeys(KEYS, 1)


@pytest.mark.usefixtures("processes")
def test_a_job_that_cannot_be_submitted(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """The error lists the submitted jobs and says what to do; no dependent is submitted."""
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
        "repeat the same command to continue, or end the submitted jobs with "
        f"`rvrun cancel {run.handle}`"
    )
    assert [request["tags"]["rvrun:job"] for request in engine.submitted] == ["a/chip"]


@pytest.mark.usefixtures("processes")
def test_a_service_that_never_answers(tmp_path: pathlib.Path, new_engine: Any) -> None:
    """The number of attempts is limited."""
    engine = new_engine(fault=lambda op, _, number: ServerError() if op == "SubmitJob" else None)
    run = new_ledger(tmp_path, specs(compile_plan([pipeline("a", "chip")])))
    with pytest.raises(NotAllSubmitted, match="AWS batch SubmitJob"):
        submit(submitter(engine, run))
    assert engine.count("SubmitJob") == 4


@pytest.mark.usefixtures("processes")
def test_independent_jobs_are_submitted_concurrently(
    tmp_path: pathlib.Path, new_engine: Any
) -> None:
    """Calls of different pipelines overlap."""
    inside = most = 0
    lock = threading.Lock()
    barrier = threading.Barrier(3)

    def fault(operation: str, request: dict[str, Any], number: int) -> None:
        nonlocal inside, most
        if operation != "SubmitJob":
            return
        with lock:
            inside += 1
            most = max(most, inside)
        if request["jobName"].endswith(("a-chip", "b-chip", "c-1-train")):
            barrier.wait(PATIENCE)
        with lock:
            inside -= 1

    engine = new_engine(fault=fault)
    submit(submitter(engine, new_ledger(tmp_path)))
    assert most >= 3


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_is_continued(
    seed: int, project: Project, moto: Moto, new_engine: Any
) -> None:
    """`rvrun run batch`, killed at a random call and repeated, submits one job for each spec."""
    moto.bucket()
    project.write("words.py", WORDS)
    project.write(
        "rvrun.toml", '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\nlisting_delay = 1\n'
    )
    dice = random.Random(seed)
    engine = new_engine()
    variables = {**moto.variables, **engine.variables, "AWS_ENDPOINT_URL_S3": moto.url}
    command = [sys.executable, "-m", "rvrun", "run", "batch", "words.py", "--splits", "2"]
    codes = []
    for last in (dice.randrange(1, 4), dice.randrange(1, 3), None):
        started = cf.Future[subprocess.Popen[bytes]]()
        engine.fault = killing(started, last, after=dice.random() < 0.5)
        process = subprocess.Popen(
            command,
            cwd=project.folder,
            env=clean_environment(**variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        started.set_result(process)
        _, stderr = process.communicate()
        # The call in which it died is served before the next process looks, as Batch would.
        engine.wait_for(lambda: len(engine.submitted) == engine.count("SubmitJob"))
        codes.append((process.returncode, stderr))
        if process.returncode == 0:
            break
    assert codes[0][0] == -signal.SIGKILL
    assert codes[-1][0] == 0, codes
    (run,) = ledgers.ledgers(project.folder / "runs" / "words")
    assert jobs(engine, run) == {"words/chip": 1, "words/count": 1, "words/sum": 1}


def killing(
    started: cf.Future[subprocess.Popen[bytes]], last: int | None, *, after: bool
) -> faults.Hook:
    """Kills the process at its SubmitJob call number `last`, before or after it is served."""
    seen = 0

    def hook(operation: str, request: dict[str, Any], number: int) -> faults.Fault | None:
        nonlocal seen
        seen += operation == "SubmitJob"
        if last is None or seen != last or operation != "SubmitJob":
            return None
        if after:
            return DropReplyAfter(then=started.result().kill)
        started.result().kill()
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


class Dying(Client):
    """A client whose process dies when the reply of SubmitJob has arrived."""

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        answer = super().call(operation, **params)
        if operation == "SubmitJob":
            raise Died
        return answer


@pytest.mark.usefixtures("processes")
def test_a_duplicate_listed_after_the_end(tmp_path: pathlib.Path) -> None:
    """It is reported although no reply was lost, and although the state of the end is stored."""
    # So long that no job is listed before the test wants it, however slow the machine is.
    with BatchEngine(execute=lambda attempt: 0, list_lag=86_400) as engine:
        engine.add_queue("cpu")
        engine.add_definition("work", command=["true"])
        client = Client("batch", engine.client("batch"))
        run = new_ledger(tmp_path, specs(compile_plan([pipeline("a", "chip")])))
        with pytest.raises(Died):
            submit(attrs.evolve(submitter(engine, run), maker=Dying("batch", client.boto)))
        submit(submitter(engine, run))
        engine.wait()
        state = read_state(run, client)
        assert (state.is_over, state.warnings) == (True, ())
        assert engine.count("SubmitJob") == 2
        engine.list_lag = 0.0
        (warning,) = read_state(run, client).warnings
        assert warning.startswith("a/chip was submitted twice; job ")
