"""The verbs that show and continue runs, on real runs of this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rvrun.cli.schema import SchemaName, read_schema
from tests.conftest import PATIENCE, Project, clean_environment

WORK = '''
import os, pathlib, signal, sys, time
import rvrun

class WorkConfig(rvrun.PipelineConfig):
    def build(self):
        return Work(self)

class Work(rvrun.Pipeline):
    """Each target does what a file with its name says."""
    commands = ("first", "part", "last")
    split_commands = ("part",)

    def first(self): self.do("first")
    def part(self, split_ind, num_splits): self.do(f"part{split_ind}")
    def last(self): self.do("last")

    def do(self, name):
        print(f"{name} says hello")
        while pathlib.Path(f"hold-{name}").exists():
            time.sleep(0.01)
        if pathlib.Path(f"fail-{name}").exists():
            raise ValueError(f"{name} has to fail")
        if pathlib.Path(f"exit-{name}").exists():
            sys.exit(int(pathlib.Path(f"exit-{name}").read_text()))
        if pathlib.Path(f"kill-{name}").exists():
            os.kill(os.getpid(), int(pathlib.Path(f"kill-{name}").read_text()))

def get_config(runner):
    return WorkConfig(root_uri="out")
'''


@pytest.fixture
def work(project: Project) -> Project:
    project.write("work.py", WORK)
    return project


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(work: Project, *words: str, code: int = 0) -> str:
    """Run the pipeline with three splits; return what it printed, without times and sizes."""
    return plain(work.rvrun("run", "local", "work.py", "--splits", "3", *words, code=code).stderr)


def plain(text: str) -> str:
    text = re.sub(r"\d+ min \d+ s\b", "N s", text)
    text = re.sub(r"\d+(\.\d+)? (m?s\b|MiB|GiB)", lambda m: f"N {m[2].removeprefix('m')}", text)
    return re.sub(r"; peak memory .*", "", text)


def status(work: Project, *words: str, code: int = 0) -> dict[str, Any]:
    text = work.rvrun("status", *words, "--json", code=code).stdout
    document: dict[str, Any] = json.loads(text)
    check(SchemaName.STATUS, document)
    return document


def check(name: SchemaName, document: object) -> None:
    validator = Draft202012Validator(json.loads(read_schema(name)))
    assert [error.message for error in validator.iter_errors(document)] == []


@pytest.fixture
def running(work: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a run; it is ended after the test."""
    processes = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["rvrun", "run", "local", "work.py", "--splits", "3", *words],
            cwd=work.folder,
            env=clean_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def test_a_run_says_what_its_last_stage_said(work: Project) -> None:
    """So that Hello World says hello; not if all output was shown, or was not wanted."""
    text = run(work, "-j2")
    assert text.endswith(
        "work/last done\nwork/last printed:\n  | last says hello\n"
        "done in N s: 5 targets ran; logs in runs/work/logs\n"
    )
    assert "printed" not in run(work, "-j2", "-B", "--no-show-output")
    assert "printed" not in run(work, "-j1", "-B")
    assert "printed" not in run(work, "-j2")


def test_the_verbs_of_a_run_that_succeeded(work: Project) -> None:
    """What it was, what it printed, and that there is nothing to retry."""
    run(work, "-j2")
    assert "runs/work   local    succeeded         5 of 5" in work.rvrun("list").stdout
    document = status(work)
    assert (document["state"], document["run"], document["failures"]) == (
        "succeeded",
        "runs/work",
        [],
    )
    assert work.rvrun("logs", "work/part/1").stdout == "part1 says hello\n"
    assert work.rvrun("logs", "work", "work/last").stdout == "last says hello\n"
    assert work.rvrun("logs", "runs/work", "work/part").stdout == (
        "work/part/0 | part0 says hello\n"
        "work/part/1 | part1 says hello\n"
        "work/part/2 | part2 says hello\n"
    )
    assert "nothing failed in runs/work" in work.rvrun("logs").stderr
    inside = work.run("rvrun", "status", cwd="runs/work")
    assert ".: succeeded" in inside.stdout
    inside = work.run("rvrun", "explain", "work/last", cwd="runs/work")
    assert "work/last is up to date" in inside.stdout
    assert work.rvrun("retry", "@latest", code=2).stderr == (
        "rvrun: nothing in run runs/work failed, so there is nothing to retry\n"
    )


def test_failures_are_shown_and_retried(work: Project) -> None:
    """Each as it happens; afterwards with the end of its log. `retry` keeps what is done."""
    work.write("fail-part1", "")
    work.write("kill-part2", "9")
    text = run(work, "-j1", "-k", "--no-show-output", code=1)
    assert "work/part/1 failed (exit 1) after N s; log: runs/work/logs/work/part.3/1.log\n" in text
    assert (
        "work/part/2 was killed by SIGKILL (137) after N s; log: runs/work/logs/work/part.3/2.log\n"
        in text
    )
    document = status(work, code=1)
    assert document["state"] == "failed"
    failures = document["failures"]
    assert isinstance(failures, list)
    assert [(failure["target"], failure["exit_code"]) for failure in failures] == [
        ("work/part/1", 1),
        ("work/part/2", None),
    ]
    shown = work.rvrun("status", code=1).stdout
    assert "first failure: work/part/1 (exit 1): failed after " in shown
    assert "also failed: work/part/2: killed by SIGKILL (137) after " in shown
    logs = work.rvrun("logs").stdout
    assert logs.count("── ") == 2
    assert "ValueError: part1 has to fail" in logs
    plan = work.rvrun("plan", "work.py", "--splits", "3").stdout
    assert re.search(r"split 1 failed .* \(exit 1\), 1 more", plan)
    (work.folder / "fail-part1").unlink()
    (work.folder / "kill-part2").unlink()
    again = plain(work.rvrun("retry", "work").stderr)
    assert "done in N s: 3 targets ran, 2 up to date" in again
    assert status(work)["state"] == "succeeded"


def test_retry_from_another_folder(work: Project) -> None:
    """Commands run where the run began, whatever the current directory is."""
    work.write("fail-last", "")
    run(work, "-j2", code=1)
    (work.folder / "fail-last").unlink()
    (work.folder / "elsewhere").mkdir()
    work.run("rvrun", "retry", "../runs/work", cwd="elsewhere")
    assert status(work)["state"] == "succeeded"


def test_retry_of_a_runner_in_one_process(work: Project) -> None:
    """It continues with the same runner, from the saved configs."""
    work.write("fail-last", "")
    work.rvrun("run", "inprocess", "work.py", "--splits", "2", code=1)
    assert status(work, code=1)["runner"] == "inprocess"
    (work.folder / "fail-last").unlink()
    done = work.rvrun("retry", "work")
    assert "last says hello" in done.stdout
    assert "part0" not in done.stdout
    assert work.rvrun("logs", "work/last", code=2).stderr == (
        "rvrun: work/last has no log in runs/work: its output went to the terminal\n"
    )


def test_a_run_is_watched(work: Project, running: Callable[..., subprocess.Popen[str]]) -> None:
    """What is running, the log as it grows, and the end; interrupted targets are not failures."""
    work.write("hold-part1", "")
    process = running("-j2")
    record = work.folder / "runs/work/records/work/part.3/1.jsonl"
    wait_for(record.exists)

    def only_it_runs() -> bool:
        document = status(work)
        return bool(document["stages"][1]["succeeded"] == 2 and document["running"])

    wait_for(only_it_runs)
    document = status(work)
    assert (document["state"], document["ended"]) == ("running", None)
    targets = document["running"]
    assert isinstance(targets, list)
    assert [target["target"] for target in targets] == ["work/part/1"]
    assert "running: work/part/1 for " in work.rvrun("status").stdout
    followed = subprocess.Popen(
        ["rvrun", "logs", "work/part/1", "-f"],
        cwd=work.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert followed.stdout is not None
    assert followed.stdout.readline() == "part1 says hello\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    followed.communicate(timeout=PATIENCE)
    assert followed.returncode == 0
    state = status(work, code=1)
    assert (state["state"], state["failures"]) == ("interrupted", [])
    assert "interrupted after" in work.rvrun("status", "--watch", code=1).stderr
    assert "nothing failed in runs/work" in work.rvrun("logs").stderr
    (work.folder / "hold-part1").unlink()
    work.rvrun("retry", "work")
    assert status(work)["state"] == "succeeded"


def test_a_run_of_plain_make(work: Project) -> None:
    """It has the same verbs, without a history of runs."""
    work.rvrun("render", "local", "work.py", "--splits", "2")
    work.write("exit-part1", "3")
    work.make("-C", "runs/work", "-k", code=2)
    document = status(work, code=1)
    assert (document["runner"], document["state"]) == ("make", "failed")
    (work.folder / "exit-part1").unlink()
    work.rvrun("retry", "runs/work")
    assert status(work)["state"] == "succeeded"


def test_all_run_directories_below_here_are_listed(work: Project) -> None:
    """Wherever they are, with those of detached runs; rendered plans are not runs."""
    run(work, "-j2", "--out", "deep/er/work")
    work.rvrun("plan", "work.py", "--out", "plans/work")
    facts = {"rvrun_run": 1, "runner": "batch", "began": "2026-01-02T03:04:05+00:00"}
    work.write("runs/aws/submitted/aws-20260102-x/run.json", json.dumps(facts))
    rows = json.loads(work.rvrun("list", "--json").stdout)
    check(SchemaName.LIST, rows)
    assert [(row["run"], row["state"]) for row in rows] == [
        ("aws-20260102-x", "submitted"),
        ("deep/er/work", "succeeded"),
    ]
    assert "aws-20260102-x   batch    submitted" in work.rvrun("list").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("status", "no-run"), "no run `no-run` in the run directories in runs"),
        (("status", "plans"), "plans is not a run directory: nothing has run there"),
        (("logs", "part"), "no run `part`; did you mean the stage `work/part`?"),
        (("logs", "work/parts"), "unknown command `parts`"),
        (("logs", "work/part/9"), "`part` has splits 0 to 2"),
        (("logs", "-f"), "--follow requires a target"),
        (("logs", "work/part", "-f"), "--follow requires one split, such as work/part/0"),
        (("cancel", "work"), "`cancel` only works with detached runs; runs/work is a run on this"),
        (("report",), "`report` requires --html FILE, --trace FILE, or both"),
        (("report", "--html", "x", "--trace", "./x"), "--html and --trace name the same file"),
        (("list", "--runs", "no-folder"), "--runs must name a directory, got `no-folder`"),
        (
            ("report", "--html", "no/such/x"),
            "no/such/x cannot be written: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_shown(work: Project, words: tuple[str, ...], message: str) -> None:
    """A clear message for each."""
    run(work, "-j2")
    (work.folder / "plans").mkdir()
    assert message in work.rvrun(*words, code=2).stderr


def test_a_report_is_written(work: Project) -> None:
    """Of the latest run, or of the one that is named."""
    run(work, "-j2")
    done = work.rvrun("report", "--html", "page.html", "--trace", "trace.json")
    assert done.stderr == (
        "wrote page.html: 5 targets of runs/work\nwrote trace.json: 5 targets of runs/work\n"
    )
    assert "<title>runs/work: succeeded</title>" in work.read("page.html")
    assert len(json.loads(work.read("trace.json"))["traceEvents"]) > 10


def test_settings_as_json(work: Project) -> None:
    """With their types, without values that may be secrets."""
    work.write("rvrun.toml", '[local]\njobs = 3\n[batch]\nenvironment = { MODE = "x" }\n')
    rows = json.loads(work.rvrun("config", "--json").stdout)
    check(SchemaName.CONFIG, rows)
    by_key = {row["key"]: row for row in rows}
    assert (by_key["local.jobs"]["value"], by_key["local.jobs"]["origin"]) == (3, "rvrun.toml")
    assert by_key["local.gpus"]["value"] == []
    assert "MODE" in json.dumps(by_key["batch.environment"]["value"])


def test_status_in_a_directory_that_is_read_only(work: Project) -> None:
    """Looking changes nothing."""
    run(work, "-j2")
    folder = work.folder / "runs/work"
    before = sorted(str(path) for path in folder.rglob("*"))
    os.chmod(folder, 0o555)
    try:
        status(work)
        work.rvrun("list")
    finally:
        os.chmod(folder, 0o755)
    assert sorted(str(path) for path in folder.rglob("*")) == before


FILES = """
name = "files"

[commands.copy]
run = "mkdir -p out && cp a.txt out/b.txt"
inputs = ["a.txt"]
outputs = ["out/b.txt"]
"""


@pytest.mark.parametrize("is_by_hand", [False, True])
def test_declared_paths_are_seen_from_where_the_run_was(project: Project, is_by_hand: bool) -> None:
    """So the verbs show the same in every folder, for plain make, too."""
    project.write("pipeline.toml", FILES)
    project.write("a.txt", "1")
    project.write("elsewhere/c.txt", "")
    if is_by_hand:
        project.rvrun("render", "local")
        project.make("-C", "runs/pipeline")
    else:
        project.rvrun("run", "local")
    run_dir = "../runs/pipeline"

    def elsewhere(*words: str, code: int = 0) -> str:
        return project.run("rvrun", *words, cwd="elsewhere", code=code).stdout

    assert f"{run_dir}: succeeded after" in elsewhere("status", run_dir)
    assert "is up to date" in elsewhere("explain", "files/copy", "--run", run_dir)
    [row] = json.loads(elsewhere("list", "--runs", "..", "--json"))
    assert row["state"] == "succeeded"
    project.write("a.txt", "2")
    elsewhere("accept", "--run", run_dir)
    assert "all up to date" in project.rvrun("plan").stdout
    (project.folder / "out/b.txt").unlink()
    assert f"{run_dir}: incomplete" in elsewhere("status", run_dir, code=1)
    (project.folder / "runs/pipeline/done/files/copy").unlink()
    elsewhere("retry", run_dir)
    assert project.read("out/b.txt") == "2"
