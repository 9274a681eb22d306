"""Specs submitted to AWS Batch, each exactly once. Knows JSON and the ledger, nothing of plans.

SubmitJob takes no client token, so asking again may submit again. Therefore each job is looked for
before it is submitted, wherever it may have been already: after a reply that was lost, and where
the ledger has an intention without an id. It is found by its name, which holds the run's id, and
known by its tags. No client used here tries a SubmitJob again by itself.
"""

from __future__ import annotations

import concurrent.futures as cf
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import attrs

from rvrun.aws.client import AwsError, Client, Pace, Patience, Unanswered
from rvrun.errors import RvrunError
from rvrun.remote.ledger import INTENDED, SUBMITTED, Ledger
from rvrun.runners.batch.limits import RUN
from rvrun.runners.batch.specs import FOLDER, JOB_TAG, RUN_TAG, symbol
from rvrun.text import count

#: Most jobs that are being submitted at the same time.
THREADS = 16
#: How many ids DescribeJobs takes (AWS Batch API Reference).
MAX_DESCRIBED = 100
#: Of events in the ledger.
ACCEPTED = "accepted"
_JOIN = re.compile(r"\.(needs|aligned)\.\d+$")


@attrs.frozen(kw_only=True)
class Ticket:
    """A spec of one round of a run, on its way.

    - `key`: of the job in the plan. `request`: as rendered, symbols standing for ids.
    """

    key: str
    round: int
    request: Mapping[str, Any]

    @property
    def depends(self) -> tuple[str, ...]:
        """The keys of the jobs whose ids it must have."""
        ids = [each["jobId"] for each in self.request.get("dependsOn", ())]
        return tuple(id_[2:-1] for id_ in ids if id_.startswith("${"))

    @property
    def name(self) -> str:
        """The job's name, the run's id still a symbol."""
        return str(self.request["jobName"])

    @property
    def queue(self) -> str:
        return str(self.request["jobQueue"])

    @property
    def size(self) -> int | None:
        """How many children its array has; None for a plain job."""
        size = self.request.get("arrayProperties", {}).get("size")
        return None if size is None else int(size)

    @property
    def is_join(self) -> bool:
        """Whether it does nothing but join others."""
        return _JOIN.search(self.key) is not None

    def filled(self, run_id: str, ids: Mapping[str, str]) -> dict[str, Any]:
        """The request with the run's id and those of the jobs it depends on."""
        request = {
            **self.request,
            "jobName": self.name.replace(RUN, run_id),
            "tags": {
                key: value.replace(RUN, run_id) for key, value in self.request["tags"].items()
            },
        }
        if self.depends:
            known = {symbol(key): id_ for key, id_ in ids.items()}
            request["dependsOn"] = [
                {**each, "jobId": known.get(each["jobId"], each["jobId"])}
                for each in self.request["dependsOn"]
            ]
        return request


def read_tickets(ledger: Ledger, number: int) -> list[Ticket]:
    """The specs of a round, in the order of submission."""
    folder = ledger.round_folder(number) / FOLDER
    requests = [json.loads(path.read_text(encoding="utf-8")) for path in spec_paths(folder)]
    return [Ticket(key=each["tags"][JOB_TAG], round=number, request=each) for each in requests]


def spec_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of specs in a folder, in their order."""
    return sorted(path for path in folder.glob("*.json") if is_spec(f"{FOLDER}/{path.name}"))


def is_spec(path: str) -> bool:
    """Whether a rendered file, by its relative path, is a spec: `batch/1-tiny-chip.json`."""
    folder, _, name = path.rpartition("/")
    return folder == FOLDER and name[:1].isdigit()


def read_ids(ledger: Ledger, number: int) -> dict[str, str]:
    """The ids of the jobs of a round that are known, by their keys."""
    events = ledger.events(ACCEPTED)
    return {event["job"]: event["id"] for event in events if event["round"] == number}


class NotAllSubmitted(RvrunError):
    """A run of which only a part could be submitted."""

    def __init__(self, ledger: Ledger, ids: Mapping[str, str], total: int, problem: str) -> None:
        self.ledger = ledger
        self.ids = dict(ids)
        self.total = total
        self.problem = problem

    def __str__(self) -> str:
        listed = "".join(f"\n  {key}  {id_}" for key, id_ in self.ids.items())
        run_id = self.ledger.run_id
        return (
            f"{self.problem}\n{len(self.ids)} of {count(self.total, 'job')} of run {run_id} were "
            f"submitted{':' if listed else ''}{listed}\ntype the same command again to go on, or "
            f"`rvrun cancel {self.ledger.handle}` to end them"
        )


@attrs.frozen(kw_only=True)
class Submitter:
    """What submitting takes.

    - `maker`: a client that asks once; `reader`: one that may ask again.
    - `looks`: seconds to wait before each look for a job that may have been submitted. A job is
      not always listed as soon as it is there.
    - `lost`: how often a job is submitted again whose reply was lost and that was not found.
    """

    ledger: Ledger
    maker: Client
    reader: Client
    pace: Pace
    patience: Patience = Patience()
    looks: tuple[float, ...] = (0.0, 1.0, 3.0)
    lost: int = 5
    sleep: Callable[[float], None] = time.sleep

    def submit(self, tickets: Sequence[Ticket], told: Callable[[str], None]) -> dict[str, str]:
        """Submit those of `tickets` that are not yet; the ids of all, by key.

        Jobs go at the same time so far as they do not wait for each other's ids. `told` is called
        with each key that has one. Raises `NotAllSubmitted`.
        """
        number = tickets[0].round
        ids = read_ids(self.ledger, number)
        for key in ids:
            told(key)
        try:
            for key, id_ in self._all(tickets, ids):
                ids[key] = id_
                told(key)
        except AwsError as error:
            raise NotAllSubmitted(self.ledger, ids, len(tickets), str(error)) from error
        self.ledger.note(SUBMITTED, round=number)
        return ids

    def _all(self, tickets: Sequence[Ticket], ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Each job's key and id as it becomes known; the caller adds it to `ids`.

        After an error nothing more is begun, but what was begun still ends.
        """
        by_key = {ticket.key: ticket for ticket in tickets}
        intended = self.intended(tickets[0].round)
        order = TopologicalSorter({ticket.key: ticket.depends for ticket in tickets})
        order.prepare()
        running: dict[cf.Future[str], str] = {}
        failure: BaseException | None = None
        with cf.ThreadPoolExecutor(THREADS) as pool:
            while True:
                for key in order.get_ready() if failure is None else ():
                    if key in ids:
                        order.done(key)
                        continue
                    known = {each: ids[each] for each in by_key[key].depends}
                    running[pool.submit(self._one, by_key[key], known, key in intended)] = key
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
        """The keys of the jobs of a round that were about to be submitted, at some time."""
        events = self.ledger.events(INTENDED)
        return {event["job"] for event in events if event["round"] == number}

    def _one(self, ticket: Ticket, ids: Mapping[str, str], seen: bool) -> str:
        """The id of a job, submitted unless it is found."""
        request = ticket.filled(self.ledger.run_id, ids)
        id_ = self.find(request) if seen else None
        if id_ is None:
            self.ledger.note(INTENDED, job=ticket.key, round=ticket.round, name=request["jobName"])
            id_ = self._submit(request)
        self.ledger.note(ACCEPTED, job=ticket.key, round=ticket.round, id=id_)
        return id_

    def _submit(self, request: Mapping[str, Any]) -> str:
        for again in range(self.lost, -1, -1):
            try:
                return self.patience.insist(lambda: self._call(request))
            except Unanswered:
                id_ = self.find(request)
                if id_ is not None:
                    return id_
                if not again:
                    raise
        raise AssertionError("unreachable: the last time returns or raises")

    def _call(self, request: Mapping[str, Any]) -> str:
        self.pace.wait()
        return str(self.maker.call("SubmitJob", **request)["jobId"])

    def find(self, request: Mapping[str, Any]) -> str | None:
        """The id of the job that `request` made, if it made one.

        Should it have made several, all but the oldest are ended.
        """
        for pause in self.looks:
            self.sleep(pause)
            if found := self._listed(request):
                first, *others = found
                for other in others:
                    self.reader.call("TerminateJob", jobId=other, reason="rvrun: submitted twice")
                return first
        return None

    def _listed(self, request: Mapping[str, Any]) -> list[str]:
        """The ids of jobs with the name and the tags of `request`, the oldest first."""
        name = {"name": "JOB_NAME", "values": [request["jobName"]]}
        pages = self.reader.pages(
            "ListJobs", "nextToken", jobQueue=request["jobQueue"], filters=[name]
        )
        listed = [job["jobId"] for page in pages for job in page["jobSummaryList"]]
        jobs = [job for job in describe(self.reader, listed) if _same_tags(job, request)]
        return [job["jobId"] for job in sorted(jobs, key=lambda job: int(job["createdAt"]))]


def _same_tags(job: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    return all(job.get("tags", {}).get(key) == request["tags"][key] for key in (RUN_TAG, JOB_TAG))


def describe(reader: Client, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What Batch says of the jobs of these ids, so many a call as it takes."""
    jobs: list[dict[str, Any]] = []
    for start in range(0, len(ids), MAX_DESCRIBED):
        part = list(ids[start : start + MAX_DESCRIBED])
        jobs += reader.call("DescribeJobs", jobs=part)["jobs"]
    return jobs
