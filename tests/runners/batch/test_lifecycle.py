"""Runs on AWS Batch by command line, from the first to the last: an engine runs the jobs."""

from __future__ import annotations

import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from rvrun import split_ranges
from rvrun.aws import client as aws
from rvrun.cli import submit as submission
from rvrun.cli.app import main
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.runners.batch import inventory, lifecycle
from rvrun.runners.batch import logs as batch_logs
from rvrun.runners.batch.spec_files import FOLDER
from tests.conftest import PATIENCE, clean_environment, unmeasured_environment
from tests.disks import fill_disk, obey_modes, protect, unprotect
from tests.engines.attempts import Attempt, Outcome, run_process
from tests.engines.batch import BatchEngine
from tests.engines.faults import DropBefore, Fault, Refuse
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
        print("first")

    def chip(self, split_ind, num_splits):
        print(f"chip {split_ind} of {num_splits}, attempt {os.environ['AWS_BATCH_JOB_ATTEMPT']}")
        if split_ind == 1 and os.environ.get("FAIL"):
            raise ValueError("FAIL is set")

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


class Script:
    """Runs jobs without processes: targets in `fails` fail, those in `holds` run until stopped.

    - `seconds`: how long each takes.
    """

    seconds = 0.0

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
        time.sleep(self.seconds)
        if target in self.holds:
            return attempt.wait_until_stopped()
        if target in self.fails:
            attempt.write(f"{target} fails")
            return Outcome(7)
        return 0

    @staticmethod
    def target(attempt: Attempt) -> str:
        """`work/chip/1`, from its command line and environment."""
        _, _, uri, command, *words = attempt.command
        name = f"{uri.rpartition('/')[2].rpartition('-')[0]}/{command}"
        if "--num-splits" not in words:
            return name
        splits = attempt.environment.get("RVRUN_SPLITS")
        index = attempt.index or 0
        return f"{name}/{split_ranges.read(splits)[index] if splits else index}"


class Site:
    """A folder where rvrun is called, with a region of AWS Batch and S3."""

    def __init__(
        self, folder: pathlib.Path, engine: BatchEngine, moto: Moto, script: Script
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.moto = moto
        self.script = script
        self.variables = {**engine.variables, "AWS_ENDPOINT_URL_S3": moto.url}

    def settings(self, more: str = "") -> None:
        (self.folder / "rvrun.toml").write_text(SETTINGS + more, encoding="utf-8")

    def rvrun(self, *words: str, code: int = 0) -> None:
        """Call `rvrun` with these words, in this process."""
        sys.modules.pop("work", None)
        actual = main(list(words))
        assert actual == code, f"{words} -> {actual}"

    def run(self, *words: str, code: int = 0, splits: int = 3) -> None:
        self.rvrun("run", "batch", "work.py", "--splits", str(splits), *words, code=code)

    def at_look(self, number: int, action: Callable[[], object]) -> None:
        """Call `action` before DescribeJobs is answered for the `number`th time from now on."""
        left = iter(range(number - 1))

        def fault(operation: str, request: dict[str, Any], count: int) -> None:
            if operation == "DescribeJobs" and next(left, None) is None:
                action()

        self.engine.fault = fault

    @property
    def latest(self) -> Ledger:
        return ledgers.find("@latest", pathlib.Path("runs"))

    def requests(self, start: int = 0) -> dict[str, dict[str, Any]]:
        """Submitted requests, from the `start`th on, by the job's name without the run's id."""
        requests = {}
        for request in self.engine.submitted[start:]:
            name = re.sub(r"^.*?-\d{8}-\d{6}-[0-9a-f]{8}-", "", request["jobName"])
            assert name not in requests
            requests[name] = request
        return requests


#: What runs the jobs; each test has its own.
CURRENT: list[Callable[[Attempt], Outcome | int]] = []


def run_current(attempt: Attempt) -> Outcome | int:
    return CURRENT[-1](attempt)


@pytest.fixture(scope="module")
def region() -> Iterator[BatchEngine]:
    """One engine for all tests of this module."""
    with BatchEngine(slots=4, execute=run_current) as engine:
        engine.add_queue("cpu")
        engine.add_definition("work")
        # Clients are cached, with the servers of earlier tests.
        aws._session.cache_clear()
        aws._client.cache_clear()
        yield engine
        aws._client.cache_clear()


@pytest.fixture
def site(
    region: BatchEngine, moto: Moto, in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """A site with an empty region, where nothing waits long between two looks."""
    script = Script()
    CURRENT[:] = [script]
    site = Site(in_folder, region, moto, script)
    for name, value in clean_environment(**site.variables).items():
        monkeypatch.setenv(name, value)
    shorten_pauses(monkeypatch)
    moto.bucket()
    (in_folder / "work.py").write_text(WORK, encoding="utf-8")
    site.settings()
    yield site
    finish(region)


def shorten_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between looks, between calls, and for jobs to be listed."""
    monkeypatch.setattr(submission, "POLL_FIRST", 0.02)
    monkeypatch.setattr(submission, "POLL_MOST", 0.05)
    monkeypatch.setattr(batch_logs, "POLL_SECONDS", 0.02)
    submitter = lifecycle.submitter
    monkeypatch.setattr(
        lifecycle,
        "submitter",
        lambda *args: attrs.evolve(submitter(*args), listing_delay=0.0, pace=aws.Pace(10_000)),
    )


def finish(engine: BatchEngine) -> None:
    """End the jobs that a test left, and forget all jobs."""
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
    """`text` with placeholders for the run's id and for durations."""
    text = re.sub(r"\b([a-z]+)-\d{8}-\d{6}-[0-9a-f]{8}\b", r"\1-ID", text)
    return re.sub(r"\d+\.\d s|\d+ ms|\d+ min( \d+ s)?", "N s", text)


Read = Callable[[], tuple[str, str]]


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Read:
    """Reads what was printed since the last time: stdout and stderr."""

    def read() -> tuple[str, str]:
        output = capfd.readouterr()
        return without_ids(output.out), without_ids(output.err)

    return read


# Runs that succeed.


def test_a_run_that_succeeds(site: Site, printed: Read) -> None:
    """`--wait` prints the counts of each stage as they change, and exits with 0."""
    site.run("--wait")
    out, err = printed()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "submitted to AWS Batch as work-ID"
    assert lines[-1] == "work-ID: succeeded after N s, 8 of 8 targets done"
    for stage, last in {"first": 1, "chip": 3, "near": 3, "last": 1}.items():
        of_stage = [line for line in lines if line.startswith(f"work/{stage}: ")]
        assert of_stage[-1] == f"work/{stage}: {last} succeeded"
        assert len(set(of_stage)) == len(of_stage)
    assert sorted(site.script.ran) == sorted(
        ["work/first", "work/last", *(f"work/{c}/{i}" for c in ("chip", "near") for i in range(3))]
    )


def test_a_run_without_wait(site: Site, printed: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id is printed, and commands to follow it; status, list and logs show it."""
    site.script.holds = {"work/last"}
    site.run()
    out, err = printed()
    assert out == "work-ID\n"
    assert err.splitlines() == [
        "submitted to AWS Batch as work-ID",
        "  to watch it:   rvrun status work-ID --watch",
        "  to cancel it:  rvrun cancel work-ID",
    ]
    site.engine.wait_for(lambda: "work/last" in site.script.ran)
    site.rvrun("status", "@latest")
    out, err = printed()
    assert err == ""
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["stage", "pending", "runnable", "running", "succeeded", "failed", "elapsed"]
    assert [rows[3][0], rows[3][1]] == ["work/chip", "3"]
    assert out.splitlines()[-1] == "work-ID: running for N s, 7 of 8 targets done"
    # xdist sets it, to less than the table.
    monkeypatch.delenv("COLUMNS", raising=False)
    site.rvrun("list")
    out, _ = printed()
    words = [word for word in out.splitlines()[2].split() if not re.match(r"20\d\d-|\d\d:", word)]
    assert words == ["work-ID", "batch", "submitted", "runs/work"]
    site.rvrun("logs", "@latest", "work/chip/2")
    assert printed() == ("work/chip/2 began\n", "")
    site.rvrun("logs", "@latest", "work/first")
    assert printed() == ("work/first began\n", "")


def test_status_for_programs(site: Site, printed: Read) -> None:
    """JSON with counts by state, times and the first failure; and the list as JSON."""
    site.script.fails = {"work/chip/1"}
    site.run("--wait", code=1)
    printed()
    site.rvrun("status", site.latest.run_id, "--json", code=1)
    state = json.loads(printed()[0])
    assert state["state"] == "failed"
    assert state["failure"] == {
        "target": "work/chip/1",
        "reason": "Essential container in task exited",
        "exit_code": 7,
    }
    chip = state["stages"][1]
    assert (chip["name"], chip["targets"], chip["succeeded"], chip["failed"]) == (
        "work/chip", 3, 2, 1
    )  # fmt: skip
    assert chip["began"] <= chip["ended"] <= state["ended"]
    site.rvrun("list", "--json")
    (row,) = json.loads(printed()[0])
    assert row == {
        "run": "work-ID",
        "runner": "batch",
        "state": "failed",
        "run_dir": "runs/work",
        "began": state["began"],
        "ended": state["ended"],
        "done": 5,
        "targets": 8,
    }
    # What was submitted since has not been seen to end.
    site.script.holds = {"work/chip/1"}
    site.rvrun("retry", "@latest")
    printed()
    site.rvrun("list", "--json")
    assert json.loads(printed()[0])[0]["state"] == "submitted"


def test_the_state_of_a_run_that_is_over_is_stored(site: Site, printed: Read) -> None:
    """Batch forgets jobs after days; the state of a run whose end was seen is still shown."""
    site.run("--wait")
    finish(site.engine)
    printed()
    site.rvrun("status", "@latest")
    assert printed()[0].splitlines()[-1] == "work-ID: succeeded after N s, 8 of 8 targets done"
    assert site.engine.count("DescribeJobs") > 0
    assert not [call for call in site.engine.calls if call.operation == "DescribeJobs"]


def test_a_run_that_was_forgotten(site: Site, printed: Read) -> None:
    """It counts as neither succeeded nor failed, and cannot be retried."""
    site.run()
    site.engine.wait()
    finish(site.engine)
    printed()
    site.rvrun("retry", "@latest", code=2)
    assert printed()[1] == (
        "rvrun: the jobs of run work-ID are too old: their service no longer reports which "
        "failed; start a new run with `rvrun run`\n"
    )
    site.rvrun("status", "@latest", code=1)
    out, _ = printed()
    assert out.splitlines()[-1].startswith("work-ID: gone after ")
    assert "8" not in out.splitlines()[2]
    site.rvrun("logs", "@latest", "work/first", code=2)
    err = printed()[1]
    assert "rvrun: work/first has no log: AWS Batch no longer knows job " in err


# Failures.


def test_a_split_that_fails(site: Site, printed: Read) -> None:
    """The first failure is shown with its log and what to do; dependents fail too; exit code 1."""
    site.script.fails = {"work/chip/1"}
    site.run("--wait", code=1)
    lines = printed()[1].splitlines()
    start = lines.index("first failure: work/chip/1 (exit 7): Essential container in task exited")
    assert lines[start + 1 :] == [
        "  | work/chip/1 began",
        "  | work/chip/1 fails",
        "to see all of its log:  rvrun logs work-ID work/chip/1",
        "to retry what failed:   rvrun retry work-ID",
        "work-ID: failed after N s, 5 of 8 targets done",
    ]
    site.rvrun("status", "@latest", code=1)
    assert "first failure: work/chip/1 (exit 7): Essential container in task exited" in printed()[0]
    assert {"work/near/0", "work/near/2"} <= set(site.script.ran)
    assert "work/near/1" not in site.script.ran


def test_a_retry_runs_only_what_failed(site: Site, printed: Read) -> None:
    """New names, only the failed splits and their dependents; then a retry of the retry."""
    site.script.fails = {"work/chip/1", "work/chip/3"}
    site.run("--wait", code=1, splits=4)
    first = len(site.engine.submitted)
    site.script.ran.clear()
    site.script.fails = {"work/chip/3"}
    printed()

    site.rvrun("retry", "@latest", "--wait", code=1)
    assert printed()[1].startswith("submitted 5 targets of work-ID again\n")
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
    assert sorted(site.script.ran) == ["work/chip/1", "work/chip/3", "work/near/1"]

    site.script.fails = set()
    site.script.ran.clear()
    site.rvrun("retry", "@latest", "--wait")
    assert printed()[1].endswith("work-ID: succeeded after N s, 10 of 10 targets done\n")
    assert set(site.requests(first + 3)) == {"r3-work-chip", "r3-work-near", "r3-work-last"}
    assert site.script.ran == ["work/chip/3", "work/near/3", "work/last"]
    site.rvrun("logs", "@latest", "work/chip/3")
    assert printed()[0] == "work/chip/3 began\n"
    site.rvrun("logs", "@latest", "work/chip/1")
    assert printed()[0] == "work/chip/1 began\n"
    site.rvrun("retry", "@latest", code=2)
    assert printed()[1] == ("rvrun: nothing in run work-ID failed, so there is nothing to retry\n")


def test_one_split_is_retried_as_a_plain_job(site: Site, printed: Read) -> None:
    """Its list has one split; an aligned job waits for the plain job."""
    site.script.fails = {"work/chip/2"}
    site.run("--wait", code=1)
    first = len(site.engine.submitted)
    site.script.fails = set()
    site.script.ran.clear()
    printed()
    site.rvrun("retry", "@latest", "--wait")
    again = site.requests(first)
    assert all("arrayProperties" not in request for request in again.values())
    (need,) = again["r2-work-near"]["dependsOn"]
    assert need.keys() == {"jobId"}
    assert site.script.ran == ["work/chip/2", "work/near/2", "work/last"]
    printed()
    site.rvrun("logs", "@latest", "work/chip", code=2)
    assert printed()[1] == (
        "rvrun: work/chip is split; specify one of its 3 targets, such as work/chip/0\n"
    )


def test_the_first_failure_is_the_earliest(site: Site, printed: Read) -> None:
    """It need not be in the first pipeline."""
    b_failed = threading.Event()
    script = site.script

    def execute(attempt: Attempt) -> Outcome | int:
        target = Script.target(attempt)
        if target == "a/first":
            assert b_failed.wait(PATIENCE)
            return 1
        if target == "b/first":
            return 1
        return script(attempt)

    CURRENT[0] = execute
    site.run("-a", "names", "a b")
    (b,) = [job for job in jobs(site) if job.name.endswith("b-first")]
    site.engine.wait_for(lambda: b.status == "FAILED")
    b.head.stopped -= 1  # so that they stop at different milliseconds
    b_failed.set()
    site.engine.wait()
    printed()
    site.rvrun("status", "@latest", code=1)
    assert "first failure: b/first (exit 1)" in printed()[0]


def test_a_failure_while_jobs_are_described(
    site: Site, printed: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dependent that has failed is not the first failure if its need still ran a call before."""
    monkeypatch.setattr(inventory, "MAX_DESCRIBED", 1)
    gate = threading.Event()
    CURRENT[0] = lambda attempt: 7 if gate.wait(PATIENCE) else 0
    site.run()
    first = jobs(site)[0]
    site.engine.wait_until_running(first.id)
    site.engine.calls.clear()

    def is_described() -> bool:
        return any(
            call.request.get("jobs") == [first.id] and call.outcome == "done"
            for call in site.engine.calls
        )

    def fault(operation: str, request: dict[str, Any], number: int) -> None:
        if operation == "DescribeJobs" and request["jobs"] != [first.id]:
            site.engine.wait_for(is_described)
            gate.set()
            site.engine.wait()

    site.engine.fault = fault
    printed()
    site.rvrun("status", "@latest", code=1)
    assert "first failure" not in printed()[0]
    site.rvrun("status", "@latest", code=1)
    assert "first failure: work/first (exit 7)" in printed()[0]


def jobs(site: Site) -> list[Any]:
    return list(site.engine.jobs.values())


def test_a_container_that_does_not_start(site: Site, printed: Read) -> None:
    """There is no exit code and no log, only a reason."""
    CURRENT[0] = lambda attempt: Outcome(
        None, "CannotPullContainerError: no", "Task failed to start"
    )
    site.run("--wait", code=1)
    lines = printed()[1].splitlines()
    assert "first failure: work/first: Task failed to start; CannotPullContainerError: no" in lines
    site.rvrun("logs", "@latest", "work/first", code=2)
    assert printed()[1] == (
        "rvrun: work/first has no log: it failed without printing anything (Task failed to start)\n"
    )


def test_an_image_without_rvrun(site: Site, printed: Read) -> None:
    """The container runtime says it in many words; rvrun adds what to do."""
    reason = 'CannotStartContainerError: exec: "rvrun": executable file not found in $PATH'
    CURRENT[0] = lambda attempt: Outcome(127, reason, "Task failed to start")
    site.run("--wait", code=1)
    lines = printed()[1].splitlines()
    failure = f"work/first (exit 127): Task failed to start; {reason}"
    assert f"first failure: {failure}; install rvrun in the image of its job" in lines


def test_a_target_that_never_ran_has_no_log(site: Site, printed: Read) -> None:
    """A dependency of it failed."""
    site.script.fails = {"work/first"}
    site.run("--wait", code=1)
    printed()
    for target in ("work/last", "work/chip/1"):
        site.rvrun("logs", "@latest", target, "-f", code=2)
        assert printed()[1] == (
            f"rvrun: {target} has no log: it failed without printing anything "
            "(Dependent Job failed)\n"
        )
    site.rvrun("logs", "@latest", "work/chip/9", code=2)
    assert printed()[1] == "rvrun: work/chip has no target work/chip/9\n"
    site.rvrun("logs", "@latest", "work/chop/1", code=2)
    assert "unknown stage `work/chop`; did you mean `work/chip`?" in printed()[1]


# Looking, following, cancelling.


def test_logs_are_followed(site: Site, printed: Read) -> None:
    """From before its array has children to its end, through a second attempt."""
    site.settings("attempts = 2\n")
    gate, attempts = threading.Event(), []
    script = site.script

    def execute(attempt: Attempt) -> Outcome | int:
        target = Script.target(attempt)
        if target == "work/first":
            assert gate.wait(PATIENCE)
        if target != "work/chip/1":
            return script(attempt)
        attempts.append(attempt.number)
        for line in range(3):
            attempt.write(f"attempt {attempt.number}, line {line}")
        return 0 if attempt.number == 2 else 1

    CURRENT[0] = execute
    site.run()
    printed()
    site.rvrun("logs", "@latest", "work/chip/1", code=2)
    assert (
        printed()[1] == "rvrun: work/chip/1 has no log yet: it is pending; use -f to wait for it\n"
    )
    site.at_look(2, gate.set)
    site.rvrun("logs", "@latest", "work/chip/1", "-f")
    lines = printed()[0].splitlines()
    assert lines[-3:] == [f"attempt 2, line {line}" for line in range(3)]
    assert lines in (
        [f"attempt {number}, line {line}" for number in (1, 2) for line in range(3)], lines[-3:]
    )  # fmt: skip


def test_a_stuck_queue_says_why(site: Site, printed: Read) -> None:
    """The reason is in status, `--json` and `--watch`, for plain jobs and for children."""
    reason = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - no instance type has 99 vCPUs"
    site.engine.freeze("cpu", reason)
    site.run()
    printed()
    site.rvrun("status", "@latest")
    assert f"work/first waits: {reason}\n" in printed()[0]
    site.engine.thaw("cpu")
    site.engine.wait()
    site.engine.freeze("cpu", "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none")
    site.run("chip")
    printed()
    site.rvrun("status", "@latest", "--json")
    (stage,) = json.loads(printed()[0])["stages"]
    assert stage["stuck"] == "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none"
    assert stage["runnable"] == 3
    site.at_look(2, lambda: site.engine.thaw("cpu"))
    site.rvrun("status", "@latest", "--watch")
    lines = printed()[1].splitlines()
    assert lines[0] == "work/chip: 3 runnable (CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none)"
    assert lines[-1] == "work-ID: succeeded after N s, 3 of 3 targets done"


def test_watching_takes_one_form(site: Site, printed: Read) -> None:
    """`--watch` cannot be combined with `--json`."""
    site.run("first", "--wait")
    printed()
    site.rvrun("status", "@latest", "--watch", "--json", code=2)
    assert printed()[1] == ("rvrun: --watch and --json cannot be combined; keep one\n")
    site.rvrun("status", "@latest", "-w")
    assert printed()[1].splitlines() == [
        "work/first: 1 succeeded",
        "work-ID: succeeded after N s, 1 of 1 target done",
    ]


def test_a_run_is_cancelled(site: Site, printed: Read) -> None:
    """Its jobs end, whether they run or wait for an instance or other jobs; then it is over."""
    site.script.holds = {"work/chip/1"}
    site.run(splits=20)
    site.engine.wait_for(lambda: [job.counts["SUCCEEDED"] for job in jobs(site)] == [0, 19, 19, 0])
    site.engine.wait_for(lambda: "work/chip/1" in site.script.ran)
    printed()
    site.rvrun("cancel", "@latest")
    assert printed()[1] == "cancelled work-ID: 3 jobs ended\n"
    site.engine.wait()
    assert {job.status for job in jobs(site) if not job.name.endswith("first")} == {"FAILED"}
    assert "work/near/1" not in site.script.ran
    site.rvrun("status", "@latest", code=1)
    out, _ = printed()
    assert "first failure" not in out
    assert out.splitlines()[-1] == "work-ID: cancelled after N s, 39 of 42 targets done"
    site.rvrun("cancel", "@latest")
    assert printed()[1] == "nothing in work-ID was waiting or running\n"
    site.script.holds = set()
    site.script.ran.clear()
    site.rvrun("retry", "@latest", "--wait")
    assert sorted(site.script.ran) == ["work/chip/1", "work/last", "work/near/1"]
    assert printed()[1].splitlines()[-1] == "work-ID: succeeded after N s, 42 of 42 targets done"


def test_waiting_ends_when_the_run_is_cancelled(site: Site, printed: Read) -> None:
    """Another process may cancel it."""
    site.script.holds = {"work/first"}
    site.run()
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    site.rvrun("cancel", "@latest")
    printed()
    site.rvrun("status", "@latest", "--watch", code=1)
    assert printed()[1].splitlines()[-1].startswith("work-ID: cancelled after ")


def test_nothing_is_cancelled_while_it_is_submitted(site: Site, printed: Read) -> None:
    """Otherwise jobs that are submitted later would run."""
    site.run("--wait")
    printed()
    from rvrun.rundir.lock import locked

    with locked(site.latest.run_dir):
        site.rvrun("cancel", "@latest", code=2)
    assert f"another rvrun (process {os.getpid()}) is running in it" in printed()[1]


# Repeating.


def test_a_run_is_not_started_twice(site: Site, printed: Read) -> None:
    """While it is running it is refused; afterwards a new run is started."""
    site.script.holds = {"work/first"}
    site.run()
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    printed()
    site.run(code=2)
    assert printed()[1] == (
        "rvrun: run work-ID is still running; look with `rvrun status work-ID`, wait until it "
        "ends, or end it with `rvrun cancel work-ID`\n"
    )
    site.rvrun("retry", "@latest", code=2)
    assert "run work-ID is still running" in printed()[1]
    before = site.latest.run_id
    site.rvrun("cancel", "@latest")
    site.engine.wait()
    site.script.holds = set()
    site.run("--wait")
    assert site.latest.run_id != before
    site.run("--wait")


def test_no_run_is_started_during_a_retry(site: Site, printed: Read) -> None:
    """Also if the run had been cancelled before the retry."""
    site.script.holds = {"work/first"}
    site.run()
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    site.rvrun("cancel", "@latest")
    site.engine.wait()
    site.rvrun("retry", "@latest")
    printed()
    site.run(code=2)
    assert "run work-ID is still running" in printed()[1]


def refuse(site: Site, command: str) -> None:
    """Let Batch refuse the jobs of a command."""

    def fault(operation: str, request: dict[str, Any], number: int) -> Fault | None:
        is_it = operation == "SubmitJob" and request["jobName"].endswith(f"-{command}")
        return Refuse("ClientException", "no") if is_it else None

    site.engine.fault = fault


def accept(site: Site) -> None:
    """Let Batch accept all jobs again."""
    site.engine.fault = lambda operation, request, number: None


def test_an_interrupted_submission(site: Site, printed: Read) -> None:
    """Submitted jobs are listed; other runs are refused until it is continued or cancelled."""
    site.script.holds = {"work/first"}
    refuse(site, "near")
    site.run(code=2)
    err = printed()[1]
    assert "AWS batch SubmitJob: no (ClientException)\n2 of 4 jobs of run work-ID were" in err
    assert err.endswith(
        "repeat the same command to continue, or end the submitted jobs with "
        "`rvrun cancel work-ID`\n"
    )
    site.rvrun("status", "@latest", code=1)
    assert printed()[0].endswith(
        "work-ID: interrupted while it was submitted, 0 of 8 targets done\n"
    )
    site.rvrun("retry", "@latest", code=2)
    assert printed()[1] == (
        "rvrun: run work-ID was interrupted while it was submitted; repeat the command that "
        "submitted it to continue, or end what was submitted of it with `rvrun cancel work-ID`\n"
    )
    site.settings("attempts = 2\n")
    site.run(code=2)
    assert printed()[1] == (
        "rvrun: run work-ID was interrupted while it was submitted, and the files to submit have "
        "changed since; end what was submitted of it with `rvrun cancel work-ID`\n"
    )
    site.rvrun("cancel", "@latest")
    assert printed()[1] == "cancelled work-ID: 2 jobs ended\n"
    site.engine.wait()
    site.rvrun("status", "@latest", code=1)
    assert printed()[0].splitlines()[-1] == "work-ID: cancelled after N s, 0 of 8 targets done"
    site.script.holds = set()
    accept(site)
    site.run("--wait")


def test_continuing_an_interrupted_submission(site: Site, printed: Read) -> None:
    """The same command submits the remaining jobs, under the same run id."""
    refuse(site, "near")
    site.run(code=2)
    before = site.latest.run_id
    accept(site)
    site.run("--wait")
    assert [ledger.run_id for ledger in ledgers.all_ledgers(pathlib.Path("runs"))] == [before]
    assert len(site.engine.submitted) == 4


def test_a_cancelled_rest_is_retried(site: Site, printed: Read) -> None:
    """Jobs that were never submitted are retried with those that failed."""
    site.script.holds = {"work/first"}
    refuse(site, "near")
    site.run(code=2)
    site.rvrun("cancel", "@latest")
    site.engine.wait()
    site.script.holds = set()
    accept(site)
    printed()
    site.rvrun("retry", "@latest", "--wait")
    lines = printed()[1].splitlines()
    assert lines[0] == "submitted 8 targets of work-ID again"
    assert lines[-1] == "work-ID: succeeded after N s, 8 of 8 targets done"


def test_nothing_was_submitted_yet(site: Site, printed: Read) -> None:
    """Then there is nothing to continue, and a changed run simply starts."""
    site.moto.client("s3").delete_bucket(Bucket="bucket")
    site.run(code=2)
    assert "PutObject: The specified bucket does not exist" in printed()[1]
    site.moto.bucket()
    site.settings()
    site.run("--wait")


def test_definitions_are_checked_before_anything_is_submitted(site: Site, printed: Read) -> None:
    """All problems together; one call for each definition."""
    site.engine.add_definition("eks", eksProperties={"podProperties": {}})
    site.engine.definitions["eks"][0].pop("containerProperties")
    site.settings(
        '[batch.commands."first"]\njob_def = "no"\n[batch.commands.near]\njob_def = "eks"\n'
    )
    site.run(code=2)
    assert printed()[1] == (
        "rvrun: AWS Batch would not accept this plan, 2 problems:\n"
        "  job definition: `no` does not exist, or is not active; change the setting, or register "
        "the definition\n"
        "  job definition: `eks:1` must have `containerProperties`, but it runs on EKS; use a "
        "definition with one container that runs on ECS\n"
    )
    assert [call.operation for call in site.engine.calls] == ["DescribeJobDefinitions"] * 3
    assert not ledgers.all_ledgers(pathlib.Path("runs"))
    site.engine.definitions.pop("eks")


def test_a_retry_uses_the_definition_of_the_run(site: Site, printed: Read) -> None:
    """Its revision is in the ledger, and a newer one does not matter."""
    site.script.fails = {"work/first"}
    site.run("first", "--wait", code=1)
    revision = len(site.engine.definitions["work"])
    site.engine.add_definition("work")
    site.script.fails = set()
    site.rvrun("retry", "@latest", "--wait")
    used = [request["jobDefinition"] for request in site.engine.submitted]
    assert used == [f"work:{revision}"] * 2


# Names and folders.


def test_runs_have_names(site: Site, printed: Read) -> None:
    """Job names begin with them; a run is found by the beginning of its id."""
    site.run("first", "--run-name", "Night_1", "--wait")
    assert site.latest.run_id.startswith("Night_1-20")
    assert site.engine.submitted[0]["jobName"] == f"{site.latest.run_id}-work-first"
    printed()
    site.rvrun("status", "Nig")
    assert printed()[0].splitlines()[-1].endswith(": succeeded after N s, 1 of 1 target done")
    site.run("first", "--run-name", "no name", code=2)
    assert "run name 'no name' is not valid: " in printed()[1]


def test_a_run_directory_elsewhere(site: Site, printed: Read) -> None:
    """The commands that are suggested find it there."""
    site.script.fails = {"work/first"}
    site.run("first", "--out", "out/deep", "--wait", code=1)
    (path,) = (site.folder / "out/deep/submitted").iterdir()
    _, err = printed()
    assert f"rvrun retry out/deep/submitted/{without_ids(path.name)}\n" in err
    site.rvrun("status", "out/deep", code=1)
    site.rvrun("status", f"out/deep/submitted/{path.name}", code=1)
    site.rvrun("status", path.name, "--runs", "out", code=1)
    printed()
    site.rvrun("status", "@latest", code=2)
    assert printed()[1] == (
        "rvrun: nothing has run in the run directories in runs; start a run with `rvrun run`\n"
    )


# Many jobs.


def test_many_jobs_take_few_calls(site: Site, printed: Read) -> None:
    """A look lists and describes a hundred jobs a call; a hundred arrays say when they started."""
    names = " ".join(f"p{number}" for number in range(55))
    site.run("-a", "names", names, splits=3)
    site.engine.wait()
    site.engine.calls.clear()
    printed()
    site.rvrun("status", "@latest")
    assert printed()[0].splitlines()[-1].endswith("440 of 440 targets done")
    calls = sorted(
        (call.operation, len(call.request.get("jobs", ()))) for call in site.engine.calls
    )
    described = [("DescribeJobs", 20), ("DescribeJobs", 100), ("DescribeJobs", 100)]
    assert calls == [*described, *[("ListJobs", 0)] * (3 + 100)]
    assert len([call for call in site.engine.calls if is_about_children(call)]) == 100
    site.engine.calls.clear()
    site.rvrun("status", "@latest")
    assert len([call for call in site.engine.calls if is_about_children(call)]) == 10
    site.engine.calls.clear()
    site.rvrun("status", "@latest")
    assert site.engine.calls == []


def is_about_children(call: Any) -> bool:
    return call.operation == "ListJobs" and "arrayJobId" in call.request


def test_failed_arrays_are_looked_at_in_parallel(site: Site, printed: Read) -> None:
    """A call each, many at a time, and only once: the first failure and the starts are kept."""
    names = [f"p{number}" for number in range(24)]
    site.script.fails = {f"{name}/chip/1" for name in names}
    site.script.holds = {"hold/first"}
    site.run("-a", "names", " ".join([*names, "hold"]), splits=2)
    site.engine.wait_for(
        lambda: sum(job.status in ("SUCCEEDED", "FAILED") for job in jobs(site)) == 4 * 24
    )
    printed()
    # Without eight calls at the same time, the barrier breaks, and with it the look.
    barrier = threading.Barrier(8)

    def fault(operation: str, request: dict[str, Any], number: int) -> None:
        if operation == "ListJobs" and request.get("jobStatus") == "FAILED":
            barrier.wait(PATIENCE)

    site.engine.fault = fault
    site.engine.calls.clear()
    site.rvrun("status", "@latest", code=1)
    assert "first failure: p" in printed()[0]
    failed = [
        call
        for call in site.engine.calls
        if is_about_children(call) and call.request["jobStatus"] == "FAILED"
    ]
    # `near` fails with `chip`, split by split, and its first child that failed has no start.
    assert len(failed) == len({call.request["arrayJobId"] for call in failed}) == 48
    site.engine.calls.clear()
    site.engine.fault = lambda operation, request, number: None
    site.rvrun("status", "@latest", code=1)
    assert not [call for call in site.engine.calls if is_about_children(call)]


def test_a_look_makes_a_limited_number_of_calls(
    site: Site, printed: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out is asked at the next look."""
    from rvrun.runners.batch import children

    monkeypatch.setattr(children, "MAX_FAILURES", 3)
    monkeypatch.setattr(children, "MAX_STARTS", 5)
    names = [f"p{number}" for number in range(8)]
    site.script.fails = {f"{name}/chip/1" for name in names}
    site.script.holds = {"hold/first"}
    site.run("chip", "first", "-a", "names", " ".join([*names, "hold"]), splits=2)
    site.engine.wait_for(
        lambda: sum(job.status in ("SUCCEEDED", "FAILED") for job in jobs(site)) == 16
    )
    began = set[str]()
    for _ in range(6):
        site.engine.calls.clear()
        printed()
        site.rvrun("status", "@latest", "--json", code=1)
        state = json.loads(printed()[0])
        began |= {stage["name"] for stage in state["stages"] if stage["began"]}
        assert len([call for call in site.engine.calls if is_about_children(call)]) <= 8
    assert {f"{name}/chip" for name in names} <= began


def test_children_without_an_index(site: Site, printed: Read) -> None:
    """The member is optional; their ids end with it. So do retries and failures find them."""
    site.script.fails = {"work/chip/2"}
    site.engine.omit = ("index", "createdAt", "statusReason")
    try:
        site.run("--wait", code=1)
        assert "first failure: work/chip/2 (exit 7)" in printed()[1]
        site.script.fails = set()
        site.script.ran.clear()
        site.rvrun("retry", "@latest", "--wait")
        assert site.script.ran == ["work/chip/2", "work/near/2", "work/last"]
    finally:
        site.engine.omit = ()


def test_a_status_of_the_future(site: Site, printed: Read) -> None:
    """A state that this version does not know counts as waiting."""
    site.script.holds = {"work/first"}
    site.run("first")
    (job,) = jobs(site)
    site.engine.wait_until_running(job.id)
    job.head.status = "SNOOZING"
    try:
        printed()
        site.rvrun("status", "@latest", "--json")
        state = json.loads(printed()[0])
        assert (state["state"], state["stages"][0]["pending"]) == ("running", 1)
        assert not batch_logs._is_over({"jobId": job.id, "jobName": "", "status": "SNOOZING"})
    finally:
        job.head.status = "RUNNING"


def test_elapsed_time_begins_with_the_first_job(site: Site, printed: Read) -> None:
    """Not when the stage was submitted, and it ends only when all of the stage has."""
    site.script.holds = {"work/chip/2"}
    site.run("chip")
    site.engine.wait_for(lambda: "work/chip/2" in site.script.ran)
    (job,) = jobs(site)
    site.engine.wait_for(lambda: job.counts["SUCCEEDED"] == 2)
    job.head.created -= 3_600_000
    printed()
    site.rvrun("status", "@latest", "--json")
    (stage,) = json.loads(printed()[0])["stages"]
    assert stage["began"] * 1000 == min(child.started or 0 for child in job.children)
    assert stage["ended"] is None
    site.engine.client("batch").terminate_job(jobId=job.id, reason="x")
    site.engine.wait()
    site.rvrun("status", "@latest", "--json", code=1)
    (stage,) = json.loads(printed()[0])["stages"]
    assert stage["ended"] * 1000 == job.head.stopped


def test_parts_of_a_stage_over_the_size_of_an_array(
    site: Site, printed: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each child finds its split; a retry contains the failed splits of each part."""
    from rvrun.runners.batch import jobs as jobs_module

    monkeypatch.setattr(jobs_module, "MAX_ARRAY", 4)
    site.script.fails = {"work/chip/5", "work/chip/6"}
    site.run("--wait", code=1, splits=10)
    assert len([target for target in site.script.ran if "chip" in target]) == 10
    # The two fail in parallel, so either may be the first.
    assert re.search(r"first failure: work/chip/[56] \(exit 7\)", printed()[1])
    first = len(site.engine.submitted)
    site.script.fails = set()
    site.script.ran.clear()
    site.rvrun("retry", "@latest", "--wait")
    assert set(site.requests(first)) == {"r2-work-chip-1", "r2-work-near-1", "r2-work-last"}
    assert sorted(site.script.ran) == [
        "work/chip/5", "work/chip/6", "work/last", "work/near/5", "work/near/6"
    ]  # fmt: skip
    printed()
    site.rvrun("status", "@latest")
    assert printed()[0].splitlines()[-1].endswith("22 of 22 targets done")


# Real processes.


@pytest.fixture
def real(site: Site) -> Site:
    """A site whose jobs are processes, in an empty folder, with access to S3."""

    def execute(attempt: Attempt) -> Outcome:
        attempt.environment = {
            **attempt.environment,
            "AWS_ENDPOINT_URL_S3": site.moto.url,
        }
        return run_process(attempt, grace=0.2)

    CURRENT[0] = execute
    return site


def test_workers_find_their_code_and_their_split(real: Site, printed: Read) -> None:
    """The user's file is uploaded; the log of a failure ends with the user's traceback."""
    real.settings('attempts = 2\nenvironment = {FAIL = "1"}\n')
    real.run("first", "chip", "--wait", code=1, splits=2)
    objects = sorted(real.moto.objects())
    assert [re.sub(r"[0-9a-f]{16}", "D", key) for key in objects] == [
        "work/rvrun/code/D/work.py",
        "work/rvrun/config/work-D.json",
    ]
    printed()
    real.rvrun("logs", "@latest", "work/chip/0")
    lines = printed()[0].splitlines()
    assert lines[:2] == ["rvrun: work/chip/0 of 2, attempt 1", "chip 0 of 2, attempt 1"]
    assert lines[2].startswith("rvrun: work/chip/0 done after ")
    real.rvrun("logs", "@latest", "work/chip/1")
    lines = printed()[0].splitlines()
    assert lines[:2] == ["rvrun: work/chip/1 of 2, attempt 2", "chip 1 of 2, attempt 2"]
    assert lines[-2] == "ValueError: FAIL is set"
    assert lines[-1].startswith("rvrun: work/chip/1 failed (exit 1) after ")


def test_an_instance_that_is_taken_away(site: Site, printed: Read) -> None:
    """With `retry = "spot"` that is retried, but a failure of the command is not."""
    site.settings('attempts = 3\nretry = "spot"\n')
    script, attempts = site.script, []

    def execute(attempt: Attempt) -> Outcome | int:
        target = Script.target(attempt)
        attempts.append((target, attempt.number))
        if target == "work/chip/0" and attempt.number == 1:
            return attempt.wait_until_stopped()
        return 1 if target == "work/chip/1" else script(attempt)

    CURRENT[0] = execute
    site.run("chip", splits=2)
    site.engine.wait_for(lambda: ("work/chip/0", 1) in attempts)
    (job,) = jobs(site)
    site.engine.wait_until_running(f"{job.id}:0")
    site.engine.reclaim(f"{job.id}:0")
    site.engine.wait()
    assert sorted(attempts) == [("work/chip/0", 1), ("work/chip/0", 2), ("work/chip/1", 1)]
    printed()
    site.rvrun("status", "@latest", code=1)
    assert "first failure: work/chip/1 (exit 1)" in printed()[0]


def test_an_attempt_that_takes_too_long(site: Site, printed: Read) -> None:
    """It is ended, and not retried."""
    # So long that only this test ends it, however slow the machine is.
    site.settings("attempts = 3\ntimeout_seconds = 86400\n")
    site.script.holds = {"work/first"}
    site.run("first")
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    (job,) = jobs(site)
    assert job.spec.timeout == 86_400
    site.engine.wait_until_running(job.id)
    site.engine.time_out(job.id)
    site.engine.wait()
    printed()
    site.rvrun("status", "@latest", code=1)
    assert (
        "first failure: work/first (exit 143, SIGTERM): Job attempt duration exceeded"
        in printed()[0]
    )
    assert site.script.ran == ["work/first"]


# Interruptions and a missing network.


def test_ctrl_c_ends_the_waiting_but_not_the_run(site: Site) -> None:
    """Exit code 130; the run continues."""
    site.script.holds = {"work/first"}
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
        "no longer waiting; the run continues: rvrun status work-ID, rvrun cancel work-ID"
    )
    (job,) = jobs(site)
    site.engine.wait_until_running(job.id)


def test_waiting_survives_a_missing_network(
    site: Site, printed: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If AWS does not answer, that is reported, and rvrun looks again later."""
    monkeypatch.setattr(aws, "READ_ATTEMPTS", 1)  # so that another client is created
    lost = iter(range(2))

    def fault(operation: str, request: dict[str, Any], number: int) -> Fault | None:
        return (
            DropBefore() if operation == "DescribeJobs" and next(lost, None) is not None else None
        )

    site.engine.fault = fault
    site.run("first", "--wait")
    err = printed()[1]
    assert err.count("AWS batch DescribeJobs: ") == 2
    assert "; the run continues; retrying in" in err
    assert err.splitlines()[-1] == "work-ID: succeeded after N s, 1 of 1 target done"


# Without the ledger.


@pytest.mark.parametrize("damage", ["emptied", "removed"])
def test_a_run_goes_on_without_its_events(site: Site, printed: Read, damage: str) -> None:
    """All verbs find its jobs: nothing is started beside it, and failures are retried."""

    def lose() -> None:
        events = site.latest.folder / "events.jsonl"
        events.unlink() if damage == "removed" else events.write_bytes(b"")

    site.script.holds = {"work/chip/1"}
    site.run()
    site.engine.wait_for(lambda: "work/chip/1" in site.script.ran)
    lose()
    printed()
    site.run(code=2)
    assert "run work-ID is still running" in printed()[1]
    lose()
    site.run("chip", code=2)
    assert "run work-ID is still running" in printed()[1]
    lose()
    site.rvrun("status", "@latest")
    assert printed()[0].splitlines()[-1].startswith("work-ID: running for ")
    lose()
    site.rvrun("cancel", "@latest")
    assert printed()[1] == "cancelled work-ID: 3 jobs ended\n"
    site.engine.wait()
    lose()
    site.rvrun("status", "@latest", code=1)
    assert printed()[0].splitlines()[-1].startswith("work-ID: cancelled after ")
    lose()
    site.script.holds = set()
    site.rvrun("retry", "@latest", "--wait")
    assert len(site.engine.submitted) == 4 + 3
    assert len(ledgers.all_ledgers(pathlib.Path("runs"))) == 1


def test_a_duplicate_is_ended_and_reported(site: Site, printed: Read) -> None:
    """By any verb that looks; dependents go on with the other job."""
    site.script.holds = {"work/first"}
    site.run("first")
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    (request,) = site.engine.submitted
    site.engine.client("batch").submit_job(**request)
    first, second = jobs(site)
    second.head.created = first.head.created - 1  # the older one, but not in the ledger
    printed()
    site.rvrun("status", "@latest", "--json")
    text = f"work/first was submitted twice; job {second.id}, a duplicate of {first.id}, was ended"
    assert json.loads(printed()[0])["warnings"] == [text]
    site.engine.wait_for(lambda: second.status == "FAILED")
    assert first.status == "RUNNING"
    site.rvrun("status", "@latest")
    assert f"warning: {text}\n" in printed()[0]
    site.rvrun("cancel", "@latest")
    assert printed()[1] == f"warning: {text}\ncancelled work-ID: 1 job ended\n"


@pytest.mark.parametrize("verb", ["run", "retry", "logs"])
def test_every_verb_reports_a_duplicate_that_it_ends(site: Site, printed: Read, verb: str) -> None:
    """Also those that are about something else, once each."""
    site.script.holds = {"work/first"}
    site.run("first")
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    site.engine.client("batch").submit_job(**site.engine.submitted[0])
    first, second = jobs(site)
    text = f"work/first was submitted twice; job {second.id}, a duplicate of {first.id}, was ended"
    printed()
    if verb == "run":
        site.run("first", code=2)
    elif verb == "retry":
        site.rvrun("retry", "@latest", code=2)
    else:
        site.rvrun("logs", "@latest", "work/first")
    assert printed()[1].count(f"warning: {text}\n") == 1
    assert second.head.stop == "rvrun: submitted twice"


def test_a_retry_reports_a_duplicate(site: Site, printed: Read) -> None:
    """One that Batch lists when the run is over."""
    site.script.fails = {"work/first"}
    site.run("first", "--wait", code=1)
    site.engine.client("batch").submit_job(**site.engine.submitted[0])
    site.script.fails = set()
    printed()
    site.rvrun("retry", "@latest")
    first, second, _ = jobs(site)
    assert printed()[1].count(f"job {second.id}, a duplicate of {first.id}, ") == 1


def test_a_duplicate_that_cannot_be_ended(site: Site, printed: Read) -> None:
    """`status` still works, and says what to do."""
    site.script.holds = {"work/first"}
    site.run("first")
    site.engine.client("batch").submit_job(**site.engine.submitted[0])

    def fault(operation: str, request: dict[str, Any], number: int) -> Fault | None:
        return Refuse("AccessDeniedException") if operation == "TerminateJob" else None

    site.engine.fault = fault
    printed()
    site.rvrun("status", "@latest")
    out, _ = printed()
    assert "could not be ended (AWS batch TerminateJob: no (AccessDeniedException); add the" in out


def test_a_run_is_found_by_its_id_on_another_machine(
    site: Site, printed: Read, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    """Its state is the same as on the machine that submitted it, with retries and pipelines."""
    site.script.fails = {"r2-work/chip/1", "r2-work/chip/3"}
    site.run("-a", "names", "work r2-work", "--wait", code=1, splits=4)
    site.script.fails = {"r2-work/chip/3"}
    site.rvrun("retry", "@latest", "--wait", code=1)
    site.engine.wait()
    run_id = site.latest.run_id
    printed()
    site.rvrun("status", "@latest", "--json", code=1)
    here = json.loads(printed()[0])
    settings = (site.folder / "rvrun.toml").read_text()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    (elsewhere / "rvrun.toml").write_text(settings)
    site.rvrun("status", "--run-id", run_id, "--json", code=1)
    there = json.loads(printed()[0])
    assert here["state"] == there["state"] == "failed"
    assert abs(here["began"] - there["began"]) < 60
    assert {**there, "began": here["began"], "stages": None} == {**here, "stages": None}
    by_name = {stage["name"]: stage for stage in there["stages"]}
    assert by_name == {stage["name"]: stage for stage in here["stages"]}
    assert [path.name for path in elsewhere.iterdir()] == ["rvrun.toml"]
    site.rvrun("status", "--run-id", "work-20200101-000000-abcdef01", code=2)
    assert "no job of run work-ID in the job queues of region us-east-1: `cpu`" in printed()[1]
    for words in (["--run-id", "x", "--watch"], ["--runner", "batch"]):
        site.rvrun("status", *words, code=2)


# Disks that are full or read-only.


def rvrun_in(site: Site, limit: Callable[[], None], *words: str) -> tuple[int, str, str]:
    """Call rvrun in a process of its own that `limit` restricts."""
    done = subprocess.run(
        ["rvrun", *words],
        cwd=site.folder,
        env=unmeasured_environment(**site.variables),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    return done.returncode, without_ids(done.stdout), without_ids(done.stderr)


@pytest.fixture(params=["full", "read-only"])
def limit(request: pytest.FixtureRequest, site: Site) -> Iterator[Callable[[], None]]:
    """A restriction under which nothing can be written to the run directory."""
    if request.param == "full":
        yield fill_disk
        return
    yield obey_modes
    unprotect(site.folder / "runs")


def test_a_run_is_followed_and_cancelled_without_writing(
    site: Site, limit: Callable[[], None]
) -> None:
    """On a full disk and in a read-only directory; the ledger stays as it is."""
    site.script.holds = {"work/first"}
    site.run("first")
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    events = site.latest.folder / "events.jsonl"
    content = events.read_bytes()
    if limit is obey_modes:
        protect(site.folder / "runs")
    code, out, err = rvrun_in(site, limit, "status", "@latest")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "work-ID: running for N s, 0 of 1 target done"
    assert rvrun_in(site, limit, "cancel", "@latest") == (0, "", "cancelled work-ID: 1 job ended\n")
    site.engine.wait()
    for verb in (["status", "@latest"], ["status", "@latest", "--watch"]):
        code, out, err = rvrun_in(site, limit, *verb)
        assert code == 1
        assert "work-ID: cancelled after N s, 0 of 1 target done\n" in (out + err)
    assert events.read_bytes() == content


def test_waiting_attaches_without_writing(site: Site, limit: Callable[[], None]) -> None:
    """`run --wait` repeated, on a full disk and in a read-only directory."""
    site.script.holds = {"work/first"}
    site.run("first")
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    (job,) = jobs(site)
    if limit is obey_modes:
        protect(site.folder / "runs")
    site.at_look(3, lambda: site.engine.client("batch").terminate_job(jobId=job.id, reason="x"))
    words = ("run", "batch", "work.py", "--splits", "3", "first", "--wait")
    code, out, err = rvrun_in(site, limit, *words)
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == "waiting for work-ID"
    assert err.splitlines()[-1] == "work-ID: failed after N s, 0 of 1 target done"
    assert len(site.engine.submitted) == 1


@pytest.mark.parametrize(
    ("fact", "value", "problem"),
    [
        ("listing_delay", "long", "`listing_delay` must be a number of at least 0, got 'long'"),
        ("listing_delay", -1, "`listing_delay` must be a number of at least 0, got -1"),
        ("definitions", ["work:1"], "`definitions` must be an object of strings"),
        ("definitions", {"work": 1}, "`definitions` must be an object of strings"),
    ],
)
def test_damaged_facts(site: Site, printed: Read, fact: str, value: object, problem: str) -> None:
    """What run.json says of a run is checked where it is used."""
    site.run("first", "--wait")
    path = site.latest.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), fact: value}))
    printed()
    site.rvrun("cancel", "@latest", code=2)
    assert f"run.json: {problem}" in printed()[1]


def test_nothing_is_submitted_on_a_full_disk(site: Site, printed: Read) -> None:
    """The error names the file, what was submitted and what to do, which then works."""
    refuse(site, "first")
    site.run(code=2)
    before = site.engine.count("SubmitJob")
    accept(site)
    events = site.latest.folder / "events.jsonl"
    size = events.stat().st_size

    def fill() -> None:
        # The first half of an intention can still be written.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60, size + 60))

    # The files of the run directory are up to date, so only the ledger is written.
    code, out, err = rvrun_in(site, fill, "run", "batch", "work.py", "--splits", "3")
    assert (code, out) == (2, "")
    assert err == (
        f"rvrun: cannot write to {site.folder}/runs/work/submitted/work-ID/events.jsonl: File too "
        "large; free disk space, or make the directory writable\n"
        "0 of 4 jobs of run work-ID were submitted\n"
        "repeat the same command to continue, or end the submitted jobs with `rvrun cancel "
        "work-ID`\n"
    )
    assert site.engine.count("SubmitJob") == before
    site.run("--wait")
    assert len(site.engine.submitted) == 4


def test_waiting_attaches_to_a_run_in_progress(site: Site, printed: Read) -> None:
    """`run --wait` repeated waits for the run; with other files it is refused as before."""
    site.script.holds = {"work/first"}
    site.run("first")
    site.engine.wait_for(lambda: "work/first" in site.script.ran)
    printed()
    site.run("chip", "--wait", code=2)
    assert "run work-ID is still running" in printed()[1]
    (job,) = jobs(site)
    site.at_look(2, lambda: site.engine.client("batch").terminate_job(jobId=job.id, reason="x"))
    site.run("first", "--wait", code=1)
    lines = printed()[1].splitlines()
    assert lines[0] == "waiting for work-ID"
    assert lines[-1] == "work-ID: failed after N s, 0 of 1 target done"
    assert len(site.engine.submitted) == 1


def raise_error(error: Exception) -> None:
    raise error


def test_expired_credentials_end_the_waiting(
    site: Site, printed: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that will not go away by itself is reported immediately."""
    site.script.holds = {"work/first"}
    site.run("first")
    expired = aws.Refused("batch", "DescribeJobs", "ExpiredToken", "no")
    monkeypatch.setattr(aws.Client, "call", lambda *args, **params: raise_error(expired))
    printed()
    site.rvrun("status", "@latest", "--watch", code=2)
    assert printed()[1] == "rvrun: AWS batch DescribeJobs: no (ExpiredToken); log in again\n"


def test_submitted_requests_are_those_in_the_ledger(site: Site) -> None:
    """The ledger contains the specs of the round, in the order of submission."""
    site.run("--wait")
    folder = site.latest.round_folder(1) / FOLDER
    names = [
        json.loads(path.read_text())["jobName"].removeprefix("${run}-")
        for path in sorted(folder.glob("[0-9]*.json"))
    ]
    assert list(site.requests()) == names


def test_a_report_has_when_each_target_ran(site: Site, printed: Read) -> None:
    """In the last attempt of each, across rounds; what never started says why."""
    site.script.fails = {"work/chip/1"}
    site.run("--wait", code=1)
    site.rvrun("report", "@latest", "--html", "report.html", "--trace", "trace.json")
    page = (site.folder / "report.html").read_text(encoding="utf-8")
    for text in (
        "AWS Batch does not report how much memory",
        '<b class="failed">work/chip/1</b> (exit 7)',
        "work/chip/1 fails",
        '<b class="failed">work/last</b> <span class="muted">was not started; ',
    ):
        assert text in page
    ran = spans(site.folder / "trace.json")
    chips = {f"work/chip/{split}" for split in range(3)}
    assert set(ran) == {"work/first", *chips, "work/near/0", "work/near/2"}
    assert {name for name, event in ran.items() if event["args"]["state"] == "failed"} == {
        "work/chip/1"
    }

    site.script.fails = set()
    site.rvrun("retry", "@latest", "--wait")
    site.rvrun("report", "@latest", "--trace", "trace.json")
    again = spans(site.folder / "trace.json")
    assert len(again) == 8
    assert {event["args"]["state"] for event in again.values()} == {"succeeded"}
    # The splits that had succeeded did not run again.
    assert again["work/chip/1"]["ts"] > ran["work/chip/0"]["ts"] + ran["work/chip/0"]["dur"]

    # The ledger has no plan; that of another run must not be mixed with it.
    site.rvrun("render", "batch", "work.py", "--splits", "2")
    printed()
    site.rvrun("report", "@latest", "--trace", "other.json", code=2)
    assert "is no longer the plan of run work-ID, which had 2 other targets: " in printed()[1]
    assert not (site.folder / "other.json").exists()


def spans(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The complete events of a trace, by target."""
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return {event["name"]: event for event in events if event["ph"] == "X"}


def test_a_run_is_summarized_for_estimates(site: Site, printed: Read) -> None:
    """From the times that Batch reports of targets that succeeded; nothing else is made up."""
    site.script.fails, site.script.seconds = {"work/chip/1"}, 0.05
    site.run("--wait", code=1)
    site.rvrun("records", "summary", "@latest")
    stages = json.loads((site.folder / "estimates.json").read_text(encoding="utf-8"))["stages"]
    assert {name: stage["targets"] for name, stage in stages.items()} == {
        "work/first": 1,
        "work/chip": 2,
        "work/near": 2,
    }
    assert all(stage["by_split"]["mean"] >= 0.04 for stage in stages.values())
    assert all(stage["cpus"] is None for stage in stages.values())
    printed()
    site.rvrun("plan", "work.py", "--splits", "3", "--estimate", "--runner", "batch")
    out, _ = printed()
    assert "2 targets in estimates.json" in out
    assert "no data: work/last" in out


def test_a_report_of_many_children(site: Site) -> None:
    """A hundred are described in one call."""
    site.script.fails = {"work/chip/249"}
    site.run("chip", "--wait", code=1, splits=250)
    before = site.engine.count("DescribeJobs")
    site.rvrun("report", "@latest", "--trace", "trace.json")
    assert len(spans(site.folder / "trace.json")) == 250
    assert site.engine.count("DescribeJobs") - before <= 6
