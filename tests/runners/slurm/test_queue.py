"""What Slurm's commands print is read, in the forms that they have."""

from __future__ import annotations

import pytest

from rvrun.runners.slurm import commands, queue
from rvrun.runners.slurm.commands import CommandFailed, Done, NoAnswer
from rvrun.runners.slurm.options import minutes_of
from rvrun.runners.slurm.queue import Task, accounted, job_name, listed
from rvrun.runners.slurm.reasons import why_ended, why_waiting
from rvrun.runners.slurm.submit import is_killed, reply_of

SQUEUE = """\
p/a@r|7|0|COMPLETED|None|1700000000|1700000060|n1
p/a@r|7|12|PENDING|Resources|N/A|N/A|
p/b@r|8|12|PENDING|Dependency|1700000000|N/A|
p/c@r|9|N/A|CANCELLED|DependencyNeverSatisfied|1700000001|1700000001|
P/C@r|10|N/A|RUNNING|None|1700000001|N/A|n1
something else
"""
SACCT = """\
7_0|p/a@r|COMPLETED|1700000000|1700000060|n1|None
7_[3-4,6%2]|p/a@r|CANCELLED by 1000|None|1700000061|None assigned|None
9|p/c@r|RUNNING|1700000000|Unknown|n[1-2]|None
"""


def printing(text: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Have commands print `text`; returns the list of their calls."""
    calls: list[tuple[str, ...]] = []

    def query(*words: str) -> str:
        calls.append(words)
        return text

    monkeypatch.setattr(queue, "query", query)
    return calls


def test_squeue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task has a line; other lines do not count."""
    calls = printing(SQUEUE, monkeypatch)
    tasks = listed(["p/a@r", "p/b@r", "p/c@r"], "me")
    assert calls == [
        (
            *("squeue", "--noheader", "--array", "--states=all", "--user=me"),
            *("--format=%j|%F|%K|%T|%r|%S|%e|%N", "--name=p/a@r,p/b@r,p/c@r"),
        )
    ]
    assert tasks[0] == Task(
        name="p/a@r",
        job_id=7,
        index=0,
        state="COMPLETED",
        began=1.7e9,
        ended=1.7e9 + 60,
        nodes="n1",
    )
    assert tasks[1] == Task(name="p/a@r", job_id=7, index=12, state="PENDING", reason="Resources")
    assert tasks[2].waits_for_jobs
    # When it is expected to start is not when it did.
    assert tasks[2].began is None
    assert tasks[3].index is None
    assert tasks[3].was_pointless
    assert len(tasks) == 4


def test_sacct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that never began are one line."""
    printing(SACCT, monkeypatch)
    tasks = accounted(["p/a@r", "p/c@r"], "me", 0.0)
    assert [(task.job_id, task.index, task.state) for task in tasks] == [
        (7, 0, "COMPLETED"),
        *[(7, index, "CANCELLED") for index in (3, 4, 6)],
        (9, None, "RUNNING"),
    ]
    assert tasks[1].was_pointless
    assert tasks[-1].ended is None


def test_no_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    """That sacct fails is not an error."""

    def query(*words: str) -> str:
        raise CommandFailed("`sacct`: Slurm accounting storage is disabled")

    monkeypatch.setattr(queue, "query", query)
    assert accounted(["p/a@r"], "me", 0.0) == []


def test_names_of_jobs() -> None:
    """Each round has its own."""
    assert job_name("p/a.1", "run-1", 1) == "p/a.1@run-1"
    assert job_name("p/a.1", "run-1", 2) == "p/a.1@run-1.r2"


@pytest.mark.parametrize(
    ("done", "reply"),
    [
        (Done(0, "123\n", ""), 123),
        (Done(0, "123;cluster\n", ""), 123),
        (Done(0, "12", ""), None),
        (Done(0, "", ""), None),
        (Done(0, "Submitted batch job 12\n", ""), None),
        (Done(1, "123\n", "error"), None),
    ],
    ids=str,
)
def test_replies_of_sbatch(done: Done, reply: int | None) -> None:
    """An id counts only with the end of its line."""
    assert reply_of(done) == reply


def test_how_commands_fail() -> None:
    """Repeated if nobody answered or it was killed; reported otherwise."""
    timed_out = Done(1, "", "sbatch: error: Socket timed out on send/recv operation\n")
    reset = Done(1, "", "sbatch: error: Batch job submission failed: Connection reset by peer\n")
    unsent = Done(1, "", "sbatch: error: Batch job submission failed: Message send failure\n")
    assert (reset.has_no_answer, unsent.has_no_answer) == (True, True)
    refused = Done(1, "", "sbatch: error: Invalid account\nsbatch: error: Invalid account\n")
    assert (timed_out.has_no_answer, is_killed(timed_out)) == (True, False)
    assert (refused.has_no_answer, is_killed(refused)) == (False, False)
    assert refused.message == "sbatch: error: Invalid account"
    assert is_killed(Done(-9, "", ""))
    assert is_killed(Done(137, "", "Killed\n"))
    unknown = Done(255, "", "sbatch: unrecognized option '--frobnicate'\n")
    assert (unknown.has_no_answer, is_killed(unknown)) == (False, False)
    assert Done(2, "", "").message == "exit code 2"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("30", 30),
        ("30:30", 30.5),
        ("2:00:00", 120),
        ("1-0", 1440),
        ("1-12:30", 2190),
        ("1-00:00:30", 1440.5),
        ("UNLIMITED", float("inf")),
        ("2h", None),
        ("", None),
        ("-1", None),
    ],
)
def test_time_limits(text: str, minutes: float | None) -> None:
    """All forms of sbatch(1)."""
    assert minutes_of(text) == minutes


def test_reasons() -> None:
    """Slurm's word, then plain ones; an unknown word alone."""
    assert why_waiting("Resources") == "Resources: the nodes that it needs are busy"
    assert why_waiting("QOSMaxWallDurationPerJobLimit").endswith(
        ": a limit of the quality of service is reached"
    )
    assert why_waiting("NewReason") == "NewReason"
    lost = Task(name="p/a@r", job_id=7, index=0, state="NODE_FAIL", nodes="n1")
    assert why_ended(lost, None) == "NODE_FAIL: a node failed (n1)"
    assert why_ended(Task(name="p", job_id=7, index=0, state="NEW_STATE"), None) == "NEW_STATE"
    ended = Task(name="p", job_id=7, index=0, state="CANCELLED", nodes="n1")
    assert why_ended(ended, 143) == "CANCELLED: it was cancelled, but not by this run"
    assert why_ended(ended, 143, cancelled=True) == "CANCELLED: the run was cancelled"
    failed = Task(name="p", job_id=7, index=0, state="FAILED", reason="JobLaunchFailure")
    assert why_ended(failed, None).startswith("FAILED: JobLaunchFailure: it could not be launched")


def test_variables_of_an_outer_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would change what sbatch requests; which cluster to use stays."""
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_CONF", "MAKEFLAGS", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "x")
    kept = commands.environment()
    assert {name for name in kept if name.startswith("SLURM_")} == {"SLURM_CONF"}
    assert "MAKEFLAGS" not in kept
    assert "SBATCH_ACCOUNT" in kept


def test_variables_that_override_a_script() -> None:
    """Those of its options, whatever they are called, and what no job can have."""
    script = "#SBATCH --partition=main\n#SBATCH --time=1:00\n#SBATCH --requeue\n# --account=lab\n"
    assert commands.overriding(script) == {
        *("SBATCH_PARTITION", "SBATCH_TIME", "SBATCH_TIMELIMIT"),
        *("SBATCH_REQUEUE", "SBATCH_NO_REQUEUE"),
        *("SBATCH_ARRAY_INX", "SBATCH_WAIT"),
    }


@pytest.mark.usefixtures("processes")
def test_a_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it printed until then says why, such as that there are too many jobs."""
    message = ""
    for seconds in (0.3, 3.0, 30.0):
        # It has printed nothing yet if the machine is busy; then it gets more time.
        monkeypatch.setattr(commands, "TIMEOUT", seconds)
        with pytest.raises(NoAnswer, match=f"`sh` did not end within {seconds:.0f} s") as caught:
            commands.call(["sh", "-c", "echo sh: sleeping and retrying >&2; exec sleep 600"])
        message = str(caught.value)
        if not message.endswith(" s"):
            break
    assert message.endswith(" s: sh: sleeping and retrying")
