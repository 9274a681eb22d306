"""What a target waits for, whatever reason squeue gives for its job. Pure."""

from __future__ import annotations

import json
import pathlib

import attrs
import pytest

from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import State
from rvrun.runners.slurm import commands, lifecycle, looks, queue
from rvrun.runners.slurm.commands import NoAnswer
from rvrun.runners.slurm.jobs import Job, job_to_json
from rvrun.runners.slurm.lifecycle import cancel
from rvrun.runners.slurm.queue import Task
from rvrun.runners.slurm.render import JOBS
from rvrun.runners.slurm.rounds import ACCEPTED, Round, facts
from rvrun.runners.slurm.state import read_state

JOBS_OF_RUN = [
    Job(stage="p/a", script="1.sh", stamps="done/p/a"),
    Job(stage="p/b", script="2.sh", stamps="done/p/b.3", num_splits=3, after=("p/a",)),
    Job(stage="p/c", script="3.sh", stamps="done/p/c.3", num_splits=3, corresponding=("p/b",)),
]


@pytest.fixture
def ledger(tmp_path: pathlib.Path) -> Ledger:
    """A run of which everything was submitted."""
    tasks = {job.stage: range(job.num_tasks) for job in JOBS_OF_RUN}
    own = facts(tasks, size=10, workdir=".", user="0", program="rvrun", variables={})
    files = {JOBS: json.dumps([job_to_json(job) for job in JOBS_OF_RUN])}
    run = ledgers.create(tmp_path / "run", "p", "slurm", files, own)
    for number, job in enumerate(JOBS_OF_RUN, start=1):
        run.note(ACCEPTED, job=job.stage, round=1, id=number)
    run.note("submitted", round=1)
    return run


def task(ledger: Ledger, stage: str, index: int | None, state: str, reason: str) -> Task:
    number = 1 + [job.stage for job in JOBS_OF_RUN].index(stage)
    name = f"{stage}@{ledger.run_id}"
    return Task(name=name, job_id=number, index=index, state=state, reason=reason)


@pytest.mark.parametrize("reason", ["", "Priority", "ReqNodeNotAvail, UnavailableNodes:n1"])
def test_what_waits_for_jobs_is_pending(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """The queue may show no reason, or another one, for a job that waits for others."""
    tasks = [
        task(ledger, "p/a", None, "RUNNING", ""),
        *(task(ledger, stage, i, "PENDING", reason) for stage in ("p/b", "p/c") for i in range(3)),
    ]
    monkeypatch.setattr(looks, "known_tasks", lambda round_: tasks)
    counts = [(stage.counts, stage.stuck) for stage in read_state(ledger).stages]
    pending = ({State.PENDING: 3}, "")
    assert counts == [({State.RUNNING: 1}, ""), pending, pending]


def test_aligned_tasks_wait_for_their_own(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose counterpart is done wait for a machine, as Slurm says for some time later."""
    tasks = [
        task(ledger, "p/a", None, "COMPLETED", ""),
        *(task(ledger, "p/b", i, "COMPLETED" if i else "RUNNING", "") for i in range(3)),
        task(ledger, "p/c", 0, "PENDING", "Resources"),
        task(ledger, "p/c", 1, "PENDING", "Resources"),
        task(ledger, "p/c", 2, "PENDING", "Dependency"),
    ]
    monkeypatch.setattr(looks, "known_tasks", lambda round_: tasks)
    own = read_state(ledger).stages[2]
    assert own.counts == {State.PENDING: 2, State.RUNNABLE: 1}
    assert own.stuck == "Resources: the nodes that it needs are busy"


def test_a_held_job(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else would say why it never starts."""
    tasks = [
        task(ledger, "p/a", None, "RUNNING", ""),
        *(task(ledger, "p/b", i, "PENDING", "JobHeldUser") for i in range(3)),
        *(task(ledger, "p/c", i, "PENDING", "Dependency") for i in range(3)),
    ]
    monkeypatch.setattr(looks, "known_tasks", lambda round_: tasks)
    own = read_state(ledger).stages[1]
    assert own.counts == {State.PENDING: 3}
    assert own.stuck == "JobHeldUser: it is held; release it with `scontrol release`"


def test_a_task_that_was_cancelled_while_it_waited(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller forgets it immediately, and accounting knows it."""
    tasks = [
        task(ledger, "p/a", None, "RUNNING", ""),
        *(task(ledger, "p/b", i, "PENDING", "Dependency") for i in (0, 2)),
        *(task(ledger, "p/c", i, "PENDING", "Dependency") for i in range(3)),
    ]
    calls = []

    def accounted(round_: Round, names: list[str]) -> list[Task]:
        calls.append([name.partition("@")[0] for name in names])
        return [task(ledger, "p/b", 1, "CANCELLED", "")]

    monkeypatch.setattr(looks, "known_tasks", lambda round_: tasks)
    monkeypatch.setattr(looks, "accounted_tasks", accounted)
    state = read_state(ledger)
    assert calls == [["p/b"]]
    assert state.stages[1].counts == {State.PENDING: 2, State.FAILED: 1}
    assert state.failure is not None
    assert state.failure.reason == "CANCELLED: it was cancelled before it began"


def test_accounting_is_down(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be asked of it where stamps say enough, such as about jobs that are done."""
    lines = [
        f"p/{stage}@{ledger.run_id}|{number}|{index}|PENDING|Resources|N/A|N/A|\n"
        for number, stage in enumerate("bc", start=2)
        for index in range(3)
    ]

    def query(program: str, *words: str) -> str:
        if program == "sacct":
            raise NoAnswer("`sacct`: Problem talking to the database: Connection refused")
        return "".join(lines)

    monkeypatch.setattr(queue, "query", query)
    with pytest.raises(NoAnswer, match="`sacct`: Problem talking"):
        read_state(ledger)
    stamp = ledger.run_dir / "done/p/a"
    stamp.parent.mkdir(parents=True)
    stamp.touch()
    counts = [stage.counts for stage in read_state(ledger).stages]
    assert counts == [{State.SUCCEEDED: 1}, {State.RUNNABLE: 3}, {State.PENDING: 3}]
    monkeypatch.setattr(commands, "query", query)
    assert cancel(ledger, lambda done, total: None) == 2


def test_cancelled_when_all_was_done(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """There was nothing to cancel, and whole seconds of Slurm do not end before the beginning."""
    done = [
        attrs.evolve(task(ledger, job.stage, index, "COMPLETED", ""), ended=1.0)
        for job in JOBS_OF_RUN
        for index in ([None] if job.num_splits is None else range(3))
    ]
    monkeypatch.setattr(looks, "known_tasks", lambda round_: done)
    monkeypatch.setattr(lifecycle, "listed_tasks", lambda round_: done)
    assert cancel(ledger, lambda done, total: None) == 0
    state = read_state(ledger)
    assert state.word == "succeeded"
    assert state.ended == state.began
