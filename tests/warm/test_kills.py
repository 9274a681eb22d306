"""Random pipelines, of whose runs random processes are killed or stopped at random moments.

Each trial runs a pipeline by `rvrun run local` or below `rvrun warm`, hits up to three of its
processes, and resumes until all is done. Then every target has been done exactly once, and no
process and no folder is left.

The suite runs a few trials. For more: TRIALS=200 python -m pytest -n 0 -s tests/warm/test_kills.py
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import sys
import time

import attrs
import psutil
import pytest

from tests.conftest import ROOT, Project
from tests.warm.runs import PATIENCE, Run, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has warm workers")
TRIALS = int(os.environ.get("TRIALS", "6"))
SEED = int(os.environ.get("SEED", "0"))
#: How long a process to hit may take to appear.
SECONDS_TO_FIND = 1.0
VICTIMS = ("rvrun", "make", "server", "preloader", "client", "target")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP)
MODULES = ("decimal", "fractions", "sqlite3", "xml.dom.minidom", "email.message", "numpy")

HEAD = """
import fcntl, os, random, signal, subprocess, sys, time
{imports}
import rvrun


class RandomConfig(rvrun.PipelineConfig):
    def build(self):
        return Random(self)


class Random(rvrun.Pipeline):
    commands = {commands}
    split_commands = {split_commands}
    needs = {needs}
"""
METHOD = """
    def {name}(self, split_ind=0, num_splits=1):
        do("{name}", split_ind, {acts})
"""
FOOT = """

def do(name, split, acts):
    name = f"{name}-{split}"
    log = os.open("marks", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    busy = os.open(f"busy-{name}", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(log, f"clash {name} {os.getpid()}\\n".encode())
    if "ignore" in acts:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "handle" in acts:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    if "lock" in acts:
        shared = os.open("shared", os.O_WRONLY | os.O_CREAT)
        fcntl.flock(shared, fcntl.LOCK_EX)
    if "child" in acts:
        subprocess.run(["sleep", "0.01"])
    try:
        time.sleep(random.uniform(0.0, 0.2))
        os.write(log, f"end {name} {os.getpid()}\\n".encode())
    finally:
        if "slow" in acts:
            time.sleep(0.05)


def get_config(runner):
    return RandomConfig(root_uri="out")
"""


@attrs.frozen
class Shape:
    """A random pipeline: its commands, those that are split, and its source."""

    commands: tuple[str, ...]
    split: tuple[str, ...]
    num_splits: int
    source: str

    @classmethod
    def of(cls, rng: random.Random) -> Shape:
        commands = tuple(f"c{i}" for i in range(rng.randint(2, 4)))
        split = tuple(c for c in commands if rng.random() < 0.7) or commands[:1]
        needs = []
        for index, name in enumerate(commands[1:], 1):
            words = []
            for before in rng.sample(commands[:index], rng.randint(0, min(2, index))):
                aligned = name in split and before in split and rng.random() < 0.5
                words.append(f'rvrun.aligned("{before}")' if aligned else f'"{before}"')
            needs.append(f'"{name}": [{", ".join(words)}]')
        imports = rng.sample(MODULES, rng.randint(0, 3))
        head = HEAD.format(
            imports="\n".join(f"import {name}" for name in imports),
            commands=commands,
            split_commands=split,
            needs=f"{{{', '.join(needs)}}}",
        )
        acts = ("ignore", "handle", "lock", "child", "slow")
        methods = (
            METHOD.format(name=name, acts=rng.sample(acts, rng.choice((0, 0, 1, 2))))
            for name in commands
        )
        return cls(commands, split, rng.randint(2, 8), head + "".join(methods) + FOOT)

    def targets(self) -> list[tuple[str, str]]:
        """Each target's name in the marks, and the path of its record."""
        targets = []
        for name in self.commands:
            if name not in self.split:
                targets.append((f"{name}-0", f"{name}.jsonl"))
                continue
            folder = f"{name}.{self.num_splits}"
            targets += [(f"{name}-{i}", f"{folder}/{i}.jsonl") for i in range(self.num_splits)]
        return targets


def hit(run: Run, rng: random.Random, seen: collections.Counter[str]) -> set[str]:
    """Send a random signal to a random process; return the roles that cannot clean up."""
    victim, number = rng.choice(VICTIMS), rng.choice(SIGNALS)
    assert run.process is not None
    with contextlib.suppress(psutil.Error):
        processes = _find(run, victim)
        if not processes:
            seen[f"no {victim}"] += 1
            return set()
        process = rng.choice(processes)
        # A run may be killed after it has made the folder of a server, and before it starts it.
        no_server = set() if run.roles()["server"] else {"server"}
        process.send_signal(number)
        seen[f"{signal.Signals(number).name} to {victim}"] += 1
        if number == signal.SIGSTOP:
            time.sleep(rng.uniform(0.05, 0.3))
            process.send_signal(signal.SIGCONT)
        return {victim} | no_server if number == signal.SIGKILL else set()
    return set()


def _find(run: Run, role: str) -> list[psutil.Process]:
    """Wait until there are processes with a role, and return them; none if the run ends first."""
    assert run.process is not None
    if role == "rvrun":
        return [psutil.Process(run.process.pid)]
    deadline = time.monotonic() + SECONDS_TO_FIND
    while run.process.poll() is None and time.monotonic() < deadline:
        if processes := run.roles()[role]:
            return processes
    return []


def check(run: Run, shape: Shape, seen: collections.Counter[str]) -> None:
    """Check that each target was done exactly once, and never twice at the same time."""
    marks = [line.split() for line in run.project.read("marks").splitlines()]
    assert [mark for mark in marks if mark[0] == "clash"] == []
    for name, path in shape.targets():
        ends = [mark for mark in marks if mark[:2] == ["end", name]]
        assert ends, f"{name} did not run"
        seen["repeated after its end mark"] += len(ends) - 1
        text = run.project.read(f"runs/pipe/records/random/{path}")
        lines = [json.loads(line) for line in text.splitlines()]
        done = [line for line in lines if line["event"] == "end" and line["exit_code"] == 0]
        # SIGKILL between the stamp, without which `make -q` fails, and the record of the end.
        was_cut_off = not done and (lines[-1]["event"] in ("start", "killed"))
        seen["killed after its stamp"] += was_cut_off
        assert len(done) == 1 or was_cut_off, (name, lines)
    seen["targets"] += len(shape.targets())
    run.project.make("-q", "-C", "runs/pipe")


def try_to_kill(project: Project, seed: int) -> collections.Counter[str]:
    """Run, hit and resume until all is done; return what was seen, as counts."""
    rng, seen = random.Random(f"kills {seed}"), collections.Counter[str]()
    shape = Shape.of(rng)
    project.write("pipe.py", shape.source)
    (project.folder / "tmp").mkdir()
    splits = ("--splits", str(shape.num_splits))
    project.rvrun("render", "local", "pipe.py", *splits)
    local = ("rvrun", "run", "local", "pipe.py", *splits, "-j4", "--no-show-output")
    below = ("rvrun", "warm", "make", "-j4", "-C", "runs/pipe")
    run, killed = Run(project), set[str]()
    for _ in range(rng.choice((1, 2))):
        run.start(*rng.choice((local, below)))
        if rng.random() < 0.8:
            _wait_for_marks(run)
        for _ in range(rng.randint(1, 3)):
            time.sleep(rng.uniform(0.0, 0.25))
            killed |= hit(run, rng, seen)
        seen[f"exit {run.code()}"] += 1
    for _ in range(5):
        run.start(*local)
        if run.code() == 0:
            break
        # What a killed run left behind may be at work.
        seen["resumed again"] += 1
        time.sleep(1)
    assert run.process is not None
    assert run.process.returncode == 0, run.output()
    assert f"{ROOT}/rvrun/" not in run.output().replace(f"{ROOT}/rvrun/warm/client.sh", "")
    check(run, shape, seen)
    if {"server", "rvrun"} <= killed:
        # Nobody was left to remove the folder.
        wait_for(lambda: not run.processes(), describe=run.processes)
    else:
        run.assert_nothing_is_left()
    return seen


def _wait_for_marks(run: Run) -> None:
    assert run.process is not None
    deadline = time.monotonic() + PATIENCE
    count = len(run.marks("end"))
    while run.process.poll() is None and len(run.marks("end")) == count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kills(tmp_path: pathlib.Path, processes: None) -> None:
    """Each target is done exactly once, whatever is killed or stopped."""
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
