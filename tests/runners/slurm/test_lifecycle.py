"""Runs on a real Slurm: stamps, packing, retries, limits, and what `status` says about them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import clean_environment
from tests.engines.slurm import Slurm, started
from tests.runners.slurm.runs import ALL_ONCE, Site, stage


def test_scripts_submitted_by_hand(site: Site) -> None:
    """`sh submit.sh` needs no rvrun, from wherever it is called; the jobs do the same."""
    site.rvrun("render", "slurm", "marks.py", "--splits", "3")
    done = subprocess.run(
        ["sh", "submit.sh"],
        cwd=site.folder / "runs/marks/slurm",
        env=clean_environment(**site.slurm.variables),
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"submitted 4 jobs: \d+ \d+ \d+ \d+\n", done.stdout), done
    site.until_jobs_end()
    assert site.counted_marks() == ALL_ONCE
    assert "all up to date" in site.rvrun("plan", "marks.py", "--splits", "3")


def test_a_run_continues_locally_and_on_the_cluster(site: Site) -> None:
    """Both keep the same stamps."""
    site.rvrun("run", "local", "marks.py", "first", "part", "--splits", "3", "-q")
    site.submit()
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == ALL_ONCE
    assert {name: count for name, count in site.jobs().items() if "/first" in name} == {}
    site.rvrun("report", "@latest", "--html", "report.html")
    page = (site.folder / "report.html").read_text(encoding="utf-8")
    # Not "in parallel", which is a fact of the run before.
    assert re.search(r">slurm on [^<]* · 20", page)
    assert "8 of 8" in page
    printed = site.submit()
    assert printed == "all up to date; nothing was submitted\n"
    site.rvrun("run", "local", "marks.py", "--splits", "3", "-q")
    assert site.counted_marks() == ALL_ONCE


def test_forced(site: Site) -> None:
    """`--always-make` runs what is up to date, once."""
    site.rvrun("run", "local", "marks.py", "--splits", "1", "-q")
    site.submit("-B", splits=1)
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == dict.fromkeys(("first", "part0", "match0", "last"), 2)


def test_a_forced_stage(site: Site) -> None:
    """`--force` runs it, and what needs it, although both are up to date."""
    site.rvrun("run", "local", "marks.py", "--splits", "1", "-q")
    site.submit("--force", "match", splits=1)
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == {"first": 1, "part0": 1, "match0": 2, "last": 2}


ITEMS = """
import pathlib
import rvrun

class ScenesConfig(rvrun.PipelineConfig):
    names: list[str]
    def build(self):
        return Scenes(self)

class Scenes(rvrun.Pipeline):
    commands = ("chip", "sum")
    split_commands = ("chip",)
    items = {"chip": "names"}
    def chip(self, item):
        with open("marks", "a") as marks:
            marks.write(f"{item}\\n")
    def sum(self):
        pass

def get_config(runner, root_uri="out", names: str = ""):
    return ScenesConfig(root_uri=root_uri, names=names.split())
"""


def test_items(site: Site) -> None:
    """Another item, and another number of splits: only the new item is done."""
    site.write("scenes.py", ITEMS)
    for splits, names in (("2", "a b c"), ("3", "a b c d"), ("1", "d c b a")):
        words = ("scenes.py", "-a", "names", names, "--splits", splits, "-q")
        site.rvrun("run", "slurm", *words)
        site.until_jobs_end()
        assert site.state()["state"] == "succeeded"
    assert sorted(site.marks) == ["a", "b", "c", "d"]
    site.rvrun("run", "slurm", *words, "-B")
    site.until_jobs_end()
    assert sorted(site.marks) == sorted("abcd" * 2)


PROGRAMS = """
name = "tiles"
root = "out"

[commands.translate]
items = { glob = "tiles/*" }
splits = 2
run = "echo {item.stem} >> marks; test ! -e fail-{item.stem} && cp {item} {root}/{item.stem}.out"
outputs = ["{root}/a.out"]

[commands.merge]
needs = ["translate"]
inputs = ["notes"]
run = "echo merge >> marks; cat {root}/*.out notes > {root}/all"
outputs = ["{root}/all"]
"""


def test_items_inputs_and_outputs_of_programs(site: Site) -> None:
    """Only what is missing or changed runs, here and on Slurm, also within a packed task."""
    site.write("pipeline.toml", PROGRAMS)
    site.write("rvrun.toml", "[slurm]\npack = 2\n")
    for path in ("notes", "fail-c", *(f"tiles/{name}" for name in "abcd")):
        site.write(path, path)

    def marks_of(*words: str, state: str = "succeeded") -> list[str]:
        (site.folder / "marks").unlink(missing_ok=True)
        site.rvrun(*words, "-q")
        if "slurm" in words:
            site.until_jobs_end()
            assert site.state()["state"] == state
        return sorted(site.marks)

    on_slurm = ("run", "slurm", "pipeline.toml")
    assert marks_of(*on_slurm, state="failed") == ["a", "b", "c"]
    (site.folder / "fail-c").unlink()
    assert marks_of("run", "local", "pipeline.toml") == ["c", "d", "merge"]
    site.write("tiles/e", "new")
    assert marks_of(*on_slurm) == ["e", "merge"]
    site.write("notes", "changed")
    assert marks_of(*on_slurm) == ["merge"]
    (site.folder / "out/a.out").unlink()
    assert marks_of(*on_slurm) == [*"abcde", "merge"]
    assert "all up to date" in site.rvrun("plan", "pipeline.toml")


def test_packed_splits_resume(site: Site) -> None:
    """A retry submits the task of a failed split, and only that split runs again in it."""
    site.write("rvrun.toml", "[slurm]\npack = 4\nparallel = 2\n")
    site.act("part5", "fail 7")
    site.submit(splits=10)
    state = site.wait()
    assert state["state"] == "failed"
    assert state["failure"] == {
        "target": "marks/part/5",
        "reason": "FAILED: its command failed",
        "exit_code": 7,
    }
    counts = {name: stage(state, name).get("succeeded") for name in ("first", "part")}
    assert counts == {"first": 1, "part": 9}
    # Tasks 0 and 2 of `match` correspond to tasks that succeeded.
    assert stage(state, "match")["succeeded"] == 6
    site.act("part5", "")
    printed = site.rvrun("retry", "@latest")
    assert f"submitted 6 targets of {state['run']} again" in printed
    assert site.wait()["state"] == "succeeded"
    once = {f"{name}{index}": 1 for name in ("part", "match") for index in range(10)}
    assert site.counted_marks() == {**once, "first": 1, "last": 1, "part5": 2}


def test_log_of_the_last_attempt(site: Site) -> None:
    """`logs` prints that of the retry; `-f` ends with the target, whatever the controller does."""
    site.act("part1", "fail 3")
    site.submit("first", "part")
    site.wait()
    site.act("part1", "sleep 1")
    site.rvrun("retry", "@latest")
    site.break_readers(squeue=["unanswered"])
    followed = site.rvrun("logs", "@latest", "marks/part/1", "-f").splitlines()
    assert followed.count("ran part1") == 2
    lines = site.rvrun("logs", "@latest", "marks/part/1").splitlines()
    assert lines[:2] == ["rvrun: marks/part/1 of 3, attempt 1", "ran part1"]
    assert re.match(r"rvrun: marks/part/1 done after [1-9]\d*\.\d s", lines[2])
    assert len(lines) == 3
    wrong = site.rvrun("logs", "@latest", "marks/part/3", code=2)
    assert wrong == "rvrun: the splits of marks/part are 0 to 2, got `3`\n"


def test_cancelled_by_others(site: Site) -> None:
    """The run has failed, and a retry runs what did not."""
    site.act("part1", "sleep 600")
    site.submit("first", "part")
    site.until("part1 sleeps", lambda: "part1" in site.marks)
    site.slurm.call("scancel", site.job_of("part", 1))
    state = site.wait()
    assert state["state"] == "failed"
    assert state["failure"]["target"] == "marks/part/1"
    assert state["failure"]["reason"] == "CANCELLED: it was cancelled, but not by this run"
    assert "sigterm part1" in site.marks
    site.act("part1", "")
    site.rvrun("retry", "@latest")
    assert site.wait()["state"] == "succeeded"


def test_cancelled(site: Site) -> None:
    """Everything ends, targets get SIGTERM, and `retry` continues."""
    site.act("part1", "sleep 600")
    site.submit("first", "part")
    site.until("part1 sleeps", lambda: "part1" in site.marks)
    printed = site.rvrun("cancel", "@latest")
    assert printed.endswith(": 1 job ended\n")
    assert site.wait()["state"] == "cancelled"
    site.until("SIGTERM", lambda: "sigterm part1" in site.marks)
    site.act("part1", "")
    site.rvrun("retry", "@latest")
    assert site.wait()["state"] == "succeeded"
    assert site.rvrun("cancel", "@latest").startswith("nothing in marks-")


def test_an_interrupted_submission_is_cancelled(site: Site) -> None:
    """What was submitted of it ends, and nothing waits for the rest."""
    site.act("first", "sleep 600")
    site.break_sbatch("", "refused")
    site.submit("first", "part", code=2)
    assert site.state()["state"] == "interrupted"
    assert site.rvrun("retry", "@latest", code=2).startswith(
        f"rvrun: run {site.run_ids[0]} was interrupted while it was submitted; "
    )
    assert site.rvrun("cancel", "@latest").endswith(": 1 job ended\n")
    state = site.wait()
    assert state["state"] == "cancelled"
    assert stage(state, "part")["failed"] == 3
    site.act("first", "")
    site.rvrun("retry", "@latest")
    assert site.wait()["state"] == "succeeded"


def test_a_retry_after_another_plan(site: Site) -> None:
    """Its jobs would run by another Makefile."""
    site.act("first", "fail 1")
    site.submit("first")
    site.wait()
    site.rvrun("render", "slurm", "marks.py", "--splits", "5")
    assert site.rvrun("retry", "@latest", code=2) == (
        f"rvrun: run {site.run_ids[0]} cannot be retried: the Makefile in runs/marks, by which its "
        "jobs run, has changed since; start a new run with `rvrun run`, which continues with what "
        "is not done\n"
    )


def test_a_run_in_progress_is_not_submitted_again(site: Site) -> None:
    """Not before it has ended, or was cancelled."""
    site.act("first", "sleep 600")
    site.submit("first")
    assert f"run {site.run_ids[0]} is still running" in site.submit("first", code=2)
    site.rvrun("cancel", "@latest")
    site.act("first", "")
    assert "succeeded after" in site.submit("first", "--wait")
    assert len(site.run_ids) == 2


def test_a_refused_run_changes_nothing(site: Site) -> None:
    """The jobs of the run in progress still read the files that it was submitted with."""
    site.act("first", "wait go")
    site.submit(splits=2)
    for words in ((), ("--wait",)):
        assert "is still running" in site.submit(*words, splits=3, code=2)
    site.write("go", "")
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == dict.fromkeys(ALL_ONCE.keys() - {"part2", "match2"}, 1)


def test_why_jobs_wait(site: Site) -> None:
    """In Slurm's words, and in plain ones; afterwards the run goes on."""
    for node in site.slurm.nodes:
        site.slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    site.submit("first", "part")
    state = site.wait(
        lambda state: (
            bool(stage(state, "first")["stuck"]) and stage(state, "part").get("pending") == 3
        )
    )
    assert "the nodes that it needs are drained, down or reserved" in stage(state, "first")["stuck"]
    printed = site.rvrun("status")
    assert "\nmarks/first waits: " in printed
    assert "are drained, down or reserved" in printed
    for node in site.slurm.nodes:
        site.slurm.call("scontrol", "update", f"nodename={node}", "state=resume")
    assert site.wait()["state"] == "succeeded"


def test_a_node_dies(site: Site) -> None:
    """Slurm requeues its job, and the second attempt succeeds."""
    site.write("rvrun.toml", '[slurm]\nsbatch = ["--nodelist=n2"]\n')
    site.act("first", "sleep 600")
    site.submit("first")
    site.until("first sleeps", lambda: "first" in site.marks)
    site.slurm.stop_node("n2")
    site.act("first", "")
    site.slurm.call("scontrol", "update", "nodename=n2", "state=down", "reason=died")
    site.slurm.start_node("n2")
    site.slurm.call("scontrol", "update", "nodename=n2", "state=resume", check=False)
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks()["first"] == 2


def test_the_time_limit(site: Site) -> None:
    """Targets get SIGTERM before it, and the reason says so."""
    site.write("rvrun.toml", '[slurm]\ntime = "30:00"\nsignal_seconds = 59\n')
    site.act("first", "sleep 600")
    site.submit("first")
    site.until("first sleeps", lambda: "first" in site.marks)
    # Only now, so that the signal does not come before the target is there to handle it.
    (job_id,) = site.slurm.call("squeue", "-h", "--format=%i").split()
    site.slurm.call("scontrol", "update", f"jobid={job_id}", "TimeLimit=1")
    state = site.wait()
    assert "sigterm first" in site.marks
    assert state["failure"] == {
        "target": "marks/first",
        "reason": "FAILED: it got SIGTERM, before its time limit or for a preemption",
        "exit_code": 143,
    }
    log = site.rvrun("logs", "@latest", "marks/first")
    assert "ran first" in log
    site.act("first", "")
    site.rvrun("retry", "@latest")
    assert site.wait()["state"] == "succeeded"


def test_attempts(site: Site) -> None:
    """A job that fails is requeued, and says which attempt it is."""
    site.write("rvrun.toml", "[slurm.commands.first]\nattempts = 2\n")
    site.act("first", "once 5")
    site.submit("first")
    assert site.wait()["state"] == "succeeded"
    assert site.counted_marks() == {"first": 2}
    assert "attempt 2" in site.rvrun("logs", "@latest", "marks/first")


def test_preemption(site: Site) -> None:
    """A job with a higher priority takes its CPUs; the job is requeued and runs again."""
    site.write("rvrun.toml", "[slurm]\ncpus = 4\n")
    site.act("first", "sleep 600")
    site.submit("first")
    site.until("first sleeps", lambda: "first" in site.marks)
    site.act("first", "")
    urgent = ("sbatch", "--partition=urgent", "--exclusive", "--nodes=2", "--output=/dev/null")
    site.slurm.call(*urgent, "--wrap=sleep 1")
    assert site.wait()["state"] == "succeeded"
    # Slurm sends SIGTERM as a notice and again before SIGKILL, so it may arrive twice.
    num_signals = site.counted_marks().get("sigterm first", 0)
    assert num_signals >= 1
    assert site.counted_marks() == {"first": 2, "sigterm first": num_signals}


def test_what_a_job_needs_has_changed(site: Site) -> None:
    """It fails and says why, instead of running the stages before it on its own."""
    site.act("part0", "wait go")
    site.submit(splits=1)
    site.until("part0 waits", lambda: "part0" in site.marks)
    source = (site.folder / "marks.py").read_text(encoding="utf-8")
    site.write("marks.py", source.replace("def first(self):", "def first(self):\n        1 + 1"))
    site.rvrun("render", "slurm", "marks.py", "--splits", "1")
    site.write("go", "")
    assert site.wait()["state"] == "failed"
    assert site.counted_marks() == {"first": 1, "part0": 1}
    log = site.rvrun("logs", "@latest", "marks/match/0")
    assert "match needs first, which is stale: its config or code changed" in log


def test_a_gpu(site: Site) -> None:
    """A GPU command gets a GPU, and others do not."""
    source = (site.folder / "marks.py").read_text(encoding="utf-8")
    line = '    commands = ("first"'
    site.write("marks.py", source.replace(line, f'    gpu_commands = ("last",)\n{line}'))
    for name in ("first", "last"):
        site.act(name, "print CUDA_VISIBLE_DEVICES")
    site.submit("first", "last")
    assert site.wait()["state"] == "succeeded"
    devices = [
        site.rvrun("logs", "@latest", f"marks/{s}").splitlines()[2] for s in ("first", "last")
    ]
    assert devices == ["None", "0"]


def test_targets_share_the_gpus_of_their_job(site: Site) -> None:
    """Each gets one of them, and no two the same."""
    source = (site.folder / "marks.py").read_text(encoding="utf-8")
    line = '    commands = ("first"'
    site.write("marks.py", source.replace(line, f'    gpu_commands = ("part",)\n{line}'))
    site.write("rvrun.toml", "[slurm]\npack = 2\nparallel = 2\n")
    for index in range(2):
        site.act(f"part{index}", "meet CUDA_VISIBLE_DEVICES")
    site.submit("part", splits=2)
    assert site.wait()["state"] == "succeeded"
    logs = [site.rvrun("logs", "@latest", f"marks/part/{index}") for index in range(2)]
    assert sorted(log.splitlines()[1] for log in logs) == ["0", "1"]


def test_a_container(site: Site) -> None:
    """All of a job runs in it; here it is this machine, by a stand-in for apptainer."""
    programs = site.folder / "programs"
    programs.mkdir()
    stand_in = programs / "apptainer"
    stand_in.write_text('#!/bin/sh\necho "$@" >> in-container; shift 6; exec "$@"\n')
    stand_in.chmod(0o755)
    site.write("image.sif", "")
    site.write("rvrun.toml", '[slurm]\ncontainer = "image.sif"\n')
    site.put_on_path(programs)
    site.submit("first")
    assert site.wait()["state"] == "succeeded"
    calls = (site.folder / "in-container").read_text(encoding="utf-8").splitlines()
    folder = site.folder
    assert [call.split(" make ")[0] for call in calls] == [
        f"exec --bind {folder} --pwd {folder} image.sif"
    ]


def test_other_directories(site: Site) -> None:
    """Runs are found by their run directory, and retried from anywhere."""
    site.act("first", "fail 1")
    run = "some runs/a %b"
    assert "rvrun status 'some runs/a %b/submitted/a-b-" in site.submit("first", "--out", run)
    site.until_jobs_end()
    (site.folder / "elsewhere").mkdir()
    assert site.state(f"../{run}", cwd="elsewhere")["state"] == "failed"
    site.act("first", "")
    site.rvrun("retry", f"../{run}", cwd="elsewhere")
    site.until_jobs_end()
    assert site.state(f"../{run}", cwd="elsewhere")["state"] == "succeeded"
    assert site.marks == ["first", "first"]


def test_many_splits_in_few_calls(site: Site) -> None:
    """10,000 aligned splits, packed by 64: a call for each stage."""
    site.write("rvrun.toml", "[slurm]\npack = 64\nlookup_delay = 1\n")
    for node in site.slurm.nodes:
        site.slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    site.break_sbatch()
    site.submit(splits=10_000)
    calls = site.calls()
    print(f"{len(calls)} calls of sbatch:", *calls, sep="\n")
    assert len(calls) == 4
    assert "--array=0-156" in calls[1]
    state = site.state()
    waiting = [s.get("pending", 0) + s.get("runnable", 0) for s in state["stages"]]
    assert waiting == [1, 10_000, 10_000, 1]
    site.rvrun("cancel", "@latest")


def test_more_splits_than_an_array_can_have(site: Site) -> None:
    """Several arrays, aligned with each other, run all splits."""
    site.write("rvrun.toml", "[slurm]\nmax_array_size = 3\npack = 2\nmax_running = 2\n")
    site.break_sbatch()
    site.submit(splits=13)
    arrays = [re.findall(r"--array=(\S+)", call) for call in site.calls()]
    assert arrays == [[], ["0-2%2"], ["0-2%2"], ["0%2"], ["0-2%2"], ["0-2%2"], ["0%2"], []]
    assert site.wait()["state"] == "succeeded"
    once = {f"{name}{index}": 1 for name in ("part", "match") for index in range(13)}
    assert site.counted_marks() == {**once, "first": 1, "last": 1}


@pytest.fixture(scope="module")
def forgetful(processes: None) -> Iterator[Slurm]:
    yield from started(min_job_age=2)


def submit_all(site: Site, *words: str) -> None:
    """Submit a run of which no job ends, and is forgotten, before another one names it."""
    site.act("first", "wait go")
    site.submit(*words)
    site.write("go", "")


def test_what_slurm_forgets(site: Site, forgetful: Slurm) -> None:
    """Without accounting, stamps say what is done."""
    own = Site(site.project, forgetful)
    own.act("part1", "fail 4")
    submit_all(own, "first", "part")
    own.until("jobs are gone", lambda: "part1" in own.marks and not own.jobs())
    state = own.state()
    assert state["state"] == "failed"
    assert state["failure"] == {
        "target": "marks/part/1",
        "reason": "its job ended, and Slurm no longer knows how",
        "exit_code": 4,
    }
    own_stage = stage(state, "part")
    assert own_stage["median_seconds"] >= 0
    assert own_stage["peak_memory_kib"] > 1000
    times = dict.fromkeys(("began", "ended"), 0)
    assert own_stage | times | dict.fromkeys(("median_seconds", "peak_memory_kib")) == {
        "name": "marks/part",
        "targets": 3,
        "succeeded": 2,
        "failed": 1,
        "began": 0,
        "ended": 0,
        "stuck": None,
        "median_seconds": None,
        "peak_memory_kib": None,
    }
    assert own.rvrun("retry", "@latest").startswith("submitted 1 target of ")


@pytest.fixture(scope="module")
def with_accounting(processes: None) -> Iterator[Slurm]:
    yield from started(min_job_age=2, accounting=True)


def test_what_accounting_remembers(site: Site, with_accounting: Slurm) -> None:
    """How a job ended, after the controller has forgotten it."""
    own = Site(site.project, with_accounting)
    own.act("part1", "sleep 600")
    submit_all(own)
    own.until("part1 sleeps", lambda: "part1" in own.marks)
    own.slurm.call("scancel", own.job_of("part", 1))
    own.until("jobs are gone", lambda: not own.jobs())
    # Not since midnight, which is the default.
    sacct = ("sacct", "-X", "--starttime=now-2days")
    own.until("accounting knows", lambda: "CANCELLED" in own.slurm.call(*sacct))
    state = own.state()
    assert state["failure"]["target"] == "marks/part/1"
    assert state["failure"]["reason"] == "CANCELLED: it was cancelled, but not by this run"
