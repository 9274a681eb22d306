"""`rvrun run inprocess`: all targets in one process, for debugging."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest

from tests.conftest import Project, clean_environment
from tests.runners.local.test_make import WORK, read_terminal, without_times


@pytest.fixture
def work(project: Project) -> Project:
    """Create a project whose targets fail on request."""
    project.write("work.py", WORK)
    return project


def test_all_in_one_process_in_order(work: Project) -> None:
    """Targets run in one process, in the plan's order, and print to the terminal."""
    done = work.rvrun("run", "inprocess", "work.py", "--splits", "2")
    assert done.stdout == "first says hello\npart0 says hello\npart1 says hello\nlast says hello\n"
    assert without_times(done.stderr) == (
        "── work/first\n── work/part/0\n── work/part/1\n── work/last\ndone in N s: 4 targets ran\n"
    )
    records = (work.folder / "runs/work/records/work").rglob("*.jsonl")
    pids = {json.loads(record.read_text().splitlines()[0])["pid"] for record in records}
    assert len(pids) == 1


def test_same_results_and_state_as_local(tiny: Project) -> None:
    """What inprocess did is up to date for make, and the results are the same."""
    tiny.rvrun("run", "inprocess", "tiny.py", "--splits", "3")
    results = tiny.read("out/tiny/total.json")
    tiny.rvrun("render", "local", "tiny.py", "--splits", "3")
    assert "Nothing to be done" in tiny.make("-C", "runs/tiny").stdout
    tiny.rvrun("run", "local", "tiny.py", "--splits", "2")
    assert tiny.read("out/tiny/total.json") == results
    again = tiny.rvrun("run", "inprocess", "tiny.py", "--splits", "3")
    assert "8 targets ran" in again.stderr


def test_the_traceback_starts_in_the_users_code(work: Project) -> None:
    """A failure stops the run with exit code 1; the next run continues."""
    work.write("fail-part1", "")
    done = work.rvrun("run", "inprocess", "work.py", "--splits", "3", code=1)
    file = work.folder / "work.py"
    assert without_times(done.stderr) == (
        "── work/first\n── work/part/0\n── work/part/1\n"
        "Traceback (most recent call last):\n"
        f'  File "{file}", line 23, in part\n'
        '    self.do(f"part{split_ind}")\n'
        f'  File "{file}", line 31, in do\n'
        '    raise ValueError(f"{name} has to fail")\n'
        "ValueError: part1 has to fail\n"
        "work/part/1 failed (exit 1) after N s\n"
        "to rerun this target:  rvrun run_command runs/work/config/work.json part --split-ind 1 "
        "--num-splits 3\n"
        "failed in N s: 2 targets ran, 1 failed, 2 not started\n"
        "to continue:           rvrun run inprocess work.py --splits 3\n"
    )
    (work.folder / "fail-part1").unlink()
    again = work.rvrun("run", "inprocess", "work.py", "--splits", "3")
    assert again.stdout == "part1 says hello\npart2 says hello\nlast says hello\n"


def test_no_log_of_an_earlier_run_is_shown(work: Project) -> None:
    """Targets print to the terminal; the summary does not show the log of an earlier make run."""
    work.write("fail-part1", "")
    for runner, logs in (("local", 1), ("inprocess", 0)):
        done = work.rvrun("run", runner, "work.py", "--splits", "2", code=1)
        assert done.stderr.count("the end of ") == logs


def test_keep_going(work: Project) -> None:
    """With -k, other splits still run, but no stage that needs the failed one."""
    work.write("fail-part0", "")
    work.write("exit-part1", "")
    done = work.rvrun("run", "inprocess", "work.py", "--splits", "3", "-k", code=1)
    assert "part2 says hello" in done.stdout
    assert "last says hello" not in done.stdout
    assert "failed in" in done.stderr
    assert "2 targets ran, 2 failed, 1 not started" in done.stderr


def test_pdb_stops_where_the_command_raised(work: Project) -> None:
    """--pdb opens Python's debugger in the frame of the user's code."""
    work.write("fail-first", "")
    controller, terminal = pty.openpty()
    running = subprocess.Popen(
        ["rvrun", "run", "inprocess", "work.py", "--pdb"],
        cwd=work.folder,
        env=clean_environment(TERM="dumb"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    os.write(controller, b"p 'name is ' + name\nq\n")
    shown = read_terminal(controller)
    assert running.wait(timeout=60) == 1
    assert "work.py(31)do()" in shown
    assert "'name is first'" in shown


def test_pdb_needs_one_process(work: Project) -> None:
    """--pdb with the local runner is refused."""
    done = work.rvrun("run", "local", "work.py", "--pdb", code=2)
    assert done.stderr == (
        "rvrun: `--pdb` requires a runner with a debugger (inprocess); `local` has none\n"
    )


def test_ctrl_c(work: Project) -> None:
    """An interrupt ends the run with exit code 130 and a summary, without a traceback."""
    work.write("interrupt-part0", "")
    done = work.rvrun("run", "inprocess", "work.py", "--splits", "2", code=130)
    assert without_times(done.stderr).splitlines()[-2:] == [
        "interrupted in N s: 1 target ran, 1 stopped, 2 not started",
        "to continue:           rvrun run inprocess work.py --splits 2",
    ]


#: A pipeline that leaves a file open, in an object that refers to itself.
UNCLOSED = """
import rvrun

class Note:
    def __init__(self):
        self.file = open("note.txt", "w")
        self.write = self.file.write
        self.me = self

NOTES = []

class NotesConfig(rvrun.PipelineConfig):
    def build(self):
        return Notes(self)

class Notes(rvrun.Pipeline):
    commands = ("note",)

    def note(self):
        NOTES.append(Note())
        NOTES[0].write("kept")

def get_config(runner):
    return NotesConfig(name="notes", root_uri="out")
"""


@pytest.mark.parametrize("runner", ["inprocess", "local"])
def test_files_that_commands_leave_open_are_written(project: Project, runner: str) -> None:
    """Even those that only Python's last collection closes."""
    project.write("notes.py", UNCLOSED)
    project.rvrun("run", runner, "notes.py")
    assert project.read("note.txt") == "kept"
