"""AWS Batch on loopback: its REST API, with jobs that run as local processes.

    with BatchEngine() as engine:
        engine.add_queue("cpu"), engine.add_definition("work", command=["true"])
        batch = engine.client("batch")
        batch.submit_job(jobName="hello", jobQueue="cpu", jobDefinition="work")
        engine.wait()
        assert engine.statuses() == {"hello": "SUCCEEDED"}

The engine follows the service's documentation. Where that is silent, it does what is harder for a
client:

- A child's id cannot be a dependency.
- An array has no children, and a summary of zeros, until the jobs it waits for as a whole are done.
- A cancelled PENDING job stays PENDING until its dependencies have ended.
- Only the job at the head of a stuck queue has the reason.
- A log stream does not exist before its first line.
"""

from __future__ import annotations

import bisect
import pathlib
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from tests.engines import batch_api, faults
from tests.engines.attempts import NOT_STARTED, Attempt, Execute, Outcome, Stop, run_process
from tests.engines.batch_jobs import (
    RUNNING,
    TIMED_OUT,
    Job,
    Queue,
    Scheduler,
    Unit,
    all_ended,
)
from tests.engines.batch_rules import (
    Json,
    check_definition,
    check_submission,
    client_error,
    spec_of,
)
from tests.engines.errors import ServiceError
from tests.engines.http import Reply, Request
from tests.engines.logs import Logs
from tests.engines.moto import DUMMY, REGION, client
from tests.engines.service import Service, no_fault

ARN = f"arn:aws:batch:{REGION}:123456789012"


class BatchEngine(Service):
    """A region of AWS Batch with its logs.

    - `slots`: how many jobs run at once. `execute`: runs an attempt.
    - `environment`: what jobs see in addition to a clean environment.
    - `fault`: called before each call is served; returns a fault or None.
    - `second`: how many seconds a second of a job's timeout lasts. `grace`: seconds after which a
      terminated job is killed. `list_lag`: seconds after which a submitted job is listed.
    - `omit`: optional members that answers about jobs lack.
    - `log_gaps`: pages of logs may be empty although more follow.
    """

    def __init__(
        self,
        *,
        slots: int = 2,
        execute: Execute | None = None,
        environment: Mapping[str, str] | None = None,
        fault: faults.Hook = no_fault,
        second: float = 1.0,
        grace: float = 5.0,
        list_lag: float = 0.0,
        omit: Sequence[str] = (),
        log_gaps: bool = False,
    ) -> None:
        self.environment = dict(environment or {})
        self.second = second
        self.list_lag = list_lag
        self.omit = tuple(omit)
        self.queues: dict[str, Queue] = {}
        self.definitions: dict[str, list[Json]] = {}
        self.logs = Logs(gaps=log_gaps)
        self.scheduler = Scheduler()
        run = execute or (lambda attempt: run_process(attempt, grace=grace))
        super().__init__("batch", slots=slots, execute=run, fault=fault)

    # For tests: looking.

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which boto3 uses this engine for Batch and its logs."""
        return {
            **DUMMY,
            "AWS_ENDPOINT_URL_BATCH": self.url,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": self.url,
        }

    def client(self, service: str, **config: Any) -> Any:
        """A boto3 client of this engine; without `retries` it makes each call once."""
        return client(service, self.url, **config)

    @property
    def jobs(self) -> dict[str, Job]:
        return self.scheduler.jobs

    @property
    def submitted(self) -> list[Json]:
        """Every accepted SubmitJob request, in order."""
        with self.changed:
            return [job.request for job in self.jobs.values()]

    def job(self, name: str) -> Job:
        """The only job with that name."""
        with self.changed:
            (job,) = [job for job in self.jobs.values() if job.name == name]
        return job

    def statuses(self) -> dict[str, str]:
        """Each job's state, by name."""
        with self.changed:
            return {job.name: job.status for job in self.jobs.values()}

    def busiest(self, operation: str, seconds: float = 1.0) -> int:
        """The most calls of an operation in any period of that length."""
        with self.changed:
            times = sorted(call.at for call in self.calls if call.operation == operation)
        return max(
            (bisect.bisect_left(times, t + seconds) - i for i, t in enumerate(times)), default=0
        )

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until all jobs have ended; raise what `execute` raised."""
        self.wait_for(lambda: all_ended(self.jobs), timeout)
        if self.errors:
            raise self.errors[0]

    def wait_until_running(self, job_id: str, timeout: float = 60.0) -> None:
        """Wait until that job or child runs."""

        def running() -> bool:
            unit = self.scheduler.find(job_id)
            return unit is not None and unit.status == RUNNING

        self.wait_for(running, timeout)

    # For tests: acting.

    def add_queue(self, name: str, *, fair_share: bool = False, state: str = "ENABLED") -> Queue:
        with self.changed:
            queue = Queue(name, f"{ARN}:job-queue/{name}", fair_share, state)
            self.queues[name] = queue
            return queue

    def add_definition(
        self,
        name: str,
        *,
        command: Sequence[str] = (),
        fargate: bool = False,
        environment: Mapping[str, str] | None = None,
        resources: Mapping[str, str] | None = None,
        **more: Any,
    ) -> str:
        """Register a job definition and return its ARN; `more`: of RegisterJobDefinition."""
        container = {
            "image": "rvrun:latest",
            "command": list(command),
            "environment": [{"name": k, "value": v} for k, v in (environment or {}).items()],
            "resourceRequirements": [
                {"type": k, "value": v}
                for k, v in {"VCPU": "1", "MEMORY": "2048", **(resources or {})}.items()
            ],
        }
        request = {
            "jobDefinitionName": name,
            "type": "container",
            "platformCapabilities": ["FARGATE" if fargate else "EC2"],
            "containerProperties": container,
            **more,
        }
        return str(self.register(request)["jobDefinitionArn"])

    def freeze(self, queue: str, reason: str = "") -> None:
        """Let no job leave the queue; the job at its head has `reason`."""
        with self.changed:
            self.queues[queue].frozen, self.queues[queue].blocked = True, reason

    def thaw(self, queue: str) -> None:
        with self.changed:
            self.queues[queue].frozen, self.queues[queue].blocked = False, ""
            self.changed.notify_all()

    def reclaim(self, job_id: str) -> None:
        """Reclaim the spot instance of a running job."""
        self._stop_attempt(job_id, Stop.RECLAIMED)

    def time_out(self, job_id: str) -> None:
        """Let a running job exceed its timeout."""
        self._stop_attempt(job_id, Stop.TIMED_OUT)

    def forget(self, job_id: str) -> None:
        """Forget a job that has ended, as the service does after days."""
        with self.changed:
            del self.jobs[job_id]

    # For the API, which holds the lock.

    def submit(self, request: Json) -> Job:
        queue = self.queue(request.get("jobQueue", ""))
        definition = self.definition(request.get("jobDefinition", ""))
        if queue.state != "ENABLED":
            raise client_error(f"Job queue {queue.name} is not enabled")
        fargate = "FARGATE" in definition.get("platformCapabilities", ())
        check_submission(request, fair_share=queue.fair_share, fargate=fargate)
        self._check_dependencies(request)
        job_id = str(uuid.uuid4())
        tags = dict(request.get("tags", {}))
        job = Job(job_id, request, spec_of(request, definition), definition, queue, tags)
        self.scheduler.add(job)
        return job

    def _check_dependencies(self, request: Json) -> None:
        size = request.get("arrayProperties", {}).get("size")
        for need in request.get("dependsOn", ()):
            if "jobId" not in need:
                continue
            needed = self.jobs.get(need["jobId"])
            if needed is None:
                raise client_error(f"Job dependency {need['jobId']} does not exist")
            if need.get("type") == "N_TO_N" and needed.size != size:
                raise client_error(
                    f"an N_TO_N dependency needs arrays of one size: {size} and {needed.size}"
                )

    def register(self, request: Json) -> Json:
        with self.changed:
            check_definition(request)
            revisions = self.definitions.setdefault(request["jobDefinitionName"], [])
            revision = len(revisions) + 1
            name = f"{request['jobDefinitionName']}:{revision}"
            definition = {
                **request,
                "jobDefinitionArn": f"{ARN}:job-definition/{name}",
                "revision": revision,
                "status": "ACTIVE",
                "containerOrchestrationType": "ECS",
            }
            revisions.append(definition)
            return definition

    def definition(self, name: str) -> Json:
        """The active definition by name, name:revision or ARN; by default its latest revision."""
        short, _, revision = name.removeprefix(f"{ARN}:job-definition/").partition(":")
        active = [
            definition
            for definition in self.definitions.get(short, [])
            if definition["status"] == "ACTIVE" and revision in {"", str(definition["revision"])}
        ]
        if not active:
            raise client_error(f"JobDefinition {name} not found")
        return active[-1]

    def queue(self, name: str) -> Queue:
        """The queue by name or ARN."""
        queue = self.queues.get(name.removeprefix(f"{ARN}:job-queue/"))
        if queue is None:
            raise client_error(f"JobQueue {name} not found")
        return queue

    def unit(self, job_id: str) -> Unit:
        """A job, or a child of an array."""
        unit = self.scheduler.find(job_id)
        if unit is None:
            raise client_error(f"Job {job_id} does not exist")
        return unit

    def _stop_attempt(self, job_id: str, why: Stop) -> None:
        with self.changed:
            attempt = self.unit(job_id).attempt
            if attempt is None:
                raise AssertionError(f"{job_id} does not run")
        attempt.stop(why)

    # Running.

    def _under_way(self) -> Iterator[Attempt]:
        for job in self.jobs.values():
            yield from (unit.attempt for unit in job.units if unit.attempt)

    def _begin(self) -> Callable[[], None] | None:
        if (unit := self._next()) is None:
            return None
        attempt = self._start(unit)
        return lambda: None if attempt is None else self._run(unit, attempt)

    def _next(self) -> Unit | None:
        for queue in sorted(self.queues.values(), key=lambda queue: -queue.priority):
            if not queue.frozen and queue.head():
                return queue.waiting.popleft()
        return None

    def _start(self, unit: Unit) -> Attempt | None:
        if unit.job.spec.impossible:
            self.scheduler.refuse(unit, unit.job.spec.impossible)
            return None
        attempt = self._attempt(unit)
        self.scheduler.start(unit, attempt)
        return attempt

    def _attempt(self, unit: Unit) -> Attempt:
        task = uuid.uuid4().hex
        stream = f"{unit.job.definition['jobDefinitionName']}/default/{task}"

        def write(line: str) -> None:
            with self.changed:
                self.logs.write(stream, line)

        return Attempt(
            job_id=unit.id,
            job_name=unit.job.name,
            index=unit.index,
            number=len(unit.attempts) + 1,
            command=unit.job.spec.command,
            environment=self._environment(unit),
            folder=self._root / task,
            stream=stream,
            write=write,
        )

    def _environment(self, unit: Unit) -> dict[str, str]:
        batch = {
            "AWS_BATCH_JOB_ID": unit.id,
            "AWS_BATCH_JOB_ATTEMPT": str(len(unit.attempts) + 1),
            "AWS_BATCH_JQ_NAME": unit.job.queue.name,
            "AWS_BATCH_CE_NAME": f"{unit.job.queue.name}-environment",
        }
        if unit.index is not None:
            batch["AWS_BATCH_JOB_ARRAY_INDEX"] = str(unit.index)
            batch["AWS_BATCH_JOB_ARRAY_SIZE"] = str(unit.job.size)
        scripts = str(pathlib.Path(sys.executable).parent)
        return {
            "PATH": f"{scripts}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",  # as in the image
            **self.variables,
            **self.environment,
            **unit.job.spec.environment,
            **batch,
        }

    def _run(self, unit: Unit, attempt: Attempt) -> None:
        timer = self._timer(unit, attempt)
        outcome = self._execute(attempt)
        if timer:
            timer.cancel()
        outcome = _outcome(outcome, attempt.why, unit)
        with self.changed:
            if outcome.status_reason != NOT_STARTED:
                self.logs.write(attempt.stream, "")
            self.scheduler.finish(unit, outcome, batch_api.attempt_json(unit, attempt, outcome))
            self.changed.notify_all()

    def _timer(self, unit: Unit, attempt: Attempt) -> threading.Timer | None:
        seconds = unit.job.spec.timeout
        if seconds is None:
            return None
        timer = threading.Timer(seconds * self.second, attempt.stop, [Stop.TIMED_OUT])
        timer.daemon = True
        timer.start()
        return timer

    # HTTP.

    def _read(self, request: Request) -> tuple[str, Json]:
        return batch_api.read(request)

    def _carry_out(self, operation: str, request: Json) -> Reply:
        return batch_api.reply(operation, batch_api.serve(self, operation, request))

    def _error_reply(self, operation: str, error: ServiceError) -> Reply:
        return batch_api.error_reply(operation, error)

    def _throttled(self, operation: str) -> ServiceError:
        return batch_api.throttled(operation)

    def _broken(self, text: str = "Internal server error") -> ServiceError:
        return batch_api.broken(text)


def _outcome(outcome: Outcome, why: Stop | None, unit: Unit) -> Outcome:
    """The outcome as the service reports it if it ended the attempt itself."""
    if why is Stop.RECLAIMED:
        return Outcome(None, "", f"Host EC2 (instance i-{uuid.uuid4().hex[:17]}) terminated.")
    if why is Stop.TIMED_OUT:
        return attrs.evolve(outcome, status_reason=TIMED_OUT)
    if why is Stop.TERMINATED:
        return attrs.evolve(outcome, status_reason=unit.stop)
    return outcome
