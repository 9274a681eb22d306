"""Runs on AWS Batch from the first command typed to the last: an engine runs what was submitted."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from rvrun import split_ranges as indices
from rvrun.aws import client as aws
from rvrun.cli import detached as remote
from rvrun.cli.app import main
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.runners.batch import runner as batch
from rvrun.runners.batch.specs import FOLDER
from tests.conftest import clean_environment
from tests.engines.attempts import Attempt, Outcome, run_process
from tests.engines.batch import BatchEngine
from tests.engines.faults import DropBefore, Fault
from tests.engines.moto import Moto

WORK = '''
import os
import pathlib
import sys
import rvrun


class WorkConfig(rvrun.PipelineConfig):
    def build(self):
        return Work(self)


class Work(rvrun.Pipeline):
    """`near` needs `chip` split by split, `last` needs all of it."""

    commands = ("first", "chip", "near", "last")
    split_commands = ("chip", "near")
    needs = {"near": [rvrun.aligned("chip")]}

    def first(self):
        print("first was here")

    def chip(self, split_ind, num_splits):
        print(f"chip {split_ind} of {num_splits}, try {os.environ['AWS_BATCH_JOB_ATTEMPT']}")
        if split_ind == 1 and os.environ.get("FAIL"):
            raise ValueError("told to fail")

    def near(self, split_ind, num_splits):
        print(f"near {split_ind}")

    def last(self):
        print("last", pathlib.Path(__file__).name, self.config.root_uri)


def get_configs(runner, names="work"):
    return [WorkConfig(root_uri=f"s3://bucket/{name}", name=name) for name in names.split()]
'''
SETTINGS = """
[batch]
cpu_job_queue = "cpu"
cpu_job_def = "work"
submit_rate = 50
"""


class Play:
    """Runs jobs as told, without processes: those of `fails` fail, those of `holds` never end."""

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.holds: set[str] = set()
        self.ran: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, attempt: Attempt) -> Outcome | int:
        target = self.target(attempt)
        with self._lock:
            self.ran.append(target)
        attempt.write(f"{target} began")
        if target in self.holds:
            return attempt.wait_until_stopped()
        if target in self.fails:
            attempt.write(f"{target} was told to fail")
            return Outcome(7)
        return 0

    @staticmethod
    def target(attempt: Attempt) -> str:
        """`work/chip/1`, by its command line and what it is told of splits."""
        _, _, uri, command, *words = attempt.command
        name = f"{uri.rpartition('/')[2].rpartition('-')[0]}/{command}"
        if "--num-splits" not in words:
            return name
        said = attempt.environment.get("RVRUN_SPLITS")
        index = attempt.index or 0
        return f"{name}/{indices.read(said)[index] if said else index}"


class Site:
    """A folder in which rvrun is typed, with a region of AWS Batch and S3."""

    def __init__(self, folder: pathlib.Path, engine: BatchEngine, moto: Moto, play: Play) -> None:
        self.folder = folder
        self.engine = engine
        self.moto = moto
        self.play = play
        self.variables = {**engine.variables, "AWS_ENDPOINT_URL_S3": moto.url}

    def settings(self, more: str = "") -> None:
        (self.folder / "rvrun.toml").write_text(SETTINGS + more, encoding="utf-8")

    def type(self, *words: str, code: int = 0) -> None:
        """`rvrun` and these words, in this process."""
        sys.modules.pop("work", None)
        found = main(list(words))
        assert found == code, f"{words} -> {found}"

    def run(self, *words: str, code: int = 0, splits: int = 3) -> None:
        self.type("run", "batch", "work.py", "--splits", str(splits), *words, code=code)

    def at_look(self, number: int, action: Callable[[], object]) -> None:
        """Have `action` done before DescribeJobs is answered for so many times from now on."""
        left = iter(range(number - 1))

        def fault(operation: str, request: dict[str, Any], count: int) -> None:
            if operation == "DescribeJobs" and next(left, None) is None:
                action()

        self.engine.fault = fault

    @property
    def latest(self) -> Ledger:
        return ledgers.find("@latest", pathlib.Path("runs"))

    def requests(self, start: int = 0) -> dict[str, dict[str, Any]]:
        """What was submitted, from the `start`th on, by the name of the job behind the run's id."""
        found = {}
        for request in self.engine.submitted[start:]:
            name = re.sub(r"^.*?-\d{8}-\d{6}-[0-9a-f]{4}-", "", request["jobName"])
            assert name not in found
            found[name] = request
        return found


#: What runs jobs; each test has its own.
CURRENT: list[Callable[[Attempt], Outcome | int]] = []


def run_current(attempt: Attempt) -> Outcome | int:
    return CURRENT[-1](attempt)


@pytest.fixture(scope="module")
def region(processes: None) -> Iterator[BatchEngine]:
    """One engine for all tests."""
    with BatchEngine(slots=4, execute=run_current) as engine:
        engine.add_queue("cpu")
        engine.add_definition("work")
        # Clients are kept, and all tests have these servers.
        aws._session.cache_clear()
        aws._client.cache_clear()
        yield engine
        aws._client.cache_clear()


@pytest.fixture
def site(
    region: BatchEngine, moto: Moto, in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """An empty region, where looks follow each other at once."""
    play = Play()
    CURRENT[:] = [play]
    site = Site(in_folder, region, moto, play)
    for name, value in clean_environment(**site.variables).items():
        monkeypatch.setenv(name, value)
    quick(monkeypatch)
    moto.bucket()
    (in_folder / "work.py").write_text(WORK, encoding="utf-8")
    site.settings()
    yield site
    finish(region)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long: for another look, for its turn, for a job to be listed."""
    monkeypatch.setattr(remote, "POLL_FIRST", 0.02)
    monkeypatch.setattr(remote, "POLL_MOST", 0.05)
    logs = importlib.import_module("rvrun.runners.batch.logs")
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.02)
    submitter = batch.submitter
    monkeypatch.setattr(
        batch,
        "submitter",
        lambda *args: attrs.evolve(submitter(*args), looks=(0.0,), pace=aws.Pace(10_000)),
    )


def finish(engine: BatchEngine) -> None:
    """End what a test left, and forget all of it."""
    engine.fault = lambda operation, request, number: None
    engine.thaw("cpu")
    client = engine.client("batch")
    for job_id, job in list(engine.jobs.items()):
        if job.head.status not in ("SUCCEEDED", "FAILED"):
            client.terminate_job(jobId=job_id, reason="the test is over")
    engine.wait()
    for job_id in list(engine.jobs):
        engine.forget(job_id)
    engine.calls.clear()
    assert engine.errors == []


def without_ids(text: str) -> str:
    """The run's id and the times taken out."""
    text = re.sub(r"\b([a-z]+)-\d{8}-\d{6}-[0-9a-f]{4}\b", r"\1-ID", text)
    return re.sub(r"\d+\.\d s|\d+ min( \d+ s)?", "N s", text)


Read = Callable[[], tuple[str, str]]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Read:
    """What was printed since the last time: stdout, and stderr."""

    def read() -> tuple[str, str]:
        found = capfd.readouterr()
        return without_ids(found.out), without_ids(found.err)

    return read


# All goes well.


def test_a_run_that_succeeds(site: Site, said: Read) -> None:
    """`--wait` shows each stage's numbers as lines, and ends with 0."""
    site.run("--wait")
    out, err = said()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "submitted to AWS Batch as work-ID"
    assert lines[-1] == "work-ID: succeeded after N s, 8 of 8 targets done"
    for stage, last in {"first": 1, "chip": 3, "near": 3, "last": 1}.items():
        of_stage = [line for line in lines if line.startswith(f"work/{stage}: ")]
        assert of_stage[-1] == f"work/{stage}: {last} succeeded"
        assert len(set(of_stage)) == len(of_stage)
    assert sorted(site.play.ran) == sorted(
        ["work/first", "work/last", *(f"work/{c}/{i}" for c in ("chip", "near") for i in range(3))]
    )


def test_a_run_that_goes_on_without_us(site: Site, said: Read) -> None:
    """Without `--wait` the id is printed, and what to type; then status, list and logs tell."""
    site.play.holds = {"work/last"}
    site.run()
    out, err = said()
    assert out == "work-ID\n"
    assert err.splitlines() == [
        "submitted to AWS Batch as work-ID",
        "  how it goes:  rvrun status work-ID --watch",
        "  to end it:    rvrun cancel work-ID",
    ]
    site.engine.wait_for(lambda: "work/last" in site.play.ran)
    site.type("status", "@latest")
    out, err = said()
    assert err == ""
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["stage", "pending", "runnable", "running", "succeeded", "failed", "elapsed"]
    assert [rows[3][0], rows[3][1]] == ["work/chip", "3"]
    assert out.splitlines()[-1] == "work-ID: running for N s, 7 of 8 targets done"
    site.type("list")
    out, _ = said()
    assert [word for word in out.splitlines()[2].split() if not word.startswith("20")] == [
        "work-ID",
        "batch",
        "runs/work",
    ]
    site.type("logs", "@latest", "work/chip/2")
    assert said() == ("work/chip/2 began\n", "")
    site.type("logs", "@latest", "work/first")
    assert said() == ("work/first began\n", "")


def test_status_for_programs(site: Site, said: Read) -> None:
    """Counts by state, times, the failure; and the list."""
    site.play.fails = {"work/chip/1"}
    site.run("--wait", code=1)
    said()
    site.type("status", site.latest.run_id, "--json", code=1)
    found = json.loads(said()[0])
    assert found["state"] == "failed"
    assert found["failure"] == {
        "target": "work/chip/1",
        "reason": "Essential container in task exited",
        "exit_code": 7,
    }
    chip = found["stages"][1]
    assert (chip["name"], chip["targets"], chip["succeeded"], chip["failed"]) == (
        "work/chip", 3, 2, 1
    )  # fmt: skip
    assert chip["began"] <= chip["ended"] <= found["ended"]
    site.type("list", "--json")
    (row,) = json.loads(said()[0])
    assert {key: row[key] for key in ("run", "runner", "run_dir")} == {
        "run": "work-ID",
        "runner": "batch",
        "run_dir": "runs/work",
    }


def test_what_is_over_is_kept(site: Site, said: Read) -> None:
    """Batch forgets jobs after days; a run whose end was seen is still told."""
    site.run("--wait")
    finish(site.engine)
    said()
    site.type("status", "@latest")
    assert said()[0].splitlines()[-1] == "work-ID: succeeded after N s, 8 of 8 targets done"
    assert site.engine.count("DescribeJobs") > 0
    assert not [call for call in site.engine.calls if call.operation == "DescribeJobs"]


def test_a_run_that_was_forgotten(site: Site, said: Read) -> None:
    """Whether it succeeded nobody knows, so neither is said; it cannot be retried."""
    site.run()
    site.engine.wait()
    finish(site.engine)
    said()
    site.type("retry", "@latest", code=2)
    assert said()[1] == (
        "rvrun: AWS no longer knows all jobs of run work-ID, so begin a new one: rvrun run\n"
    )
    site.type("status", "@latest", code=1)
    out, _ = said()
    assert out.splitlines()[-1].startswith("work-ID: gone after ")
    assert "8" not in out.splitlines()[2]
    site.type("logs", "@latest", "work/first", code=2)
    assert "Batch no longer knows job " in said()[1]


# Something fails.


def test_a_split_that_fails(site: Site, said: Read) -> None:
    """The first failure with its log, what to do, and exit code 1; what hung on it fails too."""
    site.play.fails = {"work/chip/1"}
    site.run("--wait", code=1)
    lines = said()[1].splitlines()
    start = lines.index("first failure: work/chip/1 (exit 7): Essential container in task exited")
    assert lines[start + 1 :] == [
        "  | work/chip/1 began",
        "  | work/chip/1 was told to fail",
        "all of its log:     rvrun logs work-ID work/chip/1",
        "to try it again:    rvrun retry work-ID",
        "work-ID: failed after N s, 5 of 8 targets done",
    ]
    site.type("status", "@latest", code=1)
    assert "first failure: work/chip/1 (exit 7): Essential container in task exited" in said()[0]
    assert {"work/near/0", "work/near/2"} <= set(site.play.ran)
    assert "work/near/1" not in site.play.ran


def test_a_retry_runs_only_what_failed(site: Site, said: Read) -> None:
    """Fresh names, just the failed splits, done siblings untouched; then a retry of the retry."""
    site.play.fails = {"work/chip/1", "work/chip/3"}
    site.run("--wait", code=1, splits=4)
    first = len(site.engine.submitted)
    site.play.ran.clear()
    site.play.fails = {"work/chip/3"}
    said()

    site.type("retry", "@latest", "--wait", code=1)
    assert said()[1].startswith("submitted 5 targets of work-ID again\n")
    again = site.requests(first)
    assert {name: request.get("arrayProperties") for name, request in again.items()} == {
        "r2-work-chip": {"size": 2},
        "r2-work-near": {"size": 2},
        "r2-work-last": None,
    }
    ids = {job.name.split("-r2-")[-1]: job.id for job in site.engine.jobs.values()}
    assert "dependsOn" not in again["r2-work-chip"]
    assert again["r2-work-near"]["dependsOn"] == [{"jobId": ids["work-chip"], "type": "N_TO_N"}]
    assert again["r2-work-last"]["dependsOn"] == [{"jobId": ids["work-near"]}]
    assert {"name": "RVRUN_SPLITS", "value": "1,3"} in (
        again["r2-work-chip"]["containerOverrides"]["environment"]
    )
    assert sorted(site.play.ran) == ["work/chip/1", "work/chip/3", "work/near/1"]

    site.play.fails = set()
    site.play.ran.clear()
    site.type("retry", "@latest", "--wait")
    assert said()[1].endswith("work-ID: succeeded after N s, 10 of 10 targets done\n")
    assert set(site.requests(first + 3)) == {"r3-work-chip", "r3-work-near", "r3-work-last"}
    assert site.play.ran == ["work/chip/3", "work/near/3", "work/last"]
    site.type("logs", "@latest", "work/chip/3")
    assert said()[0] == "work/chip/3 began\n"
    site.type("logs", "@latest", "work/chip/1")
    assert said()[0] == "work/chip/1 began\n"
    site.type("retry", "@latest", code=2)
    assert said()[1] == ("rvrun: nothing of run work-ID failed, so there is nothing to retry\n")


def test_one_split_is_retried_as_a_plain_job(site: Site, said: Read) -> None:
    """Told by its list of one; what was aligned waits for it as a whole."""
    site.play.fails = {"work/chip/2"}
    site.run("--wait", code=1)
    first = len(site.engine.submitted)
    site.play.fails = set()
    site.play.ran.clear()
    said()
    site.type("retry", "@latest", "--wait")
    again = site.requests(first)
    assert all("arrayProperties" not in request for request in again.values())
    (need,) = again["r2-work-near"]["dependsOn"]
    assert need.keys() == {"jobId"}
    assert site.play.ran == ["work/chip/2", "work/near/2", "work/last"]
    said()
    site.type("logs", "@latest", "work/chip", code=2)
    assert said()[1] == (
        "rvrun: work/chip is split; name one target, such as work/chip/0 or another of its 3 "
        "splits\n"
    )


def test_the_first_failure_is_the_earliest(site: Site, said: Read) -> None:
    """Not that of the pipeline that is named first."""
    started = threading.Event()
    play = site.play

    def execute(attempt: Attempt) -> Outcome | int:
        target = Play.target(attempt)
        if target == "a/first":
            started.wait(30)
            return 1
        if target == "b/first":
            return 1
        return play(attempt)

    CURRENT[0] = execute
    site.run("-a", "names", "a b")
    site.engine.wait_for(
        lambda: any(j.status == "FAILED" and j.name.endswith("b-first") for j in jobs(site))
    )
    time.sleep(0.002)  # stopped at another millisecond
    started.set()
    site.engine.wait()
    said()
    site.type("status", "@latest", code=1)
    assert "first failure: b/first (exit 1)" in said()[0]


def jobs(site: Site) -> list[Any]:
    return list(site.engine.jobs.values())


def test_a_container_that_does_not_start(site: Site, said: Read) -> None:
    """No exit code and no log; the reason is all there is."""
    CURRENT[0] = lambda attempt: Outcome(
        None, "CannotPullContainerError: no", "Task failed to start"
    )
    site.run("--wait", code=1)
    lines = said()[1].splitlines()
    assert "first failure: work/first: Task failed to start; CannotPullContainerError: no" in lines
    site.type("logs", "@latest", "work/first", code=2)
    assert said()[1] == (
        "rvrun: work/first has no log: it failed without having printed anything "
        "(Task failed to start)\n"
    )


def test_a_target_that_never_ran_has_no_log(site: Site, said: Read) -> None:
    """What it depended on failed."""
    site.play.fails = {"work/first"}
    site.run("--wait", code=1)
    said()
    for target in ("work/last", "work/chip/1"):
        site.type("logs", "@latest", target, "-f", code=2)
        assert said()[1] == (
            f"rvrun: {target} has no log: it failed without having printed anything "
            "(Dependent Job failed)\n"
        )
    site.type("logs", "@latest", "work/chip/9", code=2)
    assert said()[1] == "rvrun: work/chip has no target work/chip/9\n"
    site.type("logs", "@latest", "work/chop/1", code=2)
    assert "unknown stage `work/chop`, did you mean `work/chip`?" in said()[1]


# It is looked at, followed and ended.


def test_logs_are_followed(site: Site, said: Read) -> None:
    """From before its array has children until it has ended, through a second try."""
    site.settings("attempts = 2\n")
    gate, tries = threading.Event(), []
    play = site.play

    def execute(attempt: Attempt) -> Outcome | int:
        target = Play.target(attempt)
        if target == "work/first":
            gate.wait(30)
        if target != "work/chip/1":
            return play(attempt)
        tries.append(attempt.number)
        for line in range(3):
            attempt.write(f"try {attempt.number}, line {line}")
        return 0 if attempt.number == 2 else 1

    CURRENT[0] = execute
    site.run()
    said()
    site.type("logs", "@latest", "work/chip/1", code=2)
    assert said()[1] == "rvrun: work/chip/1 has no log: it is pending; -f waits for it\n"
    site.at_look(2, gate.set)
    site.type("logs", "@latest", "work/chip/1", "-f")
    lines = said()[0].splitlines()
    assert lines[-3:] == [f"try 2, line {line}" for line in range(3)]
    assert lines in (
        [f"try {number}, line {line}" for number in (1, 2) for line in range(3)], lines[-3:]
    )  # fmt: skip


def test_a_stuck_queue_says_why(site: Site, said: Read) -> None:
    """In status, in `--json`, and in the lines of `--watch`; of a plain job, and of a child."""
    reason = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - no instance type has 99 vCPUs"
    site.engine.freeze("cpu", reason)
    site.run()
    said()
    site.type("status", "@latest")
    assert f"work/first is stuck: {reason}\n" in said()[0]
    site.engine.thaw("cpu")
    site.engine.wait()
    site.engine.freeze("cpu", "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none")
    site.run("chip")
    said()
    site.type("status", "@latest", "--json")
    (stage,) = json.loads(said()[0])["stages"]
    assert stage["stuck"] == "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none"
    assert stage["runnable"] == 3
    site.at_look(2, lambda: site.engine.thaw("cpu"))
    site.type("status", "@latest", "--watch")
    lines = said()[1].splitlines()
    assert lines[0] == "work/chip: 3 runnable (CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none)"
    assert lines[-1] == "work-ID: succeeded after N s, 3 of 3 targets done"


def test_watching_takes_one_form(site: Site, said: Read) -> None:
    """Drawn for people, or once for programs."""
    site.run("first", "--wait")
    said()
    site.type("status", "@latest", "--watch", "--json", code=2)
    assert said()[1] == (
        "rvrun: --watch draws for people, --json is for programs; give one of them\n"
    )
    site.type("status", "@latest", "-w")
    assert said()[1].splitlines() == [
        "work/first: 1 succeeded",
        "work-ID: succeeded after N s, 1 of 1 target done",
    ]


def test_a_run_is_cancelled(site: Site, said: Read) -> None:
    """All of it: what runs, what waits for a machine, what waits for others; then it is over."""
    site.play.holds = {"work/chip/1"}
    site.run(splits=20)
    site.engine.wait_for(lambda: [job.counts["SUCCEEDED"] for job in jobs(site)] == [0, 19, 19, 0])
    site.engine.wait_for(lambda: "work/chip/1" in site.play.ran)
    said()
    site.type("cancel", "@latest")
    assert said()[1] == "cancelled work-ID: 3 jobs ended\n"
    site.engine.wait()
    assert {job.status for job in jobs(site) if not job.name.endswith("first")} == {"FAILED"}
    assert "work/near/1" not in site.play.ran
    site.type("status", "@latest", code=1)
    out, _ = said()
    assert "first failure" not in out
    assert out.splitlines()[-1] == "work-ID: cancelled after N s, 39 of 42 targets done"
    site.type("cancel", "@latest")
    assert said()[1] == "nothing of work-ID was waiting or running\n"
    site.play.holds = set()
    site.play.ran.clear()
    site.type("retry", "@latest", "--wait")
    assert sorted(site.play.ran) == ["work/chip/1", "work/last", "work/near/1"]
    assert said()[1].splitlines()[-1] == "work-ID: succeeded after N s, 42 of 42 targets done"


def test_waiting_ends_when_the_run_is_cancelled(site: Site, said: Read) -> None:
    """By somebody else meanwhile."""
    site.play.holds = {"work/first"}
    site.run()
    site.engine.wait_for(lambda: "work/first" in site.play.ran)
    site.type("cancel", "@latest")
    said()
    site.type("status", "@latest", "--watch", code=1)
    assert said()[1].splitlines()[-1].startswith("work-ID: cancelled after ")


def test_nothing_is_cancelled_while_it_is_submitted(site: Site, said: Read) -> None:
    """What would be submitted after would go on."""
    site.run("--wait")
    said()
    from rvrun.rundir import files as rundir

    with rundir.locked(site.latest.run_dir):
        site.type("cancel", "@latest", code=2)
    assert f"another rvrun (process {os.getpid()}) is running in it" in said()[1]


# Again.


def test_a_run_is_not_begun_twice(site: Site, said: Read) -> None:
    """While it is going; after it failed, a new one begins."""
    site.play.holds = {"work/first"}
    site.run()
    site.engine.wait_for(lambda: "work/first" in site.play.ran)
    said()
    site.run(code=2)
    assert said()[1] == (
        "rvrun: run work-ID is still going; see `rvrun status work-ID`, wait for it, or "
        "`rvrun cancel work-ID`\n"
    )
    site.type("retry", "@latest", code=2)
    assert "run work-ID is still going" in said()[1]
    before = site.latest.run_id
    site.type("cancel", "@latest")
    site.engine.wait()
    site.play.holds = set()
    site.run("--wait")
    assert site.latest.run_id != before
    site.run("--wait")


def test_a_retry_that_is_going_is_in_the_way_too(site: Site, said: Read) -> None:
    """Also of a run that had been cancelled before."""
    site.play.holds = {"work/first"}
    site.run()
    site.engine.wait_for(lambda: "work/first" in site.play.ran)
    site.type("cancel", "@latest")
    site.engine.wait()
    site.type("retry", "@latest")
    said()
    site.run(code=2)
    assert "run work-ID is still going" in said()[1]


BROKEN = '[batch.commands."near"]\njob_def = "no"\n'


def test_a_run_that_was_cut_off(site: Site, said: Read) -> None:
    """What was submitted is listed; others are refused until it is gone on with, or cancelled."""
    site.play.holds = {"work/first"}
    site.settings(BROKEN)
    site.run(code=2)
    err = said()[1]
    assert "JobDefinition no not found (ClientException)\n2 of 4 jobs of run work-ID were" in err
    assert err.endswith(
        "type the same command again to go on, or `rvrun cancel work-ID` to end them\n"
    )
    site.type("status", "@latest", code=1)
    assert said()[0].endswith("work-ID: cut off while it was submitted, 0 of 8 targets done\n")
    site.type("retry", "@latest", code=2)
    assert said()[1] == (
        "rvrun: run work-ID was cut off while it was submitted; type the command again that "
        "submitted it to go on, or `rvrun cancel work-ID` to end what is there of it\n"
    )
    site.settings()
    site.run(code=2)
    assert said()[1] == (
        "rvrun: run work-ID was cut off while it was submitted, and what would be submitted now is "
        "not the same; `rvrun cancel work-ID` ends what is there of it\n"
    )
    site.type("cancel", "@latest")
    assert said()[1] == "cancelled work-ID: 2 jobs ended\n"
    site.engine.wait()
    site.type("status", "@latest", code=1)
    assert said()[0].splitlines()[-1] == "work-ID: cancelled after N s, 0 of 8 targets done"
    site.play.holds = set()
    site.run("--wait")


def test_going_on_with_a_run_that_was_cut_off(site: Site, said: Read) -> None:
    """The same command again submits the rest of it, under the same id."""
    site.settings(BROKEN)
    site.run(code=2)
    before = site.latest.run_id
    site.engine.add_definition("no")
    site.run("--wait")
    site.engine.definitions.pop("no")
    assert [ledger.run_id for ledger in ledgers.all_ledgers(pathlib.Path("runs"))] == [before]
    assert len(site.engine.submitted) == 4


def test_a_cancelled_rest_is_retried(site: Site, said: Read) -> None:
    """What was never submitted goes with what failed; then all of the run is done."""
    site.play.holds = {"work/first"}
    site.settings(BROKEN)
    site.run(code=2)
    site.type("cancel", "@latest")
    site.engine.wait()
    site.play.holds = set()
    site.engine.add_definition("no")
    said()
    site.type("retry", "@latest", "--wait")
    site.engine.definitions.pop("no")
    lines = said()[1].splitlines()
    assert lines[0] == "submitted 8 targets of work-ID again"
    assert lines[-1] == "work-ID: succeeded after N s, 8 of 8 targets done"


def test_nothing_was_submitted_yet(site: Site, said: Read) -> None:
    """Then there is nothing to go on with, so a changed run just begins."""
    site.settings('[batch.commands."first"]\njob_def = "no"\n')
    site.moto.client("s3").delete_bucket(Bucket="bucket")
    site.run(code=2)
    assert "PutObject: The specified bucket does not exist" in said()[1]
    site.moto.bucket()
    site.settings()
    site.run("--wait")


# Names and places.


def test_runs_have_names(site: Site, said: Read) -> None:
    """At the beginning of those of their jobs; a run is found by the beginning of its id."""
    site.run("first", "--run-name", "Night_1", "--wait")
    assert site.latest.run_id.startswith("Night_1-20")
    assert site.engine.submitted[0]["jobName"] == f"{site.latest.run_id}-work-first"
    said()
    site.type("status", "Nig")
    assert said()[0].splitlines()[-1].endswith(": succeeded after N s, 1 of 1 target done")
    site.run("first", "--run-name", "no name", code=2)
    assert "run name 'no name' cannot be used" in said()[1]


def test_a_run_directory_elsewhere(site: Site, said: Read) -> None:
    """What is told to type finds it there."""
    site.play.fails = {"work/first"}
    site.run("first", "--out", "out/deep", "--wait", code=1)
    (path,) = (site.folder / "out/deep/submitted").iterdir()
    _, err = said()
    assert f"rvrun retry out/deep/submitted/{without_ids(path.name)}\n" in err
    site.type("status", "out/deep", code=1)
    site.type("status", f"out/deep/submitted/{path.name}", code=1)
    site.type("status", path.name, "--runs", "out", code=1)
    said()
    site.type("status", "@latest", code=2)
    assert said()[1] == "rvrun: nothing was submitted from the run directories in runs\n"


# Many.


def test_many_jobs_take_few_calls(site: Site, said: Read) -> None:
    """A look describes a hundred jobs a call; of arrays it asks for no child."""
    names = " ".join(f"p{number}" for number in range(55))
    site.run("-a", "names", names, splits=3)
    site.engine.wait()
    site.engine.calls.clear()
    said()
    site.type("status", "@latest")
    assert said()[0].splitlines()[-1].endswith("440 of 440 targets done")
    calls = [(call.operation, len(call.request["jobs"])) for call in site.engine.calls]
    assert calls == [("DescribeJobs", 100), ("DescribeJobs", 100), ("DescribeJobs", 20)]


def test_parts_of_a_stage_over_the_size_of_an_array(
    site: Site, said: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each child finds its split; a retry takes those that failed, of the part they are in."""
    from rvrun.runners.batch import jobs as jobs_module

    monkeypatch.setattr(jobs_module, "MAX_ARRAY", 4)
    site.play.fails = {"work/chip/5", "work/chip/6"}
    site.run("--wait", code=1, splits=10)
    assert len([ran for ran in site.play.ran if "chip" in ran]) == 10
    assert "first failure: work/chip/5 (exit 7)" in said()[1]
    first = len(site.engine.submitted)
    site.play.fails = set()
    site.play.ran.clear()
    site.type("retry", "@latest", "--wait")
    assert set(site.requests(first)) == {"r2-work-chip-1", "r2-work-near-1", "r2-work-last"}
    assert sorted(site.play.ran) == [
        "work/chip/5", "work/chip/6", "work/last", "work/near/5", "work/near/6"
    ]  # fmt: skip
    said()
    site.type("status", "@latest")
    assert said()[0].splitlines()[-1].endswith("22 of 22 targets done")


# Real processes.


@pytest.fixture
def real(site: Site) -> Site:
    """A site whose jobs are processes, which reach S3 and have no folder but an empty one."""

    def execute(attempt: Attempt) -> Outcome:
        attempt.environment = {
            **attempt.environment,
            "AWS_ENDPOINT_URL_S3": site.moto.url,
        }
        return run_process(attempt, grace=0.2)

    CURRENT[0] = execute
    return site


def test_workers_find_their_code_and_their_split(real: Site, said: Read) -> None:
    """The loose file goes along by S3; a failure is told with the user's own traceback."""
    real.settings('attempts = 2\nenvironment = {FAIL = "1"}\n')
    real.run("first", "chip", "--wait", code=1, splits=2)
    objects = sorted(real.moto.objects())
    assert [re.sub(r"[0-9a-f]{16}", "D", key) for key in objects] == [
        "work/rvrun/code/D/work.py",
        "work/rvrun/config/work-D.json",
    ]
    said()
    real.type("logs", "@latest", "work/chip/0")
    lines = said()[0].splitlines()
    assert lines[:2] == ["rvrun: work/chip/0 of 2, try 1", "chip 0 of 2, try 1"]
    assert lines[2].startswith("rvrun: work/chip/0 done after ")
    real.type("logs", "@latest", "work/chip/1")
    lines = said()[0].splitlines()
    assert lines[:2] == ["rvrun: work/chip/1 of 2, try 2", "chip 1 of 2, try 2"]
    assert lines[-2] == "ValueError: told to fail"
    assert lines[-1].startswith("rvrun: work/chip/1 failed (exit 1) after ")


def test_an_instance_that_is_taken_away(site: Site, said: Read) -> None:
    """With `retry = "spot"` that is tried again; a failure of the command is not."""
    site.settings('attempts = 3\nretry = "spot"\n')
    play, tries = site.play, []

    def execute(attempt: Attempt) -> Outcome | int:
        target = Play.target(attempt)
        tries.append((target, attempt.number))
        if target == "work/chip/0" and attempt.number == 1:
            return attempt.wait_until_stopped()
        return 1 if target == "work/chip/1" else play(attempt)

    CURRENT[0] = execute
    site.run("chip", splits=2)
    site.engine.wait_for(lambda: ("work/chip/0", 1) in tries)
    (job,) = jobs(site)
    site.engine.wait_until_running(f"{job.id}:0")
    site.engine.reclaim(f"{job.id}:0")
    site.engine.wait()
    assert sorted(tries) == [("work/chip/0", 1), ("work/chip/0", 2), ("work/chip/1", 1)]
    said()
    site.type("status", "@latest", code=1)
    assert "first failure: work/chip/1 (exit 1)" in said()[0]


def test_a_try_that_takes_too_long(site: Site, said: Read) -> None:
    """It is ended, and not tried again."""
    site.settings("attempts = 3\ntimeout_seconds = 60\n")
    site.play.holds = {"work/first"}
    site.run("first")
    site.engine.wait_for(lambda: "work/first" in site.play.ran)
    (job,) = jobs(site)
    assert job.spec.timeout == 60
    site.engine.wait_until_running(job.id)
    site.engine.time_out(job.id)
    site.engine.wait()
    said()
    site.type("status", "@latest", code=1)
    assert "first failure: work/first (exit 143): Job attempt duration exceeded" in said()[0]
    assert site.play.ran == ["work/first"]


# Interrupted, or without a network.


def test_ctrl_c_ends_the_waiting_and_not_the_run(site: Site) -> None:
    """Exit code 130; the run goes on."""
    site.play.holds = {"work/first"}
    process = subprocess.Popen(
        ["rvrun", "run", "batch", "work.py", "first", "--wait"],
        cwd=site.folder,
        env=clean_environment(**site.variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    site.engine.wait_for(
        lambda: any(call.operation == "DescribeJobs" for call in site.engine.calls)
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert without_ids(err).splitlines()[-1] == (
        "no longer waiting; the run goes on: rvrun status work-ID, rvrun cancel work-ID"
    )
    (job,) = jobs(site)
    assert job.status == "RUNNING"


def test_waiting_outlives_a_network_that_is_away(
    site: Site, said: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS does not answer for a while: it is said, and looked again."""
    monkeypatch.setattr(aws, "READ_ATTEMPTS", 1)  # of another client than before
    lost = iter(range(2))

    def fault(operation: str, request: dict[str, Any], number: int) -> Fault | None:
        return (
            DropBefore() if operation == "DescribeJobs" and next(lost, None) is not None else None
        )

    site.engine.fault = fault
    site.run("first", "--wait")
    err = said()[1]
    assert err.count("AWS batch DescribeJobs: ") == 2
    assert "; the run goes on, looking again" in err
    assert err.splitlines()[-1] == "work-ID: succeeded after N s, 1 of 1 target done"


def raised(error: Exception) -> None:
    raise error


def test_expired_credentials_end_the_waiting(
    site: Site, said: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What asking again will not mend is told at once."""
    site.play.holds = {"work/first"}
    site.run("first")
    expired = aws.Refused("batch", "DescribeJobs", "ExpiredToken", "no")
    monkeypatch.setattr(aws.Client, "call", lambda *args, **params: raised(expired))
    said()
    site.type("status", "@latest", "--watch", code=2)
    assert said()[1] == "rvrun: AWS batch DescribeJobs: no (ExpiredToken); log in again\n"


def test_specs_of_a_round_are_those_in_the_ledger(site: Site) -> None:
    """What was submitted is what is in the files, ids filled in."""
    site.run("--wait")
    folder = site.latest.round_folder(1) / FOLDER
    names = [
        json.loads(path.read_text())["jobName"].removeprefix("${run}-")
        for path in sorted(folder.glob("[0-9]*.json"))
    ]
    assert list(site.requests()) == names
