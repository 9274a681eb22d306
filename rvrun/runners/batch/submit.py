"""Submit specs to AWS Batch, each exactly once.

SubmitJob takes no client token, so repeating a call may submit a second job. Therefore a job is
looked up before it is submitted whenever it may exist already: after a reply that was lost, and if
the ledger has an intention without an id. It is looked up by its name, which contains the run's id,
and recognized by its tags. No client used here retries SubmitJob by itself.
"""

from __future__ import annotations

import concurrent.futures as cf
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter

import attrs

from rvrun.aws.client import AwsError, Client, Pace, Patience, Unanswered
from rvrun.errors import RvrunError
from rvrun.remote.ledger import INTENDED, SUBMITTED, Ledger
from rvrun.remote.state import Progress
from rvrun.runners.batch.api import (
    JobDetail,
    SubmitJobRequest,
    describe_jobs,
    list_jobs_named,
    terminate_job,
)
from rvrun.runners.batch.spec_files import JOB_TAG, RUN_TAG, Spec
from rvrun.text import count

#: The most jobs that are being submitted at the same time. At 40 jobs per second, the default rate,
#: that is enough for calls of up to 0.4 s.
THREADS = 16
#: The event of the ledger that has the id of a submitted job.
ACCEPTED = "accepted"


class NotAllSubmitted(RvrunError):
    """A run of which only some jobs could be submitted.

    - `run`: what users type to name it. `ids`: of the submitted jobs, by key.
    """

    problem: str
    run_id: str
    run: str
    ids: Mapping[str, str]
    total: int
    fix = "repeat the same command to continue, or end the submitted jobs with `rvrun cancel {run}`"

    def __str__(self) -> str:
        jobs = "".join(f"\n  {key}  {id_}" for key, id_ in self.ids.items())
        return (
            f"{self.problem}\n{len(self.ids)} of {count(self.total, 'job')} of run {self.run_id} "
            f"were submitted{':' if jobs else ''}{jobs}\n{self.how_to_fix()}"
        )


def read_ids(ledger: Ledger, number: int) -> dict[str, str]:
    """Return the ids of the submitted jobs of a round, by key."""
    events = ledger.events(ACCEPTED)
    return {event["job"]: event["id"] for event in events if event["round"] == number}


@attrs.frozen(kw_only=True)
class Submitter:
    """Submits the jobs of a run.

    - `maker`: a client that makes each call once; `reader`: one that may repeat calls.
    - `looks`: seconds to wait before each look for a job that may have been submitted: Batch does
      not list a new job immediately.
    - `lost`: how often a job is submitted again if its reply was lost and it was not found.
    """

    ledger: Ledger
    maker: Client
    reader: Client
    pace: Pace
    patience: Patience = Patience()
    looks: tuple[float, ...] = (0.0, 1.0, 3.0)
    lost: int = 5
    sleep: Callable[[float], None] = time.sleep

    def submit(self, specs: Sequence[Spec], progress: Progress) -> dict[str, str]:
        """Submit those specs of a round that are not submitted yet; return the ids of all, by key.

        Jobs are submitted concurrently unless one needs another's id. Raises `NotAllSubmitted`.
        """
        number = specs[0].round
        ids = read_ids(self.ledger, number)
        if ids:
            progress(len(ids), len(specs))
        try:
            for key, id_ in self._submit_in_order(specs, ids):
                ids[key] = id_
                progress(len(ids), len(specs))
        except AwsError as error:
            run = self.ledger.handle
            raise NotAllSubmitted(str(error), self.ledger.run_id, run, ids, len(specs)) from error
        # Only now, so that a run without this event is known to be interrupted.
        self.ledger.note(SUBMITTED, round=number)
        return ids

    def _submit_in_order(
        self, specs: Sequence[Spec], ids: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]:
        """Yield each new job's key and id as soon as it is known; the caller adds it to `ids`.

        After an error it starts no further calls, but waits for those in progress: Batch may still
        accept each of these jobs, and the ids must reach the ledger and the user.
        """
        by_key = {spec.key: spec for spec in specs}
        intended = self.intended(specs[0].round)
        order = TopologicalSorter({spec.key: spec.depends for spec in specs})
        order.prepare()
        running: dict[cf.Future[str], str] = {}
        failure: BaseException | None = None
        with cf.ThreadPoolExecutor(THREADS) as pool:
            while True:
                for key in order.get_ready() if failure is None else ():
                    if key in ids:
                        order.done(key)
                        continue
                    needed_ids = {needed: ids[needed] for needed in by_key[key].depends}
                    future = pool.submit(
                        self._submit_once, by_key[key], needed_ids, may_exist=key in intended
                    )
                    running[future] = key
                # Without a running job, `order` is still active if all ready jobs had an id: then
                # marking them done has made others ready.
                if not running and not (failure is None and order.is_active()):
                    break
                for future in cf.wait(running, return_when=cf.FIRST_COMPLETED).done:
                    key = running.pop(future)
                    failure = failure or future.exception()
                    if future.exception() is None:
                        yield key, future.result()
                        order.done(key)
        if failure is not None:
            raise failure

    def intended(self, number: int) -> set[str]:
        """Return the keys of the jobs of a round that some process has tried to submit."""
        events = self.ledger.events(INTENDED)
        return {event["job"] for event in events if event["round"] == number}

    def _submit_once(self, spec: Spec, ids: Mapping[str, str], *, may_exist: bool) -> str:
        """Return the id of a job, submitted now unless it exists already."""
        request = spec.fill_in(self.ledger.run_id, ids)
        id_ = self.find(request) if may_exist else None
        if id_ is None:
            # On disk before the call: if this process dies, the next one knows what to look for.
            name = request["jobName"]
            self.ledger.note(INTENDED, job=spec.key, round=spec.round, name=name)
            id_ = self._submit(request)
        self.ledger.note(ACCEPTED, job=spec.key, round=spec.round, id=id_)
        return id_

    def _submit(self, request: SubmitJobRequest) -> str:
        for attempts_left in range(self.lost, -1, -1):
            try:
                # Only a throttled call is simply repeated: it was certainly not carried out.
                return self.patience.insist(lambda: self._call(request))
            except Unanswered:
                # The job may exist now. Look before submitting another one.
                id_ = self.find(request)
                if id_ is not None:
                    return id_
                if not attempts_left:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _call(self, request: SubmitJobRequest) -> str:
        # Within `insist`, so that repeated calls keep to the rate limit too.
        self.pace.wait()
        return str(self.maker.call("SubmitJob", **request)["jobId"])

    def find(self, request: SubmitJobRequest) -> str | None:
        """Return the id of the job that `request` created; None if it created none.

        If it created several, all but the oldest are ended: every process that looks must choose
        the same one.
        """
        for pause in self.looks:
            self.sleep(pause)
            if ids := self._list_created_by(request):
                oldest, *duplicates = ids
                for duplicate in duplicates:
                    terminate_job(self.reader, duplicate, "rvrun: submitted twice")
                return oldest
        return None

    def _list_created_by(self, request: SubmitJobRequest) -> list[str]:
        """The ids of the jobs with the name and the tags of `request`, the oldest first."""
        ids = list_jobs_named(self.reader, request["jobQueue"], request["jobName"])
        # The name alone proves nothing: others may use it too, and Batch's filter ignores case.
        jobs = [job for job in describe_jobs(self.reader, ids) if _has_tags_of(request, job)]
        return [job["jobId"] for job in sorted(jobs, key=lambda job: job["createdAt"])]


def _has_tags_of(request: SubmitJobRequest, job: JobDetail) -> bool:
    tags = job.get("tags", {})
    return all(tags.get(name) == request["tags"][name] for name in (RUN_TAG, JOB_TAG))
