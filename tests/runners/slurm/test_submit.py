"""Each job is submitted exactly once, whatever happens to sbatch and to rvrun."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from rvrun.runners.slurm import commands
from tests.conftest import PATIENCE, unmeasured_environment
from tests.engines.slurm import started
from tests.runners.slurm.runs import ALL_ONCE, Site

#: How many kills to try, and the first seed.
TRIALS = int(os.environ.get("TRIALS", "3"))
SEED = int(os.environ.get("SEED", "0"))
STAGES = ("first", "part", "match", "last")


def assert_one_job_per_stage(site: Site) -> None:
    assert len(site.run_ids) == 1
    assert site.jobs() == {f"marks/{stage}@{site.run_ids[0]}": 1 for stage in STAGES}


@pytest.mark.parametrize(
    "faults",
    [
        ("unanswered", "unanswered"),
        ("", "lost"),
        ("cut", "", "silent"),
        ("killed", "unsent"),
        ("reset", "", "reset"),
        ("slow 0.5", "lag 0.5"),
    ],
    ids=" ".join,
)
def test_faults_of_sbatch(site: Site, faults: tuple[str, ...]) -> None:
    """What was submitted is found, and what was not is submitted."""
    site.break_sbatch(*faults)
    site.submit()
    assert_one_job_per_stage(site)
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == ALL_ONCE


def test_settings_override_variables_of_sbatch(site: Site) -> None:
    """Variables are people's defaults for scripts that do not say."""
    site.write("rvrun.toml", '[slurm]\npartition = "main"\n')
    site.variables.update(SBATCH_PARTITION="closed", SBATCH_ACCOUNT="lab", SBATCH_WAIT="1")
    site.act("first", "sleep 600")
    site.submit("first")
    assert site.slurm.call("squeue", "-h", "-o", "%P %a").split() == ["main", "lab"]


def test_a_refusal(site: Site) -> None:
    """The message is sbatch's own, and the same command continues."""
    site.break_sbatch("", "refused")
    printed = site.submit(code=2)
    run = site.run_ids[0]
    assert printed == (
        "rvrun: marks/part: sbatch: error: Batch job submission failed: Invalid partition "
        f"name specified\n1 of 4 jobs of run {run} were submitted; repeat the same command to "
        f"continue, or end the submitted jobs with `rvrun cancel {run}`\n"
    )
    assert site.state()["state"] == "interrupted"
    site.submit()
    assert_one_job_per_stage(site)
    assert site.wait()["state"] == "succeeded"


def test_the_first_job_is_refused(site: Site) -> None:
    """Nothing has to be cancelled before the next submission, even with other settings."""
    site.break_sbatch("refused")
    assert site.submit(code=2) == (
        "rvrun: nothing was submitted, because Slurm refused the first job: marks/first: "
        "sbatch: error: Batch job submission failed: Invalid partition name specified; change the "
        "settings in [slurm], and repeat the command\n"
    )
    state = site.state()
    assert state["state"] == "cancelled"
    assert state["failure"]["reason"] == "CANCELLED: it was cancelled before it began"
    site.write("rvrun.toml", "[slurm]\ncpus = 2\n")
    site.submit("first")
    assert site.wait()["state"] == "succeeded"


def kill_at(site: Site, has_begun: Callable[[], bool], seconds: float, how: str) -> None:
    """Submit, and kill rvrun `seconds` after it `has_begun`; `group`: with its sbatch."""
    process = subprocess.Popen(
        ["rvrun", "run", "slurm", "marks.py", "--splits", "3", "-q"],
        cwd=site.folder,
        env=unmeasured_environment(**site.variables),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    site.until("rvrun begins", lambda: process.poll() is not None or has_begun(), pause=0.005)
    time.sleep(seconds)
    if process.poll() is None:
        (os.killpg if how == "group" else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    # What a killed sbatch has sent is listed before `lookup_delay` begins, on any machine.
    site.slurm.wait_until_answered()


def has_begun(folder: pathlib.Path) -> bool:
    return any((folder / "runs/marks/submitted").glob("[!.]*/run.json"))


def test_sbatch_outlives_the_submitter(site: Site) -> None:
    """The next one waits for it, and finds what it submitted."""
    site.break_sbatch("slow 4")
    kill_at(site, lambda: bool(site.calls()), 0.0, "rvrun")
    site.submit()
    site.wait()
    assert_one_job_per_stage(site)


READERS = ("squeue", "sacct", "scontrol")


@pytest.mark.parametrize("seed", range(SEED, SEED + TRIALS))
def test_the_submitter_is_killed(site: Site, seed: int) -> None:
    """At a random moment, once or twice, while sbatch and what finds jobs have random faults."""
    chance = random.Random(seed)
    kinds = (
        "",
        "",
        "slow 0.3",
        "slow 3",
        "lag 0.3",
        "lost",
        "cut",
        "silent",
        "killed",
        "unsent",
        "unanswered",
    )
    site.break_sbatch(*chance.choices(kinds, k=8))
    faults = ("", "", "slow 0.3", "unanswered", "killed")
    site.break_readers(**{name: chance.choices(faults, k=6) for name in READERS})
    for _ in range(chance.randint(1, 2)):
        seconds, how = chance.uniform(0, 1.5), chance.choice(("rvrun", "group"))
        kill_at(site, lambda: has_begun(site.folder), seconds, how)
    submit_to_the_end(site)
    site.break_readers(**dict.fromkeys(READERS, ()))
    assert_one_job_per_stage(site)
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == ALL_ONCE


def submit_to_the_end(site: Site) -> None:
    """Repeat the command, which may be refused because nobody answers what there is already."""
    deadline = time.monotonic() + PATIENCE
    while not was_submitted(site.folder):
        done = site.start("rvrun", "run", "slurm", "marks.py", "--splits", "3")
        assert time.monotonic() < deadline, done.stderr


def was_submitted(folder: pathlib.Path) -> bool:
    """Whether the run was submitted before it was killed: then the command starts another one."""
    events = list((folder / "runs/marks/submitted").glob("[!.]*/events.jsonl"))
    lines = [line for path in events for line in path.read_text().splitlines()]
    return any(json.loads(line)["event"] == "submitted" for line in lines)


@pytest.mark.parametrize("seed", range(SEED, SEED + max(TRIALS // 3, 1)))
def test_the_controller_restarts(site: Site, seed: int) -> None:
    """While the run is submitted: commands wait for it, or the same command continues."""
    chance = random.Random(seed)
    site.break_sbatch(*chance.choices(("", "slow 0.5", "lag 0.5"), k=8))
    process = subprocess.Popen(
        ["rvrun", "run", "slurm", "marks.py", "--splits", "3", "-q"],
        cwd=site.folder,
        env=unmeasured_environment(**site.variables),
    )
    time.sleep(chance.uniform(0.3, 2))
    site.slurm.stop("slurmctld")
    time.sleep(chance.uniform(0, 2))
    site.slurm.start_controller()
    process.wait(PATIENCE)
    submit_to_the_end(site)
    # It may have been stopped when all was submitted already.
    site.slurm.wait_for_controller()
    assert_one_job_per_stage(site)
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == ALL_ONCE


@pytest.mark.usefixtures("processes")
def test_a_controller_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections that it had accepted are reset, which is not a refusal."""
    with contextlib.contextmanager(started)(nodes=1) as slurm:
        monkeypatch.setenv("SLURM_CONF", slurm.variables["SLURM_CONF"])
        slurm.processes["slurmctld"].send_signal(signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor() as executor:
            future = executor.submit(commands.call, ["scontrol", "show", "config"])
            slurm.wait_for("scontrol has asked", slurm.has_questions)
            slurm.kill("slurmctld")
            done = future.result()
    assert done.has_no_answer, done
