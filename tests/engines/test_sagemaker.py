"""The engine behaves as SageMaker Pipelines is documented, called by boto3 over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import botocore.exceptions
import pytest

from tests.engines import faults
from tests.engines.attempts import Attempt
from tests.engines.sagemaker import SagemakerEngine

pytestmark = pytest.mark.usefixtures("processes")  # an engine on loopback

Json = dict[str, Any]
ROLE = "arn:aws:iam::123456789012:role/rvrun"
JOIN = {"Conditions": [{"Type": "Equals", "LeftValue": 1, "RightValue": 1}], "ElseSteps": []}
TOKEN = "t" * 32


def step(name: str, script: str, *needs: str, count: int = 1, **more: Any) -> Json:
    """A processing step that runs a shell script on each instance."""
    cluster = {"InstanceCount": count, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 30}
    arguments = {
        "AppSpecification": {
            "ImageUri": "image",
            "ContainerEntrypoint": ["sh"],
            "ContainerArguments": ["-c", script],
        },
        "ProcessingResources": {"ClusterConfig": cluster},
        "RoleArn": ROLE,
    }
    depends = {"DependsOn": list(needs)} if needs else {}
    return {"Name": name, "Type": "Processing", **depends, "Arguments": arguments, **more}


def join(name: str, needs: list[str], *steps: Json) -> Json:
    arguments = {**JOIN, "IfSteps": list(steps)}
    return {"Name": name, "Type": "Condition", "DependsOn": needs, "Arguments": arguments}


def argument(made: Json, group: str, name: str, value: object) -> Json:
    """That step with one of its arguments changed."""
    made["Arguments"][group][name] = value
    return made


def tagged(made: Json, key: str) -> Json:
    made["Arguments"]["Tags"] = [{"Key": key, "Value": "x"}]
    return made


def text(*steps: Json) -> str:
    return json.dumps({"Version": "2020-12-01", "Metadata": {}, "Steps": list(steps)})


class Region:
    """An engine with shortcuts for its calls."""

    def __init__(self, engine: SagemakerEngine) -> None:
        self.engine = engine
        self.sagemaker = engine.client("sagemaker")
        self.logs = engine.client("logs")

    def create(self, *steps: Json, name: str = "p", **more: Any) -> str:
        request = {"PipelineName": name, "RoleArn": ROLE, "PipelineDefinition": text(*steps)}
        return str(self.sagemaker.create_pipeline(**{**request, **more})["PipelineArn"])

    def start(self, **more: Any) -> str:
        request = {"PipelineName": "p", **more}
        return str(self.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"])

    def run(self, *steps: Json, **more: Any) -> str:
        """Create, start and wait for the end; return the execution's ARN."""
        self.create(*steps, **more)
        arn = self.start()
        self.engine.wait()
        return arn

    def status(self, arn: str) -> str:
        reply = self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        return str(reply["PipelineExecutionStatus"])

    def steps(self, arn: str, **more: Any) -> list[Json]:
        request = {"PipelineExecutionArn": arn, "SortOrder": "Ascending", **more}
        reply = self.sagemaker.list_pipeline_execution_steps(**request)
        steps: list[Json] = reply["PipelineExecutionSteps"]
        return steps


Start = Callable[..., Region]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts engines."""
    engines: list[SagemakerEngine] = []

    def begin(**options: Any) -> Region:
        engines.append(SagemakerEngine(**options))
        return Region(engines[-1])

    yield begin
    for engine in engines:
        engine.close()


def refusal(call: Callable[..., object], *args: Any, **more: Any) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*args, **more)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


def test_steps_run_after_what_they_depend_on(start: Start) -> None:
    """In any order of definition, also inside of a join and after it."""
    ran: list[str] = []

    def execute(attempt: Attempt) -> int:
        ran.append(attempt.job_name)
        return 0

    region = start(execute=execute)
    arn = region.run(
        step("d", "", "c-0", "c-1"),
        join("j", ["a-0", "a-1"], step("c-0", ""), step("c-1", "")),
        step("a-0", "", "first"),
        step("a-1", "", "first"),
        step("first", ""),
    )
    assert region.status(arn) == "Succeeded"
    assert (ran[0], set(ran[1:3]), set(ran[3:5]), ran[5:]) == (
        "first",
        {"a-0", "a-1"},
        {"c-0", "c-1"},
        ["d"],
    )
    assert {run["StepName"]: run["StepStatus"] for run in region.steps(arn)} == dict.fromkeys(
        ["first", "a-0", "a-1", "j", "c-0", "c-1", "d"], "Succeeded"
    )


def test_jobs_are_processes_with_logs(start: Start) -> None:
    """One stream per instance, named after the job, whose name is the end of the step's ARN."""
    region = start(environment={"A": "1"})
    arn = region.run(step("one", "echo $A $B; echo err >&2", count=2, DisplayName="x"))
    (run,) = region.steps(arn)
    job = run["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    group = {"logGroupName": "/aws/sagemaker/ProcessingJobs"}
    streams = region.logs.describe_log_streams(**group, logStreamNamePrefix=f"{job}/")["logStreams"]
    assert [stream["logStreamName"].split("/")[1][:6] for stream in streams] == ["algo-1", "algo-2"]
    events = region.logs.get_log_events(
        **group, logStreamName=streams[0]["logStreamName"], startFromHead=True
    )["events"]
    assert [event["message"] for event in events] == ["1", "err"]


def test_instances_know_each_other(start: Start) -> None:
    """Each gets the list of hosts, sorted as strings, and its own name."""
    region = start()
    region.run(step("all", 'cat "$RVRUN_RESOURCE_CONFIG"; echo', count=11))
    lines = [
        event.message
        for events in region.engine.logs["Processing"].streams.values()
        for event in events
    ]
    configs = [json.loads(line) for line in lines]
    assert {config["current_host"] for config in configs} == {f"algo-{i}" for i in range(1, 12)}
    assert configs[0]["hosts"][:3] == ["algo-1", "algo-10", "algo-11"]


def test_one_instance_that_fails_ends_the_others(start: Start) -> None:
    """The job fails without a retry, whatever its policies, and its dependents never start."""
    region = start()
    policy = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "MaxAttempts": 3}
    script = 'grep -q algo-2\\",.\\"hosts "$RVRUN_RESOURCE_CONFIG" && exit 7; sleep 60'
    arn = region.run(step("bad", script, count=3, RetryPolicies=[policy]), step("after", "", "bad"))
    assert region.status(arn) == "Failed"
    (run,) = region.steps(arn)
    assert (run["StepStatus"], run["AttemptCount"]) == ("Failed", 1)
    assert run["FailureReason"] == "ClientError: AlgorithmError: , exit code: 7"


@pytest.mark.parametrize(
    ("fault", "policy", "status", "attempts"),
    [
        ("SageMaker.CAPACITY_ERROR", ("SageMaker.CAPACITY_ERROR", 2), "Succeeded", 3),
        ("SageMaker.CAPACITY_ERROR", ("SageMaker.CAPACITY_ERROR", 1), "Failed", 2),
        ("SageMaker.CAPACITY_ERROR", ("Step.THROTTLING", 2), "Failed", 1),
        ("Step.THROTTLING", ("SageMaker.CAPACITY_ERROR", 0), "Succeeded", 3),
        ("Step.THROTTLING", ("Step.THROTTLING", 0), "Failed", 1),
    ],
)
def test_retry_policies_of_the_step_apply_to_faults_of_the_service(
    start: Start, fault: str, policy: tuple[str, int], status: str, attempts: int
) -> None:
    """By the type of the exception, up to the maximum number of retries; by default, of the step's.

    0 retries nothing, also of what is retried by default.
    """
    region = start(job_fault=lambda name, attempt: fault if attempt <= 2 else None)
    policies = [{"ExceptionType": [policy[0]], "MaxAttempts": policy[1]}]
    region.run(step("a", "", RetryPolicies=policies))
    assert region.engine.statuses() == {"a": status}
    assert region.engine.attempts("a") == attempts


@pytest.mark.parametrize(("stops", "ran"), [(True, "ab"), (False, "abc")])
def test_what_starts_after_a_failure_is_an_option(start: Start, stops: bool, ran: str) -> None:
    """AWS does not document it; what depends on the failed step never starts."""
    slow, started = threading.Event(), threading.Event()

    def execute(attempt: Attempt) -> int:
        if attempt.job_name == "a":
            # Not before `b` runs, too.
            started.wait(30)
            return 1
        if attempt.job_name == "b":
            started.set()
            slow.wait(30)
        return 0

    region = start(slots=2, stops=stops, execute=execute)
    region.create(step("a", ""), step("b", ""), step("c", "", "b"), step("d", "", "a"))
    arn = region.start()
    region.engine.wait_for(lambda: region.engine.statuses().get("a") == "Failed")
    slow.set()
    assert region.engine.wait() == ["Failed"]
    assert sorted(run["StepName"] for run in region.steps(arn)) == list(ran)


def test_a_retry_resumes_a_failed_execution(start: Start) -> None:
    """Succeeded steps are not repeated, and a token retries once."""
    fixed = threading.Event()

    def execute(attempt: Attempt) -> int:
        return 3 if attempt.job_name == "b" and not fixed.is_set() else 0

    region = start(execute=execute)
    arn = region.run(step("a", ""), step("b", "", "a"), step("c", "", "b"))
    assert region.engine.statuses() == {"a": "Succeeded", "b": "Failed"}
    fixed.set()
    for _ in range(2):
        region.sagemaker.retry_pipeline_execution(
            PipelineExecutionArn=arn, ClientRequestToken=TOKEN
        )
    region.engine.wait()
    assert region.engine.statuses() == dict.fromkeys("abc", "Succeeded")
    assert [region.engine.attempts(name) for name in "abc"] == [1, 2, 1]
    retry = region.sagemaker.retry_pipeline_execution
    assert "only Failed and Stopped" in refusal(retry, PipelineExecutionArn=arn)


def test_an_execution_can_be_stopped(start: Start) -> None:
    """Running steps are ended, and no further step starts."""
    region = start()
    region.create(step("a", "sleep 60"), step("b", "", "a"))
    arn = region.start()
    region.engine.wait_for(lambda: region.engine.statuses() == {"a": "Executing"})
    region.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    assert region.engine.wait() == ["Stopped"]
    assert region.engine.statuses() == {"a": "Stopped"}
    assert "Executing" in refusal(
        region.sagemaker.stop_pipeline_execution, PipelineExecutionArn=arn
    )


def test_the_number_of_parallel_steps_is_limited(start: Start) -> None:
    """By ParallelismConfiguration of the pipeline, unless that of the start overrides it."""
    running, most = set[str](), list[int]()
    lock = threading.Lock()
    #: Where the steps that run in parallel wait for each other.
    meetings = [threading.Barrier(3)]

    def execute(attempt: Attempt) -> int:
        with lock:
            running.add(attempt.job_name)
            most.append(len(running))
        threading.Event().wait(0.02)
        for barrier in meetings:
            barrier.wait(60)
        with lock:
            running.remove(attempt.job_name)
        return 0

    region = start(slots=8, execute=execute)
    parallel = {"MaxParallelExecutionSteps": 3}
    region.run(*(step(f"s{i}", "") for i in range(12)), ParallelismConfiguration=parallel)
    assert (max(most), len(most)) == (3, 12)
    most.clear()
    meetings.clear()
    region.start(ParallelismConfiguration={"MaxParallelExecutionSteps": 1})
    region.engine.wait()
    assert (max(most), len(most)) == (1, 12)


def test_an_execution_runs_what_was_defined_when_it_started(start: Start) -> None:
    """An update affects later executions, which may also start an earlier version."""
    gate = threading.Event()
    region = start(execute=lambda attempt: gate.wait(30) and 0)
    region.create(step("a", ""), step("b", "", "a"))
    arn = region.start()
    updated = region.sagemaker.update_pipeline(
        PipelineName="p", PipelineDefinition=text(step("c", ""))
    )
    assert updated["PipelineVersionId"] == 2
    listed = region.sagemaker.list_pipeline_versions(PipelineName="p", SortOrder="Ascending")
    versions = [summary["PipelineVersionId"] for summary in listed["PipelineVersionSummaries"]]
    assert versions == [1, 2]
    others = [region.start(), region.start(PipelineVersionId=1)]
    gate.set()
    region.engine.wait()
    ran = [[run["StepName"] for run in region.steps(other)] for other in (arn, *others)]
    assert ran == [["a", "b"], ["c"], ["a", "b"]]


def test_a_token_starts_one_execution(start: Start) -> None:
    """An equal call returns the same execution; for a different call the token is refused."""
    region = start(execute=lambda attempt: 0)
    region.create(step("a", ""))
    first = region.start(ClientRequestToken=TOKEN)
    assert region.start(ClientRequestToken=TOKEN) == first
    assert region.start() != first
    other = refusal(region.start, ClientRequestToken=TOKEN, PipelineExecutionDisplayName="x")
    assert other.startswith("ConflictException")


def test_executions_are_listed_by_their_pipeline(start: Start) -> None:
    """The latest first, in pages, with their display names."""
    region = start(execute=lambda attempt: 0)
    region.create(step("a", ""))
    for name in ("one", "two", "three"):
        region.start(PipelineExecutionDisplayName=name)
    pages = region.sagemaker.get_paginator("list_pipeline_executions").paginate(
        PipelineName="p", PaginationConfig={"PageSize": 2}
    )
    listed = [summary for page in pages for summary in page["PipelineExecutionSummaries"]]
    assert [e["PipelineExecutionDisplayName"] for e in listed] == ["three", "two", "one"]


def test_tags_are_added(start: Start) -> None:
    """A tag replaces one with the same key."""
    region = start()
    arn = region.create(step("a", ""), Tags=[{"Key": "a", "Value": "1"}])
    for value in ("2", "3"):
        region.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": value}])
    assert region.engine.pipelines["p"].request["Tags"] == [{"Key": "a", "Value": "3"}]


def test_names_of_pipelines_are_unique(start: Start) -> None:
    """A second pipeline is refused in the service's words; an equal call with its token is not."""
    region = start(execute=lambda attempt: 0)
    region.create(step("a", ""), ClientRequestToken=TOKEN)
    region.create(step("a", ""), ClientRequestToken=TOKEN)
    message = refusal(region.create, step("a", ""))
    assert message.startswith("ValidationException: Pipeline names must be unique within an AWS")
    described = region.sagemaker.describe_pipeline(PipelineName="p")
    assert json.loads(described["PipelineDefinition"])["Steps"][0]["Name"] == "a"
    assert refusal(region.sagemaker.describe_pipeline, PipelineName="q").startswith(
        "ResourceNotFound"
    )


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([step("a", ""), step("a", "")], "not valid or not unique"),
        ([step("a.b", "")], "not valid or not unique"),
        ([step("a", "", DisplayName="a b")], "display name 'a b' is not valid"),
        ([step("a", "", "b")], "cannot depend on 'b'"),
        ([join("j", []), step("a", "", "j")], "cannot depend on 'j'"),
        ([step("a", "", "b"), step("b", "", "a")], "a cycle"),
        ([join("j", ["a"], step("a", ""))], "a cycle"),
        ([join("j", [], join("k", []))], "nested"),
        ([], "Version or Steps"),
        ([{"Name": "a", "Type": "Processing", "Arguments": {}}], "Missing required parameter"),
        ([{"Name": "a", "Type": "Lambda", "Arguments": {}}], "not supported"),
        ([argument(step("a", ""), "AppSpecification", "ImageUri", "a b")], "does not match"),
        ([tagged(step("a", ""), "AWS:x")], "prefixed tag key names are not allowed"),
    ],
)
def test_invalid_definitions_are_refused(start: Start, steps: list[Json], problem: str) -> None:
    """Before a pipeline is created."""
    region = start()
    assert problem in refusal(region.create, *steps)
    assert region.engine.pipelines == {}


def test_a_definition_may_be_in_s3(start: Start) -> None:
    """One that is too long for a request must be."""
    many = [step(f"s{i}", "x" * 250) for i in range(2500)]
    files = {("bucket", "k"): text(*many).encode()}
    region = start(execute=lambda attempt: 0, read_s3=lambda *location: files[location])
    assert "characters" in refusal(region.create, *many)
    region.sagemaker.create_pipeline(
        PipelineName="p",
        RoleArn=ROLE,
        PipelineDefinitionS3Location={"Bucket": "bucket", "ObjectKey": "k"},
    )
    assert len(region.engine.pipelines["p"].versions[0]["Steps"]) == 2500


def test_steps_are_listed_in_pages(start: Start) -> None:
    """By default the latest first."""
    region = start(slots=1, execute=lambda attempt: 0)
    arn = region.run(*(step(f"s{i}", "") for i in range(12)))
    page = region.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)
    assert [run["StepName"] for run in page["PipelineExecutionSteps"]][:2] == ["s11", "s10"]
    assert len(page["PipelineExecutionSteps"]) == 10
    last = region.sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=arn, NextToken=page["NextToken"]
    )
    assert [run["StepName"] for run in last["PipelineExecutionSteps"]] == ["s1", "s0"]


def training(name: str, script: str, count: int = 1, **more: Any) -> Json:
    """A training step that runs a shell script on each instance."""
    arguments = {
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["sh", "-c", script],
        },
        "OutputDataConfig": {"S3OutputPath": "s3://b/k"},
        "ResourceConfig": {
            "InstanceCount": count,
            "InstanceType": "ml.m5.large",
            "VolumeSizeInGB": 30,
        },
        "RoleArn": ROLE,
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    return {"Name": name, "Type": "Training", "Arguments": {**arguments, **more}}


def test_reclaimed_spot_instances_keep_their_checkpoints(start: Start) -> None:
    """And nothing else; functions in the URI are evaluated, so each execution has its own."""
    script = (
        "cd $ENGINE_ROOT/tmp/saved; cat * ../lost 2>/dev/null; echo $$ >../lost; echo saved >>file"
    )
    uri = {"Std:Join": {"On": "/", "Values": ["s3://b", {"Get": "Execution.PipelineExecutionId"}]}}
    config = {"S3Uri": uri, "LocalPath": "/tmp/saved"}
    region = start(reclaim=lambda name, times: times < 2)
    one = training("t", script, EnableManagedSpotTraining=True, CheckpointConfig=config)
    arn = region.run(one)
    assert region.steps(arn)[0]["AttemptCount"] == 1
    region.start()
    region.engine.wait()
    streams = region.engine.logs["Training"].streams.values()
    lines = [event.message for events in streams for event in events]
    assert lines == ["saved", "saved", "saved"] * 2
    assert next(iter(region.engine.checkpoints)) == f"s3://b/{arn.rpartition('/')[2]}"
    assert len(region.engine.checkpoints) == 2


def test_training_hosts_reach_each_other(start: Start) -> None:
    """Their names are loopback addresses of this machine."""
    region = start()
    arn = region.run(training("t", 'cat "$RVRUN_RESOURCE_CONFIG"', count=2))
    assert "TrainingJob" in region.steps(arn)[0]["Metadata"]
    lines = [
        e.message for events in region.engine.logs["Training"].streams.values() for e in events
    ]
    assert all(host.startswith("127.") for host in json.loads(lines[0])["hosts"])


def test_faults_of_calls(start: Start) -> None:
    """A call whose reply is lost was carried out."""
    once = iter([faults.DropReplyAfter(), faults.Throttle(), faults.ServerError()])
    region = start(
        execute=lambda attempt: 0,
        fault=lambda operation, request, number: (
            next(once, None) if operation == "StartPipelineExecution" else None
        ),
    )
    region.create(step("a", ""))
    with pytest.raises(botocore.exceptions.HTTPClientError):
        region.start(ClientRequestToken=TOKEN)
    assert refusal(region.start, ClientRequestToken=TOKEN).startswith("ThrottlingException")
    assert refusal(region.start, ClientRequestToken=TOKEN).startswith("InternalFailure")
    region.start(ClientRequestToken=TOKEN)
    assert len(region.engine.executions) == 1
    assert region.engine.count("StartPipelineExecution") == 4
