"""Runs with warm workers, as real processes: what runs, what is left, and terminals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import pty
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import attrs
import psutil

from rvrun.warm.protocol import CLIENT, VERB
from tests.conftest import Project, unmeasured_environment

ACTS = '''
import decimal, os, pathlib, signal, subprocess, sys, time
import rvrun


class ActsConfig(rvrun.PipelineConfig):
    def build(self):
        return Acts(self)


class Acts(rvrun.Pipeline):
    """Waits while `hold-NAME` exists, does what other files in the current folder say."""

    commands = ("part", "last")
    split_commands = ("part",)
    needs = {"last": ["part"]}

    def part(self, split_ind, num_splits):
        self.do(f"part{split_ind}")

    def last(self):
        self.do("last")

    def do(self, name):
        if os.path.exists(f"ignore-{name}"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.path.exists(f"child-{name}"):
            subprocess.Popen(["sleep", "1001"])
        mark("begin", name)
        if os.path.exists(f"read-{name}"):
            mark(sys.stdin.read(), name)
        try:
            while os.path.exists(f"hold-{name}"):
                time.sleep(0.01)
        finally:
            if os.path.exists(f"slow-{name}"):
                time.sleep(0.5)
            mark("finally", name)
        if os.path.exists(f"exit-{name}"):
            sys.exit(int(pathlib.Path(f"exit-{name}").read_text()))
        mark("end", name)


def mark(event, name):
    with open("marks", "a") as file:
        file.write(f"{event} {name} {os.getpid()}\\n")


def get_config(runner):
    return ActsConfig(root_uri="out")
'''
#: How long anything may take, in seconds.
PATIENCE = 60.0
#: The two ways to run the pipeline.
LOCAL = ("rvrun", "run", "local", "acts.py", "--splits", "3", "-j3", "--no-show-output")
MAKE = ("rvrun", "warm", "make", "-j3", "-C", "runs/acts")


@attrs.define
class Run:
    """A project of its own with a run of it, and the processes of that run by their role."""

    project: Project
    process: subprocess.Popen[bytes] | None = None
    terminal: int | None = None

    @classmethod
    def of(cls, project: Project) -> Run:
        project.write("acts.py", ACTS)
        (project.folder / "tmp").mkdir()
        project.rvrun("render", "local", "acts.py", "--splits", "3")
        return cls(project)

    def start(self, *words: str, at_terminal: bool = False, **env: str) -> None:
        """Start a command in a session of its own, perhaps at a terminal."""
        environ = unmeasured_environment(TMPDIR=str(self.project.folder / "tmp"), **env)
        prepare = None
        if at_terminal:
            self.terminal, theirs = pty.openpty()
            streams = [theirs] * 3
            prepare = _own_terminal
        else:
            output = os.open(self.project.folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            streams = [os.open(os.devnull, os.O_RDONLY), output, output]
        self.process = subprocess.Popen(
            words,
            cwd=self.project.folder,
            env=environ,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            start_new_session=not at_terminal,
            preexec_fn=prepare,  # noqa: PLW1509 - only the child can take the terminal
        )
        for stream in {*streams}:
            os.close(stream)

    def hold(self, *names: str) -> None:
        for name in names:
            self.project.write(f"hold-{name}", "")

    def release(self) -> None:
        for path in self.project.folder.glob("hold-*"):
            path.unlink()

    def marks(self, event: str) -> list[str]:
        """The targets with a mark for `event`, in order."""
        if not (self.project.folder / "marks").exists():
            return []
        lines = (line.split() for line in self.project.read("marks").splitlines())
        return [line[1] for line in lines if line[0] == event]

    def wait_for_begin(self, *names: str) -> None:
        wait_for(lambda: set(names) <= set(self.marks("begin")))

    def code(self) -> int:
        """Wait for the end, and return the exit code."""
        assert self.process is not None
        if self.terminal is not None:
            read_terminal(self.terminal)
        return self.process.wait(PATIENCE)

    def output(self) -> str:
        return self.project.read("output")

    def roles(self) -> dict[str, list[psutil.Process]]:
        """Return the processes below the command by what they are."""
        assert self.process is not None
        processes_by_role: dict[str, list[psutil.Process]] = {
            role: [] for role in ("make", "client", "server", "preloader", "target")
        }
        for process, depth in _below(psutil.Process(self.process.pid)):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if process.name() == "make":
                    processes_by_role["make"].append(process)
                elif CLIENT in words:
                    processes_by_role["client"].append(process)
                elif depth and words == ["sleep", "1001"]:
                    continue
                elif depth in (1, 2, 3):
                    processes_by_role[("server", "preloader", "target")[depth - 1]].append(process)
        return processes_by_role

    def one(self, role: str) -> psutil.Process:
        """Wait until there is a process with a role, and return one."""
        processes: list[psutil.Process] = []

        def look() -> list[psutil.Process]:
            processes[:] = self.roles()[role]
            return processes

        wait_for(look)
        return processes[0]

    def processes(self) -> list[str]:
        """Return the processes that run in the folder of the project or below."""
        return processes_in(self.project.folder)

    def assert_nothing_is_left(self) -> None:
        """Wait until all processes have ended, for what they do after their run has ended."""
        folder = self.project.folder
        wait_for(lambda: not processes_in(folder), describe=lambda: processes_in(folder))
        assert os.listdir(folder / "tmp") == []

    def assert_all_have_ended(self) -> None:
        """Check that no process is left now, as a run that ends in order leaves none."""
        assert processes_in(self.project.folder) == []
        assert os.listdir(self.project.folder / "tmp") == []


def _below(root: psutil.Process) -> Iterator[tuple[psutil.Process, int]]:
    """All descendants, and for the warm worker and those below it how deep they are in it."""

    def walk(process: psutil.Process, depth: int) -> Iterator[tuple[psutil.Process, int]]:
        for child in children_of(process):
            inside = depth + 1 if depth or VERB in words_of(child) else 0
            yield child, inside
            yield from walk(child, inside)

    yield from walk(root, 0)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the children of a process; none if it has ended."""
    with contextlib.suppress(psutil.Error):
        return list(process.children())
    return []


def words_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process; nothing if it has ended."""
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_terminal(descriptor: int) -> str:
    """Read all that is shown at a terminal, until nobody has it open."""
    text = b""
    with contextlib.suppress(OSError):
        while part := os.read(descriptor, 65536):
            text += part
    return text.decode(errors="replace")


def wait_for(
    condition: Callable[[], object],
    seconds: float = PATIENCE,
    describe: Callable[[], object] = lambda: "",
) -> None:
    """Wait until `condition` is true; it is the test's fault if that takes long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still false after {seconds} s: {describe()}"
        time.sleep(0.02)


def processes_in(folder: pathlib.Path) -> list[str]:
    """Return the processes that run in a folder or below, but no zombies."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if pathlib.Path(process.cwd()).is_relative_to(folder):
                lines.append(f"{process.pid} {process.status()} {' '.join(process.cmdline())}")
    return lines
