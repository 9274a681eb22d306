"""Executions of SageMaker pipelines: which step starts when, and how executions end.

This module runs nothing and does not use HTTP; the engine calls it with its lock held.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import attrs

from tests.engines.attempts import Attempt

Json = dict[str, Any]
ARN = "arn:aws:sagemaker:us-east-1:123456789012"
STARTING, EXECUTING, STOPPING = "Starting", "Executing", "Stopping"
SUCCEEDED, FAILED, STOPPED = "Succeeded", "Failed", "Stopped"
#: The types of steps that are jobs, each with the name of its jobs in ARNs.
JOBS = {"Processing": "processing-job", "Training": "training-job"}


def flat(steps: list[Json]) -> Iterator[tuple[Json, tuple[str, bool] | None]]:
    """Yield each step of a definition with the Condition step and branch that contain it."""
    for step in steps:
        yield step, None
        if step["Type"] == "Condition":
            for branch, outcome in (("IfSteps", True), ("ElseSteps", False)):
                for inner in step["Arguments"].get(branch, []):
                    yield inner, (step["Name"], outcome)


@attrs.define
class StepRun:
    """A step of an execution.

    - `status`: None before it is started. `branch`: the Condition step and branch it is in.
    - `attempts`: how many there were. `instances`: the processes of the latest.
    """

    step: Json
    branch: tuple[str, bool] | None
    status: str | None = None
    started: float = 0.0
    ended: float | None = None
    attempts: int = 0
    failure: str = ""
    outcome: bool = True
    job_name: str = ""
    instances: list[Attempt] = attrs.field(factory=list)

    @property
    def name(self) -> str:
        return str(self.step["Name"])

    @property
    def is_job(self) -> bool:
        return self.step["Type"] in JOBS

    @property
    def is_running(self) -> bool:
        return self.status in {STARTING, EXECUTING, STOPPING}

    def start(self, execution_id: str) -> None:
        """Start an attempt: a new job, whose name the service generates."""
        self.status, self.started, self.ended = STARTING, time.time(), None
        self.attempts += 1
        self.instances = []
        self.job_name = f"pipelines-{execution_id}-{self.name[:20]}-{uuid.uuid4().hex[:10]}"

    def end(self, status: str, failure: str = "") -> None:
        self.status, self.ended, self.failure = status, time.time(), failure

    def forget(self) -> None:
        """Reset it to a step that was not started."""
        self.status, self.ended, self.failure = None, None, ""

    @property
    def job_arn(self) -> str:
        return f"{ARN}:{JOBS[self.step['Type']]}/{self.job_name}"


class Execution:
    """One execution of a pipeline.

    - `max_running`: how many steps may run in parallel; None for no limit.
    - `stops`: whether no further step starts after one has failed. Otherwise steps start whose
      dependencies have succeeded.
    """

    def __init__(
        self,
        pipeline: str,
        definition: Json,
        max_running: int | None,
        display_name: str,
        *,
        stops: bool,
    ) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.pipeline = pipeline
        self.arn = f"{ARN}:pipeline/{pipeline}/execution/{self.id}"
        self.display_name = display_name
        self.definition = definition
        self.max_running = max_running
        self.stops = stops
        self.status = EXECUTING
        self.created = self.modified = time.time()
        self.failure = ""
        self.steps = {
            step["Name"]: StepRun(step, branch) for step, branch in flat(definition["Steps"])
        }

    def started(self) -> list[StepRun]:
        """Return the steps that were started, in the order of their starts."""
        return sorted(
            (run for run in self.steps.values() if run.status), key=lambda run: run.started
        )

    def next(self) -> StepRun | None:
        """Return a job to start now, or None; decide Condition steps that are ready.

        Nothing more starts after a stop nor, if the execution `stops`, after a failure.
        """
        if self.status != EXECUTING or (self.stops and self._any(FAILED)):
            return None
        for run in self.steps.values():
            if self._is_ready(run):
                if run.is_job:
                    return run if self._has_room() else None
                run.start(self.id)
                run.outcome = _holds(run.step)
                run.end(SUCCEEDED)
                return self.next()
        return None

    def _has_room(self) -> bool:
        running = sum(run.is_running for run in self.steps.values())
        return self.max_running is None or running < self.max_running

    def _is_ready(self, run: StepRun) -> bool:
        if run.status is not None:
            return False
        needed = [self.steps[name] for name in run.step.get("DependsOn", [])]
        if run.branch is not None:
            condition = self.steps[run.branch[0]]
            if condition.status != SUCCEEDED or condition.outcome is not run.branch[1]:
                return False
        return all(other.status == SUCCEEDED for other in needed)

    def _any(self, *statuses: str) -> bool:
        return any(run.status in statuses for run in self.steps.values())

    def settle(self) -> None:
        """End the execution if nothing runs and nothing will."""
        if self.status not in {EXECUTING, STOPPING} or any(
            run.is_running for run in self.steps.values()
        ):
            return
        if self.next() is not None:
            return
        if self.status == STOPPING:
            self.status = STOPPED
        elif self._any(FAILED, STOPPED):
            self.status = FAILED
            self.failure = "Step failure: One or multiple steps failed."
        else:
            self.status = SUCCEEDED
        self.modified = time.time()

    def stop(self) -> list[Attempt]:
        """Begin to stop the execution; return the processes to end."""
        self.status, self.modified = STOPPING, time.time()
        running = [run for run in self.steps.values() if run.is_running]
        for run in running:
            run.status = STOPPING
        return [instance for run in running for instance in run.instances]

    def retry(self) -> None:
        """Resume with the steps that failed, were stopped, or were never started."""
        self.status, self.failure, self.modified = EXECUTING, "", time.time()
        for run in self.steps.values():
            if run.status in {FAILED, STOPPED}:
                run.forget()


def _holds(step: Json) -> bool:
    """Whether all conditions of a Condition step hold; only comparisons of constants."""
    for condition in step["Arguments"]["Conditions"]:
        assert condition["Type"] == "Equals", condition
        if condition["LeftValue"] != condition["RightValue"]:
            return False
    return True
