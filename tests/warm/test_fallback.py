"""Runs go on in fresh processes if targets cannot be forked, or the warm worker is lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import PATIENCE, Project, clean_environment

WORK = """
import os, pathlib, sys, time
import rvrun
{code}

class WorkConfig(rvrun.PipelineConfig):
    def build(self):
        return Work(self)


class Work(rvrun.Pipeline):
    commands = ("part", "last")
    split_commands = ("part",)

    def part(self, split_ind, num_splits):
        parent = pathlib.Path(f"/proc/{{os.getppid()}}/cmdline").read_text()
        how = "warm" if "warm_worker" in parent else "fresh"
        pathlib.Path(f"ran-{{split_ind}}").write_text(how)
        while os.path.exists("hold"):
            time.sleep(0.05)

    def last(self):
        pass


def get_config(runner):
    return WorkConfig(root_uri="out")
"""
#: An import does that only in a process that imports for others.
ONLY_WARM = 'if "warm_worker" in pathlib.Path("/proc/self/cmdline").read_text():\n    '


def work(project: Project, code: str = "") -> Project:
    project.write("work.py", WORK.format(code=code))
    return project


def ran(project: Project) -> set[str]:
    return {path.read_text() for path in project.folder.glob("ran-*")}


def notes(stderr: str) -> list[str]:
    return re.findall(r"^.*(?:fresh process|warm worker).*$", stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("code", "note"),
    [
        pytest.param(
            "import threading\nthreading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
            r".* started the thread `Thread-1 \(sleep\)`, which a fork would lose",
            id="a thread",
        ),
        pytest.param(
            ONLY_WARM + "raise ValueError('not here')",
            r"importing .* raised ValueError: not here|.*ValueError.*",
            id="an error",
        ),
        pytest.param(ONLY_WARM + "sys.exit(3)", r".*SystemExit.*", id="an exit"),
        pytest.param(
            ONLY_WARM + "os._exit(3)",
            "the process that imports for them ended with exit code 3",
            id="an exit of the process",
        ),
        pytest.param(
            ONLY_WARM + "__import__('ctypes').string_at(0)",
            "the process that imports for them was killed by SIGSEGV",
            id="a segfault",
        ),
    ],
)
def test_an_import_that_spoils_forks(project: Project, code: str, note: str) -> None:
    """The run succeeds in fresh processes, and one line tells why."""
    done = work(project, code).rvrun("run", "local", "work.py", "--splits", "3", "--warm")
    assert ran(project) == {"fresh"}
    [line] = notes(done.stderr)
    assert re.search(rf"targets start in fresh processes: (?:{note})$", line), line


@pytest.mark.parametrize(
    ("words", "environment", "settings"),
    [
        (["--no-warm"], {}, ""),
        ([], {"RVRUN_LOCAL_WARM": "false"}, ""),
        ([], {}, "[local]\nwarm = false\n"),
    ],
)
def test_turned_off(
    project: Project, words: list[str], environment: dict[str, str], settings: str
) -> None:
    project.write("rvrun.toml", settings)
    run = ("run", "local", "work.py", "--splits", "3", "-v", *words)
    done = work(project).rvrun(*run, code=0, **environment)
    assert ran(project) == {"fresh"}
    assert notes(done.stderr) == []


def test_few_targets_are_not_worth_it(project: Project) -> None:
    """That is harmless, so only -v shows it."""
    run = ("run", "local", "work.py", "--splits", "1")
    assert notes(work(project).rvrun(*run).stderr) == []
    assert ran(project) == {"fresh"}
    [line] = notes(project.rvrun(*run, "-v", "--always-make").stderr)
    assert "a warm worker is not worth it for 2 targets" in line


def test_modules_that_are_imported_after_the_fork(project: Project) -> None:
    """A withheld module is not in the preloader, but in the target."""
    project.write("slow.py", "import os\nPID = os.getpid()\n")
    work(project, "def late():\n    import slow\n    assert slow.PID == os.getpid()\n")
    text = project.read("work.py").replace("while os", "late()\n        while os")
    project.write("work.py", text)
    project.write("rvrun.toml", '[local]\nimport_after_fork = ["slow"]\n')
    project.rvrun("run", "local", "work.py", "--splits", "3", PYTHONPATH=".")
    assert ran(project) == {"warm"}


#: `rvrun` that soon gives a server up once a test says that it is lost. One that is slow to start
#: must not be given up.
IMPATIENT = """
import os
from rvrun.warm import protocol
protocol.BEAT_SECONDS = 0.1
from rvrun.warm.supervisor import WarmWorker
from rvrun.__main__ import main

beat = WarmWorker.beat

def impatient_beat(self):
    if os.path.exists("lost"):
        protocol.MISSED_BEATS = 5
    else:
        self._unanswered = 0
    beat(self)

WarmWorker.beat = impatient_beat
main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", ["the server", "the preloader"])
def test_a_lost_warm_worker(project: Project, victim: str, number: signal.Signals) -> None:
    """Killed or stopped: the targets that are left run in fresh processes, and one line says so."""
    work(project).write("hold", "")
    project.write("quick.py", IMPATIENT)
    words = ("run", "local", "work.py", "--splits", "6", "-j2", "--warm", "-k")
    running = subprocess.Popen(
        [sys.executable, "-P", "quick.py", *words],
        cwd=project.folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(list(project.folder.glob("ran-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    below = psutil.Process(running.pid).children()
    [server] = [child for child in below if "warm_worker" in child.cmdline()]
    [preloader] = [child for child in server.children() if child.children()]
    chosen = server if victim == "the server" else preloader
    os.kill(chosen.pid, number)
    if chosen is server:
        project.write("lost", "")
    (project.folder / "hold").unlink()
    _, stderr = running.communicate(timeout=PATIENCE)
    assert not chosen.is_running() or chosen.status() == psutil.STATUS_ZOMBIE
    again = project.rvrun("run", "local", "work.py", "--splits", "6").stderr
    assert "0 targets ran, 7 up to date" in again or running.returncode, stderr
    assert len(notes(stderr)) == 1, stderr


def test_edited_code_and_other_imports_below_one_command(project: Project) -> None:
    """New targets see edited code, and each pipeline has its own imports."""
    work(project)
    project.write("other.py", project.read("work.py"))
    for name in ("work", "other"):
        project.rvrun("render", "local", f"{name}.py", "--splits", "2", "--out", name)
    edit = "sleep 1.1; echo 'print(\"edited\")' >>work.py"
    script = f"make -C work; make -C other; {edit}; make -B -C work"
    done = project.run("rvrun", "warm", "-v", "sh", "-c", script)
    assert ran(project) == {"warm"}
    assert notes(done.stderr) == []
    assert done.stdout.count("\nedited\n") == 3


@pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh"])
def test_the_client_in_several_shells(project: Project, shell: str) -> None:
    if not shutil.which(shell.split(maxsplit=1)[0]):
        pytest.skip(f"{shell} is not installed")
    work(project).rvrun("render", "local", "work.py", "--splits", "3", "--out", "run")
    script = f'make -C run RVRUN="{shell} ${{RVRUN#/bin/sh }}"'
    project.run("rvrun", "warm", "sh", "-c", script)
    assert ran(project) == {"warm"}


@pytest.mark.parametrize(
    ("targets", "jobs"),
    [
        pytest.param(250, 250, id="more slots are made"),
        # With twice as many slots as jobs, there is a free one also before the server knows that
        # clients have ended.
        pytest.param(300, 100, id="slots are used again"),
    ],
)
def test_many_clients_at_a_time(project: Project, targets: int, jobs: int) -> None:
    """All of them wait for the same preloader."""
    (work(project).folder / "hold").touch()
    text = project.read("work.py").replace("while os", "time.sleep(0.5)\n        while not os")
    project.write("work.py", text)
    words = ("--splits", str(targets), f"-j{jobs}", "--no-show-output")
    project.rvrun("run", "local", "work.py", *words)
    assert len(list(project.folder.glob("ran-*"))) == targets
    assert ran(project) == {"warm"}
