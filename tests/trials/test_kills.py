"""Seeded trials: real runs, killed at random moments, resumed immediately, beside other makes.

Each trial kills rvrun, make, a target, or make with all targets, and resumes. In the end every
target must have run to its end exactly once, except for those that were killed or ended by a signal
before they were done, and never twice at the same time; and no process may be left.

The suite runs a few trials. For more: TRIALS=200 python -m pytest -n 0 -s tests/trials.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator

import attrs
import psutil
import pytest

from tests.conftest import PATIENCE, ROOT, Project, unmeasured_environment

#: How many kills to try, and the first seed.
TRIALS = int(os.environ.get("TRIALS", "8"))
SEED = int(os.environ.get("SEED", "0"))
NUM_SPLITS = 4
TARGETS = (
    "first",
    "last",
    *(f"{name}{i}" for name in ("part", "match") for i in range(NUM_SPLITS)),
)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
VICTIMS = ("rvrun", "make", "target", "group")
#: Exit codes of a run that was done, failed, was refused because another runs, or got a signal.
EXPECTED = (0, 1, 2, *(code for s in SIGNALS for code in (-s, 128 + s)))

MARKS = '''
import fcntl, os, random, time
import rvrun


class MarksConfig(rvrun.PipelineConfig):
    def build(self):
        return Marks(self)


class Marks(rvrun.Pipeline):
    """Marks the beginning and the end of each target in a file that all of them append to."""

    commands = ("first", "part", "match", "last")
    split_commands = ("part", "match")
    needs = {"part": ["first"], "match": [rvrun.aligned("part")], "last": ["part", "match"]}

    def first(self):
        self.mark("first")

    def part(self, split_ind, num_splits):
        self.mark(f"part{split_ind}")

    def match(self, split_ind, num_splits):
        self.mark(f"match{split_ind}")

    def last(self):
        self.mark("last")

    def mark(self, name):
        log = os.open("marks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        busy = os.open(f"busy-{name}", os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(log, f"clash {name} {os.getpid()}\\n".encode())
        try:
            os.write(log, f"begin {name} {os.getpid()}\\n".encode())
            time.sleep(random.uniform(0.0, 0.1))
            os.write(log, f"end {name} {os.getpid()}\\n".encode())
        finally:
            os.close(busy)


def get_config(runner):
    return MarksConfig(root_uri="out")
'''
RUN = ("rvrun", "run", "local", "marks.py", "--splits", str(NUM_SPLITS), "-j3")
MAKE = ("make", "-j3", "-C", "runs/marks")


@attrs.define
class Trial:
    """A project in which processes are started and killed, and what was seen of them."""

    project: Project
    rng: random.Random
    killed: set[int] = attrs.field(factory=set)
    seen: collections.Counter[str] = attrs.field(factory=collections.Counter)
    started: list[subprocess.Popen[str]] = attrs.field(factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        # Output goes to a file: a pipe would have to be read.
        with (self.project.folder / f"output-{len(self.started)}").open("wb") as output:
            process = subprocess.Popen(
                words,
                cwd=self.project.folder,
                env=unmeasured_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def wait_for_marks(self, run: subprocess.Popen[str]) -> None:
        """Wait until a target has begun, if the run gets that far."""
        deadline = time.monotonic() + PATIENCE
        while run.poll() is None and not (self.project.folder / "marks").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def kill(self, run: subprocess.Popen[str]) -> None:
        """Send a random signal to a random process of a run, if it has one."""
        victim, number = self.rng.choice(VICTIMS), self.rng.choice(SIGNALS)
        processes = list(descendants(run.pid))
        makes = [p for p in processes if name_of(p) == "make"]
        targets = [p for p in processes if "run_command" in words_of(p)]
        if victim == "rvrun" or not makes:
            victim = "rvrun"
            run.send_signal(number)
        elif victim == "make":
            self.send([makes[0]], number)
        elif victim == "group":
            self.send([makes[0], *targets], number)
        elif targets:
            self.send([self.rng.choice(targets)], number)
        else:
            victim = "no target"
        self.seen[f"{signal.Signals(number).name} to {victim}"] += 1

    def send(self, processes: list[psutil.Process], number: int) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                if number == signal.SIGKILL:
                    self.killed.add(process.pid)

    def finish(self) -> None:
        """Wait for all that was started; none may end in a way of its own, or with a traceback."""
        for number, process in enumerate(self.started):
            process.wait(timeout=PATIENCE)
            output = (self.project.folder / f"output-{number}").read_text()
            assert process.returncode in EXPECTED, (process.args, process.returncode, output)
            # A traceback of Python's own start is not rvrun's.
            is_early = was_interrupted_before_main(output)
            assert is_early or f'File "{ROOT}/rvrun/' not in output, output
            self.seen[f"exit {process.returncode}"] += 1
        self.started.clear()

    def check(self) -> None:
        """Check the marks of all targets, and that no process is left."""
        marks = [line.split() for line in self.project.read("marks").splitlines()]
        assert [mark for mark in marks if mark[0] == "clash"] == []
        for target in TARGETS:
            ends = [int(pid) for event, name, pid in marks if (event, name) == ("end", target)]
            assert ends, f"{target} did not run"
            # All but the last one must have been stopped after its mark, and before its record.
            for pid in ends[:-1]:
                assert pid in self.killed or self.exit_code(target, pid) != 0, (target, ends)
                self.seen["repeated after its end mark"] += 1
            begun = sum((event, name) == ("begin", target) for event, name, _ in marks)
            self.seen["stopped and repeated"] += begun - len(ends)
        self.seen["targets"] += len(TARGETS)
        left = processes_below(self.project.folder)
        assert left == [], left

    def exit_code(self, target: str, pid: int) -> int | None:
        """Return the exit code that the process `pid` recorded for its attempt."""
        stage = target.rstrip("0123456789")
        split = target.removeprefix(stage)
        path = f"{stage}.{NUM_SPLITS}/{split}" if split else stage
        text = self.project.read(f"runs/marks/records/marks/{path}.jsonl")
        lines = [json.loads(line) for line in text.splitlines()]
        attempts = [line["attempt"] for line in lines if line.get("pid") == pid]
        ends = {line["attempt"]: line["exit_code"] for line in lines if line["event"] == "end"}
        return ends.get(attempts[0])


def was_interrupted_before_main(output: str) -> bool:
    """Return whether Ctrl-C came while Python imported rvrun, whose `main` had not begun.

    As a script, or as `python -m rvrun`, where Python imports the package first.
    """
    is_import = "from rvrun.__main__ import main" in output or "_get_module_details" in output
    return is_import and "KeyboardInterrupt" in output


def descendants(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from psutil.Process(pid).children(recursive=True)


def name_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def words_of(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


def processes_below(folder: pathlib.Path) -> list[str]:
    """Return the command lines of the processes that run in a folder or below."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.cwd().startswith(str(folder)):
                lines.append(" ".join(process.cmdline()))
    return lines


def wait_until_empty(folder: pathlib.Path) -> None:
    """Wait for targets whose make was killed, which nobody else waits for."""
    deadline = time.monotonic() + PATIENCE
    while processes_below(folder):
        assert time.monotonic() < deadline, processes_below(folder)
        time.sleep(0.02)


def try_to_kill(project: Project, seed: int) -> collections.Counter[str]:
    """Run, kill and resume until all is done; return what was seen, as counts."""
    trial = Trial(project=project, rng=random.Random(seed))
    project.write("marks.py", MARKS)
    project.rvrun("render", "local", "marks.py", "--splits", str(NUM_SPLITS))
    for _ in range(trial.rng.choice((1, 2))):
        run = trial.start(*RUN)
        if trial.rng.random() < 0.4:
            trial.start(*MAKE)
            trial.seen["with make beside"] += 1
        if trial.rng.random() < 0.8:
            # Most kills are to hit targets, however long rvrun takes to start here.
            trial.wait_for_marks(run)
        time.sleep(trial.rng.uniform(0.0, 0.8))
        trial.kill(run)
        for words in trial.rng.choice(((RUN,), (MAKE,), (RUN, MAKE), (MAKE, MAKE))):
            trial.start(*words)
        if trial.rng.random() < 0.3:
            trial.kill(run)
    trial.finish()
    final = trial.start(*RUN)
    trial.finish()
    assert final.returncode == 0
    # A target that was run by a make that was killed ends by itself.
    wait_until_empty(project.folder)
    trial.check()
    again = project.run(*RUN)
    assert f"0 targets ran, {len(TARGETS)} up to date" in again.stderr
    return trial.seen


def test_kills(tmp_path: pathlib.Path, processes: None) -> None:
    """Each target is done exactly once, whatever is killed and whoever runs beside."""
    total: collections.Counter[str] = collections.Counter()
    for seed in range(SEED, SEED + TRIALS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            total += try_to_kill(Project(folder), seed)
        except BaseException:
            print(f"seed {seed}: {folder}")
            raise
    print(f"\n{TRIALS} trials from seed {SEED}")
    for event, count in sorted(total.items()):
        print(f"{count:6} {event}")


@pytest.mark.parametrize("seed", range(max(TRIALS // 12, 1)))
@pytest.mark.parametrize("number", SIGNALS[1:], ids=lambda number: number.name)
def test_a_signal_at_any_moment(project: Project, number: signal.Signals, seed: int) -> None:
    """From the start to the report: no traceback, an exit code by the convention, nothing left."""
    trial = Trial(project=project, rng=random.Random(f"{SEED} {number} {seed}"))
    project.write("marks.py", MARKS)
    run = trial.start(*RUN)
    time.sleep(trial.rng.choice((0.0, 0.1, 0.3, 1.5)) + trial.rng.uniform(0.0, 0.3))
    run.send_signal(number)
    trial.finish()
    # Ctrl-C while Python itself starts, before a line of rvrun's: Python then ends with 1.
    before_rvrun = "init_import_site" in project.read("output-0")
    assert run.returncode in (0, -number, 128 + number) or (before_rvrun and run.returncode == 1)
    assert processes_below(project.folder) == []
