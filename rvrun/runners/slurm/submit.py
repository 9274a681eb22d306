"""Submit the jobs of a round, each exactly once.

sbatch takes no client token, so repeating a call may submit a second job. Therefore:

- Each intention is on disk before its call, and each id after it.
- sbatch inherits the lock of the ledger. If rvrun is killed, sbatch may still run; whoever
  continues waits until it has ended.
- The name of a job contains the id of its run. A call that was cut off, failed or printed anything
  but an id is repeated only if no job of that name is listed within `lookup_delay` seconds.
- Should a job be listed later than that, it is a duplicate. The next look at the run ends it
  (`end_duplicates`); until then it finds its targets locked or done.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from rvrun.environment import VERBOSITY
from rvrun.errors import RvrunError
from rvrun.inputs import read_text
from rvrun.remote.ledger import (
    CANCELLED,
    INTENDED,
    RESTORE,
    SUBMITTED,
    Ledger,
    UnwritableLedger,
)
from rvrun.remote.state import Progress, timestamp
from rvrun.runners.run import Run
from rvrun.runners.slurm import commands
from rvrun.runners.slurm.commands import CommandFailed, Done, NoAnswer, overriding
from rvrun.runners.slurm.jobs import Submission
from rvrun.runners.slurm.queue import Task, accounted, listed
from rvrun.runners.slurm.render import FOLDER, dependency
from rvrun.runners.slurm.rounds import ACCEPTED, Round, text_fact, variables_of, workdir_of
from rvrun.settings.files import IMPORTS
from rvrun.settings.schema import variable
from rvrun.signals import SIGNALLED
from rvrun.text import count

#: The event of the ledger for a call without a usable reply.
UNANSWERED = "unanswered"
#: What `sbatch --parsable` prints: all of it, with the end of the line.
_REPLY = re.compile(r"(\d+)(?:;\S+)?\n")
#: Seconds between calls while the controller does not answer.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)
POLL_SECONDS = 0.5


class NotAllSubmitted(RvrunError):
    """A round of which only some jobs could be submitted.

    - `run`: what users type to name it. `num_jobs`: how many were submitted, of `total`.
    """

    problem: str
    run: str
    num_jobs: int
    total: int
    fix = "repeat the same command to continue, or end the submitted jobs with `rvrun cancel {run}`"

    def __str__(self) -> str:
        return (
            f"{self.problem}\n{self.num_jobs} of {count(self.total, 'job')} of run {self.run} were "
            f"submitted; {self.how_to_fix()}"
        )


class NothingSubmitted(RvrunError):
    """A round whose first job was refused."""

    problem: str
    template = (
        "nothing was submitted, because Slurm refused the first job: {problem}; change the "
        "settings in [slurm], and repeat the command"
    )
    fix = "change the settings in [slurm], and repeat the command"


@attrs.frozen(kw_only=True)
class Submitter:
    """Submits the jobs of a round.

    - `lookup_delay`: seconds within which a job is listed whose call was cut off.
    """

    round: Round
    lookup_delay: float
    pauses: Sequence[float] = PAUSES
    sleep: Callable[[float], None] = time.sleep

    @property
    def ledger(self) -> Ledger:
        return self.round.ledger

    def submit(self, progress: Progress, *, is_new: bool) -> dict[str, int]:
        """Submit what is not submitted yet; return the ids of all jobs by key.

        - `is_new`: whether this process created the round, so that no job of it can exist.

        Raises `NotAllSubmitted` or `NothingSubmitted`.
        """
        calls, ids = self.round.submissions, dict(self.round.ids)
        try:
            with self.ledger.exclusive() as lock:
                if not is_new:
                    ids = self.recover()
                for call in calls:
                    progress(len(ids), len(calls))
                    if call.key not in ids:
                        ids[call.key] = self._submit_once(call, ids, lock)
                progress(len(ids), len(calls))
                self.ledger.note(SUBMITTED, round=self.round.number)
                if not is_new or self.ledger.has(UNANSWERED):
                    end_duplicates(self.round, ids, self.listed())
        except (CommandFailed, NoAnswer, UnwritableLedger) as error:
            if is_new and not ids and isinstance(error, CommandFailed) and self._end_empty():
                raise NothingSubmitted(str(error)) from error
            run = self.ledger.handle
            raise NotAllSubmitted(str(error), run, len(ids), len(calls)) from error
        return ids

    def _end_empty(self) -> bool:
        """Let a round end of which no job can exist, so that it need not be cancelled by hand.

        Returns whether it ended.
        """
        if self.ledger.has(UNANSWERED):
            return False
        self.ledger.note_if_possible(CANCELLED, round=self.round.number)
        return True

    def recover(self) -> dict[str, int]:
        """Return the ids of the jobs that earlier processes submitted, by key.

        Call it with the lock of the ledger, so that no sbatch of theirs runs. The controller may
        still work on what such an sbatch sent, so this waits until that would be listed.
        """
        intended = {
            str(event.get("job"))
            for event in self.ledger.intact_events(INTENDED)
            if event.get("round") == self.round.number
        }
        deadline = time.monotonic() + self.lookup_delay
        while True:
            ids = {**oldest_ids(self.round, self.listed()), **self.round.ids}
            if intended <= ids.keys() or time.monotonic() >= deadline:
                break
            self.sleep(POLL_SECONDS)
        for key in ids.keys() - self.round.ids.keys():
            self.ledger.note(ACCEPTED, job=key, round=self.round.number, id=ids[key])
        return ids

    def listed(self) -> list[Task]:
        """Return all tasks of the round that Slurm knows."""
        return known_tasks(self.round)

    def _submit_once(self, call: Submission, ids: Mapping[str, int], lock: int) -> int:
        """Submit a job, and return its id, which is in the ledger."""
        words = sbatch_words(self.round, call, ids)
        unset = overriding(read_text(str(script_of(self.round, call)), RESTORE))
        for pause in (*self.pauses, None):
            # On disk before the call: if this process dies, the next one knows that there may be a
            # job.
            self.ledger.note(INTENDED, job=call.key, round=self.round.number)
            done = commands.call(
                words,
                cwd=workdir_of(self.ledger),
                variables=variables_of(self.ledger),
                unset=unset,
                inherited=(lock,),
            )
            id_ = reply_of(done)
            is_refused = done.code != 0 and not done.has_no_answer and not is_killed(done)
            if id_ is None:
                if not is_refused:
                    self.ledger.note(UNANSWERED, job=call.key, round=self.round.number)
                # After a refusal, nothing is on its way that could be listed later.
                id_ = self._find(call, 0 if is_refused else self.lookup_delay)
            if id_ is not None:
                self.ledger.note(ACCEPTED, job=call.key, round=self.round.number, id=id_)
                return id_
            if is_refused:
                raise CommandFailed(f"{call.key}: {done.message}")
            if pause is None:
                break
            self.sleep(pause)
        raise NoAnswer(f"{call.key}: {done.message}")

    def _find(self, call: Submission, delay: float) -> int | None:
        """Return the id of a job whose reply was lost; look for it for `delay` seconds."""
        deadline = time.monotonic() + delay
        while True:
            # Not knowing is not the same as knowing that there is none: this keeps asking.
            with contextlib.suppress(NoAnswer):
                ids = oldest_ids(self.round, self.listed())
                if call.key in ids or time.monotonic() >= deadline:
                    return ids.get(call.key)
            if time.monotonic() >= deadline + sum(self.pauses):
                raise NoAnswer(f"{call.key}: the controller does not answer")
            self.sleep(POLL_SECONDS)


def sbatch_words(round_: Round, call: Submission, ids: Mapping[str, int]) -> list[str]:
    """Return the command line that submits a job; its script is that in the ledger."""
    ledger = round_.ledger
    depends = dependency({key: str(id_) for key, id_ in ids.items()}, call)
    return [
        "sbatch",
        "--parsable",
        f"--job-name={round_.names[call.key]}",
        f"--comment=rvrun run={ledger.run_id} stage={call.job.stage} round={round_.number}",
        *([f"--array={call.array}"] if call.array else []),
        *([f"--dependency={depends}"] if depends else []),
        os.path.relpath(script_of(round_, call), workdir_of(ledger)),
        *([str(call.offset)] if call.offset else []),
    ]


def script_of(round_: Round, call: Submission) -> pathlib.Path:
    """Return the script of a submission: the one in the ledger, which nothing changes."""
    return round_.ledger.round_folder(1).absolute() / FOLDER / call.job.script


def reply_of(done: Done) -> int | None:
    """Return the id that sbatch printed; None if it did not print one, or not all of it."""
    match = _REPLY.fullmatch(done.stdout)
    return int(match[1]) if done.code == 0 and match else None


def is_killed(done: Done) -> bool:
    """Whether sbatch was killed, itself or below a wrapper, or ended without a reason."""
    # 255 is its own exit code for options that it does not know.
    is_signal = done.code < 0 or SIGNALLED < done.code <= SIGNALLED + signal.NSIG
    return is_signal or (done.code != 0 and not done.stderr.strip())


def known_tasks(round_: Round) -> list[Task]:
    """Return the tasks of a round that the controller knows, and those in accounting."""
    tasks = listed_tasks(round_)
    missing = set(round_.names.values()) - {task.name for task in tasks}
    return tasks + accounted_tasks(round_, sorted(missing))


def listed_tasks(round_: Round) -> list[Task]:
    """Return the tasks of a round that the controller knows, with all that wait or run."""
    return listed(list(round_.names.values()), text_fact(round_.ledger, "user"))


def accounted_tasks(round_: Round, names: Sequence[str]) -> list[Task]:
    """Return the tasks of jobs of a round that accounting has."""
    if not names:
        return []
    since = timestamp(round_.ledger.facts["began"])
    return accounted(names, text_fact(round_.ledger, "user"), since)


def oldest_ids(round_: Round, tasks: Iterable[Task]) -> dict[str, int]:
    """Return the id of the first job that was submitted for each key."""
    keys = {name: key for key, name in round_.names.items()}
    ids: dict[str, int] = {}
    for task in tasks:
        key = keys[task.name]
        ids[key] = min(ids.get(key, task.job_id), task.job_id)
    return ids


def end_duplicates(
    round_: Round, ids: Mapping[str, int], tasks: Iterable[Task]
) -> list[tuple[str, int]]:
    """End jobs that repeat the work of the one that counts; return their keys and ids."""
    keys = {name: key for key, name in round_.names.items()}
    alive = {(keys[t.name], t.job_id) for t in tasks if t.name in keys and not t.is_over}
    duplicates = sorted(pair for pair in alive if ids.get(pair[0], pair[1]) != pair[1])
    commands.cancel([id_ for _, id_ in duplicates])
    for key, id_ in duplicates:
        text = f"rvrun: job {id_} repeats job {ids[key]} ({key}) and was cancelled"
        print(text, file=sys.stderr)
    return duplicates


def job_variables(run: Run) -> dict[str, str]:
    """Return the variables by which options of this command line reach the targets."""
    imports = run.settings.imports
    variables = {variable(IMPORTS): imports} if imports else {}
    return variables | ({VERBOSITY: str(run.verbosity)} if run.verbosity else {})
