"""Look at children of many arrays, in parallel and with a bound on the number of calls.

An array's own description has only counts. Why a child waits or failed, and when it started, takes
a call of ListJobs for each array and state.
"""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Iterable, Mapping, Sequence

import attrs

from rvrun.aws.client import Client
from rvrun.remote.state import State
from rvrun.runners.batch.api import JobSummary, list_some_children
from rvrun.runners.batch.inventory import THREADS
from rvrun.runners.batch.tracked import TrackedJob

#: The most calls of one look at a run: for failures, for stuck arrays, and for when arrays started.
#: At 0.1 s per call, 16 at a time take less than 2 s. What is left out is asked at the next look.
MAX_FAILURES, MAX_STUCK, MAX_STARTS = 100, 50, 100
#: The states of children that have started, and how Batch calls them.
STARTED = {State.SUCCEEDED: "SUCCEEDED", State.FAILED: "FAILED", State.RUNNING: "RUNNING"}

#: An array's id, and a state of children.
Question = tuple[str, str]


@attrs.frozen
class Children:
    """Some children of arrays, by the array and their state."""

    _answers: Mapping[Question, Sequence[JobSummary]]

    def were_asked(self, job: TrackedJob, status: str) -> bool:
        """Whether children in that state were asked for."""
        return (job.id, status) in self._answers

    def of(self, job: TrackedJob, status: str) -> Sequence[JobSummary]:
        """Return up to a hundred children; none if they were not asked for."""
        return self._answers.get((job.id or "", status), ())


def ask(batch: Client, questions: Iterable[Question]) -> Children:
    """List the children of arrays in a state, several arrays at a time."""
    unique = list(dict.fromkeys(questions))
    with cf.ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(lambda question: list_some_children(batch, *question), unique)
        return Children(dict(zip(unique, answers, strict=True)))


def about_failures(jobs: Iterable[TrackedJob]) -> list[Question]:
    """Return the questions for the failed children of jobs."""
    return [(job.id, "FAILED") for job in jobs if is_array(job) and job.id][:MAX_FAILURES]


def about_stuck(stages: Iterable[Sequence[TrackedJob]]) -> list[Question]:
    """Return the questions for the runnable children of stages, the first array of each first."""
    waiting = [
        [job for job in jobs if is_array(job) and job.count(State.RUNNABLE)] for jobs in stages
    ]
    longest = max(map(len, waiting), default=0)
    arrays = [jobs[i] for i in range(longest) for jobs in waiting if i < len(jobs)]
    return [(job.id, "RUNNABLE") for job in arrays if job.id][:MAX_STUCK]


def about_starts(jobs: Iterable[TrackedJob]) -> list[Question]:
    """Return the questions for the children of jobs that have started."""
    return [
        (job.id, status)
        for job in jobs
        if is_array(job) and job.id
        for state, status in STARTED.items()
        if job.count(state)
    ][:MAX_STARTS]


def is_array(job: TrackedJob) -> bool:
    """Whether a job has children that Batch may list."""
    return job.spec.size is not None and job.detail is not None


def child_index(child: JobSummary) -> int:
    """Return the index of a child in its array; its id is that of the array, `:` and the index."""
    index = child.get("arrayProperties", {}).get("index")
    return int(child["jobId"].rpartition(":")[2]) if index is None else index
