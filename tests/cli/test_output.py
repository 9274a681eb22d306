"""What targets print is shown while they run, and belongs to a target when several run."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.conftest import PATIENCE, Project, clean_environment

SOURCE = """
import pathlib, sys, time
import rvrun

class LoudConfig(rvrun.PipelineConfig):
    gate: str = ""
    def build(self):
        return Loud(self)

class Loud(rvrun.Pipeline):
    commands = ("chip", "train")
    split_commands = ("chip",)
    def chip(self, split_ind=0, num_splits=1):
        print("10%", end="\\\\r")
        print(f"split {split_ind}\\\\r\\\\n\\u00e9", end="")
    def train(self):
        print("epoch 1")
        print("to stderr", file=sys.stderr)
        while self.config.gate and not pathlib.Path(self.config.gate).exists():
            time.sleep(0.01)
        print("half", end="")

def get_config(runner, gate=""):
    return LoudConfig(root_uri="out", gate=gate)
""".replace("\\\\", "\\")


@pytest.fixture
def loud(project: Project) -> Project:
    """A project whose pipeline prints in several ways."""
    project.write("loud.py", SOURCE)
    return project


def run_bytes(project: Project, *words: str) -> bytes:
    """What a run prints on stderr, byte for byte, without its last line."""
    done = subprocess.run(
        ["rvrun", "run", "local", "loud.py", *words],
        cwd=project.folder,
        env=clean_environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == b""
    return done.stderr[: done.stderr.rindex(b"done in ")]


def test_one_at_a_time_is_shown_as_it_is(loud: Project) -> None:
    """Progress bars too, which return to the start of their line; an open line is ended."""
    assert run_bytes(loud, "-j1", "--splits", "2") == (
        b"10%\rsplit 0\r\n\xc3\xa9\nloud/chip/0 done\n"
        b"10%\rsplit 1\r\n\xc3\xa9\nloud/chip/1 done\n"
        b"epoch 1\nto stderr\nhalf\nloud/train done\n"
    )
    assert loud.read("runs/loud/logs/loud/train.log") == "epoch 1\nto stderr\nhalf"


def test_lines_of_parallel_targets_name_them(loud: Project) -> None:
    """Whole lines, of which a progress bar leaves its last state."""
    shown = run_bytes(loud, "-j2", "--splits", "2", "--show-output").decode().splitlines()
    for split in (0, 1):
        name = f"loud/chip/{split}"
        own = [line for line in shown if line.startswith(name)]
        assert own == [f"{name} | split {split}", f"{name} | é", f"{name} done"]
    assert shown[-4:] == [
        "loud/train | epoch 1",
        "loud/train | to stderr",
        "loud/train | half",
        "loud/train done",
    ]


def test_output_is_not_shown_otherwise(loud: Project) -> None:
    """Several in parallel only write to their logs; at the end, the last stage's is shown."""
    done = b"loud/chip/0 done\nloud/train done\n"
    assert run_bytes(loud, "-j1", "--no-show-output") == done
    end = b"loud/train printed:\n  | epoch 1\n  | to stderr\n  | half\n"
    assert run_bytes(loud, "-j2", "-B") == done + end


def test_only_the_end_of_long_output_is_shown(project: Project) -> None:
    """Ten lines, of which a progress bar leaves its last state, and where the rest is."""
    lines = "for i in range(40): print(f'step {i}', end='\\r' if i % 2 else '\\n')"
    project.write("loud.py", SOURCE.replace('print("epoch 1")', lines))
    shown = run_bytes(project, "-j2", "train").decode()
    assert "the end of runs/loud/logs/loud/train.log:\n" in shown
    assert [line for line in shown.splitlines() if line.startswith("  | ")][-3:] == [
        "  | step 38",
        "  | to stderr",
        "  | half",
    ]
    assert shown.count("  | ") == 10


def test_a_later_attempt_shows_only_its_own_output(loud: Project) -> None:
    """Its log also has that of the first one."""
    first = run_bytes(loud, "-j1", "train")
    assert run_bytes(loud, "-j1", "train", "-B") == first
    assert loud.read("runs/loud/logs/loud/train.log").count("epoch 1") == 2


def test_output_is_shown_while_a_target_runs(loud: Project) -> None:
    """Before it ends: this one waits for a file that is created once its output is seen."""
    words = ["rvrun", "run", "local", "loud.py", "train", "-j1", "-a", "gate", "gate"]
    with subprocess.Popen(
        words, cwd=loud.folder, env=clean_environment(), stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        assert run.stderr.readline().startswith("warning: loud/train needs chip")
        assert run.stderr.readline() == "epoch 1\n"
        loud.write("gate", "")
        assert "half\nloud/train done\n" in run.stderr.read()
    assert run.returncode == 0


def test_a_terminal_shows_no_bars_between_output(loud: Project) -> None:
    """Bars would be drawn over the lines of targets."""
    reading, writing = os.openpty()
    process = subprocess.Popen(
        ["rvrun", "run", "local", "loud.py", "-j2", "--show-output"],
        cwd=loud.folder,
        env=clean_environment(TERM="xterm"),
        stderr=writing,
    )
    os.close(writing)
    shown = b""
    while True:
        try:
            data = os.read(reading, 1024)
        except OSError:  # Linux reports the end of a terminal as an error
            break
        if not data:
            break
        shown += data
    os.close(reading)
    assert process.wait(PATIENCE) == 0
    assert b"loud/train | half\r\n" in shown
    assert b"\x1b[2K" not in shown


def test_only_runners_on_this_machine_show_output(loud: Project) -> None:
    """A detached run has `rvrun logs`."""
    words = ("run", "batch", "loud.py", "--show-output")
    assert loud.rvrun(*words, code=2).stderr == (
        "rvrun: `--show-output` only works with runners on this machine; "
        "`batch` runs are detached\n"
    )
