"""The engine follows AWS Batch's documentation, as seen by boto3 over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import botocore.exceptions
import psutil
import pytest

from tests.engines import faults
from tests.engines.attempts import Attempt, Outcome
from tests.engines.batch import BatchEngine
from tests.engines.batch_rules import Retry

Json = dict[str, Any]
REASON = "no longer wanted"


class Region:
    """An engine with two queues and a definition, and shortcuts."""

    def __init__(self, engine: BatchEngine) -> None:
        self.engine = engine
        engine.add_queue("cpu")
        engine.add_queue("fair", fair_share=True)
        engine.add_definition("work", command=["true"])
        self.batch = engine.client("batch")
        self.logs = engine.client("logs")

    def submit(self, name: str, *needs: str, size: int | None = None, **more: Any) -> str:
        """Submit a job and return its id; a need is an id, or `=id` for N_TO_N."""
        request = {"jobName": name, "jobQueue": "cpu", "jobDefinition": "work", **more}
        if size is not None:
            request["arrayProperties"] = {"size": size}
        if needs:
            request["dependsOn"] = [
                {"jobId": need.lstrip("="), **({"type": "N_TO_N"} if need[0] == "=" else {})}
                for need in needs
            ]
        return str(self.batch.submit_job(**request)["jobId"])

    def run(self, name: str, script: str, *needs: str, **more: Any) -> str:
        """Submit a shell script."""
        return self.submit(
            name, *needs, containerOverrides={"command": ["sh", "-c", script]}, **more
        )

    def describe(self, *ids: str) -> list[Json]:
        jobs: list[Json] = self.batch.describe_jobs(jobs=list(ids))["jobs"]
        return jobs

    def status(self, job_id: str) -> str:
        return str(self.describe(job_id)[0]["status"])

    def children(self, job_id: str) -> list[str]:
        """The children's states, by index."""
        size = self.describe(job_id)[0]["arrayProperties"]["size"]
        return [child["status"] for child in self.describe(*(f"{job_id}:{i}" for i in range(size)))]

    def names(self, **request: Any) -> list[str]:
        return [job["jobName"] for job in self.batch.list_jobs(**request)["jobSummaryList"]]

    def lines(self, job_id: str) -> list[str]:
        """The lines that the last attempt printed."""
        stream = self.describe(job_id)[0]["container"]["logStreamName"]
        events = self.events(stream, startFromHead=True)["events"]
        return [event["message"] for event in events]

    def events(self, stream: str, **more: Any) -> Json:
        request = {"logGroupName": "/aws/batch/job", "logStreamName": stream, **more}
        page: Json = self.logs.get_log_events(**request)
        return page


Start = Callable[..., Region]


@pytest.fixture
def start(processes: None) -> Iterator[Start]:
    """Starts engines."""
    engines: list[BatchEngine] = []

    def begin(**options: Any) -> Region:
        engines.append(BatchEngine(**options))
        return Region(engines[-1])

    yield begin
    for engine in engines:
        engine.close()


@pytest.fixture
def region(start: Start) -> Region:
    """Jobs run as processes."""
    return start()


@pytest.fixture
def frozen(start: Start) -> Region:
    """Jobs stay RUNNABLE."""
    region = start()
    region.engine.freeze("cpu")
    return region


def error(call: Callable[..., object], *args: Any, **kwargs: Any) -> tuple[int, str, str]:
    """The HTTP status, code and message of the error that a call raises."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*args, **kwargs)
    response = caught.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["Error"]["Code"], response["Error"]["Message"]


def wait_until_dead(pid: int) -> None:
    """Wait until the process is gone, or a zombie that init has not reaped yet."""
    while psutil.pid_exists(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        time.sleep(0.01)


# Submitting.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jobName": "-a"}, "Job name should match"),
        ({"jobName": "a.b"}, "Job name should match"),
        ({"jobName": "a" * 129}, "Job name should match"),
        ({"jobName": ""}, "Job name should match"),
        ({"jobQueue": "no"}, "JobQueue no not found"),
        ({"jobDefinition": "no"}, "JobDefinition no not found"),
        ({"jobDefinition": "work:2"}, "JobDefinition work:2 not found"),
        ({"arrayProperties": {"size": 1}}, "between 2 and 10000, got 1"),
        ({"arrayProperties": {"size": 10_001}}, "between 2 and 10000, got 10001"),
        ({"dependsOn": [{"jobId": "no"}]}, "Job dependency no does not exist"),
        ({"dependsOn": [{"jobId": "no:1"}]}, "Job dependency no:1 does not exist"),
        ({"dependsOn": [{}]}, "needs a job id"),
        ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "needs an array job"),
        ({"dependsOn": [{"jobId": "x"}] * 21}, "cannot have more than 20 dependencies"),
        ({"containerOverrides": {"command": ["a", ""]}}, "empty strings"),
        ({"containerOverrides": {"environment": [{"name": "A", "value": ""}]}}, "empty strings"),
        (
            {"containerOverrides": {"resourceRequirements": [{"type": "CPU", "value": "1"}]}},
            "must be one of VCPU, MEMORY, GPU",
        ),
        (
            {"containerOverrides": {"resourceRequirements": [{"type": "GPU", "value": "0"}]}},
            "must be a positive number",
        ),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10, got 11"),
        ({"retryStrategy": {"attempts": 0}}, "between 1 and 10, got 0"),
        (
            {"retryStrategy": {"evaluateOnExit": [{"action": "RETRY"}]}},
            "evaluateOnExit needs attempts",
        ),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT"}] * 6}},
            "at most 5 entries, got 6",
        ),
        (
            {
                "retryStrategy": {
                    "attempts": 2,
                    "evaluateOnExit": [{"action": "EXIT", "onReason": "a*b"}],
                }
            },
            "invalid pattern: 'a*b'",
        ),
        ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60, got 59"),
        ({"tags": {f"k{i}": "v" for i in range(51)}}, "more than 50 tags"),
        ({"tags": {"aws:x": "v"}}, "tag key 'aws:x' is invalid"),
        ({"shareIdentifier": "team"}, "must not be specified"),
        ({"jobQueue": "fair"}, "must be specified"),
        (
            {
                "jobQueue": "fair",
                "shareIdentifier": "team",
                "schedulingPriorityOverride": 10_000,
            },
            "between 0 and 9999, got 10000",
        ),
        ({"parameters": {"a": "x" * 31_000}}, "Job size must be less than 30 KiB, got 30 KiB"),
    ],
)
def test_refusals(frozen: Region, change: Json, message: str) -> None:
    """What the service refuses immediately raises a ClientException and creates no job."""
    request = {"jobName": "a", "jobQueue": "cpu", "jobDefinition": "work", **change}
    status, code, text = error(frozen.batch.submit_job, **request)
    assert (status, code) == (400, "ClientException")
    assert message in text
    assert frozen.engine.submitted == []


@pytest.mark.parametrize(
    "change",
    [
        {"jobName": "a" * 128},
        {"jobName": "0_-"},
        {"arrayProperties": {"size": 10_000}},
        {"dependsOn": [{"type": "SEQUENTIAL"}], "arrayProperties": {"size": 2}},
        {"tags": {f"k{i}": "" for i in range(50)}},
        {"jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/cpu"},
        {"jobDefinition": "work:1"},
        {"jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/work:1"},
        {"jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/work"},
        {"jobQueue": "fair", "shareIdentifier": "team*", "schedulingPriorityOverride": 9999},
    ],
)
def test_what_is_within_limits_is_accepted(frozen: Region, change: Json) -> None:
    """Each limit itself is allowed; queues and definitions have names and ARNs."""
    request = {"jobName": "a", "jobQueue": "cpu", "jobDefinition": "work", **change}
    frozen.batch.submit_job(**request)
    assert [request] == frozen.engine.submitted


def test_aligned_arrays_have_one_size(frozen: Region) -> None:
    """N_TO_N is refused between arrays of different sizes, and for a plain job."""
    first = frozen.submit("first", size=3)
    assert "arrays of one size: 2 and 3" in error(frozen.submit, "b", f"={first}", size=2)[2]
    assert "N_TO_N dependency needs an array" in error(frozen.submit, "b", f"={first}")[2]


def test_gpus_are_not_on_fargate(frozen: Region) -> None:
    """A GPU is refused where the definition is for Fargate."""
    frozen.engine.add_definition("serverless", fargate=True)
    gpu = {"resourceRequirements": [{"type": "GPU", "value": "1"}]}
    _, _, text = error(frozen.submit, "a", jobDefinition="serverless", containerOverrides=gpu)
    assert "not supported on Fargate" in text
    frozen.submit("a", containerOverrides=gpu)


def test_a_disabled_queue_accepts_nothing(frozen: Region) -> None:
    """An inactive definition counts as missing."""
    frozen.engine.add_queue("off", state="DISABLED")
    frozen.batch.deregister_job_definition(jobDefinition="work:1")
    assert "not found" in error(frozen.submit, "a")[2]
    frozen.engine.add_definition("work")
    assert "not enabled" in error(frozen.submit, "a", jobQueue="off")[2]


def overrides(length: int) -> Json:
    """Overrides of that length as compact JSON."""
    empty = len(json.dumps({"command": ["echo", ""]}, separators=(",", ":")))
    return {"command": ["echo", "x" * (length - empty)]}


def test_overlong_overrides_fail_later(region: Region) -> None:
    """A job with 8,192 characters runs; with 8,193 it is accepted but fails without an attempt."""
    good = region.submit("good", containerOverrides=overrides(8192))
    bad = region.submit("bad", containerOverrides=overrides(8193), retryStrategy={"attempts": 3})
    array = region.submit("array", size=2, containerOverrides=overrides(8193))
    region.engine.wait()
    assert region.status(good) == "SUCCEEDED"
    (job,) = region.describe(bad)
    assert (
        job["status"],
        job["statusReason"],
        job["attempts"],
    ) == ("FAILED", "Container Overrides length must be at most 8192", [])
    assert (region.children(array), region.status(array)) == (["FAILED", "FAILED"], "FAILED")


# States and dependencies.


def test_a_job_goes_through_its_states(frozen: Region) -> None:
    """A job without needs is never PENDING; one with needs is."""
    first = frozen.submit("first")
    frozen.submit("second", first)
    frozen.engine.thaw("cpu")
    frozen.engine.wait()
    passed: dict[str, list[str]] = {}
    for job_id, status in frozen.engine.scheduler.transitions:
        passed.setdefault(frozen.engine.jobs[job_id].name, []).append(status)
    ran = ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    assert {"first": ["SUBMITTED", *ran], "second": ["SUBMITTED", "PENDING", *ran]} == passed


def test_a_job_waits_for_a_whole_array(region: Region) -> None:
    """It starts after the last child; the array's head never runs."""
    array = region.run("array", "sleep 0.0$AWS_BATCH_JOB_ARRAY_INDEX", size=4)
    after = region.submit("after", array)
    region.engine.wait()
    # In their order, not by the clock, which may be set back.
    transitions = region.engine.scheduler.transitions
    ends = [transitions.index((f"{array}:{i}", "SUCCEEDED")) for i in range(4)]
    assert transitions.index((after, "STARTING")) > max(ends)
    (job,) = region.describe(after)
    assert job["startedAt"]
    states = {status for job_id, status in transitions if job_id == array}
    assert {"SUBMITTED", "PENDING", "SUCCEEDED"} == states


def test_an_array_has_no_children_at_first(frozen: Region) -> None:
    """Children are created when the jobs that the array waits for as a whole are done."""
    first = frozen.submit("first")
    array = frozen.submit("array", first, size=3)
    (job,) = frozen.describe(array)
    assert (job["status"], sum(job["arrayProperties"]["statusSummary"].values())) == ("PENDING", 0)
    assert frozen.describe(f"{array}:0") == []
    frozen.engine.thaw("cpu")
    frozen.engine.wait()
    (job,) = frozen.describe(array)
    assert job["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 3


def test_a_failed_need_fails_what_waits_for_it(region: Region) -> None:
    """Plain jobs and arrays that wait for it fail without running, and so do their dependents."""
    first = region.run("first", "exit 3")
    array = region.submit("array", first, size=2)
    aligned = region.submit("aligned", f"={array}", size=2)
    last = region.submit("last", aligned)
    region.engine.wait()
    (job,) = region.describe(first)
    assert (job["status"], job["container"]["exitCode"]) == ("FAILED", 3)
    assert [
        (job["status"], job["statusReason"], job["attempts"])
        for job in region.describe(array, last)
    ] == [("FAILED", "Dependent Job failed", [])] * 2
    assert region.children(aligned) == ["FAILED", "FAILED"]
    late = region.submit("late", first)
    assert region.status(late) == "FAILED"


def test_aligned_children_fail_one_by_one(region: Region) -> None:
    """N_TO_N: a child waits for, and fails with, the child of its index."""
    first = region.run("first", "exit $((AWS_BATCH_JOB_ARRAY_INDEX == 1))", size=3)
    second = region.submit("second", f"={first}", size=3)
    third = region.submit("third", f"={second}", size=3)
    after = region.submit("after", third)
    region.engine.wait()
    for array in (first, second, third):
        assert region.children(array) == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
        assert region.status(array) == "FAILED"
    assert region.status(after) == "FAILED"
    (head, child) = region.describe(third, f"{third}:1")
    assert head["statusReason"] == "Array Child Job failed"
    assert (child["statusReason"], child["attempts"]) == ("Dependent Job failed", [])


def test_an_aligned_child_runs_before_its_array_is_done(start: Start) -> None:
    """Child 1 of the second array runs while child 0 of the first still does."""
    gate = threading.Event()

    def execute(attempt: Attempt) -> int:
        if attempt.job_name == "first" and attempt.index == 0:
            assert gate.wait(60)
        return 0

    region = start(execute=execute)
    first = region.submit("first", size=2)
    second = region.submit("second", f"={first}", size=2)
    whole = region.submit("whole", f"={first}", region.submit("quick"), size=2)
    child, other = region.engine.unit(f"{second}:1"), region.engine.jobs[whole]
    region.engine.wait_for(lambda: child.ended and other.counts["SUCCEEDED"] == 1)
    assert region.children(second) == ["PENDING", "SUCCEEDED"]
    assert region.children(whole) == ["PENDING", "SUCCEEDED"]
    gate.set()
    region.engine.wait()
    assert {"SUCCEEDED"} == set(region.engine.statuses().values())


def test_sequential_children_run_one_after_the_other(start: Start) -> None:
    """They run by index; after a failure the others fail, however long the array is."""
    ran: list[int | None] = []

    def execute(attempt: Attempt) -> int:
        ran.append(attempt.index)
        return 1 if attempt.index == 3 else 0

    region = start(execute=execute)
    array = region.submit("array", size=10_000, dependsOn=[{"type": "SEQUENTIAL"}])
    region.engine.wait()
    assert ran == [0, 1, 2, 3]
    assert {state: count for state, count in region.engine.jobs[array].counts.items() if count} == {
        "SUCCEEDED": 3,
        "FAILED": 9_997,
    }


def test_twenty_thousand_children(start: Start) -> None:
    """Each child of two aligned arrays of maximum size runs once."""
    ran: list[tuple[str, int | None]] = []

    def execute(attempt: Attempt) -> int:
        ran.append((attempt.job_name, attempt.index))
        return 0

    region = start(execute=execute)
    first = region.submit("first", size=10_000)
    region.submit("second", f"={first}", size=10_000)
    region.engine.wait()
    expected = {(name, index) for name in ("first", "second") for index in range(10_000)}
    assert (20_000, expected) == (len(ran), set(ran))
    page = region.batch.list_jobs(arrayJobId=first, jobStatus="SUCCEEDED")
    assert (1000, "nextToken" in page) == (len(page["jobSummaryList"]), True)


# Attempts.


@pytest.mark.parametrize(
    ("conditions", "again"),
    [
        ([], True),
        ([{"action": "EXIT", "onReason": "*"}], False),
        ([{"action": "RETRY", "onStatusReason": "Host EC2*"}], True),
        (
            [
                {"action": "RETRY", "onStatusReason": "Host EC2*"},
                {"action": "EXIT", "onReason": "*"},
            ],
            False,
        ),
        ([{"action": "exit", "onExitCode": "3"}], False),
        ([{"action": "EXIT", "onExitCode": "3*"}], False),
        ([{"action": "EXIT", "onExitCode": "30"}], True),
        ([{"action": "EXIT", "onExitCode": "3", "onReason": "OutOfMemory*"}], True),
        ([{"action": "RETRY", "onExitCode": "3"}, {"action": "EXIT", "onReason": "*"}], True),
    ],
)
def test_conditions_of_a_retry(conditions: list[Json], again: bool) -> None:
    """The first entry whose patterns all match decides; without a match the job is retried."""
    retry = Retry(2, tuple(conditions))
    assert again == retry.again(1, Outcome(3))
    assert not retry.again(2, Outcome(3))


def test_attempts(region: Region) -> None:
    """A failed attempt is followed by another, which has its number and its own log."""
    script = "echo attempt $AWS_BATCH_JOB_ATTEMPT; exit $((3 - AWS_BATCH_JOB_ATTEMPT))"
    job_id = region.run("job", script, retryStrategy={"attempts": 5})
    region.engine.wait()
    (job,) = region.describe(job_id)
    attempts = job["attempts"]
    assert (
        job["status"],
        [attempt["container"]["exitCode"] for attempt in attempts],
    ) == ("SUCCEEDED", [2, 1, 0])
    streams = [attempt["container"]["logStreamName"] for attempt in attempts]
    assert [
        [event["message"] for event in region.events(stream)["events"]] for stream in streams
    ] == [["attempt 1"], ["attempt 2"], ["attempt 3"]]
    assert streams[-1] == job["container"]["logStreamName"]


def test_a_definition_has_defaults(region: Region) -> None:
    """Its command, environment, attempts and parameters apply unless the request has its own."""
    region.engine.add_definition(
        "more",
        command=["sh", "-c", 'echo "$A $B $0"; exit 1', "Ref::word"],
        environment={"A": "1", "B": "2"},
        parameters={"word": "one"},
        retryStrategy={"attempts": 2},
    )
    job_id = region.submit(
        "job",
        jobDefinition="more",
        parameters={"word": "two"},
        containerOverrides={"environment": [{"name": "B", "value": "3"}]},
    )
    region.engine.wait()
    assert (
        region.lines(job_id),
        len(region.describe(job_id)[0]["attempts"]),
    ) == (["1 3 two"], 2)


SPOT = {
    "attempts": 3,
    "evaluateOnExit": [
        {"action": "RETRY", "onStatusReason": "Host EC2*"},
        {"action": "EXIT", "onReason": "*"},
    ],
}


def test_a_reclaimed_host(region: Region) -> None:
    """Its job ends without an exit code; a strategy can retry it but not a failed command."""
    script = "test $AWS_BATCH_JOB_ATTEMPT = 1 && exec sleep 60; exit 7"
    job_id = region.run("job", script, retryStrategy=SPOT)
    region.engine.wait_until_running(job_id)
    region.engine.reclaim(job_id)
    region.engine.wait()
    (job,) = region.describe(job_id)
    first, second = job["attempts"]
    assert first["statusReason"].startswith("Host EC2 (instance i-")
    assert first["statusReason"].endswith(") terminated.")
    assert "exitCode" not in first["container"]
    assert (job["status"], second["container"]["exitCode"]) == ("FAILED", 7)


def test_a_command_that_cannot_start(region: Region) -> None:
    """It has no exit code and no log, and its reason names the command."""
    job_id = region.submit("job", containerOverrides={"command": ["no-such-command"]})
    region.engine.wait()
    (job,) = region.describe(job_id)
    assert (job["status"], job["statusReason"]) == ("FAILED", "Task failed to start")
    assert "no-such-command" in job["container"]["reason"]
    assert "exitCode" not in job["container"]
    stream = job["container"]["logStreamName"]
    assert error(region.events, stream)[1] == "ResourceNotFoundException"


def test_a_timeout_is_not_retried(start: Start) -> None:
    """Each attempt may take that long; when it takes longer, the job fails permanently."""
    region = start(second=0.001)
    timeout = {"attemptDurationSeconds": 60}
    job_id = region.run("job", "exec sleep 60", timeout=timeout, retryStrategy={"attempts": 3})
    region.engine.wait()
    (job,) = region.describe(job_id)
    assert (
        job["status"],
        job["statusReason"],
        len(job["attempts"]),
    ) == ("FAILED", "Job attempt duration exceeded timeout", 1)


# Processes.


def test_the_environment_of_a_job(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has variables of Batch, of the request, and for AWS; none of the engine's process."""
    monkeypatch.setenv("RVRUN_SECRET", "x")
    variables = [{"name": "A", "value": "b c"}, {"name": "AWS_BATCH_JOB_ID", "value": "forged"}]
    command = {"command": ["env"], "environment": variables}
    plain = region.submit("plain", containerOverrides=command)
    array = region.submit("array", size=2, containerOverrides=command)
    region.engine.wait()
    printed = dict(line.split("=", 1) for line in region.lines(plain))
    assert "AWS_BATCH_JOB_ARRAY_INDEX" not in printed
    assert "RVRUN_SECRET" not in printed
    assert (plain, "1", "cpu", "b c", region.engine.url) == (
        printed["AWS_BATCH_JOB_ID"],
        printed["AWS_BATCH_JOB_ATTEMPT"],
        printed["AWS_BATCH_JQ_NAME"],
        printed["A"],
        printed["AWS_ENDPOINT_URL_BATCH"],
    )
    printed = dict(line.split("=", 1) for line in region.lines(f"{array}:1"))
    assert (f"{array}:1", "1", "2") == (
        printed["AWS_BATCH_JOB_ID"],
        printed["AWS_BATCH_JOB_ARRAY_INDEX"],
        printed["AWS_BATCH_JOB_ARRAY_SIZE"],
    )


def test_a_job_has_an_empty_folder_of_its_own(region: Region) -> None:
    """The folder is deleted when the job has ended."""
    job_id = region.run("job", "ls -A; pwd")
    region.engine.wait()
    (folder,) = region.lines(job_id)
    assert not os.path.exists(folder)


def test_slots_limit_running_jobs(start: Start) -> None:
    """No more jobs run at once than there are slots."""
    now, most = 0, 0
    lock = threading.Lock()

    def execute(attempt: Attempt) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.001)
        with lock:
            now -= 1
        return 0

    region = start(execute=execute, slots=3)
    region.submit("array", size=50)
    region.engine.wait()
    assert 1 <= most <= 3


def test_what_a_job_leaves_behind_is_killed(region: Region, tmp_path: pathlib.Path) -> None:
    """A container's processes are killed when its first one ends."""
    job_id = region.run("job", f"sleep 60 & echo $! >{tmp_path}/pid")
    region.engine.wait()
    assert region.status(job_id) == "SUCCEEDED"
    wait_until_dead(int((tmp_path / "pid").read_text()))


# Ending.


def test_terminate(region: Region) -> None:
    """The whole process group gets SIGTERM; the job fails with that reason and is not retried."""
    script = "trap 'echo ended; exit 0' TERM; echo ready; sleep 60 & wait"
    job_id = region.run("job", script, retryStrategy={"attempts": 3})
    after = region.submit("after", job_id)
    streams = region.engine.logs.streams
    region.engine.wait_until_running(job_id)
    while not any(events for events in streams.values()):
        time.sleep(0.01)
    region.batch.terminate_job(jobId=job_id, reason=REASON)
    region.engine.wait()
    (job, dependent) = region.describe(job_id, after)
    assert (
        job["status"],
        job["statusReason"],
        job["isTerminated"],
        len(job["attempts"]),
    ) == ("FAILED", REASON, True, 1)
    assert region.lines(job_id) == ["ready", "ended"]
    assert dependent["statusReason"] == "Dependent Job failed"


def test_terminate_kills_in_the_end(start: Start) -> None:
    """A process that ignores SIGTERM is killed."""
    region = start(grace=0.05)
    job_id = region.run("job", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    while not any(region.engine.logs.streams.values()):
        time.sleep(0.01)
    region.batch.terminate_job(jobId=job_id, reason=REASON)
    region.engine.wait()
    assert region.describe(job_id)[0]["container"]["exitCode"] == 128 + signal.SIGKILL


def test_terminate_an_array(start: Start) -> None:
    """Running children end, others never start; the head has the reason."""
    region = start(execute=Attempt.wait_until_stopped)
    array = region.submit("array", size=5)
    region.engine.wait_for(lambda: region.engine.jobs[array].counts["RUNNING"] == 2)
    region.batch.terminate_job(jobId=array, reason=REASON)
    region.engine.wait()
    (head,) = region.describe(array)
    assert (head["status"], head["statusReason"]) == ("FAILED", REASON)
    assert [
        len(child["attempts"]) for child in region.describe(*(f"{array}:{i}" for i in range(5)))
    ] == [1, 1, 0, 0, 0]


def test_terminate_one_child(start: Start) -> None:
    """The other children continue."""
    region = start(execute=Attempt.wait_until_stopped)
    array = region.submit("array", size=2)
    region.engine.wait_for(lambda: region.engine.jobs[array].counts["RUNNING"] == 2)
    region.batch.terminate_job(jobId=f"{array}:0", reason=REASON)
    region.engine.wait_for(lambda: region.engine.jobs[array].counts["FAILED"] == 1)
    assert region.children(array) == ["FAILED", "RUNNING"]
    assert region.status(array) == "PENDING"


def test_a_cancelled_pending_job_waits_for_its_needs(frozen: Region) -> None:
    """A cancelled RUNNABLE job fails immediately, a PENDING one once its dependencies ended."""
    first = frozen.submit("first")
    second = frozen.submit("second", first)
    frozen.batch.cancel_job(jobId=second, reason=REASON)
    (job,) = frozen.describe(second)
    assert (job["status"], job["isCancelled"]) == ("PENDING", True)
    frozen.batch.cancel_job(jobId=first, reason=REASON)
    assert [(job["status"], job["statusReason"]) for job in frozen.describe(first, second)] == [
        ("FAILED", REASON)
    ] * 2


def test_cancel_does_not_affect_running_jobs(start: Start) -> None:
    """CancelJob succeeds and does nothing to a running job."""
    region = start(execute=Attempt.wait_until_stopped)
    job_id = region.submit("job")
    region.engine.wait_until_running(job_id)
    region.batch.cancel_job(jobId=job_id, reason=REASON)
    (job,) = region.describe(job_id)
    assert (job["status"], "isCancelled" in job) == ("RUNNING", False)


def test_terminating_a_job_that_has_ended(region: Region) -> None:
    """Nothing happens; terminating an unknown or forgotten job is refused."""
    job_id = region.submit("job")
    region.engine.wait()
    region.batch.terminate_job(jobId=job_id, reason=REASON)
    assert region.status(job_id) == "SUCCEEDED"
    region.engine.forget(job_id)
    assert region.describe(job_id) == []
    assert "does not exist" in error(region.batch.terminate_job, jobId=job_id, reason=REASON)[2]
    assert "does not exist" in error(region.submit, "next", job_id)[2]


# Describing and listing.


def test_describe_accepts_a_hundred_ids(frozen: Region) -> None:
    """101 ids are refused; unknown ones are left out."""
    job_id = frozen.submit("job", tags={"run": "r1"})
    (job,) = frozen.describe(job_id, *["no"] * 99)
    assert (job["tags"], job["status"]) == ({"run": "r1"}, "RUNNABLE")
    assert "at most 100" in error(frozen.describe, *["no"] * 101)[2]


def test_list_returns_running_jobs(start: Start) -> None:
    """That is the default; a request may name another state."""
    region = start(execute=Attempt.wait_until_stopped, slots=1)
    region.engine.wait_until_running(region.submit("one"))
    array = region.submit("two", size=2)
    assert region.names(jobQueue="cpu") == ["one"]
    assert region.names(jobQueue="cpu", jobStatus="PENDING") == ["two"]
    assert region.names(arrayJobId=array) == []
    assert region.names(arrayJobId=array, jobStatus="RUNNABLE") == ["two", "two"]
    assert "exactly one" in error(region.batch.list_jobs)[2]


def test_list_by_name(frozen: Region) -> None:
    """The filter ignores case and states, supports a trailing asterisk, and finds no children."""
    for name in ("run-chip", "RUN-train", "other", "run"):
        frozen.submit(name, size=2)
    frozen.submit("run-other-queue", jobQueue="fair", shareIdentifier="s")

    def named(value: str, **more: Any) -> set[str]:
        filters = [{"name": "JOB_NAME", "values": [value]}]
        return set(frozen.names(jobQueue="cpu", filters=filters, **more))

    assert {"run-chip", "RUN-train"} == named("run-*")
    assert {"RUN-train"} == named("run-TRAIN", jobStatus="FAILED")
    assert set() == named("un*")
    two = [{"name": "JOB_NAME", "values": ["a"]}, {"name": "AFTER_CREATED_AT", "values": ["1"]}]
    assert "only one filter" in error(frozen.names, jobQueue="cpu", filters=two)[2]


def test_list_in_pages(frozen: Region) -> None:
    """With a filter a page has at most 100 jobs, the newest first, and a token for the next."""
    for number in range(102):
        frozen.submit(f"job-{number}")
    pages = frozen.batch.get_paginator("list_jobs").paginate(
        jobQueue="cpu", filters=[{"name": "JOB_NAME", "values": ["job-*"]}]
    )
    sizes = [len(page["jobSummaryList"]) for page in pages]
    assert sizes == [100, 2]
    page = frozen.batch.list_jobs(jobQueue="cpu", jobStatus="RUNNABLE", maxResults=2)
    assert (len(page["jobSummaryList"]), "nextToken" in page) == (2, True)


def test_a_list_may_lag(start: Start) -> None:
    """A job that was just submitted may be missing."""
    region = start(list_lag=3600.0)
    region.engine.freeze("cpu")
    region.submit("job")
    assert region.names(jobQueue="cpu", jobStatus="RUNNABLE") == []


def test_why_a_queue_is_stuck(frozen: Region) -> None:
    """The job at the head of the queue has the reason, those behind it have none."""
    reason = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity"
    first, second = frozen.submit("first", size=2), frozen.submit("second")
    frozen.engine.freeze("cpu", reason)
    child, behind, other = frozen.describe(f"{first}:0", f"{first}:1", second)
    assert ("RUNNABLE", reason) == (child["status"], child["statusReason"])
    assert "statusReason" not in behind
    assert "statusReason" not in other
    frozen.engine.thaw("cpu")
    frozen.engine.wait()


def test_queues_and_definitions(frozen: Region) -> None:
    """Both are created and described by name."""
    arn = frozen.batch.create_job_queue(
        jobQueueName="new",
        priority=7,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "ce"}],
    )["jobQueueArn"]
    (queue,) = frozen.batch.describe_job_queues(jobQueues=["new"])["jobQueues"]
    assert (arn, "ENABLED", "VALID", 7) == (
        queue["jobQueueArn"],
        queue["state"],
        queue["status"],
        queue["priority"],
    )
    made = frozen.batch.register_job_definition(
        jobDefinitionName="work", type="container", containerProperties={"image": "x"}
    )
    assert made["revision"] == 2
    answer = frozen.batch.describe_job_definitions(jobDefinitionName="work", status="ACTIVE")
    assert [definition["revision"] for definition in answer["jobDefinitions"]] == [1, 2]
    assert frozen.batch.describe_job_queues(jobQueues=["no"])["jobQueues"] == []


def test_tags(frozen: Region) -> None:
    """A job's tags are read and added to by its ARN."""
    (job,) = frozen.describe(frozen.submit("job", tags={"a": "1"}))
    frozen.batch.tag_resource(resourceArn=job["jobArn"], tags={"b": "2"})
    answer = frozen.batch.list_tags_for_resource(resourceArn=job["jobArn"])
    assert answer["tags"] == {"a": "1", "b": "2"}


# Logs.


def test_reading_a_log_forward(start: Start) -> None:
    """It is read page by page; at the end the token that was passed is returned."""
    region = start(execute=lambda attempt: [attempt.write(f"line {i}") for i in range(5)] and 0)
    job_id = region.submit("job")
    region.engine.wait()
    stream = region.describe(job_id)[0]["container"]["logStreamName"]
    page = region.events(stream, startFromHead=True, limit=2)
    pages = [page]
    while True:
        token = page["nextForwardToken"]
        page = region.events(stream, startFromHead=True, limit=2, nextToken=token)
        pages.append(page)
        if page["nextForwardToken"] == token:
            break
    assert [len(page["events"]) for page in pages] == [2, 2, 1, 0]
    latest = region.events(stream, limit=2)
    assert [event["message"] for event in latest["events"]] == ["line 3", "line 4"]
    back = region.events(stream, limit=2, nextToken=latest["nextBackwardToken"])
    assert [event["message"] for event in back["events"]] == ["line 1", "line 2"]


def test_a_log_may_have_empty_pages(start: Start) -> None:
    """An empty page with a new token is not the end."""
    region = start(log_gaps=True, execute=lambda attempt: attempt.write("line") or 0)
    job_id = region.submit("job")
    region.engine.wait()
    stream = region.describe(job_id)[0]["container"]["logStreamName"]
    first = region.events(stream, startFromHead=True, nextToken="f/0")
    assert (first["events"], first["nextForwardToken"] != "f/0") == ([], True)
    second = region.events(stream, startFromHead=True, nextToken=first["nextForwardToken"])
    assert [event["message"] for event in second["events"]] == ["line"]


def test_a_missing_log(region: Region) -> None:
    """An unknown group or stream is an error."""
    assert error(region.events, "no")[1] == "ResourceNotFoundException"
    _, code, _ = error(region.logs.get_log_events, logGroupName="no", logStreamName="no")
    assert code == "ResourceNotFoundException"


def test_a_log_grows_while_the_job_runs(region: Region) -> None:
    """Lines can be read before the job ends; stdout and stderr are one stream."""
    job_id = region.run("job", "echo out; echo err >&2; exec sleep 60")
    while sum(map(len, region.engine.logs.streams.values())) < 2:
        time.sleep(0.01)
    assert (region.status(job_id), region.lines(job_id)) == ("RUNNING", ["out", "err"])
    region.batch.terminate_job(jobId=job_id, reason=REASON)
    region.engine.wait()


# Faults.


def at(number: int, fault: faults.Fault) -> faults.Hook:
    """That fault at the SubmitJob call of that number."""
    return lambda operation, request, n: fault if (operation, n) == ("SubmitJob", number) else None


@pytest.mark.parametrize(
    ("fault", "accepted", "expected"),
    [
        (faults.Throttle(), 0, (429, "TooManyRequestsException")),
        (faults.ServerError(), 0, (500, "ServerException")),
        (faults.ServerError(after=True), 1, (500, "ServerException")),
    ],
    ids=["throttle", "before", "after"],
)
def test_error_answers(
    start: Start, fault: faults.Fault, accepted: int, expected: tuple[int, str]
) -> None:
    """The call fails, whether or not it has created a job."""
    region = start(fault=at(1, fault))
    assert expected == error(region.submit, "job")[:2]
    assert accepted == len(region.engine.submitted)
    region.submit("job")
    assert (accepted + 1, 2) == (
        len(region.engine.submitted),
        region.engine.count("SubmitJob"),
    )


@pytest.mark.parametrize("after", [False, True])
def test_dropped_connections(start: Start, after: bool) -> None:
    """The connection breaks before or after the job is accepted."""
    called: list[int] = []
    fault = faults.DropReplyAfter(lambda: called.append(1)) if after else faults.DropBefore()
    region = start(fault=at(1, fault))
    with pytest.raises(botocore.exceptions.ConnectionClosedError):
        region.submit("job")
    assert (after, [1] * after) == (len(region.engine.submitted), called)
    (call,) = region.engine.calls
    assert type(fault).__name__ == call.outcome
    region.submit("job")


def test_a_client_that_retries_submits_twice(start: Start) -> None:
    """SubmitJob has no token, so a lost reply and a retry create two jobs."""
    region = start(fault=at(1, faults.DropReplyAfter()))
    region.batch = region.engine.client("batch", retries={"total_max_attempts": 2})
    region.submit("job")
    assert len(region.engine.submitted) == 2


def test_the_rate_of_calls(frozen: Region) -> None:
    """The engine counts the calls of the busiest period; delayed calls succeed."""
    frozen.engine.fault = lambda operation, request, number: faults.Delay(0.03)
    for number in range(4):
        frozen.submit(f"job-{number}")
    assert (frozen.engine.busiest("SubmitJob", 3600), frozen.engine.busiest("ListJobs")) == (4, 0)
    assert frozen.engine.busiest("SubmitJob", 0.03) == 1


def test_seeded_faults() -> None:
    """A seed always gives the same faults; some calls pass, and only the given operations fail."""
    hook, same = (faults.seeded(7, rate=0.5, operations=["SubmitJob"]) for _ in range(2))
    drawn = [hook("SubmitJob", {}, number) for number in range(100)]
    assert drawn == [same("SubmitJob", {}, number) for number in range(100)]
    assert {*faults.ALL, None} == set(drawn)
    assert {None} == {hook("ListJobs", {}, number) for number in range(100)}


def test_errors_of_execute_are_raised(start: Start) -> None:
    """An error in a test does not look like a failed job."""
    region = start(execute=lambda attempt: 1 // 0)
    region.submit("job")
    with pytest.raises(ZeroDivisionError):
        region.engine.wait()


def test_conditions_of_tests_are_seen(start: Start) -> None:
    """Also if nothing changes in the engine when they begin to hold."""
    happened = threading.Event()
    timer = threading.Timer(0.2, happened.set)
    timer.start()
    began = time.monotonic()
    start().engine.wait_for(happened.is_set)
    assert time.monotonic() - began < 30
    timer.join()
    with pytest.raises(TimeoutError):
        start().engine.wait_for(lambda: False, timeout=0.1)


@pytest.mark.usefixtures("processes")
def test_closing_ends_what_runs(tmp_path: pathlib.Path) -> None:
    """No process outlives its engine."""
    with BatchEngine() as engine:
        region = Region(engine)
        job_id = region.run("job", f"echo $$ >{tmp_path}/pid; exec sleep 60")
        engine.wait_until_running(job_id)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
    wait_until_dead(int((tmp_path / "pid").read_text()))
