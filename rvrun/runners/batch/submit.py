"""Submit specs to AWS Batch, each exactly once.

SubmitJob takes no client token, so repeating a call may submit a second job. Therefore:

- Each intention is on disk before its call, and each id after it.
- A call without an answer is repeated only if its job is not listed within `listing_delay`. Batch
  documents no limit for that time, so a job that is listed even later is submitted twice; the next
  look at the run ends the duplicate (`inventory`).
- A submission that is continued first takes an inventory, whatever the ledger says: it may have
  lost lines.

No client used here retries SubmitJob by itself.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from graphlib import TopologicalSorter

import attrs

from rvrun.aws.client import AwsError, Client, Pace, Patience, Unanswered
from rvrun.errors import RvrunError
from rvrun.remote.ledger import INTENDED, SUBMITTED, Ledger, UnwritableLedger
from rvrun.remote.state import Progress
from rvrun.runners.batch.api import SubmitJobRequest, describe_jobs, list_jobs_named
from rvrun.runners.batch.inventory import (
    ACCEPTED,
    THREADS,
    UNANSWERED,
    Report,
    choose,
    end_duplicates,
    find_candidates,
    is_certain,
    read_ids,
    take_inventory,
)
from rvrun.runners.batch.spec_files import Spec
from rvrun.text import count

#: Seconds within which Batch is expected to list a new job.
LISTING_DELAY = 90.0
#: A call is repeated for 300 s while it is throttled (`Patience`), and takes 70 s at most to fail
#: (`aws.client`), after looking for a job for LISTING_DELAY; rounded up.
LONGEST_CALL = 600.0
#: The pauses between looks for a job, as parts of that time; they add up to all of it.
LOOKS = (0.0, 1 / 60, 2 / 60, 4 / 60, 8 / 60, 15 / 60, 15 / 60, 15 / 60)
#: The event of a submission that stopped while no call was unanswered; `accepted`: the jobs so far.
STOPPED = "stopped"


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


def report_on_stderr(text: str) -> None:
    """Print a sentence for the user."""
    print(text, file=sys.stderr)


@attrs.frozen(kw_only=True)
class Submitter:
    """Submits the jobs of a run.

    - `maker`: a client that makes each call once; `reader`: one that may repeat calls.
    - `listing_delay`: seconds within which a new job is expected to be listed.
    - `longest_call`: seconds that a process may take between two lines of the ledger.
    - `lost`: how often a job is submitted again if its reply was lost and it was not found.
    - `definitions`: the revisions of the job definitions that were checked, by name in the specs.
    """

    ledger: Ledger
    maker: Client
    reader: Client
    pace: Pace
    patience: Patience = Patience()
    listing_delay: float = LISTING_DELAY
    longest_call: float = LONGEST_CALL
    lost: int = 3
    definitions: Mapping[str, str] = attrs.field(factory=dict)
    sleep: Callable[[float], None] = time.sleep
    report: Report = report_on_stderr
    #: The keys of jobs that may exist although their ids are not known.
    _open: set[str] = attrs.field(factory=set, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)

    def submit(
        self, specs: Sequence[Spec], progress: Progress, *, is_new: bool = False
    ) -> dict[str, str]:
        """Submit those specs of a round that are not submitted yet; return the ids of all, by key.

        Jobs are submitted concurrently unless one needs another's id.

        - `is_new`: whether this process created the round, so that no job of it can exist.

        Raises `NotAllSubmitted`.
        """
        number = specs[0].round
        ids = read_ids(self.ledger, number)
        try:
            with self.ledger.exclusive():
                if not is_new:
                    ids = self.recover(specs)
                if ids:
                    progress(len(ids), len(specs))
                try:
                    # Closed before the end is noted: no call may be in progress then.
                    with contextlib.closing(self._submit_in_order(specs, ids)) as submitted:
                        for key, id_ in submitted:
                            ids[key] = id_
                            progress(len(ids), len(specs))
                finally:
                    self._note_stop(number, specs, ids)
        except (AwsError, UnwritableLedger) as error:
            run = self.ledger.handle
            raise NotAllSubmitted(str(error), self.ledger.run_id, run, ids, len(specs)) from error
        return ids

    def _note_stop(self, number: int, specs: Sequence[Spec], ids: Mapping[str, str]) -> None:
        """Note how the submission ended; a run without this event is known to be interrupted."""
        if len(ids) == len(specs):
            if not is_certain(self.ledger):
                # A job whose id was lost may have been listed too late, and submitted twice.
                self.end_duplicates(specs)
            self.ledger.note(SUBMITTED, round=number)
        elif not self._open:
            accepted = len(read_ids(self.ledger, number))
            self.ledger.note_if_possible(STOPPED, round=number, accepted=accepted)

    def recover(self, specs: Sequence[Spec]) -> dict[str, str]:
        """Return the ids of the jobs that earlier processes submitted, by key.

        If the ledger may lack a call, this waits until its job would be listed. What is then not
        listed was not submitted.
        """
        number = specs[0].round
        total = left = self.seconds_until_listed(number)
        while True:
            ids = take_inventory(self.ledger, self.reader, {number: specs}).ids[number]
            if len(ids) == len(specs) or left <= 0:
                return dict(ids)
            if left == total:
                self.report(
                    f"waiting up to {left:.0f} s until AWS Batch lists every job that was submitted"
                )
            pause = min(self.listing_delay / 6, left)
            self.sleep(pause)
            left -= pause

    def seconds_until_listed(self, number: int) -> float:
        """Return how long it takes until Batch lists all jobs that were submitted before."""
        events = list(self.ledger.intact_events())
        last = events[-1] if events else {}
        accepted = len(read_ids(self.ledger, number))
        if last.get("event") == STOPPED and last.get("accepted") == accepted:
            # The last submission noted everything, and the ledger still has all of it.
            return 0.0
        # The last call may have been made just before its process died, long after it was noted. A
        # lost line cannot say when its call was made, but the loss itself has changed the file.
        age = max(time.time() - self.ledger.changed_at, 0.0)
        return min(max(self.longest_call + self.listing_delay - age, 0.0), self.listing_delay)

    def end_duplicates(self, specs: Sequence[Spec]) -> None:
        """End jobs that repeat the work of another job of the round, and report them."""
        inventory = take_inventory(self.ledger, self.reader, {specs[0].round: specs})
        for text in end_duplicates(self.reader, inventory.duplicates):
            self.report(text)

    def _submit_in_order(
        self, specs: Sequence[Spec], ids: Mapping[str, str]
    ) -> Generator[tuple[str, str]]:
        """Yield each new job's key and id as soon as it is known; the caller adds it to `ids`.

        After an error it starts no further calls, but waits for those in progress: Batch may still
        accept each of these jobs, and the ids must reach the ledger and the user.
        """
        by_key = {spec.key: spec for spec in specs}
        order = TopologicalSorter({spec.key: spec.depends for spec in specs})
        order.prepare()
        running: dict[cf.Future[tuple[str, UnwritableLedger | None]], str] = {}
        failure: BaseException | None = None
        with cf.ThreadPoolExecutor(THREADS) as pool:
            try:
                while True:
                    for key in order.get_ready() if failure is None else ():
                        if key in ids:
                            order.done(key)
                            continue
                        needed = {needed: ids[needed] for needed in by_key[key].depends}
                        running[pool.submit(self._submit_once, by_key[key], needed)] = key
                    # Without a running job, `order` is still active if all ready jobs had an id:
                    # then marking them done has made others ready.
                    if not running and not (failure is None and order.is_active()):
                        break
                    for future in cf.wait(running, return_when=cf.FIRST_COMPLETED).done:
                        key = running.pop(future)
                        if future.cancelled():
                            continue
                        if (error := future.exception()) is None:
                            id_, error = future.result()
                            yield key, id_
                            order.done(key)
                        failure = failure or error
                    for future in running if failure is not None else ():
                        future.cancel()
            finally:
                # After Ctrl-C, too, nothing is started that has not begun.
                pool.shutdown(wait=False, cancel_futures=True)
        if failure is not None:
            raise failure

    def _submit_once(
        self, spec: Spec, ids: Mapping[str, str]
    ) -> tuple[str, UnwritableLedger | None]:
        """Submit a job, and return its id.

        An id that could not be written to the ledger is returned with the error: the job exists.
        """
        request = spec.fill_in(self.ledger.run_id, ids)
        definition = request["jobDefinition"]
        request["jobDefinition"] = self.definitions.get(definition, definition)
        # All of it is on disk before the call: if this process dies, the next one knows that there
        # may be a job.
        self.ledger.note(INTENDED, job=spec.key, round=spec.round, name=request["jobName"])
        with self._lock:
            self._open.add(spec.key)
        id_ = self._submit(spec, request)
        try:
            self.ledger.note(ACCEPTED, job=spec.key, round=spec.round, id=id_)
        except UnwritableLedger as error:
            return id_, error
        self._close(spec)
        return id_, None

    def _close(self, spec: Spec) -> None:
        with self._lock:
            self._open.discard(spec.key)

    def _submit(self, spec: Spec, request: SubmitJobRequest) -> str:
        for attempts_left in range(self.lost, -1, -1):
            try:
                # Only a throttled call is simply repeated: it was certainly not carried out.
                return self.patience.insist(lambda: self._call(request))
            except Unanswered:
                # The job may exist now. Look before submitting another one.
                self.ledger.note(UNANSWERED, job=spec.key, round=spec.round)
                id_ = self.find(spec)
                if id_ is not None:
                    return id_
                if not attempts_left:
                    raise
            except AwsError:
                self._close(spec)
                raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _call(self, request: SubmitJobRequest) -> str:
        # Within `insist`, so that repeated calls keep to the rate limit too.
        self.pace.wait()
        return str(self.maker.call("SubmitJob", **request)["jobId"])

    def find(self, spec: Spec) -> str | None:
        """Return the id of the job of `spec`, waiting until it is listed; None if there is none."""
        name, queue = spec.name(self.ledger.run_id), spec.request["jobQueue"]
        for part in LOOKS:
            self.sleep(part * self.listing_delay)
            listed = [job["jobId"] for job in list_jobs_named(self.reader, queue, name)]
            jobs = describe_jobs(self.reader, listed)
            candidates = find_candidates(self.ledger.run_id, [spec], jobs)
            if candidates:
                return choose([spec], candidates, {})[0][spec.key]
        return None
