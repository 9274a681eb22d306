"""SageMaker Pipelines on loopback: its API, and jobs that run, with a process per instance.

It also answers for CloudWatch Logs, and for Service Quotas with `quotas`.

    with SagemakerEngine() as engine:
        sagemaker = engine.client("sagemaker")
        sagemaker.create_pipeline(PipelineName="p", RoleArn=ROLE, PipelineDefinition=text)
        sagemaker.start_pipeline_execution(PipelineName="p")
        engine.wait()

A step starts when all steps that it depends on have succeeded and, inside of a Condition step, when
that one has chosen its branch. Each instance of a job is a process; RVRUN_RESOURCE_CONFIG is the
path of the list of instances, and checkpoints are below ENGINE_ROOT. If an instance fails, the
others are ended and the job fails. Running steps continue to their end after a failure. AWS does
not document whether further steps start that do not depend on the failed one, so the engine can do
either: see `stops`.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from tests.engines import faults, sagemaker_api
from tests.engines.attempts import Attempt, Execute, Outcome, Stop, run_process
from tests.engines.errors import ServiceError
from tests.engines.http import Reply, Request
from tests.engines.logs import Logs
from tests.engines.moto import DUMMY, client
from tests.engines.sagemaker_rules import (
    MAX_INLINE,
    TOKEN,
    JobSpec,
    check_tags,
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
from tests.engines.service import Service, no_fault

GROUPS = {
    "Processing": "/aws/sagemaker/ProcessingJobs",
    "Training": "/aws/sagemaker/TrainingJobs",
}
#: The fault of the service before an attempt (from 1) of a step starts; None for no fault.
JobFault = Callable[[str, int], str | None]
#: The variable with the root of a container's file system, which processes do not have.
ROOT = "ENGINE_ROOT"
#: Whether a job's spot instances are reclaimed before it ends, by step and by how often they were.
Reclaim = Callable[[str, int], bool]
#: Each training job has loopback addresses of its own, so that its hosts can reach each other.
_networks = itertools.count(1)


@attrs.define
class Pipeline:
    """A pipeline and all its versions, numbered from 1."""

    request: Json
    versions: list[Json]

    @property
    def arn(self) -> str:
        return f"{ARN}:pipeline/{self.request['PipelineName']}"


class SagemakerEngine(Service):
    """A region of SageMaker with its logs.

    - `slots`: how many jobs run in parallel. `execute`: runs an instance.
    - `environment`: variables of the jobs, in addition to those of a clean environment.
    - `fault`: chooses a fault for each call. `job_fault`: the same for each attempt of a step.
    - `reclaim`: whether spot instances are reclaimed: the job starts again on new ones, as the same
      attempt, with its checkpoints but without what else was on them.
    - `read_s3`: reads an object by bucket and key.
    - `stops`: whether no further step of an execution starts after one has failed.
    - `log_gaps`: whether pages of logs may be empty, or have one item, before the end.
    """

    def __init__(
        self,
        *,
        slots: int = 2,
        execute: Execute | None = None,
        environment: Mapping[str, str] | None = None,
        fault: faults.Hook = no_fault,
        job_fault: JobFault = lambda step, attempt: None,
        reclaim: Reclaim = lambda step, times: False,
        read_s3: Callable[[str, str], bytes] | None = None,
        grace: float = 5.0,
        stops: bool = True,
        log_gaps: bool = False,
    ) -> None:
        self.environment = dict(environment or {})
        self.job_fault = job_fault
        self.reclaim = reclaim
        self.read_s3 = read_s3
        self.checkpoints: dict[str, pathlib.Path] = {}
        self.quotas: dict[str, float] = {}
        self.stops = stops
        self.pipelines: dict[str, Pipeline] = {}
        self.executions: dict[str, Execution] = {}
        self.logs = {kind: Logs(group, gaps=log_gaps) for kind, group in GROUPS.items()}
        self._tokens: dict[tuple[str, str], tuple[Json, str]] = {}
        run = execute or (lambda attempt: run_process(attempt, grace=grace))
        super().__init__("sagemaker", slots=slots, execute=run, fault=fault)

    # For tests.

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which boto3 calls this engine and nothing else."""
        return {
            **DUMMY,
            "AWS_ENDPOINT_URL_SAGEMAKER": self.url,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": self.url,
            "AWS_ENDPOINT_URL_SERVICE_QUOTAS": self.url,
        }

    def client(self, service: str) -> Any:
        """Return a boto3 client of this engine that attempts each call once."""
        return client(service, self.url)

    def statuses(self) -> dict[str, str]:
        """Return the status of each step that was started, in all executions."""
        with self.changed:
            return {run.name: run.status for run in self._all_steps() if run.status}

    def attempts(self, step: str) -> int:
        """Return how many attempts the step of that name had."""
        with self.changed:
            return sum(run.attempts for run in self._all_steps() if run.name == step)

    def wait(self, timeout: float = 60.0) -> list[str]:
        """Wait until all executions ended; return their statuses. Raises what `execute` raised."""

        def over() -> bool:
            executions = self.executions.values()
            return all(e.status not in {EXECUTING, STOPPING} for e in executions)

        self.wait_for(over, timeout)
        if self.errors:
            raise self.errors[0]
        return [execution.status for execution in self.executions.values()]

    def _all_steps(self) -> Iterator[StepRun]:
        for execution in self.executions.values():
            yield from execution.steps.values()

    # The operations; called with the lock held.

    def create(self, request: Json) -> str:
        name = request["PipelineName"]
        if (arn := self._repeated("CreatePipeline", request)) is not None:
            return arn
        if name in self.pipelines:
            raise invalid(
                "Pipeline names must be unique within an AWS account and region. Pipeline with "
                f"name ({name}) already exists."
            )
        check_tags(request.get("Tags", ()))
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
        if (location := request.get("PipelineDefinitionS3Location")) is not None:
            assert self.read_s3
            return parsed(self.read_s3(location["Bucket"], location["ObjectKey"]).decode())
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
        # That of the request overrides that of the pipeline, for this execution only.
        parallel = _parallelism(request) or _parallelism(pipeline.request)
        execution = Execution(
            request["PipelineName"],
            pipeline.versions[version - 1],
            parallel,
            request.get("PipelineExecutionDisplayName", ""),
            stops=self.stops,
        )
        self.executions[execution.arn] = execution
        self._remembered("StartPipelineExecution", request, execution.arn)
        return execution

    def _repeated(self, operation: str, request: Json) -> str | None:
        """The ARN that an equal call with this token returned; other calls must not reuse it."""
        token = request.get("ClientRequestToken", "")
        if len(token) not in TOKEN:
            raise invalid(f"ClientRequestToken has {len(token)} characters")
        earlier = self._tokens.get((operation, token))
        if earlier is None:
            return None
        earlier_request, arn = earlier
        if earlier_request != request:
            raise ServiceError("ConflictException", "the token was used for another request")
        return arn

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
            raise invalid(f"only Executing executions can be stopped, got {execution.status}")
        for instance in execution.stop():
            instance.stop(Stop.TERMINATED)
        execution.settle()
        return execution

    def retry(self, request: Json) -> Execution:
        if (arn := self._repeated("RetryPipelineExecution", request)) is not None:
            return self.executions[arn]
        execution = self.execution(request["PipelineExecutionArn"])
        if execution.status not in {FAILED, STOPPED}:
            raise invalid(
                f"only Failed and Stopped executions can be retried, got {execution.status}"
            )
        pipeline = self.pipelines[execution.pipeline].request
        execution.max_running = _parallelism(request) or _parallelism(pipeline)
        execution.retry()
        self._remembered("RetryPipelineExecution", request, execution.arn)
        return execution

    def group(self, request: Json) -> Logs:
        for logs in self.logs.values():
            if logs.group == request.get("logGroupName"):
                return logs
        raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")

    # Running jobs.

    def _under_way(self) -> Iterator[Attempt]:
        for run in self._all_steps():
            yield from run.instances

    def _begin(self) -> Callable[[], None] | None:
        if (ready := self._next()) is None:
            return None
        execution, run = ready
        run.start(execution.id)
        return lambda: self._run(execution, run)

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
        """Run all attempts of one step."""
        while True:
            fault = self.job_fault(run.name, run.attempts)
            if fault is None:
                status, failure = self._job(execution, run)
                break
            if not may_retry(run.step, fault, run.attempts):
                status, failure = FAILED, f"ClientError: {fault}"
                break
            with self.changed:
                run.start(execution.id)
        with self.changed:
            run.end(status, failure)
            execution.settle()
            self.changed.notify_all()

    def _job(self, execution: Execution, run: StepRun) -> tuple[str, str]:
        """Run a job on all of its instances; return its status, and why it failed."""
        spec = job_spec(run.step, execution.id)
        codes = self._run_instances(run, spec)
        for times in itertools.count():
            if not spec.is_spot or run.status == STOPPING or not self.reclaim(run.name, times):
                break
            codes = self._run_instances(run, spec)
        if run.status == STOPPING:
            return STOPPED, ""
        if all(code == 0 for code in codes):
            return SUCCEEDED, ""
        first = next(code for code in codes if code != 0)
        return FAILED, f"ClientError: AlgorithmError: , exit code: {first}"

    def _run_instances(self, run: StepRun, spec: JobSpec) -> list[int | None]:
        """Run a job on new instances, with its checkpoints; return their exit codes."""
        with self.changed:
            if run.status == STOPPING:
                return []
            root = self._new_folder()
            hosts = _hosts(run.step["Type"], spec.count)
            run.instances = [
                self._instance(run, spec, root, hosts, number) for number, host in enumerate(hosts)
            ]
            run.status = EXECUTING
            self.changed.notify_all()
        checkpoints = root / spec.checkpoint_path.lstrip("/")
        if spec.checkpoint_uri in self.checkpoints:
            shutil.copytree(self.checkpoints[spec.checkpoint_uri], checkpoints)
        else:
            checkpoints.mkdir(parents=True)
        codes = [outcome.exit_code for outcome in self._execute_all(run.instances)]
        if spec.checkpoint_uri is not None:
            self.checkpoints[spec.checkpoint_uri] = checkpoints
        return codes

    def _new_folder(self) -> pathlib.Path:
        folder = self._root / uuid.uuid4().hex
        folder.mkdir()
        return folder

    def _execute_all(self, instances: list[Attempt]) -> list[Outcome]:
        """Run the instances in parallel; return their outcomes in the order of their ends.

        The first that fails has the others ended, so its failure comes before theirs.
        """
        outcomes: list[Outcome] = []

        def execute(instance: Attempt) -> None:
            outcome = self._execute(instance)
            outcomes.append(outcome)
            if not outcome.succeeded:
                for other in instances:
                    if other is not instance:
                        other.stop(Stop.TERMINATED)

        threads = [
            threading.Thread(target=execute, args=(instance,), daemon=True)
            for instance in instances
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    def _instance(
        self, run: StepRun, spec: JobSpec, root: pathlib.Path, hosts: list[str], number: int
    ) -> Attempt:
        stream = f"{run.job_name}/algo-{number + 1}-{int(time.time())}"
        logs = self.logs[run.step["Type"]]
        folder = self._new_folder()
        path = folder / "resourceconfig.json"
        config = {
            "current_host": hosts[number],
            "hosts": sorted(hosts),
            "network_interface_name": "lo",
        }
        path.write_text(json.dumps(config))

        def write(line: str) -> None:
            with self.changed:
                logs.write(stream, line)

        return Attempt(
            job_id=run.job_name,
            job_name=run.name,
            index=number if spec.count > 1 else None,
            number=run.attempts,
            command=spec.command,
            environment={
                **self._environment(),
                **spec.environment,
                "RVRUN_RESOURCE_CONFIG": str(path),
                ROOT: str(root),
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

    def _read(self, request: Request) -> tuple[str, Json]:
        return sagemaker_api.read(request)

    def _carry_out(self, operation: str, request: Json) -> Reply:
        return sagemaker_api.reply(sagemaker_api.serve(self, operation, request))

    def _error_reply(self, operation: str, error: ServiceError) -> Reply:
        return sagemaker_api.error_reply(error)

    def _throttled(self, operation: str) -> ServiceError:
        return sagemaker_api.throttled()

    def _broken(self, text: str = "Internal server error") -> ServiceError:
        return sagemaker_api.internal_failure(text)


def _parallelism(request: Json) -> int | None:
    """The maximum number of steps that run in parallel; None if the request has none."""
    number: int | None = request.get("ParallelismConfiguration", {}).get(
        "MaxParallelExecutionSteps"
    )
    return number


def _kept(request: Json) -> Json:
    """The part of a request that DescribePipeline returns."""
    return {key: value for key, value in request.items() if key != "ClientRequestToken"}


def _hosts(kind: str, count: int) -> list[str]:
    """The names of a job's hosts; those of a training job are addresses on loopback."""
    if kind == "Processing":
        return [f"algo-{number}" for number in range(1, count + 1)]
    network = f"127.{os.getpid() % 200 + 2}.{next(_networks) % 250}"
    return [f"{network}.{number}" for number in range(1, count + 1)]
