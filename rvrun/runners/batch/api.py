"""AWS Batch's API: the calls that rvrun makes, and the parts of requests and answers that it reads.

Source: AWS Batch API Reference. The types are for readers and mypy; requests are checked against
botocore's own model in `validate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Required, TypedDict

from rvrun.aws.client import Client

#: The most ids that DescribeJobs accepts, and the most children that one page of ListJobs has here.
MAX_DESCRIBED = MAX_LISTED = 100


class KeyValue(TypedDict):
    """An environment variable."""

    name: str
    value: str


class Resource(TypedDict):
    """An amount of VCPU, MEMORY (MiB) or GPU."""

    type: str
    value: str


class ContainerOverrides(TypedDict, total=False):
    """What a job changes in its definition."""

    resourceRequirements: Sequence[Resource]
    environment: Sequence[KeyValue]
    command: Sequence[str]


class JobDependency(TypedDict, total=False):
    """A job that must succeed first; `type` N_TO_N: for each child, the child of the same index."""

    jobId: str
    type: str


class ArrayProperties(TypedDict, total=False):
    """The number of children of an array job."""

    size: int


class Condition(TypedDict, total=False):
    """What to do (RETRY or EXIT) after an attempt whose reasons match the patterns."""

    action: Required[str]
    onReason: str
    onStatusReason: str


class RetryStrategy(TypedDict, total=False):
    """How many attempts a job has, and after which failures; the first condition decides."""

    attempts: int
    evaluateOnExit: Sequence[Condition]


class Timeout(TypedDict):
    """The maximum duration of an attempt, in seconds."""

    attemptDurationSeconds: int


class SubmitJobRequest(TypedDict, total=False):
    """A request of SubmitJob. Users' templates may add other members."""

    jobName: Required[str]
    jobQueue: Required[str]
    jobDefinition: Required[str]
    arrayProperties: ArrayProperties
    dependsOn: Sequence[JobDependency]
    containerOverrides: ContainerOverrides
    retryStrategy: RetryStrategy
    timeout: Timeout
    shareIdentifier: str
    schedulingPriorityOverride: int
    propagateTags: bool
    tags: Required[dict[str, str]]


class ArrayDetail(TypedDict, total=False):
    """Of an array job: how many children are in which state; of a child: its index."""

    size: int
    index: int
    statusSummary: dict[str, int]


class ContainerDetail(TypedDict, total=False):
    """How a job's container ended, and where it logs; without `exitCode` it did not start."""

    exitCode: int
    reason: str
    logStreamName: str
    logConfiguration: LogConfiguration


class LogConfiguration(TypedDict, total=False):
    """The log driver's options, such as `awslogs-group`."""

    options: dict[str, str]


class AttemptDetail(TypedDict, total=False):
    """An attempt that has ended."""

    container: ContainerDetail
    startedAt: int
    stoppedAt: int


class JobSummary(TypedDict, total=False):
    """A job as ListJobs describes it. Times are in milliseconds since 1970.

    Only `jobId` and `jobName` are certain (the service's model, JobSummary).
    """

    jobId: Required[str]
    jobName: Required[str]
    status: Required[str]
    statusReason: str
    createdAt: int
    startedAt: int
    stoppedAt: int
    isTerminated: bool
    arrayProperties: ArrayDetail
    container: ContainerDetail


class JobDetail(JobSummary, total=False):
    """A job as DescribeJobs describes it."""

    attempts: Sequence[AttemptDetail]
    tags: dict[str, str]
    dependsOn: Sequence[JobDependency]
    jobQueue: str
    jobDefinition: str


def describe_jobs(batch: Client, ids: Sequence[str]) -> list[JobDetail]:
    """Describe jobs by id, as many in a call as Batch accepts; unknown ids are left out."""
    jobs: list[JobDetail] = []
    for start in range(0, len(ids), MAX_DESCRIBED):
        some_ids = list(ids[start : start + MAX_DESCRIBED])
        jobs += batch.call("DescribeJobs", jobs=some_ids)["jobs"]
    return jobs


def list_jobs_named(batch: Client, queue: str, name: str) -> list[JobSummary]:
    """Return the jobs of that name in a queue, in whatever state; `name*`: that begin with `name`.

    Batch ignores case, and lists a new job some time after it was submitted.
    """
    filters = [{"name": "JOB_NAME", "values": [name]}]
    pages = batch.pages("ListJobs", "nextToken", jobQueue=queue, filters=filters)
    return [job for page in pages for job in page["jobSummaryList"]]


def list_children(batch: Client, array_id: str, status: str) -> Iterator[JobSummary]:
    """Yield the children of an array that are in a state; those not created yet are not listed."""
    for page in batch.pages("ListJobs", "nextToken", arrayJobId=array_id, jobStatus=status):
        yield from page["jobSummaryList"]


def list_some_children(batch: Client, array_id: str, status: str) -> list[JobSummary]:
    """Return up to MAX_LISTED children of an array that are in a state, in one call."""
    answer = batch.call("ListJobs", arrayJobId=array_id, jobStatus=status, maxResults=MAX_LISTED)
    children: list[JobSummary] = answer["jobSummaryList"]
    return children


def has_queue(batch: Client, name: str) -> bool:
    """Whether there is a job queue of that name or ARN."""
    queues = batch.call("DescribeJobQueues", jobQueues=[name])["jobQueues"]
    return any(queue.get("status") != "DELETED" for queue in queues)


def terminate_job(batch: Client, job_id: str, reason: str) -> None:
    """End a job in whatever state, with its children; nothing happens if it has ended."""
    batch.call("TerminateJob", jobId=job_id, reason=reason)
