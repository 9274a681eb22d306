"""Rebuild the ledger of a run from what AWS Batch knows: for machines that did not submit it.

The names of a run's jobs begin with its id, and tags name the run and the job. DescribeJobs answers
with nearly all of a request. It cannot tell what an interrupted submission had yet to submit.
"""

from __future__ import annotations

import datetime as dt
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any, cast

from rvrun.errors import RvrunError
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.render.quote import indented_json
from rvrun.runners.aws_common import account_facts, account_of
from rvrun.runners.batch.api import JobDetail, SubmitJobRequest, describe_jobs, list_jobs_named
from rvrun.runners.batch.settings import BatchSettings
from rvrun.runners.batch.spec_files import JOB_TAG, RUN, RUN_TAG, file_names, placeholder, plain
from rvrun.runners.batch.specs import RUNNER, depend
from rvrun.settings.schema import Settings

_ROUND = re.compile(re.escape(f"{RUN}-r") + r"(\d+)-")
#: The members of a request that DescribeJobs answers with under the same names.
_SAME = ("jobQueue", "jobDefinition", "retryStrategy", "timeout")


class UnknownRun(RvrunError):
    """A run of which no job is in the queues."""

    run_id: str
    queues: tuple[str, ...]
    region: str | None
    fix = "check the id, the region and the account, and set the job queues of the run in [batch]"

    def __str__(self) -> str:
        queues = ", ".join(f"`{queue}`" for queue in self.queues) or "none (no queue is set)"
        return (
            f"no job of run {self.run_id} in the job queues of region {self.region}: {queues}; "
            f"{self.how_to_fix()}"
        )


def recover(run_id: str, settings: Settings, folder: pathlib.Path) -> Ledger:
    """Write a ledger of a run below `folder`, from the jobs in the queues of `settings`.

    Raises `UnknownRun`.
    """
    account = account_of(settings)
    batch, queues = account.reader(RUNNER), queues_in(settings.of(BatchSettings))
    listed = [job for queue in queues for job in list_jobs_named(batch, queue, f"{run_id}*")]
    described = describe_jobs(batch, [job["jobId"] for job in listed])
    jobs = [job for job in described if job.get("tags", {}).get(RUN_TAG) == run_id]
    if not jobs:
        raise UnknownRun(run_id, tuple(queues), account.region_in_force)
    began = min(job.get("createdAt", 0) for job in jobs) / 1000
    return ledgers.restore(
        folder,
        run_id,
        RUNNER,
        rounds=round_files(run_id, jobs),
        began=dt.datetime.fromtimestamp(began, dt.UTC),
        facts=account_facts(account),
    )


def queues_in(settings: BatchSettings) -> list[str]:
    """Return all job queues that settings name."""
    own = (settings.cpu_job_queue, settings.gpu_job_queue)
    of_commands = (command.job_queue for command in settings.commands.values())
    return list(dict.fromkeys(queue for queue in (*own, *of_commands) if queue))


def round_files(run_id: str, jobs: Iterable[JobDetail]) -> list[dict[str, str]]:
    """Return the specs of each round, as {relative path: text} in an order of submission. Pure."""
    keys = {job["jobId"]: job["tags"][JOB_TAG] for job in jobs if JOB_TAG in job["tags"]}
    rounds: dict[int, dict[str, SubmitJobRequest]] = {}
    for job in sorted(jobs, key=lambda job: (job.get("createdAt", 0), job["jobId"])):
        if job["jobId"] in keys:
            request = to_request(run_id, job, keys)
            match = _ROUND.match(request["jobName"])
            # Of two jobs that do the same, the older makes the spec; both are in the inventory.
            number = int(match[1]) if match and not _is_first(request) else 1
            rounds.setdefault(number, {}).setdefault(keys[job["jobId"]], request)
    return [_files(rounds.get(number, {})) for number in range(1, max(rounds, default=0) + 1)]


def _is_first(request: SubmitJobRequest) -> bool:
    """Whether a name that looks like one of a retry is that of a pipeline such as `r2-d2`."""
    return request["jobName"] == f"{RUN}-{plain(request['tags'][JOB_TAG])}"


def to_request(run_id: str, job: JobDetail, keys: Mapping[str, str]) -> SubmitJobRequest:
    """Return the request that submitted a job, with placeholders. Pure.

    - `keys`: of the run's jobs, by id.
    """
    detail = cast("Mapping[str, Any]", job)
    container = detail.get("container", {})
    tags = {name: RUN if name == RUN_TAG else value for name, value in job["tags"].items()}
    request: dict[str, Any] = {
        "jobName": job["jobName"].replace(run_id, RUN),
        **{name: detail[name] for name in _SAME if detail.get(name)},
        "containerOverrides": {
            name: container[name]
            for name in ("command", "environment", "resourceRequirements")
            if container.get(name)
        },
        "propagateTags": True,
        "tags": tags,
    }
    needs = [
        depend(keys[need["jobId"]], aligned=need.get("type") == "N_TO_N")
        for need in detail.get("dependsOn", ())
        if need.get("jobId") in keys
    ]
    if needs:
        request["dependsOn"] = needs
    if size := detail.get("arrayProperties", {}).get("size"):
        request["arrayProperties"] = {"size": size}
    return cast("SubmitJobRequest", request)


def _files(requests: Mapping[str, SubmitJobRequest]) -> dict[str, str]:
    """The specs of a round, each after those that it depends on."""
    by_placeholder = {placeholder(key): key for key in requests}
    order: Sequence[str] = list(
        TopologicalSorter(
            {
                key: [
                    by_placeholder[need["jobId"]]
                    for need in request.get("dependsOn", ())
                    if need["jobId"] in by_placeholder
                ]
                for key, request in requests.items()
            }
        ).static_order()
    )
    texts = [f"{indented_json(requests[key])}\n" for key in order]
    return dict(zip(file_names(order), texts, strict=True))
