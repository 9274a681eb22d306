"""`rvrun run local`: real make, real processes, real signals."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tests.conftest import Project, clean_environment, without_markers

WORK = '''
import os, pathlib, signal, subprocess, sys, time
import rvrun


class WorkConfig(rvrun.PipelineConfig):
    lazy: str = ""

    def build(self):
        return Work(self)


class Work(rvrun.Pipeline):
    """Obeys files in the current folder: `fail-NAME`, `sleep-NAME` and so on."""

    commands = ("first", "part", "last")
    split_commands = ("part",)

    def first(self):
        self.do("first")

    def part(self, split_ind, num_splits):
        self.do(f"part{split_ind}")

    def last(self):
        self.do("last")

    def do(self, name):
        print(f"{name} says hello")
        if os.path.exists(f"fail-{name}"):
            raise ValueError(f"{name} has to fail")
        if os.path.exists(f"exit-{name}"):
            sys.exit(7)
        if os.path.exists(f"kill-{name}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if os.path.exists(f"sleep-{name}"):
            subprocess.Popen(["sleep", "1001"])
            subprocess.Popen(["sleep", "1002"], start_new_session=True)
            if os.path.exists(f"ignore-{name}"):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            pathlib.Path(f"asleep-{name}").touch()
            time.sleep(1003)
        if os.path.exists(f"interrupt-{name}"):
            signal.raise_signal(signal.SIGINT)


def get_config(runner):
    return WorkConfig(root_uri="out")
'''


@pytest.fixture
def work(project: Project) -> Project:
    """Create a project whose targets fail, sleep or die on request."""
    project.write("work.py", WORK)
    return project


def start(project: Project, *words: str) -> subprocess.Popen[str]:
    """Start `rvrun` in the background, in a session of its own, as at a terminal."""
    return subprocess.Popen(
        ["rvrun", *words],
        cwd=project.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still false after {seconds} s"
        time.sleep(0.02)


def processes_of(project: Project) -> list[str]:
    """Return the command lines of all processes that run in the project's folder or below."""
    lines = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(project.folder)):
                lines.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return lines


def without_times(text: str) -> str:
    text = re.sub(r"; peak memory .*", "", text)
    return re.sub(r"\d+\.\d s|\d+ ms", "N s", text)


def test_a_run_and_a_second_one(work: Project) -> None:
    """All targets run once; in the second run all are up to date."""
    quietly = ("-j1", "--no-show-output")
    done = work.rvrun("run", "local", "work.py", "--splits", "2", *quietly)
    assert done.stdout == ""
    assert without_times(done.stderr) == (
        "work/first done\nwork/part/0 done\nwork/part/1 done\nwork/last done\n"
        "done in N s: 4 targets ran; logs in runs/work/logs\n"
    )
    again = work.rvrun("run", "local", "work.py", "--splits", "2")
    assert without_times(again.stderr) == "done in N s: 0 targets ran, 4 up to date\n"


def test_each_target_has_a_log_and_a_record(work: Project) -> None:
    """The log has the target's output; the record, when and where it ran and how it ended."""
    work.rvrun("run", "local", "work.py", "--splits", "2")
    assert work.read("runs/work/logs/work/part.2/1.log") == "part1 says hello\n"
    start, end = map(json.loads, work.read("runs/work/records/work/part.2/1.jsonl").splitlines())
    assert start.keys() == {
        *("event", "attempt", "time", "host", "pid", "workdir", "log_offset"),
        "shared_memory_kib",
    }
    assert end.keys() == {
        *("event", "attempt", "time", "exit_code", "peak_memory_kib"),
        *("cpu_seconds", "num_cpus"),
        *(["cpu_wait_seconds"] if sys.platform == "linux" else []),
    }
    assert (start["event"], start["attempt"], start["host"]) == ("start", 1, os.uname().nodename)
    assert (end["event"], end["attempt"], end["exit_code"]) == ("end", 1, 0)
    assert start["time"] <= end["time"] <= time.time()
    assert 5_000 < end["peak_memory_kib"] < 200_000


def test_the_first_failure_is_shown_and_can_be_repeated(work: Project) -> None:
    """The summary has the user's traceback, and a command line that fails in the same way."""
    work.write("fail-part1", "")
    quietly = ("-j1", "--no-show-output")
    done = work.rvrun("run", "local", "work.py", "--splits", "2", *quietly, code=1)
    file = work.folder / "work.py"
    assert without_markers(without_times(done.stderr)) == (
        "work/first done\n"
        "work/part/0 done\n"
        "work/part/1 failed (exit 1) after N s; log: runs/work/logs/work/part.2/1.log\n"
        "work/part/1 failed (exit 1) after N s\n"
        "the end of runs/work/logs/work/part.2/1.log:\n"
        "  | part1 says hello\n"
        "  | Traceback (most recent call last):\n"
        f'  |   File "{file}", line 23, in part\n'
        '  |     self.do(f"part{split_ind}")\n'
        f'  |   File "{file}", line 31, in do\n'
        '  |     raise ValueError(f"{name} has to fail")\n'
        "  | ValueError: part1 has to fail\n"
        "to rerun this target:  rvrun run_command runs/work/config/work.json part --split-ind 1 "
        "--num-splits 2\n"
        "failed in N s: 2 targets ran, 1 failed, 1 not started; logs in runs/work/logs\n"
        "to continue:           rvrun run local work.py --splits 2 -j1 "
        "--no-show-output\n"
    )
    line = done.stderr.split("to rerun this target:")[1].splitlines()[0].split()
    alone = work.run(*line, code=1)
    assert alone.stdout == "part1 says hello\n"
    assert alone.stderr.endswith("ValueError: part1 has to fail\n")


def test_continuing_after_a_failure(work: Project) -> None:
    """The next run runs what is missing, and counts attempts."""
    work.write("fail-part1", "")
    work.rvrun("run", "local", "work.py", "--splits", "3", "-j1", code=1)
    (work.folder / "fail-part1").unlink()
    again = work.rvrun("run", "local", "work.py", "--splits", "3", "-j1", "--no-show-output")
    assert without_times(again.stderr) == (
        "work/part/1 done\nwork/part/2 done\nwork/last done\n"
        "done in N s: 3 targets ran, 2 up to date; logs in runs/work/logs\n"
    )
    records = work.read("runs/work/records/work/part.3/1.jsonl").splitlines()
    assert [json.loads(line)["attempt"] for line in records] == [1, 1, 2, 2]


def test_keep_going(work: Project) -> None:
    """With -k, targets that do not need a failed one still run; all failures are listed."""
    for name in ("fail-part0", "exit-part2", "kill-part3"):
        work.write(name, "")
    done = work.rvrun("run", "local", "work.py", "--splits", "5", "-j1", "-k", code=1)
    assert without_times(done.stderr).splitlines()[-4:] == [
        "also failed: work/part/2 (exit 7) after N s; runs/work/logs/work/part.5/2.log",
        "also failed: work/part/3 killed by SIGKILL (137) after N s; "
        "runs/work/logs/work/part.5/3.log",
        "failed in N s: 3 targets ran, 3 failed, 1 not started; logs in runs/work/logs",
        "to continue:           rvrun run local work.py --splits 5 -j1 -k",
    ]


def test_the_log_shown_is_that_of_the_last_attempt(work: Project) -> None:
    """A log keeps the output of earlier attempts; the summary shows that of the last one."""
    work.write("fail-first", "")
    shown = [work.rvrun("run", "local", "work.py", code=1).stderr for _ in range(2)]
    assert [without_times(text).count("  | first says hello\n") for text in shown] == [1, 1]
    assert work.read("runs/work/logs/work/first.log").count("first says hello\n") == 2


def test_command_lines_name_rvrun_as_it_was_called(work: Project, tmp_path: pathlib.Path) -> None:
    """If PATH has no `rvrun`, or a different one, command lines to copy have a path."""
    work.write("fail-first", "")
    scripts = pathlib.Path(sys.executable).parent
    (work.folder / "env").symlink_to(scripts)
    elsewhere = tmp_path / "bin"
    elsewhere.mkdir()
    for name in ("make", "sh", "mkdir", "touch", "rm"):
        (elsewhere / name).symlink_to(str(shutil.which(name)))
    words = ("run", "local", "work.py")
    called = work.run("env/rvrun", *words, code=1, PATH=str(elsewhere)).stderr
    assert "target:  env/rvrun run_command runs/work/config/work.json first\n" in called
    assert "to continue:           env/rvrun run local work.py\n" in called
    module = work.run(sys.executable, "-m", "rvrun", *words, code=1).stderr
    assert f"target:  {shlex.join([sys.executable])} -m rvrun run_command runs/" in module
    for line in (called, module):
        alone = shlex.split(line.split("this target:")[1].splitlines()[0])
        assert "first has to fail" in work.run(*alone, code=1).stderr


def test_command_lines_are_not_broken_at_a_terminal(work: Project) -> None:
    """A command line to copy is one line, however narrow the terminal is."""
    work.write("fail-first", "")
    shown, code = at_terminal(work, "run", "local", "work.py", COLUMNS="40")
    assert code == 1
    assert "rvrun run_command runs/work/config/work.json first\r\n" in shown


def test_no_color_at_a_terminal(work: Project) -> None:
    """With NO_COLOR, neither the bars nor the summary have colors."""
    work.write("fail-first", "")
    color = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)[0-9](?:;\d+)*m")
    assert color.search(at_terminal(work, "run", "local", "work.py")[0])
    assert not color.search(at_terminal(work, "run", "local", "work.py", NO_COLOR="1")[0])


def test_always_make(work: Project) -> None:
    """-B also runs targets that are up to date."""
    work.rvrun("run", "local", "work.py", "--splits", "2")
    done = work.rvrun("run", "local", "work.py", "--splits", "2", "-B")
    assert "4 targets ran; logs" in done.stderr


def test_dry_run_writes_nothing(work: Project) -> None:
    """--dry-run shows the plan and writes no file."""
    done = work.rvrun("run", "local", "work.py", "--splits", "2", "--dry-run")
    assert "work: 4 targets in 3 stages; 4 would run" in done.stdout
    assert sorted(path.name for path in work.folder.iterdir()) == ["work.py"]


def test_quiet(work: Project) -> None:
    """--quiet prints nothing about a successful run, and everything about a failed one."""
    assert work.rvrun("--quiet", "run", "local", "work.py").stderr == ""
    work.write("fail-last", "")
    (work.folder / "runs/work/done/work/last").unlink()
    assert "work/last failed" in work.rvrun("-q", "run", "local", "work.py", code=1).stderr


def test_jobs_are_limited(project: Project) -> None:
    """At most as many targets as -j allows run at once."""
    project.write(
        "many.py",
        "import os, time, rvrun\n"
        "class ManyConfig(rvrun.PipelineConfig):\n"
        "    def build(self): return Many(self)\n"
        "class Many(rvrun.Pipeline):\n"
        "    commands = split_commands = ('part',)\n"
        "    def part(self, split_ind, num_splits):\n"
        "        open(f'on-{split_ind}', 'w').close()\n"
        "        print(len([f for f in os.listdir() if f.startswith('on-')]))\n"
        "        time.sleep(0.1)\n"
        "        os.unlink(f'on-{split_ind}')\n"
        "def get_config(runner): return ManyConfig(root_uri='out')\n",
    )
    project.rvrun("run", "local", "many.py", "--splits", "12", "-j3")
    logs = (project.folder / "runs/many/logs/many/part.12").iterdir()
    assert 1 <= max(int(log.read_text()) for log in logs) <= 3


@pytest.mark.parametrize(
    ("signum", "word"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "interrupted by SIGTERM"),
        (signal.SIGHUP, "interrupted by SIGHUP"),
        (signal.SIGQUIT, "interrupted by SIGQUIT"),
    ],
)
def test_a_signal_ends_every_process(work: Project, signum: int, word: str) -> None:
    """After any of these signals no process is left, not even in a session of its own."""
    for name in ("sleep-part0", "sleep-part1"):
        work.write(name, "")
    running = start(work, "run", "local", "work.py", "--splits", "4", "-j2")
    wait_for(lambda: len(list(work.folder.glob("asleep-*"))) == 2)
    # A process that was just forked does not have its command line yet.
    wait_for(lambda: len([p for p in processes_of(work) if p.startswith("sleep 100")]) == 4)
    running.send_signal(signum)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 128 + signum, err
    assert processes_of(work) == []
    assert without_times(err).splitlines()[-2:] == [
        f"{word} in N s: 1 target ran, 2 stopped, 3 not started; logs in runs/work/logs",
        "to continue:           rvrun run local work.py --splits 4 -j2",
    ]


def test_a_run_continues_after_a_signal(work: Project) -> None:
    """Stopped targets run again, finished ones do not."""
    work.write("sleep-part0", "")
    running = start(work, "run", "local", "work.py", "--splits", "2", "-j1")
    wait_for((work.folder / "asleep-part0").exists)
    running.terminate()
    running.communicate(timeout=60)
    (work.folder / "sleep-part0").unlink()
    again = work.rvrun("run", "local", "work.py", "--splits", "2", "-j1")
    assert "3 targets ran, 1 up to date" in again.stderr


def test_targets_that_ignore_sigterm_are_killed(work: Project) -> None:
    """A second Ctrl-C immediately kills the targets that ignore the first one."""
    work.write("sleep-first", "")
    work.write("ignore-first", "")
    running = start(work, "run", "local", "work.py")
    wait_for((work.folder / "asleep-first").exists)
    running.send_signal(signal.SIGINT)
    # What the target has started does not ignore SIGTERM.
    wait_for(lambda: not [p for p in processes_of(work) if p.startswith("sleep 100")])
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert processes_of(work) == []


def test_ctrl_c_at_a_terminal(work: Project) -> None:
    """At a terminal there are progress bars, and Ctrl-C ends the run without a traceback."""
    work.write("sleep-part1", "")
    controller, terminal = pty.openpty()
    running = subprocess.Popen(
        ["rvrun", "run", "local", "work.py", "--splits", "2", "-j1", "--no-show-output"],
        cwd=work.folder,
        env=clean_environment(TERM="xterm", COLUMNS="120"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=_own_terminal,  # noqa: PLW1509 - only the child can take the terminal
    )
    os.close(terminal)
    wait_for((work.folder / "asleep-part1").exists)
    # What is shown may come later than what a target does.
    shown = read_until(controller, "1/2")
    os.write(controller, b"\x03")
    shown += read_terminal(controller)
    assert running.wait(timeout=60) == 130, shown
    assert "work/part" in shown
    assert "interrupted" in shown
    assert "Traceback" not in shown
    assert processes_of(work) == []


def at_terminal(project: Project, *words: str, **env: str) -> tuple[str, int]:
    """Run `rvrun` at a terminal, and return what it shows and its exit code."""
    controller, terminal = pty.openpty()
    running = subprocess.Popen(
        ["rvrun", *words],
        cwd=project.folder,
        env=clean_environment(TERM="xterm", **env),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = read_terminal(controller)
    return shown, running.wait(timeout=60)


def _own_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_until(descriptor: int, text: str) -> str:
    """Read what a terminal shows until it has shown a text."""
    shown = b""
    while text.encode() not in shown:
        part = os.read(descriptor, 65536)
        assert part, shown
        shown += part
    return shown.decode(errors="replace")


def read_terminal(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def test_sigterm_to_plain_make_ends_every_target(work: Project) -> None:
    """Under plain make, targets are children of make itself, without a shell between them."""
    work.write("sleep-part0", "")
    work.rvrun("render", "local", "work.py", "--splits", "2")
    make = subprocess.Popen(
        ["make", "-j2", "-C", "runs/work"],
        cwd=work.folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for((work.folder / "asleep-part0").exists)
    make.terminate()
    make.wait(timeout=60)
    wait_for(lambda: not processes_of(work))
    record = work.read("runs/work/records/work/part.2/0.jsonl").splitlines()
    assert json.loads(record[-1])["exit_code"] == 128 + signal.SIGTERM


def test_one_run_at_a_time(work: Project) -> None:
    """A second run in the same run directory is refused; the error names the first process."""
    work.write("sleep-first", "")
    running = start(work, "run", "local", "work.py")
    wait_for((work.folder / "asleep-first").exists)
    second = work.rvrun("run", "local", "work.py", code=2)
    assert second.stderr.startswith("rvrun: run directory ")
    assert f"another rvrun (process {running.pid}) is running in it" in second.stderr
    running.terminate()
    running.communicate(timeout=60)


def test_make_missing(work: Project, tmp_path: pathlib.Path) -> None:
    """Without make there is one error message, with exit code 2."""
    scripts = clean_environment()["PATH"].split(os.pathsep)[0]
    done = work.rvrun("run", "local", "work.py", code=2, PATH=scripts)
    assert done.stderr == (
        "rvrun: make is not on PATH; install it, for example with "
        "`apt-get install make` or `xcode-select --install`, or use `rvrun run inprocess`\n"
    )


def test_an_error_of_make_itself_is_shown(work: Project) -> None:
    """If make fails without a failed target, as with a broken template, its output is shown."""
    work.write("mine/Makefile.j2", "all: nowhere\n")
    done = work.rvrun("run", "local", "work.py", "--templates", "mine", code=1)
    assert "No rule to make target 'nowhere', needed by 'all'" in done.stderr


def test_a_foreign_makefile_is_not_replaced(work: Project) -> None:
    """A Makefile that rvrun did not write stays as it is."""
    work.write("Makefile", "mine:\n")
    done = work.rvrun("run", "local", "work.py", "--out", ".", code=2)
    assert "its Makefile was not written by rvrun; choose another with --out" in done.stderr
    assert work.read("Makefile") == "mine:\n"


def test_inside_another_make(work: Project) -> None:
    """Started by `make -j`, the run has its own job limit and ignores the outer job server."""
    work.write("Makefile", "all:\n\t+rvrun run local work.py --splits 4 -j2\n")
    done = work.make("-j3", "-k")
    assert "6 targets ran" in done.stderr
    assert "jobserver" not in done.stderr


GPU = """
import os, pathlib, time
import rvrun


class GpuConfig(rvrun.PipelineConfig):
    def build(self):
        return Gpu(self)


class Gpu(rvrun.Pipeline):
    commands = ("train", "report")
    split_commands = gpu_commands = ("train",)

    def train(self, split_ind, num_splits):
        device = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        mine = pathlib.Path(f"on-{device}-{split_ind}")
        mine.touch()
        # Else each of them could end before the next one begins.
        pathlib.Path(f"used-{device}").touch()
        while len(list(pathlib.Path().glob("used-*"))) < int(os.environ["NUM_USED"]):
            time.sleep(0.01)
        time.sleep(0.15)
        print(device, len(list(pathlib.Path().glob(f"on-{device}-*"))))
        mine.unlink()

    def report(self):
        print(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))


def get_config(runner):
    return GpuConfig(root_uri="out")
"""


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(
    ("visible", "slots", "expected"),
    [
        ("0,1", "", {"0": 1, "1": 1}),
        ("3,GPU-5ad", "4", {"3": 2, "GPU-5ad": 2}),
        ("7", "1", {"7": 1}),
    ],
)
def test_gpu_targets_share_slots(
    project: Project, by_hand: bool, visible: str, slots: str, expected: dict[str, int]
) -> None:
    """`make -j8` never runs more targets on a GPU than it has slots, also without `rvrun run`."""
    project.write("gpu.py", GPU)
    env = {"RVRUN_LOCAL_GPU_LOCKS": str(project.folder / "locks"), "CUDA_VISIBLE_DEVICES": visible}
    env["NUM_USED"] = str(len(expected))
    if slots:
        env["RVRUN_LOCAL_GPU_SLOTS"] = slots
    if by_hand:
        project.rvrun("render", "local", "gpu.py", "--splits", "8")
        env["RVRUN_LOGS"] = "1"
        project.make("-j8", "-C", "runs/gpu", code=0, **env)
    else:
        project.rvrun("run", "local", "gpu.py", "--splits", "8", "-j8", code=0, **env)
    together: dict[str, int] = {}
    for index in range(8):
        log = project.read(f"runs/gpu/logs/gpu/train.8/{index}.log").splitlines()
        device, number = log[-1].split()
        together[device] = max(together.get(device, 0), int(number))
    assert together.keys() == expected.keys()
    assert all(together[device] <= most for device, most in expected.items())
    assert project.read("runs/gpu/logs/gpu/report.log") == f"{visible}\n"


@pytest.mark.parametrize("way", ["flag", "profile"])
def test_gpu_slots_from_a_flag_or_a_profile_reach_the_targets(project: Project, way: str) -> None:
    """Settings that only the command line has are passed on to the targets' processes."""
    project.write("gpu.py", GPU)
    project.write("home/rvrun/mine.toml", "[local]\ngpu_slots = 1\n")
    env = {
        "RVRUN_LOCAL_GPU_LOCKS": str(project.folder / "locks"),
        "CUDA_VISIBLE_DEVICES": "0,1",
        "XDG_CONFIG_HOME": str(project.folder / "home"),
        "NUM_USED": "1",
    }
    words = ("run", "local", "gpu.py", "--splits", "3", "-j3")
    if way == "flag":
        project.rvrun(*words, "--gpu-slots", "1", code=0, **env)
    else:
        project.rvrun("-p", "mine", *words, code=0, **env)
    logs = [project.read(f"runs/gpu/logs/gpu/train.3/{index}.log") for index in range(3)]
    assert [log.splitlines()[-1] for log in logs] == ["0 1"] * 3


def test_several_pipelines_run_in_parallel(project: Project) -> None:
    """The pipelines of a plan do not wait for each other."""
    project.write(
        "two.py",
        "import os, time, rvrun\n"
        "class OneConfig(rvrun.PipelineConfig):\n"
        "    def build(self): return One(self)\n"
        "class One(rvrun.Pipeline):\n"
        "    commands = ('meet',)\n"
        "    def meet(self):\n"
        "        open(f'here-{self.config.name}', 'w').close()\n"
        "        end = time.monotonic() + 60\n"
        "        while len([f for f in os.listdir() if f.startswith('here-')]) < 2:\n"
        "            assert time.monotonic() < end, 'alone'\n"
        "            time.sleep(0.01)\n"
        "def get_configs(runner):\n"
        "    return [OneConfig(root_uri='out', name=n) for n in ('a', 'b')]\n",
    )
    done = project.rvrun("run", "local", "two.py", "-j2")
    assert "2 targets ran" in done.stderr
