"""Executions of SageMaker pipelines: which step is to be started when, and how it all ends.

Nothing here runs anything or speaks HTTP; the engine calls it with its lock held.
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
#: The kinds of steps that are jobs, and what a job of each is called.
JOBS = {"Processing": "processing-job", "Training": "training-job"}


def now() -> float:
    return time.time()


def flat(steps: list[Json]) -> Iterator[tuple[Json, tuple[str, bool] | None]]:
    """Each step of a definition, and of which Condition step's which branch it is."""
    for step in steps:
        yield step, None
        if step["Type"] == "Condition":
            for branch, outcome in (("IfSteps", True), ("ElseSteps", False)):
                for inner in step["Arguments"].get(branch, []):
                    yield inner, (step["Name"], outcome)


@attrs.define
class StepRun:
    """A step of an execution. No status: it was not started yet."""

    step: Json
    branch: tuple[str, bool] | None
    status: str | None = None
    started: float = 0.0
    ended: float | None = None
    tries: int = 0
    failure: str = ""
    outcome: bool = True
    job_name: str = ""
    attempts: list[Attempt] = attrs.field(factory=list)

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
        """A new job, of a name that the service makes up."""
        self.status, self.started, self.ended = STARTING, now(), None
        self.tries += 1
        self.attempts = []
        self.job_name = f"pipelines-{execution_id}-{self.name[:20]}-{uuid.uuid4().hex[:10]}"

    def end(self, status: str, failure: str = "") -> None:
        self.status, self.ended, self.failure = status, now(), failure

    def forget(self) -> None:
        """As if it had not been started."""
        self.status, self.ended, self.failure = None, None, ""

    @property
    def job_arn(self) -> str:
        return f"{ARN}:{JOBS[self.step['Type']]}/{self.job_name}"


class Execution:
    """One execution of a pipeline."""

    def __init__(self, pipeline: str, definition: Json, most: int | None, display: str) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.pipeline = pipeline
        self.arn = f"{ARN}:pipeline/{pipeline}/execution/{self.id}"
        self.display = display
        self.definition = definition
        self.most = most
        self.status = EXECUTING
        self.created = self.modified = now()
        self.failure = ""
        self.retries = 0
        self.steps = {
            step["Name"]: StepRun(step, branch) for step, branch in flat(definition["Steps"])
        }

    def started(self) -> list[StepRun]:
        """Those steps that were started, in that order."""
        return sorted(
            (run for run in self.steps.values() if run.status), key=lambda run: run.started
        )

    def next(self) -> StepRun | None:
        """A job that is to be started now. Condition steps on the way are decided.

        After a failure, or when stopped, nothing more is started.
        """
        if self.status != EXECUTING or self._any(FAILED):
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
        return self.most is None or running < self.most

    def _is_ready(self, run: StepRun) -> bool:
        if run.status is not None:
            return False
        needed = [self.steps[name] for name in run.step.get("DependsOn", [])]
        if run.branch is not None:
            condition = self.steps[run.branch[0]]
            if condition.status != SUCCEEDED or condition.outcome is not run.branch[1]:
                return False
        return all(each.status == SUCCEEDED for each in needed)

    def _any(self, *statuses: str) -> bool:
        return any(run.status in statuses for run in self.steps.values())

    def settle(self) -> None:
        """End it where nothing runs and nothing will."""
        if self.status not in {EXECUTING, STOPPING} or any(
            run.is_running for run in self.steps.values()
        ):
            return
        if self.status == STOPPING:
            self.status = STOPPED
        elif self._any(FAILED, STOPPED):
            self.status = FAILED
            self.failure = "Step failure: One or multiple steps failed."
        elif self.next() is None:
            self.status = SUCCEEDED
        self.modified = now()

    def stop(self) -> list[Attempt]:
        """Let it be stopped; what is to be ended for that."""
        self.status, self.modified = STOPPING, now()
        running = [run for run in self.steps.values() if run.is_running]
        for run in running:
            run.status = STOPPING
        return [attempt for run in running for attempt in run.attempts]

    def retry(self) -> None:
        """Go on with what failed, was stopped, or was never started."""
        self.status, self.failure, self.modified = EXECUTING, "", now()
        self.retries += 1
        for run in self.steps.values():
            if run.status in {FAILED, STOPPED}:
                run.forget()


def _holds(step: Json) -> bool:
    """Whether all conditions do; of those between constants that tests need."""
    for condition in step["Arguments"]["Conditions"]:
        assert condition["Type"] == "Equals", condition
        if condition["LeftValue"] != condition["RightValue"]:
            return False
    return True
