"""What the tests of Slurm share: a pipeline that leaves marks, and sbatch with faults."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from tests.conftest import PATIENCE, Project, clean_environment
from tests.engines.slurm import Slurm, find

#: Each target appends its name to `marks`, and does what the file `ACT-NAME` says, if there is one.
#: The file is read, and SIGTERM is handled, before the mark: tests go on as soon as they see that.
MARKS = """
import os
import pathlib
import signal
import sys
import time

import rvrun


class MarksConfig(rvrun.PipelineConfig):
    def build(self):
        return Marks(self)


class Marks(rvrun.Pipeline):
    commands = ("first", "part", "match", "last")
    split_commands = ("part", "match")
    needs = {"part": ["first"], "match": [rvrun.aligned("part")], "last": ["match"]}

    def first(self):
        self.mark("first")

    def part(self, split_ind, num_splits):
        self.mark(f"part{split_ind}")

    def match(self, split_ind, num_splits):
        self.mark(f"match{split_ind}")

    def last(self):
        self.mark("last")

    def mark(self, name):
        act = pathlib.Path(f"act-{name}")
        word, _, value = (act.read_text() if act.exists() else "").partition(" ")
        if word in ("sleep", "wait"):
            signal.signal(signal.SIGTERM, lambda *_: self.stop(name))
        with open("marks", "a") as marks:
            marks.write(f"{name}\\n")
        print(f"ran {name}", flush=True)
        if word == "fail":
            sys.exit(int(value))
        if word == "once":
            act.unlink()
            sys.exit(int(value))
        if word == "sleep":
            time.sleep(float(value))
        if word == "wait":
            self.wait(pathlib.Path(value).exists)
        if word in ("print", "meet"):
            print(os.environ.get(value))
        if word == "meet":
            self.wait(lambda: len(pathlib.Path("marks").read_text().splitlines()) == 2)

    def wait(self, is_so):
        while not is_so():
            time.sleep(0.05)

    def stop(self, name):
        with open("marks", "a") as marks:
            marks.write(f"sigterm {name}\\n")
        sys.exit(143)


def get_config(runner, root_uri="out"):
    return MarksConfig(root_uri=root_uri)
"""
#: An sbatch that finds its faults in a file: a line for each call, `BEFORE REAL AFTER`.
WRAPPER = """\
#!/bin/bash
# Runs in place of sbatch. The first line of FAULTS is what this call does.
echo "$@" >> {folder}/calls
fault=$(head -n 1 {folder}/faults 2>/dev/null)
sed -i 1d {folder}/faults 2>/dev/null
case $fault in
slow*) sleep "${{fault#slow }}"; exec {sbatch} "$@" ;;
lag*) {sbatch} "$@"; code=$?; sleep "${{fault#lag }}"; exit $code ;;
refused) echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
    exit 1 ;;
unanswered) echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1 ;;
reset) echo "sbatch: error: Batch job submission failed: Connection reset by peer" >&2; exit 1 ;;
lost) {sbatch} "$@" >/dev/null
    echo "sbatch: error: Socket timed out on send/recv operation" >&2
    exit 1 ;;
cut) id=$({sbatch} "$@"); printf %s "${{id:0:1}}" ;;
silent) {sbatch} "$@" >/dev/null ;;
killed) {sbatch} "$@" >/dev/null; kill -9 $$ ;;
unsent) kill -9 $$ ;;
*) exec {sbatch} "$@" ;;
esac
"""
#: A command that only reads, and finds its faults in the same way.
READER = """\
#!/bin/bash
fault=$(head -n 1 {folder}/{name}-faults 2>/dev/null)
sed -i 1d {folder}/{name}-faults 2>/dev/null
case $fault in
slow*) sleep "${{fault#slow }}"; exec {program} "$@" ;;
unanswered) echo "{name}: error: Unable to contact slurm controller (connect failure)" >&2
    exit 1 ;;
killed) {program} "$@" | head -n 1; kill -9 $$ ;;
*) exec {program} "$@" ;;
esac
"""


@attrs.frozen
class Site:
    """A project with the pipeline, and a cluster; `variables` are those of all commands."""

    project: Project
    slurm: Slurm
    variables: dict[str, str] = attrs.field(init=False)

    @variables.default
    def _variables(self) -> dict[str, str]:
        return dict(self.slurm.variables)

    @property
    def folder(self) -> pathlib.Path:
        return self.project.folder

    def write(self, path: str, text: str) -> None:
        self.project.write(path, text)

    def act(self, name: str, order: str) -> None:
        """Have the target called `name`, such as `part0`, do what `order` says; empty: nothing."""
        if order:
            self.write(f"act-{name}", order)
        else:
            (self.folder / f"act-{name}").unlink()

    def rvrun(self, *words: str, code: int = 0, cwd: str = ".") -> str:
        """Run rvrun; what it prints."""
        done = self.start("rvrun", *words, cwd=cwd)
        assert done.returncode == code, f"{words} -> {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *words: str, cwd: str = ".") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            words,
            cwd=self.folder / cwd,
            env=clean_environment(**self.variables),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )

    def submit(self, *words: str, splits: int = 3, code: int = 0) -> str:
        """Submit the pipeline; what that prints."""
        return self.rvrun("run", "slurm", "marks.py", *words, "--splits", str(splits), code=code)

    def state(self, run: str = "@latest", cwd: str = ".") -> dict[str, Any]:
        """The state of a run."""
        state: dict[str, Any] = json.loads(
            self.start("rvrun", "status", run, "--json", cwd=cwd).stdout
        )
        return state

    def wait(self, is_so: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """Wait until the latest run is over, or `is_so`; return its state."""
        deadline = time.monotonic() + PATIENCE / 4
        while True:
            if is_so is None:
                self.until_jobs_end()
            state = self.state()
            if is_so(state) if is_so else state["state"] not in ("running", "interrupted"):
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.2)

    def until_jobs_end(self) -> None:
        """Wait until no job waits or runs."""

        def have_ended() -> bool:
            self.slurm.start_requeued()
            return not self.slurm.call("squeue", "-h").strip()

        self.until("all jobs end", have_ended)

    def until(self, event: str, is_so: Callable[[], bool], *, pause: float = 0.1) -> None:
        deadline = time.monotonic() + PATIENCE / 4
        while not is_so():
            assert time.monotonic() < deadline, f"{event}: {self.slurm.call('squeue')}"
            time.sleep(pause)

    @property
    def marks(self) -> list[str]:
        """What targets did, in order."""
        path = self.folder / "marks"
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def counted_marks(self) -> dict[str, int]:
        return dict(collections.Counter(self.marks))

    @property
    def run_ids(self) -> list[str]:
        """The ids of all runs, the oldest first."""
        return sorted(path.name for path in (self.folder / "runs/marks/submitted").glob("[!.]*"))

    def jobs(self) -> dict[str, int]:
        """How many jobs of the latest run Slurm has of each name, also of those that ended."""
        out = self.slurm.call("squeue", "-h", "--states=all", "--format=%F|%j")
        pairs = {tuple(line.split("|")) for line in out.split() if self.run_ids[-1] in line}
        return dict(collections.Counter(name for _, name in pairs))

    def job_of(self, command: str, index: int) -> str:
        """The id of a task that runs."""
        out = self.slurm.call("squeue", "-h", "--array", "--states=R", "--format=%j|%K|%i")
        rows = [line.split("|") for line in out.split()]
        own = f"marks/{command}@"
        return next(id_ for name, i, id_ in rows if name.startswith(own) and i == str(index))

    def break_sbatch(self, *faults: str) -> None:
        """Let sbatch have these faults, a call each; none: its calls are only noted."""
        folder = self.folder / "wrapped"
        folder.mkdir(exist_ok=True)
        wrapper = folder / "sbatch"
        wrapper.write_text(WRAPPER.format(folder=folder, sbatch=find("sbatch")))
        wrapper.chmod(0o755)
        (folder / "faults").write_text("".join(f"{fault}\n" for fault in faults))
        self.put_on_path(folder)

    def break_readers(self, **faults: Sequence[str]) -> None:
        """Let commands such as squeue have these faults, a call each; none: they work again."""
        folder = self.folder / "wrapped"
        folder.mkdir(exist_ok=True)
        for name, own in faults.items():
            wrapper = folder / name
            wrapper.write_text(READER.format(folder=folder, name=name, program=find(name)))
            wrapper.chmod(0o755)
            (folder / f"{name}-faults").write_text("".join(f"{fault}\n" for fault in own))
        self.put_on_path(folder)

    def put_on_path(self, folder: pathlib.Path) -> None:
        """Let the programs in a folder come first."""
        self.variables["PATH"] = f"{folder}{os.pathsep}{clean_environment()['PATH']}"

    def calls(self) -> list[str]:
        """The calls of sbatch since `break_sbatch`."""
        path = self.folder / "wrapped/calls"
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def stage(state: dict[str, Any], command: str) -> dict[str, Any]:
    """What a state says of a stage."""
    own: dict[str, Any] = next(s for s in state["stages"] if s["name"] == f"marks/{command}")
    return own


ALL_ONCE = {
    **dict.fromkeys(("first", "last"), 1),
    **{f"{name}{index}": 1 for name in ("part", "match") for index in range(3)},
}
