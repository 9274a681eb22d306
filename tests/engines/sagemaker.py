"""SageMaker Pipelines on loopback: its API, and jobs that really run, instances as processes.

    with SagemakerEngine() as engine:
        sagemaker = engine.client("sagemaker")
        sagemaker.create_pipeline(PipelineName="p", RoleArn=ROLE, PipelineDefinition=text)
        sagemaker.start_pipeline_execution(PipelineName="p")
        engine.wait()

A step starts when all that it depends on succeeded, and, inside of a Condition step, when that is
decided so. Each instance of a job is a process that finds the list of all of them where
RVRUN_RESOURCE_CONFIG says; one that fails ends the others, and the job fails. After a failure
nothing new is started; what runs goes on to its end.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import attrs

from tests.engines import faults, sagemaker_api
from tests.engines.attempts import Attempt, Execute, Outcome, Stop, run_process
from tests.engines.batch import Call, no_fault
from tests.engines.errors import ServiceError
from tests.engines.faults import Delay, DropBefore, DropReplyAfter, Refuse, ServerError, Throttle
from tests.engines.http import Reply, Request, Server
from tests.engines.logs import Logs
from tests.engines.moto import DUMMY, client
from tests.engines.sagemaker_rules import (
    MAX_INLINE,
    TOKEN,
    invalid,
    job_spec,
    may_retry,
    parsed,
)
from tests.engines.sagemaker_runs import (
    ARN,
    EXECUTING,
    FAILED,
    STOPPED,
    STOPPING,
    SUCCEEDED,
    Execution,
    Json,
    StepRun,
)

GROUPS = {
    "Processing": "/aws/sagemaker/ProcessingJobs",
    "Training": "/aws/sagemaker/TrainingJobs",
}
#: Which fault of the service a try of a step meets before its processes; None for no fault.
JobFault = Callable[[str, int], str | None]
#: Each training job has loopback addresses of its own, so that its hosts can find each other.
_networks = itertools.count(1)


@attrs.define
class Pipeline:
    """A pipeline and all its versions, which are counted from 1."""

    request: Json
    versions: list[Json]

    @property
    def arn(self) -> str:
        return f"{ARN}:pipeline/{self.request['PipelineName']}"


class SagemakerEngine:
    """A region of SageMaker with its logs.

    `slots` jobs run at once, by `execute` for each instance; they see `environment` on top of a
    clean one. `fault` is asked before each call, `job_fault` before each try of a step. `read_s3`
    gives what is in a bucket under a key. `log_gaps`: pages of logs come up empty, or with one
    item, before their turn.
    """

    def __init__(
        self,
        *,
        slots: int = 2,
        execute: Execute | None = None,
        environment: Mapping[str, str] | None = None,
        fault: faults.Hook = no_fault,
        job_fault: JobFault = lambda step, tries: None,
        read_s3: Callable[[str, str], bytes] | None = None,
        grace: float = 5.0,
        log_gaps: bool = False,
    ) -> None:
        self.execute = execute or (lambda attempt: run_process(attempt, grace=grace))
        self.environment = dict(environment or {})
        self.fault = fault
        self.job_fault = job_fault
        self.read_s3 = read_s3
        self.pipelines: dict[str, Pipeline] = {}
        self.executions: dict[str, Execution] = {}
        self.calls: list[Call] = []
        self.errors: list[BaseException] = []
        self.logs = {kind: Logs(group, gaps=log_gaps) for kind, group in GROUPS.items()}
        self.changed = threading.Condition(threading.RLock())
        self._tokens: dict[tuple[str, str], tuple[Json, str]] = {}
        self._numbers: Counter[str] = Counter()
        self._closed = False
        self._root = pathlib.Path(tempfile.mkdtemp(prefix="sagemaker-"))
        self._server = Server(self._respond)
        self._workers = [threading.Thread(target=self._work, daemon=True) for _ in range(slots)]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs, and the server."""
        with self.changed:
            self._closed = True
            for run in self._all_steps():
                for attempt in run.attempts:
                    attempt.stop(Stop.RECLAIMED)
            self.changed.notify_all()
        for worker in self._workers:
            worker.join(timeout=30)
        self._server.close()
        shutil.rmtree(self._root, ignore_errors=True)

    # What tests look at.

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which boto3 finds this engine, and nothing else."""
        return {
            **DUMMY,
            "AWS_ENDPOINT_URL_SAGEMAKER": self.url,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": self.url,
        }

    def client(self, service: str) -> Any:
        """A boto3 client of this engine that tries each call once."""
        return client(service, self.url)

    def count(self, operation: str) -> int:
        """How many calls of an operation came."""
        with self.changed:
            return self._numbers[operation]

    def statuses(self) -> dict[str, str]:
        """The state of each step that was started, of all executions."""
        with self.changed:
            return {run.name: run.status for run in self._all_steps() if run.status}

    def tries(self, step: str) -> int:
        """How often the step of that name was tried."""
        with self.changed:
            return sum(run.tries for run in self._all_steps() if run.name == step)

    def wait_for(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Until `condition` holds, which is looked at whenever something changed."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise TimeoutError(f"after {timeout} s: {self.statuses()}")

    def wait(self, timeout: float = 60.0) -> list[str]:
        """Until all executions ended: how. Raises what `execute` raised."""

        def over() -> bool:
            executions = self.executions.values()
            return all(each.status not in {EXECUTING, STOPPING} for each in executions)

        self.wait_for(over, timeout)
        if self.errors:
            raise self.errors[0]
        return [each.status for each in self.executions.values()]

    def _all_steps(self) -> Iterator[StepRun]:
        for execution in self.executions.values():
            yield from execution.steps.values()

    # What the API does; called with the lock held.

    def create(self, request: Json) -> str:
        name = request["PipelineName"]
        if (arn := self._repeated("CreatePipeline", request)) is not None:
            return arn
        if name in self.pipelines:
            raise invalid(
                "Pipeline names must be unique within an AWS account and region. Pipeline with "
                f"name ({name}) already exists."
            )
        pipeline = Pipeline(_kept(request), [self._definition(request)])
        self.pipelines[name] = pipeline
        return self._remembered("CreatePipeline", request, pipeline.arn)

    def update(self, request: Json) -> str:
        pipeline = self.pipeline(request["PipelineName"])
        if "PipelineDefinition" in request or "PipelineDefinitionS3Location" in request:
            pipeline.versions.append(self._definition(request))
        pipeline.request = {**pipeline.request, **_kept(request)}
        return pipeline.arn

    def _definition(self, request: Json) -> Json:
        if (place := request.get("PipelineDefinitionS3Location")) is not None:
            assert self.read_s3
            return parsed(self.read_s3(place["Bucket"], place["ObjectKey"]).decode())
        text = request.get("PipelineDefinition", "")
        if len(text) > MAX_INLINE:
            raise invalid(f"PipelineDefinition has {len(text)} characters")
        return parsed(text)

    def pipeline(self, name: str) -> Pipeline:
        if name not in self.pipelines:
            raise ServiceError("ResourceNotFound", f"Pipeline '{name}' does not exist.")
        return self.pipelines[name]

    def start(self, request: Json) -> Execution:
        if (arn := self._repeated("StartPipelineExecution", request)) is not None:
            return self.executions[arn]
        pipeline = self.pipeline(request["PipelineName"])
        version = request.get("PipelineVersionId", len(pipeline.versions))
        if not 1 <= version <= len(pipeline.versions):
            raise invalid(f"there is no version {version}")
        parallel = pipeline.request.get("ParallelismConfiguration", {})
        execution = Execution(
            request["PipelineName"],
            pipeline.versions[version - 1],
            parallel.get("MaxParallelExecutionSteps"),
            request.get("PipelineExecutionDisplayName", ""),
        )
        self.executions[execution.arn] = execution
        self._remembered("StartPipelineExecution", request, execution.arn)
        return execution

    def _repeated(self, operation: str, request: Json) -> str | None:
        """What an equal call with this token made; a token is refused for another call."""
        token = request.get("ClientRequestToken", "")
        if len(token) not in TOKEN:
            raise invalid(f"ClientRequestToken has {len(token)} characters")
        before = self._tokens.get((operation, token))
        if before is None:
            return None
        if before[0] != request:
            raise ServiceError("ConflictException", "the token was used for another request")
        return before[1]

    def _remembered(self, operation: str, request: Json, arn: str) -> str:
        self._tokens[operation, request["ClientRequestToken"]] = (request, arn)
        return arn

    def execution(self, arn: str) -> Execution:
        if arn not in self.executions:
            raise ServiceError("ResourceNotFound", f"Pipeline execution '{arn}' does not exist.")
        return self.executions[arn]

    def stop(self, arn: str) -> Execution:
        execution = self.execution(arn)
        if execution.status != EXECUTING:
            raise invalid(f"only executions that are Executing can be stopped: {execution.status}")
        for attempt in execution.stop():
            attempt.stop(Stop.TERMINATED)
        execution.settle()
        return execution

    def retry(self, request: Json) -> Execution:
        if (arn := self._repeated("RetryPipelineExecution", request)) is not None:
            return self.executions[arn]
        execution = self.execution(request["PipelineExecutionArn"])
        if execution.status not in {FAILED, STOPPED}:
            raise invalid(f"only Failed and Stopped executions are retried: {execution.status}")
        execution.retry()
        self._remembered("RetryPipelineExecution", request, execution.arn)
        return execution

    def group(self, request: Json) -> Logs:
        for logs in self.logs.values():
            if logs.group == request.get("logGroupName"):
                return logs
        raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")

    # Running.

    def _work(self) -> None:
        while True:
            with self.changed:
                found = self._next()
                while found is None and not self._closed:
                    self.changed.wait()
                    found = self._next()
                if self._closed or found is None:
                    return
                execution, run = found
                run.start(execution.id)
                self.changed.notify_all()
            self._run(execution, run)

    def _next(self) -> tuple[Execution, StepRun] | None:
        for execution in self.executions.values():
            run = execution.next()
            if run is not None:
                return execution, run
            status = execution.status
            execution.settle()
            if execution.status != status:
                self.changed.notify_all()
        return None

    def _run(self, execution: Execution, run: StepRun) -> None:
        """All tries of one step."""
        while True:
            fault = self.job_fault(run.name, run.tries)
            if fault is None:
                status, failure = self._job(execution, run)
                break
            if not may_retry(run.step, fault, run.tries):
                status, failure = FAILED, f"ClientError: {fault}"
                break
            with self.changed:
                run.start(execution.id)
        with self.changed:
            run.end(status, failure)
            execution.settle()
            self.changed.notify_all()

    def _job(self, execution: Execution, run: StepRun) -> tuple[str, str]:
        """Run a job on all of its instances; its state, and why it failed."""
        spec = job_spec(run.step)
        with self.changed:
            if run.status == STOPPING:
                return STOPPED, ""
            hosts = _hosts(run.step["Type"], spec.count)
            run.attempts = [
                self._attempt(run, host, hosts, number) for number, host in enumerate(hosts)
            ]
            run.status = EXECUTING
            self.changed.notify_all()
        outcomes = self._outcomes(run.attempts)
        codes = [outcome.exit_code for outcome in outcomes]
        if run.status == STOPPING:
            return STOPPED, ""
        if all(code == 0 for code in codes):
            return SUCCEEDED, ""
        worst = next(code for code in codes if code != 0)
        return FAILED, f"ClientError: AlgorithmError: , exit code: {worst}"

    def _outcomes(self, attempts: list[Attempt]) -> list[Outcome]:
        """How the instances ended; one that fails has the others ended."""
        outcomes: dict[int, Outcome] = {}

        def one(index: int, attempt: Attempt) -> None:
            try:
                outcome = self.execute(attempt)
            except BaseException as err:  # noqa: BLE001 - a test's own; told by `wait`
                self.errors.append(err)
                outcome = Outcome(1)
            outcomes[index] = outcome if isinstance(outcome, Outcome) else Outcome(outcome)
            if not outcomes[index].succeeded:
                for other in attempts:
                    if other is not attempt:
                        other.stop(Stop.TERMINATED)

        threads = [
            threading.Thread(target=one, args=each, daemon=True) for each in enumerate(attempts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [each for each in outcomes.values() if not each.succeeded]
        return [*failed[:1], *(outcomes[index] for index in sorted(outcomes))]

    def _attempt(self, run: StepRun, host: str, hosts: list[str], number: int) -> Attempt:
        stream = f"{run.job_name}/algo-{number + 1}-{int(time.time())}"
        logs = self.logs[run.step["Type"]]
        folder = self._root / uuid.uuid4().hex
        folder.mkdir()
        path = folder / "resourceconfig.json"
        told = {"current_host": host, "hosts": sorted(hosts), "network_interface_name": "lo"}
        path.write_text(json.dumps(told))

        def write(line: str) -> None:
            with self.changed:
                logs.write(stream, line)

        spec = job_spec(run.step)
        return Attempt(
            job_id=run.job_name,
            job_name=run.name,
            index=number if spec.count > 1 else None,
            number=run.tries,
            command=spec.command,
            environment={
                **self._environment(),
                **spec.environment,
                "RVRUN_RESOURCE_CONFIG": str(path),
            },
            folder=folder,
            stream=stream,
            write=write,
        )

    def _environment(self) -> dict[str, str]:
        scripts = str(pathlib.Path(sys.executable).parent)
        return {
            "PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.variables,
            **self.environment,
        }

    # HTTP.

    def _respond(self, request: Request) -> Reply | None:
        if self._closed:
            return None
        operation, body = sagemaker_api.read(request)
        with self.changed:
            self._numbers[operation] += 1
            call = Call(operation, body, self._numbers[operation], time.monotonic())
            self.calls.append(call)
        try:
            return self._answer(call)
        except Exception as err:  # noqa: BLE001 - a hook's or the engine's own; told by `wait`
            self.errors.append(err)
            return sagemaker_api.error_reply(sagemaker_api.broken(repr(err)))

    def _answer(self, call: Call) -> Reply | None:
        fault = self.fault(call.operation, call.request, call.number)
        call.outcome = type(fault).__name__ if fault else ""
        if isinstance(fault, Delay):
            time.sleep(fault.seconds)
        if isinstance(fault, DropBefore):
            return None
        refused = _refusal(fault)
        if refused is not None:
            return sagemaker_api.error_reply(refused)
        reply = self._serve(call)
        if isinstance(fault, DropReplyAfter):
            fault.then()
            return None
        if isinstance(fault, ServerError):
            return sagemaker_api.error_reply(sagemaker_api.broken())
        return reply

    def _serve(self, call: Call) -> Reply:
        try:
            with self.changed:
                said = sagemaker_api.serve(self, call.operation, call.request)
                answer = sagemaker_api.reply(said)
                self.changed.notify_all()
        except ServiceError as err:
            call.outcome = call.outcome or "refused"
            return sagemaker_api.error_reply(err)
        call.outcome = call.outcome or "done"
        return answer


def _refusal(fault: faults.Fault | None) -> ServiceError | None:
    """What is answered instead of doing what was asked."""
    if isinstance(fault, Refuse):
        return ServiceError(fault.code, fault.message)
    if isinstance(fault, Throttle):
        return sagemaker_api.throttled()
    return sagemaker_api.broken() if fault == ServerError() else None


def _kept(request: Json) -> Json:
    """What DescribePipeline tells of a request."""
    return {key: value for key, value in request.items() if key != "ClientRequestToken"}


def _hosts(kind: str, count: int) -> list[str]:
    """The names of a job's hosts; those of a training job are addresses that they reach."""
    if kind == "Processing":
        return [f"algo-{number}" for number in range(1, count + 1)]
    network = f"127.{os.getpid() % 200 + 2}.{next(_networks) % 250}"
    return [f"{network}.{number}" for number in range(1, count + 1)]
