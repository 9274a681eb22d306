"""The jobs of a run as Slurm knows them: from the controller, and from accounting where there is.

Jobs are found by their names, which contain the id of the run. So a job is found whose submission
was cut off before its id was known. The controller forgets a job MinJobAge seconds after its end,
300 by default; accounting remembers it, but hears of it some seconds late.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import attrs

from rvrun.runners.slurm.commands import CommandFailed, NoAccounting, NoAnswer, query
from rvrun.split_ranges import read_ranges

#: Between the name of a submission and the id of its run, in a job's name. sbatch accepts it, and
#: no name of a pipeline or command has it.
AT = "@"
#: The most names in one call: a command line has a limit, and so has sacct's query.
MAX_NAMES = 500
#: Job states by what they mean (squeue(1), "JOB STATE CODES").
WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
)
DONE = "COMPLETED"
#: How the reasons of jobs begin that are held (squeue(1), "JOB REASON CODES").
HELD = ("JobHeld", "launch failed requeued held")
_TASK = re.compile(r"(\d+)(?:_(?:(\d+)|\[([\d,-]+)(?:%\d+)?\]))?")


@attrs.frozen(kw_only=True)
class Task:
    """A task of an array, or a job without one.

    - `name`: of its job. `job_id`: of its job or array. `index`: in its array; None without one.
    - `state`: Slurm's word. `reason`: why it waits, or why it ended.
    - `began`, `ended`: in seconds since 1970; None if that has not happened.
    """

    name: str
    job_id: int
    index: int | None
    state: str
    reason: str = ""
    began: float | None = None
    ended: float | None = None
    nodes: str = ""

    @property
    def is_waiting(self) -> bool:
        return self.state in WAITING

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @property
    def is_done(self) -> bool:
        return self.state == DONE

    @property
    def waits_for_jobs(self) -> bool:
        """Whether it waits for what it depends on, and not for a machine."""
        return self.is_waiting and self.reason.startswith("Dependency")

    @property
    def is_held(self) -> bool:
        """Whether it waits until somebody releases it, whatever else it waits for."""
        return self.is_waiting and self.reason.startswith(HELD)

    @property
    def was_pointless(self) -> bool:
        """Whether it was ended before it began, because what it depends on failed."""
        return self.state == "CANCELLED" and not self.nodes


def job_name(key: str, run_id: str, number: int) -> str:
    """Return the name of the job of a submission, in a round of a run."""
    return f"{key}{AT}{run_id}" + (f".r{number}" if number > 1 else "")


def listed(names: Sequence[str], user: str) -> list[Task]:
    """Return the tasks of jobs with these names that the controller knows.

    Raises `NotInstalled`, `NoAnswer` or `CommandFailed`.
    """
    form = "%j|%F|%K|%T|%r|%S|%e|%N"
    words = (
        "squeue",
        "--noheader",
        "--array",
        "--states=all",
        f"--user={user}",
        f"--format={form}",
    )
    lines = (line for part in _parts(names) for line in query(*words, part).splitlines())
    tasks = (task for line in lines if (task := _from_squeue(line)) is not None)
    return _named(names, tasks)


def accounted(names: Sequence[str], user: str, since: float) -> list[Task]:
    """Return the tasks of jobs with these names in accounting; none without accounting.

    - `since`: when the run began, in seconds since 1970.

    Raises `NotInstalled` or `NoAccounting`.
    """
    form = "JobID,JobName%200,State%40,Start,End,NodeList%200,Reason%80"
    # A day earlier: the clocks of the cluster and of this machine may differ.
    start = f"--starttime=now-{_days_since(since)}days"
    flags = ("--noheader", "--parsable2", "--allocations")
    words = ("sacct", *flags, f"--user={user}", start, f"--format={form}")
    try:
        lines = [line for part in _parts(names) for line in query(*words, part).splitlines()]
    except CommandFailed:
        # Without accounting, sacct refuses; what it would add is not needed to see what is done.
        return []
    except NoAnswer as error:
        raise NoAccounting(error.problem) from error
    return _named(names, (task for line in lines for task in _from_sacct(line)))


def _named(names: Sequence[str], tasks: Iterable[Task]) -> list[Task]:
    """The tasks with exactly these names: Slurm does not tell apart `Train` and `train`."""
    wanted = frozenset(names)
    return [task for task in tasks if task.name in wanted]


def _days_since(since: float) -> int:
    import time

    return max(int((time.time() - since) // 86400), 0) + 2


def _parts(names: Sequence[str]) -> Iterator[str]:
    for first in range(0, len(names), MAX_NAMES):
        yield f"--name={','.join(names[first : first + MAX_NAMES])}"


def _from_squeue(line: str) -> Task | None:
    fields = line.split("|")
    if len(fields) != 8 or not fields[1].isdecimal():
        return None
    name, job_id, index, state, reason, began, ended, nodes = fields
    return Task(
        name=name,
        job_id=int(job_id),
        index=int(index) if index.isdecimal() else None,
        state=state,
        reason="" if reason == "None" else reason,
        began=None if state in WAITING else _time(began),
        ended=_time(ended) if state in ENDED else None,
        nodes=nodes,
    )


def _from_sacct(line: str) -> Iterator[Task]:
    fields = line.split("|")
    if len(fields) != 7 or (match := _TASK.fullmatch(fields[0])) is None:
        return
    _, name, state, began, ended, nodes, reason = fields
    job_id, index, indices = match.groups()
    for own in read_ranges(indices) if indices else [None if index is None else int(index)]:
        yield Task(
            name=name,
            job_id=int(job_id),
            index=own,
            # "CANCELLED by 1000"
            state=state.partition(" ")[0],
            reason="" if reason == "None" else reason,
            began=_time(began),
            ended=_time(ended),
            nodes="" if nodes == "None assigned" else nodes,
        )


def _time(text: str) -> float | None:
    """Parse a time; None for `N/A` and `Unknown`."""
    return float(text) if text.isdecimal() and int(text) else None
