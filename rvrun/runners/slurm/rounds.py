"""What the ledger says of the rounds of a run: which tasks were to be submitted, with which ids."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from rvrun import split_ranges
from rvrun.inputs import read_object, read_text
from rvrun.remote.ledger import RESTORE, RUN_FILE, DamagedRun, Ledger, reading
from rvrun.runners.slurm.jobs import (
    MAX_ARRAY_SIZE,
    Job,
    Submission,
    jobs_from_json,
    submissions,
)
from rvrun.runners.slurm.queue import job_name
from rvrun.runners.slurm.render import FOLDER, JOBS
from rvrun.runners.slurm.settings import SlurmSettings
from rvrun.settings.schema import key_of, variable

#: The event of the ledger that has the id of a submitted job.
ACCEPTED = "accepted"
#: The tasks that a retry submits, by stage: a file of its round.
TASKS = f"{FOLDER}/tasks.json"
#: The variable by which scripts find the rvrun that submitted them: that of `slurm.rvrun`.
PROGRAM = variable(key_of(SlurmSettings, "rvrun"))


@attrs.frozen(kw_only=True)
class Round:
    """A round of a run, as it was to be submitted.

    - `ids`: the ids of its jobs by the keys of their submissions, as far as the ledger has them.
    """

    ledger: Ledger
    number: int
    submissions: Sequence[Submission]
    ids: Mapping[str, int]

    @property
    def names(self) -> dict[str, str]:
        """The names of its jobs, by the keys of their submissions."""
        run_id = self.ledger.run_id
        return {call.key: job_name(call.key, run_id, self.number) for call in self.submissions}


def facts(
    tasks: Mapping[str, Sequence[int]],
    *,
    size: int | None,
    workdir: str,
    user: str,
    program: str,
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the ledger of a new run has to store.

    - `tasks`: those to submit, by stage. `size`: MaxArraySize; None for Slurm's default.
    - `workdir`: where commands run, relative to the run directory.
    - `user`: who submits the jobs. `program`: the command line of the rvrun that does.
    - `variables`: added to the environment of the jobs.
    """
    return {
        "tasks": tasks_to_json(tasks),
        "max_array_size": size or MAX_ARRAY_SIZE,
        "workdir": workdir,
        "user": user,
        "program": program,
        "variables": dict(variables),
    }


def tasks_to_json(tasks: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return the tasks of each stage as strings; stages without any are left out."""
    return {stage: split_ranges.write(own) for stage, own in tasks.items() if own}


def task_files(tasks: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Return the files of the round of a retry."""
    return {TASKS: json.dumps(tasks_to_json(tasks), indent=2) + "\n"}


def read_round(ledger: Ledger, number: int) -> Round:
    """Return a round. Raises `CannotRead` or `DamagedRun`."""
    path = ledger.folder / RUN_FILE
    tasks = ledger.facts["tasks"]
    if number > 1:
        path = ledger.round_folder(number) / TASKS
        tasks = read_object(str(path), RESTORE)
    with reading(str(path)):
        size = int(ledger.facts["max_array_size"])
        own = {stage: split_ranges.read(text) for stage, text in tasks.items()}
    return Round(
        ledger=ledger,
        number=number,
        submissions=submissions(read_jobs(ledger), own, size),
        ids=_read_ids(ledger, number),
    )


def read_rounds(ledger: Ledger) -> list[Round]:
    """Return all rounds, the first one first."""
    return [read_round(ledger, number) for number in ledger.rounds()]


def read_jobs(ledger: Ledger) -> list[Job]:
    """Return the jobs of a run. Raises `CannotRead` or `DamagedRun`."""
    path = ledger.round_folder(1) / JOBS
    text = read_text(str(path), RESTORE)
    with reading(str(path)):
        return jobs_from_json(text)


def has_event(ledger: Ledger, kind: str, number: int) -> bool:
    """Whether the ledger has an event of a round: that it was submitted, or cancelled."""
    return any(event.get("round") == number for event in ledger.intact_events(kind))


def _read_ids(ledger: Ledger, number: int) -> dict[str, int]:
    """Return the ids of jobs by key; of several for one key, the last, which has replaced them."""
    events = (e for e in ledger.intact_events(ACCEPTED) if e.get("round") == number)
    return {str(e.get("job")): e["id"] for e in events if type(e.get("id")) is int}


def workdir_of(ledger: Ledger) -> pathlib.Path:
    """Return the directory where the commands of a run run. Raises `DamagedRun`."""
    return (ledger.run_dir / text_fact(ledger, "workdir")).resolve()


def text_fact(ledger: Ledger, name: str) -> str:
    """Return a fact that is a string. Raises `DamagedRun`."""
    value = ledger.facts[name]
    if not isinstance(value, str):
        raise DamagedRun(str(ledger.folder / RUN_FILE), f"`{name}` must be a string, got {value!r}")
    return value


def variables_of(ledger: Ledger) -> dict[str, str]:
    """Return the variables that the jobs of a run get. Raises `DamagedRun`."""
    program, variables = text_fact(ledger, "program"), ledger.facts["variables"]
    with reading(str(ledger.folder / RUN_FILE)):
        own = {str(name): str(value) for name, value in variables.items()}
    return {PROGRAM: program, **own}
