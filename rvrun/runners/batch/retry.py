"""Make the specs of a retry from the specs of what failed. Pure.

Of an array only the failed splits run again, as a smaller array with a list of them. What
depends on failed jobs failed with them, so it is in the retry too. Dependencies on jobs that have
succeeded are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from rvrun.render.quote import indented_json
from rvrun.runners.batch.api import JobDependency, SubmitJobRequest
from rvrun.runners.batch.boot import for_splits
from rvrun.runners.batch.limits import check_sizes
from rvrun.runners.batch.spec_files import RUN, Spec, file_names, key_of
from rvrun.runners.batch.specs import depend
from rvrun.runners.batch.validate import SERVICE
from rvrun.runners.problems import check_fit


@attrs.frozen
class FailedJob:
    """A job that failed, and which of its splits did; None if its stage is not split."""

    spec: Spec
    splits: tuple[int, ...] | None


def retry_files(failed: Sequence[FailedJob], number: int) -> dict[str, str]:
    """Return the specs of round `number`, as {relative path: text} in the order of submission.

    Raises `Unfit` if the list of failed splits makes a request too large.
    """
    by_key = {job.spec.key: job for job in failed}
    requests = {key: retry_request(job, by_key, number) for key, job in by_key.items()}
    check_fit(SERVICE, (p for key, request in requests.items() for p in check_sizes(key, request)))
    texts = [f"{indented_json(request)}\n" for request in requests.values()]
    return dict(zip(file_names(requests), texts, strict=True))


def retry_request(job: FailedJob, failed: Mapping[str, FailedJob], number: int) -> SubmitJobRequest:
    """Return the request of a failed job for round `number`.

    - `failed`: all jobs of the retry, by key.
    """
    name = _rename(job.spec.request["jobName"], number)
    request: SubmitJobRequest = {**job.spec.request, "jobName": name}
    request.pop("dependsOn", None)
    if depends := list(_dependencies(job, failed)):
        request["dependsOn"] = depends
    # The request of a plain job already has its only split.
    if job.splits is None or job.spec.size is None:
        return request
    request.pop("arrayProperties", None)
    # An array has at least two children.
    if len(job.splits) > 1:
        request["arrayProperties"] = {"size": len(job.splits)}
    request["containerOverrides"] = for_splits(request["containerOverrides"], job.splits)
    return request


def _rename(name: str, number: int) -> str:
    """`${run}-r2-tiny-chip` for `${run}-tiny-chip`, `${run}-r3-tiny-chip` for that.

    Jobs are looked up by name, so those of different rounds must have different ones.
    """
    prefix = f"{RUN}-" if number == 2 else f"{RUN}-r{number - 1}-"
    return f"{RUN}-r{number}-{name.removeprefix(prefix)}"


def _dependencies(job: FailedJob, failed: Mapping[str, FailedJob]) -> Iterator[JobDependency]:
    """The dependencies that are in the retry too.

    Between arrays of the same splits they stay aligned. Otherwise children of the same index may
    have different splits, so the job waits for all of the other: later than necessary, but right.
    """
    for dependency in job.spec.request.get("dependsOn", ()):
        needed = failed.get(key_of(dependency) or "")
        if needed is not None:
            is_array = job.splits is not None and len(job.splits) > 1
            same_splits = is_array and needed.splits == job.splits
            aligned = dependency.get("type") == "N_TO_N" and same_splits
            yield depend(needed.spec.key, aligned=aligned)
