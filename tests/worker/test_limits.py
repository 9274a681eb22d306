"""Limits of targets on this machine: time, attempts, and shares of CPUs and memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
from multiprocessing.synchronize import Event
from typing import Any

import pytest

from rvrun.memory_limit import memory_limit_kib
from rvrun.model import Plan, PlannedPipeline, Resources, Stage
from rvrun.settings.schema import MachineSettings
from rvrun.worker.limits import Limits, read_limits
from rvrun.worker.machine import limits_of, misfits
from rvrun.worker.shares import RUNNING, share
from tests.build import DIGEST
from tests.conftest import Project, clean_environment

SOURCE = """\
import os, pathlib, signal, subprocess, sys, time
import rvrun

class C(rvrun.PipelineConfig):
    how: str = "fine"
    def build(self):
        if "run_command" in sys.argv:
            # Before the clock of the time limit starts, so that it is done on any machine.
            prepare(self.how)
        return P(self)

def prepare(how):
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how in ("slow", "stubborn"):
        number = len(list(pathlib.Path().glob("attempt-*")))
        child = subprocess.Popen(["sleep", "600"])
        pathlib.Path(f"child-{number}").write_text(str(child.pid))

class P(rvrun.Pipeline):
    commands = ("a", "b")
    resources = {"a": rvrun.Resources(timeout_seconds=600, retries=2)}

    def a(self):
        number = len(list(pathlib.Path().glob("attempt-*")))
        pathlib.Path(f"attempt-{number}").touch()
        print("attempt", number, flush=True)
        getattr(self, self.config.how)(number)

    def fine(self, number):
        pass

    def flaky(self, number):
        if number < 2:
            raise ValueError("flaky")

    def broken(self, number):
        raise ValueError("broken")

    def invalid(self, number):
        sys.exit(2)

    def killed(self, number):
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def crashes(self, number):
        os.abort()

    def slow(self, number):
        time.sleep(600)

    stubborn = slow

    def waits(self, number):
        pathlib.Path("started").touch()
        time.sleep(0.5)

    def b(self):
        print("b")

def get_config(runner, how="fine"):
    return C(root_uri="out", name="p", how=how)
"""
#: With a time limit that an attempt may reach also on its way, so only for attempts that do.
HURRIED = SOURCE.replace("timeout_seconds=600", "timeout_seconds=1")
WAYS = ("--warm", "--no-warm", "make")


@pytest.fixture
def limited(project: Project) -> Project:
    project.write("p.py", SOURCE)
    return project


def run(project: Project, how: str, way: str, code: int) -> subprocess.CompletedProcess[str]:
    """Run it by rvrun, with or without a warm worker, or by plain make."""
    if way != "make":
        return project.rvrun("run", "local", "p.py", "-a", "how", how, way, code=code)
    project.rvrun("render", "local", "p.py", "-a", "how", how)
    return project.make("-C", "runs/p", code=2 if code else 0)


def record(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in project.read("runs/p/records/p/a.jsonl").splitlines()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("how", "code", "ends"),
    [
        ("fine", 0, [0]),
        ("flaky", 0, [1, 1, 0]),
        ("broken", 1, [1, 1, 1]),
        # An invalid call or config would fail again.
        ("invalid", 1, [2]),
        ("killed", 0, ["SIGKILL", 0]),
        ("crashes", 1, ["SIGABRT"] * 3),
    ],
)
def test_a_failure_is_attempted_again(
    limited: Project, how: str, code: int, ends: list[object], way: str
) -> None:
    """However an attempt ended; each has its own lines in the record."""
    run(limited, how, way, code)
    lines = [line for line in record(limited) if line["event"] in ("end", "killed")]
    assert [line["attempt"] for line in lines] == list(range(1, len(ends) + 1))
    codes = [
        line["exit_code"] if line["event"] == "end" else signal.Signals(line["signal"]).name
        for line in lines
    ]
    assert codes == ends
    assert (limited.folder / "runs/p/done/p/a").exists() == (code == 0)
    assert (limited.folder / "runs/p/done/p/b").exists() == (code == 0)


def test_retries_are_shown(limited: Project) -> None:
    """As they happen, with why; the run counts the target once."""
    done = limited.rvrun("run", "local", "p.py", "-a", "how", "flaky")
    assert "p/a: attempt 1 of 3 failed (exit 1); retrying\n" in done.stderr
    assert "p/a: attempt 2 of 3 failed (exit 1); retrying\n" in done.stderr
    assert done.stderr.count("p/a done\n") == 1
    assert "2 targets ran;" in done.stderr


@pytest.mark.parametrize("way", ["--warm", "--no-warm"])
def test_a_target_is_ended_after_its_time(limited: Project, way: str) -> None:
    """With what it started; each attempt has the whole time, and the log says why it ended."""
    limited.write("p.py", HURRIED)
    done = run(limited, "slow", way, 1)
    ends = [line for line in record(limited) if line["event"] == "end"]
    assert [line["exit_code"] for line in ends] == [124, 124, 124]
    assert "attempt 1 of 3 failed (took longer than 1 s); retrying" in done.stderr
    assert "p/a: ended after its limit of 1 s (timeout_seconds)" in done.stderr
    for number in range(3):
        assert not is_running(int(limited.read(f"child-{number}")))


def is_running(pid: int) -> bool:
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_target_that_ignores_signals_is_killed(limited: Project) -> None:
    """After the grace period, and all that it started with it."""
    limited.write("p.py", HURRIED.replace(", retries=2", ""))
    done = run(limited, "stubborn", "--warm", 1)
    end = record(limited)[-1]
    assert (end["event"], end["signal"], end["timeout_seconds"]) == ("killed", signal.SIGKILL, 1)
    assert end["peak_memory_kib"] > 0
    assert "p/a: took longer than 1 s; killed\n" in done.stderr
    assert not is_running(int(limited.read("child-0")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_not_a_failure(limited: Project, number: signal.Signals) -> None:
    """It ends the target and its supervisor, and nothing is attempted again."""
    process = subprocess.Popen(
        ["rvrun", "run", "local", "p.py", "-a", "how", "slow"],
        cwd=limited.folder,
        env=clean_environment(),
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (limited.folder / "attempt-0").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert not (limited.folder / "attempt-1").exists()
    lines = record(limited)
    assert [line["event"] for line in lines] == ["start", "end"]
    assert not is_running(lines[0]["pid"])


def test_the_clock_starts_when_the_target_does(limited: Project) -> None:
    """Time that it waits for its share of the machine does not count."""
    source = SOURCE.replace("timeout_seconds=600, retries=2", "timeout_seconds=5, vcpus=1").replace(
        'commands = ("a", "b")', 'commands = ("a",)'
    )
    limited.write("p.py", source)
    locks = limited.folder / "locks"
    variables = {"RVRUN_LOCAL_GPU_LOCKS": str(locks), "RVRUN_LOCAL_VCPUS": "1"}
    limited.rvrun("render", "local", "p.py", "-a", "how", "waits")
    with share(str(locks), (1, 0), (1, 0), lambda _: None):
        process = subprocess.Popen(
            ["make", "-C", "runs/p"], cwd=limited.folder, env=clean_environment(**variables)
        )
        time.sleep(6)
        assert not (limited.folder / "started").exists()
    assert process.wait(60) == 0


def test_limits_are_read_from_the_plan(tmp_path: pathlib.Path) -> None:
    """None where there is no plan, or none for the command."""
    assert vars(read_limits(str(tmp_path), "p", "a")) == vars(Limits())
    resources = {"timeout_seconds": 3, "retries": 2, "vcpus": 4, "memory_mib": 5, "gpus": 1}
    stage = {"command": "a", "resources": resources}
    document = {"pipelines": [{"name": "p", "stages": [stage]}]}
    (tmp_path / "plan.json").write_text(json.dumps(document))
    assert vars(read_limits(str(tmp_path), "p", "a")) == vars(Limits(3, 2, 4, 5))
    assert vars(read_limits(str(tmp_path), "p", "b")) == vars(Limits())


def hold(folder: str, needed: tuple[int, int], limits: tuple[int, int], seconds: float) -> None:
    with share(folder, needed, limits, lambda _: None):
        began = time.monotonic()
        time.sleep(seconds)
        line = json.dumps([*needed, began, time.monotonic()])
        with open(f"{folder}/log", "a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def hold_until(folder: str, needed: tuple[int, int], limits: tuple[int, int], event: Event) -> None:
    with share(folder, needed, limits, lambda _: None):
        event.wait(60)


def test_shares_are_never_exceeded(tmp_path: pathlib.Path, processes: None) -> None:
    """Of 12 processes, those that run together fit; one that needs too much runs alone."""
    folder, limits = str(tmp_path), (4, 100)
    needs = [(1, 10), (2, 60), (4, 10), (1, 90), (9, 0), (2, 0), (0, 50), (1, 10)] + [(1, 30)] * 4
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=hold, args=(folder, n, limits, 0.15)) for n in needs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    spans = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted((cpus, memory) for cpus, memory, _, _ in spans) == sorted(needs)
    for _, _, began, _ in spans:
        now = [span for span in spans if span[2] <= began < span[3]]
        cpus = sum(span[0] for span in now)
        assert cpus <= 4 or [span[0] for span in now if span[0]] == [9], now
        assert sum(span[1] for span in now) <= 100, now
    assert not [name for name in os.listdir(folder) if name.startswith(RUNNING)]


def test_the_share_of_a_killed_process_is_free(tmp_path: pathlib.Path, processes: None) -> None:
    """The kernel releases its lock, and the next one removes its file."""
    code = (
        "import sys, time; from rvrun.worker.shares import share\n"
        "with share(sys.argv[1], (2, 5), (2, 9), print): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    process.stdout.close()
    said_nothing: list[str] = []
    with share(str(tmp_path), (2, 5), (2, 9), said_nothing.append):
        assert len([name for name in os.listdir(tmp_path) if name.startswith(RUNNING)]) == 1
    assert said_nothing == []


def test_what_a_target_waits_for_is_shown(tmp_path: pathlib.Path, processes: None) -> None:
    """With the limit of what it needs, once."""
    context = multiprocessing.get_context("fork")
    is_shown = context.Event()
    arguments = (str(tmp_path), (1, 2000), (2, 3000), is_shown)
    worker = context.Process(target=hold_until, args=arguments)
    worker.start()
    while not [name for name in os.listdir(tmp_path) if name.startswith(RUNNING)]:
        time.sleep(0.01)
    texts: list[str] = []

    def show(text: str) -> None:
        texts.append(text)
        is_shown.set()

    with share(str(tmp_path), (0, 2000), (2, 3000), show):
        pass
    worker.join()
    assert texts == ["waiting for 2,000 MiB (limit: 3,000 MiB)"]


def test_stages_that_do_not_fit_are_reported() -> None:
    """In a sentence each, with what there is."""
    stages = (
        Stage(command="a", resources=Resources(vcpus=8, memory_mib=30_000)),
        Stage(command="b", resources=Resources(vcpus=4)),
        Stage(command="c", resources=Resources(memory_mib=16_001)),
    )
    plan = Plan((PlannedPipeline(name="p", config_digest=DIGEST, stages=stages),))
    machine = MachineSettings(vcpus=4, memory_mib=16_000)
    alone = "no target that declares its needs runs beside it"
    assert list(misfits(plan, machine)) == [
        f"p/a needs 8 vCPUs of 4 and 30,000 MiB of 16,000: {alone}",
        f"p/c needs 16,001 MiB of 16,000: {alone}",
    ]
    assert limits_of(MachineSettings())[1] == memory_limit_kib() // 1024


def test_check_and_plan_report_what_does_not_fit(limited: Project) -> None:
    """As warnings: it runs nevertheless."""
    limited.write("p.py", SOURCE.replace("retries=2", "vcpus=3"))
    variables = {"RVRUN_LOCAL_VCPUS": "2"}
    text = "p/a needs 3 vCPUs of 2: no target that declares its needs runs beside it"
    assert f"warning: {text}\n" in limited.rvrun("plan", "p.py", code=0, **variables).stderr
    done = limited.rvrun("check", "p.py", code=0, **variables)
    assert text in f"{done.stdout}{done.stderr}".replace("\n", " ")
    limited.rvrun("run", "local", "p.py", code=0, **variables)


@pytest.mark.parametrize("value", [0, 10, True, "3"])
def test_retries_have_a_limit(value: object) -> None:
    """That of AWS Batch, so that a pipeline runs everywhere."""
    with pytest.raises(ValueError, match="`retries` must be"):
        Resources(retries=value)  # type: ignore[arg-type]
