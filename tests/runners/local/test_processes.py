"""What becomes of the processes of a run: killed, left behind, or beside each other."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tests.conftest import ROOT, Project, clean_environment

WORK = '''
import os, pathlib, signal, subprocess, sys, time
import rvrun


class WorkConfig(rvrun.PipelineConfig):
    def build(self):
        return Work(self)


class Work(rvrun.Pipeline):
    """Waits while `hold-NAME` exists, does what other files in the current folder say."""

    commands = ("part", "last")
    split_commands = ("part",)

    def part(self, split_ind, num_splits):
        self.do(f"part{split_ind}")

    def last(self):
        self.do("last")

    def do(self, name):
        with open("log", "a") as log:
            log.write(f"+{name}\\n")
        if os.path.exists(f"leave-{name}"):
            # A daemon in a session of its own, whose parent is gone, and that ignores SIGTERM.
            shell = ["sh", "-c", "trap '' TERM; exec sleep 1001"]
            code = f"import subprocess; subprocess.Popen({shell})"
            subprocess.run([sys.executable, "-c", code], start_new_session=True)
        if os.path.exists(f"fork-{name}") and os.fork() == 0:
            os.setsid()
            time.sleep(1002)
        if os.path.exists(f"system-{name}"):
            os.system("sleep 1003 &")
        if os.path.exists(f"ignore-{name}"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.path.exists(f"memory-{name}"):
            block = bytearray(b"x") * (100 << 20)
        pathlib.Path(f"at-{name}").touch()
        while os.path.exists(f"hold-{name}"):
            time.sleep(0.01)
        if os.path.exists(f"signal-{name}"):
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), int(open(f"signal-{name}").read()))
        if os.path.exists(f"fail-{name}"):
            raise ValueError(name)
        with open("log", "a") as log:
            log.write(f"-{name}\\n")


def get_config(runner):
    return WorkConfig(root_uri="out")
'''
RUN = ("rvrun", "run", "local", "work.py", "--splits", "2", "-j2")
MAKE = ("make", "-j2", "-C", "runs/work")


@pytest.fixture
def work(project: Project) -> Project:
    """Create a project whose targets wait, fail or leave processes on request."""
    project.write("work.py", WORK)
    project.rvrun("render", "local", "work.py", "--splits", "2")
    return project


def start(project: Project, *words: str, **options: object) -> subprocess.Popen[str]:
    """Start a command in the background, in a session of its own, as at a terminal."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        words,
        cwd=project.folder,
        env=clean_environment(),
        text=True,
        start_new_session=True,
        **{**pipes, **options},
    )


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still false after {seconds} s"
        time.sleep(0.01)


def wait_for_target(project: Project, name: str) -> None:
    """Wait until a target runs."""
    wait_for((project.folder / f"at-{name}").exists)


def processes_of(project: Project) -> list[psutil.Process]:
    """Return all processes that run in the project's folder or below."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.cwd().startswith(str(project.folder)):
                processes.append(process)
    return processes


def find(project: Project, word: str) -> list[psutil.Process]:
    """Return the processes of a project that have `word` on their command line."""
    matching = []
    for process in processes_of(project):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any(part == word or part.endswith(f"/{word}") for part in process.cmdline()):
                matching.append(process)
    return matching


def is_locked(project: Project) -> bool:
    with (project.folder / "runs/work/.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def pid_of(project: Project, split_ind: int) -> int:
    """Return the process of a target that has not ended yet, from its record."""
    line = project.read(f"runs/work/records/work/part.2/{split_ind}.jsonl")
    pid = json.loads(line)["pid"]
    assert isinstance(pid, int)
    return pid


def has_ended(pid: int) -> bool:
    """Return whether a process has ended, also if nobody has read its exit status yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def send(number: signal.Signals, *processes: psutil.Process) -> None:
    """Send a signal to processes, some of which may have ended since they were found."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def test_make_ends_with_a_killed_rvrun(work: Project) -> None:
    """After SIGKILL of rvrun, make ends its targets; the next run waits for that, and says so."""
    work.write("hold-part0", "")
    running = start(work, *RUN)
    wait_for_target(work, "part0")
    pid = pid_of(work, 0)
    running.kill()
    running.communicate(timeout=60)
    again = start(work, *RUN)
    # Else it could finish its work first, or be ended between that and its stamp.
    wait_for(lambda: has_ended(pid))
    (work.folder / "hold-part0").unlink()
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert "2 targets ran" in err or "3 targets ran" in err
    assert work.read("log").splitlines().count("-part0") == 1
    assert processes_of(work) == []


def test_what_a_killed_run_left_keeps_the_directory_locked(work: Project) -> None:
    """A target that does not end still works in the directory; the error names its process."""
    work.write("hold-part0", "")
    work.write("ignore-part0", "")
    # A warm worker would end it.
    running = start(work, *RUN, "--no-warm")
    wait_for_target(work, "part0")
    target = pid_of(work, 0)
    running.kill()
    running.communicate(timeout=60)
    wait_for(lambda: len(find(work, "run_command")) == 1)
    refused = work.run(*RUN, code=2)
    assert f"rvrun: process {running.pid} was killed; waiting for what it left" in refused.stderr
    assert f"rvrun (process {running.pid}) was killed, but what it started still runs in it; " in (
        refused.stderr
    )
    assert str(target) in refused.stderr.rpartition("kill ")[2].split()
    send(signal.SIGKILL, *processes_of(work))


def test_the_lock_is_free_after_a_run_that_left_a_process(work: Project) -> None:
    """Neither a program nor a fork that a target leaves behind holds the lock after the run."""
    for name in ("leave-part0", "fork-part0", "system-part1"):
        work.write(name, "")
    work.run(*RUN[:3], "work.py", "--splits", "2")
    left = processes_of(work)
    try:
        assert len(left) >= 3
        assert not is_locked(work)
        assert "0 targets ran, 3 up to date" in work.run(*RUN).stderr
        assert "Nothing to be done" in work.run(*MAKE).stdout
    finally:
        send(signal.SIGKILL, *left)


def test_a_killed_make_ends_the_run(work: Project) -> None:
    """After SIGKILL of make, rvrun ends the targets, which nobody else would."""
    work.write("hold-part0", "")
    work.write("leave-part0", "")
    running = start(work, *RUN)
    wait_for_target(work, "part0")
    find(work, "make")[0].kill()
    _, err = running.communicate(timeout=60)
    assert (running.returncode, processes_of(work)) == (1, [])
    assert "make was killed by SIGKILL; its targets were ended" in err
    assert ": interrupted after " in work.rvrun("status", code=1).stdout


def test_a_second_interrupt_ends_daemons_too(work: Project) -> None:
    """A process in a session of its own, whose parent has ended, is not lost by a second Ctrl-C."""
    for name in ("hold-part0", "leave-part0", "ignore-part0", "hold-part1"):
        work.write(name, "")
    running = start(work, *RUN)
    for name in ("part0", "part1"):
        wait_for_target(work, name)
    running.send_signal(signal.SIGINT)
    # part/1 does not ignore SIGTERM; part/0 is killed after the grace period.
    wait_for(lambda: len(find(work, "run_command")) <= 1)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert (running.returncode, processes_of(work)) == (130, [])


@pytest.mark.parametrize("first", [MAKE, RUN], ids=["make", "run"])
@pytest.mark.parametrize("second", [MAKE, RUN], ids=["make", "run"])
def test_a_target_runs_once(work: Project, first: tuple[str, ...], second: tuple[str, ...]) -> None:
    """Whoever comes second waits for a target that runs, says so once, and does not repeat it."""
    if first == second == RUN:
        pytest.skip("the second run is refused")
    work.write("hold-part0", "")
    running = start(work, *first)
    wait_for_target(work, "part0")
    pid = pid_of(work, 0)
    with (work.folder / "second").open("w") as output:
        beside = start(work, *second, stdout=output, stderr=output)
        text = f"work/part/0: waiting for process {pid}, which runs it"
        wait_for(lambda: text in work.read("second"))
        (work.folder / "hold-part0").unlink()
        running.communicate(timeout=60)
        beside.communicate(timeout=60)
    assert (running.returncode, beside.returncode) == (0, 0), work.read("second")
    assert work.read("second").count(text) == 1
    assert sorted(work.read("log").split()) == sorted(
        f"{mark}{name}" for mark in "+-" for name in ("part0", "part1", "last")
    )
    assert "Nothing to be done" in work.run(*MAKE).stdout


def test_a_decision_of_make_is_checked_again(work: Project) -> None:
    """One make decided that part/2 is stale before another make ran it; it is not run again."""
    work.rvrun("render", "local", "work.py", "--splits", "3")
    for name in ("part0", "part1"):
        work.write(f"hold-{name}", "")
    slow = start(work, *MAKE)
    for name in ("part0", "part1"):
        wait_for_target(work, name)
    # Only once it has looked at part/2 it waits for one of the others to end.
    wait_for(lambda: psutil.Process(slow.pid).status() == psutil.STATUS_SLEEPING)
    work.run(*MAKE, "work/part/2")
    for name in ("part0", "part1"):
        (work.folder / f"hold-{name}").unlink()
    _, err = slow.communicate(timeout=60)
    assert slow.returncode == 0
    assert work.read("log").count("-part2") == 1
    assert "rvrun: work/part/2: not run, because another process has just done it" in err
    record = work.read("runs/work/records/work/part.3/2.jsonl").splitlines()
    assert [json.loads(line)["event"] for line in record] == ["start", "end", "skip"]
    assert "Nothing to be done" in work.run(*MAKE).stdout


def test_forced_targets_run_again(work: Project) -> None:
    """`make -B` and `make -W` run what is up to date."""
    work.run(*MAKE)
    work.run(*MAKE, "-B")
    # The start of a make and the time of a stamp can be distinguished only to some hundredths of a
    # second; `-W`, unlike `-B`, does not reach the targets.
    time.sleep(0.2)
    work.run(*MAKE, "-W", "config/work.json")
    work.run(*RUN, "-B")
    assert work.read("log").count("-last") == 4


def test_a_failed_target_is_run_by_who_waits(work: Project) -> None:
    """After a failure the waiting process runs the target itself."""
    work.write("hold-part0", "")
    work.write("fail-part0", "")
    first = start(work, *MAKE)
    wait_for_target(work, "part0")
    with (work.folder / "second").open("w") as output:
        second = start(work, *MAKE, stdout=output, stderr=output)
        wait_for(lambda: "waiting for process" in work.read("second"))
        (work.folder / "fail-part0").rename(work.folder / "failed")
        work.write("signal-part0", "15")
        (work.folder / "hold-part0").unlink()
        first.communicate(timeout=60)
        second.communicate(timeout=60)
    assert first.returncode == 2
    assert work.read("log").split().count("+part0") == 2


#: `rvrun` that makes a file once it has seen how much memory a target uses.
LOOKING = """
import pathlib
from rvrun.__main__ import main
from rvrun.runners.local.killed import Watch

look = Watch.look

def look_and_tell(self):
    killed = look(self)
    if any((sample.peak_memory_kib or 0) > 100 << 10 for sample in self.samples.values()):
        pathlib.Path("looked").touch()
    return killed

Watch.look = look_and_tell
main()
"""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (
            signal.SIGKILL,
            "work/part/0 was killed by SIGKILL (137) after N s\n"
            "out of memory? its process used at least N MiB of this machine's N GiB; `dmesg` shows "
            "whether the kernel killed it\n",
        ),
        (
            signal.SIGSEGV,
            "work/part/0 was killed by SIGSEGV (139) after N s\n"
            "it crashed in compiled code, such as a library or a driver, not in Python\n",
        ),
    ],
)
def test_the_signal_that_killed_a_target_is_named(
    work: Project, number: signal.Signals, text: str
) -> None:
    """With how long it ran and how much memory it was seen to use, also by `explain`."""
    work.write("memory-part0", "")
    work.write("hold-part0", "")
    work.write("signal-part0", str(int(number)))
    work.write("looking.py", LOOKING)
    running = start(work, sys.executable, "-P", "looking.py", *RUN[1:])
    wait_for((work.folder / "looked").exists)
    (work.folder / "hold-part0").unlink()
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    shown = re.sub(r"\d[\d,.]* (s\b|[MG]iB)", r"N \1", err)
    assert text in shown
    seen = re.findall(r"at least ([\d,]+) MiB", err)
    assert len(seen) == (number == signal.SIGKILL)
    assert all(100 <= int(memory) < 200 for memory in seen)
    line = json.loads(work.read("runs/work/records/work/part.2/0.jsonl").splitlines()[-1])
    assert (line["event"], line["attempt"], line["signal"]) == ("killed", 1, number)
    assert f"killed by {number.name}" in work.rvrun("explain", "work/part/0").stdout


def test_explain_tells_running_from_killed(work: Project) -> None:
    """A target that runs is locked; one that was killed under plain make is not."""
    work.write("hold-part0", "")
    running = start(work, *MAKE)
    wait_for_target(work, "part0")
    assert "last run   it is running" in work.rvrun("explain", "work/part/0").stdout
    send(signal.SIGKILL, *find(work, "run_command"))
    running.communicate(timeout=60)
    assert "last run   killed" in work.rvrun("explain", "work/part/0").stdout


STREAMS = {
    "stderr is full": "2>/dev/full",
    "stdout is full": ">/dev/full",
    "both are full": ">/dev/full 2>&1",
    "stderr is closed": "2>&-",
    "stdout is closed": ">&-",
    "all are closed": "<&- >&- 2>&-",
    "the reader has gone": "2>&1 | true",
    "the reader goes": "2>&1 | head -n 1",
}


@pytest.mark.parametrize("redirection", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_a_run_outlives_its_output(work: Project, redirection: str, fails: bool) -> None:
    """Where nothing can be printed, the run goes on to its end, with its own exit code."""
    if fails:
        work.write("fail-part1", "")
    line = f"set -o pipefail; rvrun -v run local work.py --splits 2 -j2 {redirection}"
    done = work.run("bash", "-c", line, code=1 if fails else 0)
    # The user's own traceback may be there.
    assert f"{ROOT}/rvrun/" not in done.stdout + done.stderr
    assert work.read("log").count("-last") == (0 if fails else 1)
    assert processes_of(work) == []


def test_progress_bars_of_a_terminal_that_goes_away(work: Project) -> None:
    """A terminal that is closed takes its output with it, and not the run."""
    work.write("hold-part0", "")
    controller, terminal = pty.openpty()
    environment = clean_environment(TERM="xterm")
    running = subprocess.Popen(
        RUN, cwd=work.folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    wait_for_target(work, "part0")
    os.close(controller)
    (work.folder / "hold-part0").unlink()
    assert running.wait(timeout=60) == 0
    assert processes_of(work) == []


#: Looks at make again only after it has ended, as a process does that gets no CPU for long.
LATE = """
import os, pathlib
from rvrun.__main__ import main
from rvrun.runners.local import make

def wait_for_make(pid):
    if os.path.exists("at-last"):
        pathlib.Path("hold-last").unlink(missing_ok=True)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

make.reap_orphans = wait_for_make
main()
"""


def test_the_last_events_are_not_lost(work: Project) -> None:
    """What targets report while nobody looks is shown, also if make has ended since."""
    work.write("hold-last", "")
    work.write("late.py", LATE)
    words = ("run", "local", "work.py", "--splits", "2", "-j1", "--no-show-output")
    done = work.run(sys.executable, "-P", "late.py", *words)
    assert [line for line in done.stderr.splitlines() if line.endswith(" done")] == [
        "work/part/0 done",
        "work/part/1 done",
        "work/last done",
    ]


BROKEN = """
import pathlib, sys
from rvrun.prepare import Request, prepare

class Broken:
    def begin(self, statuses): pass
    def started(self, target): raise RuntimeError("cannot report")
    def ended(self, target, exit_code): pass
    def noted(self, text): pass
    def finish(self): pass

prepared = prepare(Request(config="work.py", runner="local", splits=("2",)))
try:
    prepared.runner.run(prepared.run, prepared.statuses(), Broken())
except RuntimeError as error:
    print(error)
"""


def test_an_error_of_the_reporter_ends_the_run(work: Project) -> None:
    """Whatever is raised while make runs, its processes are ended before that is reported."""
    work.write("hold-part0", "")
    done = work.run(sys.executable, "-c", BROKEN)
    assert done.stdout == "cannot report\n"
    assert processes_of(work) == []


@pytest.mark.parametrize("words", [RUN, ("rvrun", "plan", "work.py")], ids=["run", "plan"])
def test_an_early_interrupt_is_quiet(work: Project, words: tuple[str, ...]) -> None:
    """Ctrl-C while rvrun or the user's config is imported prints no traceback."""
    work.write(
        "work.py", f"import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n{WORK}"
    )
    (work.folder / "here").unlink(missing_ok=True)
    running = start(work, *words)
    wait_for((work.folder / "here").exists)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=60) == ("", "")
    assert running.returncode == 130


EARLY = """
import os, signal, sys
seen = []

class Interrupting:
    # Sends the signal while a module of rvrun's is imported.
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[-1]:
            os.kill(os.getpid(), signal.SIGINT)
        return None

from rvrun.__main__ import main
module = sys.argv[-1]
sys.meta_path.insert(0, Interrupting())
sys.argv = ["rvrun", *sys.argv[1:-1], module]
main()
"""


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (("run", "local"), "rvrun.cli.app"),
        (("plan",), "click"),
        (("run_command",), "rvrun.worker.target"),
        (("run_command",), "rvrun.errors"),
    ],
)
def test_an_interrupted_import_is_quiet(work: Project, words: tuple[str, ...], module: str) -> None:
    """From the first line of `main` on, an interrupt has an exit code, and no traceback."""
    done = work.run(sys.executable, "-c", EARLY, *words, module, code=130)
    assert (done.stdout, done.stderr) == ("", "")


def test_nohup(work: Project) -> None:
    """A run that ignores SIGHUP goes on when its terminal hangs up, and so do its targets."""
    work.write("hold-part0", "")
    running = start(work, "nohup", *RUN)
    wait_for_target(work, "part0")
    send(signal.SIGHUP, *processes_of(work))
    (work.folder / "hold-part0").unlink()
    running.communicate(timeout=60)
    assert running.returncode == 0


LINKS = (".lock", "logs/make.log", "logs/work/part.2/0.log", "records/work/part.2/0.jsonl")


@pytest.mark.parametrize("path", [*LINKS, "done/work/part.2/0"])
def test_links_are_not_followed(work: Project, path: str) -> None:
    """A link in the place of a file that rvrun writes is refused; what it leads to stays."""
    victim = work.write("victim", "precious\n")
    os.utime(victim, (1, 1))
    link = work.folder / "runs/work" / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    if path.startswith("done"):
        os.utime(work.folder / "runs/work/config/work.json")
    code = 2 if path in (".lock", "logs/make.log") else 1
    done = work.run(*RUN, code=code)
    message = f"runs/work/{path} must be a regular file, got a symbolic link; remove the link"
    assert message in done.stderr
    assert (victim.read_text(), victim.stat().st_mtime) == ("precious\n", 1)


def test_unfinished_files_do_not_follow_links(project: Project) -> None:
    """The name of an unfinished file can be guessed, so a link may be there before."""
    victim = project.write("victim", "precious\n")
    code = (
        "import os, pathlib\nfrom rvrun.rundir.files import write\n"
        "os.mkdir('run')\n"
        "os.symlink('../victim', f'run/.Makefile.{os.getpid()}')\n"
        "write(pathlib.Path('run'), {'Makefile': 'all:\\n', 'plan.json': ''})\n"
    )
    project.run(sys.executable, "-c", code)
    assert victim.read_text() == "precious\n"
    assert sorted(os.listdir(project.folder / "run")) == ["Makefile", "plan.json"]


@pytest.mark.parametrize("way", ["run", "-C", "-f"])
def test_recipes_ignore_cdpath(project: Project, way: str) -> None:
    """With CDPATH and `--out` above the current directory, recipes run where they should."""
    here = Project(project.folder / "up/project")
    here.write("work.py", WORK)
    other = project.folder / "else"
    for name in ("project", "up/project", "..", "."):
        (other / name).mkdir(parents=True, exist_ok=True)
    searched = f"{other}:{other}/up"
    here.rvrun("render", "local", "work.py", "--out", "..", CDPATH=searched)
    if way == "run":
        here.rvrun("run", "local", "work.py", "--out", "..", CDPATH=searched)
    else:
        place = ("-C", "up") if way == "-C" else ("-f", "up/Makefile")
        project.make(*place, CDPATH=searched)
    assert here.read("log").count("-last") == 1


def test_gpu_targets_without_a_gpu_run_in_parallel(project: Project) -> None:
    """On a machine without GPUs they do not wait for each other, unless a setting limits them."""
    project.write(
        "meet.py",
        "import os, time, rvrun\n"
        "class MeetConfig(rvrun.PipelineConfig):\n"
        "    def build(self): return Meet(self)\n"
        "class Meet(rvrun.Pipeline):\n"
        "    commands = split_commands = gpu_commands = ('part',)\n"
        "    def part(self, split_ind, num_splits):\n"
        "        open(f'here-{split_ind}', 'w').close()\n"
        "        if os.path.exists('alone'): return self.hold_until_waited_for(split_ind)\n"
        "        while len([f for f in os.listdir() if f.startswith('here-')]) < 2:\n"
        "            time.sleep(0.01)\n"
        "    def hold_until_waited_for(self, split_ind):\n"
        "        open(f'alone-{split_ind}', 'w').close()\n"
        "        log = f'runs/meet/logs/meet/part.2/{1 - split_ind}.log'\n"
        "        while 'waiting' not in open(log).read():\n"
        "            if os.path.exists(f'alone-{1 - split_ind}'): return\n"
        "            time.sleep(0.01)\n"
        "def get_config(runner): return MeetConfig(root_uri='out')\n",
    )
    words = ("run", "local", "meet.py", "--splits", "2", "-j2")
    locks = str(project.folder / "locks")
    free = project.rvrun(*words, CUDA_VISIBLE_DEVICES="", RVRUN_LOCAL_GPU_LOCKS=locks).stderr
    assert "waiting" not in free
    project.write("alone", "")
    limits = ("-B", "--gpu-slots", "1")
    limited = project.rvrun(
        *words, *limits, CUDA_VISIBLE_DEVICES="", RVRUN_LOCAL_GPU_LOCKS=locks
    ).stderr
    assert limited.count("waiting for a free GPU slot (limit: 1)") == 1


def test_a_daemon_may_be_reaped(work: Project, tmp_path: pathlib.Path) -> None:
    """What a target leaves behind becomes a child of rvrun, which removes it once it has ended."""
    work.write("leave-part0", "")
    work.write("hold-part1", "")
    running = start(work, *RUN)
    wait_for_target(work, "part0")
    wait_for(lambda: [p for p in find(work, "sleep") if p.ppid() == running.pid])
    daemon = next(p for p in find(work, "sleep") if p.ppid() == running.pid)
    daemon.kill()
    wait_for(lambda: not psutil.pid_exists(daemon.pid))
    (work.folder / "hold-part1").unlink()
    running.communicate(timeout=60)
    assert running.returncode == 0


AT_EXIT = """
import atexit, os, pathlib, threading, time
import rvrun


class LateConfig(rvrun.PipelineConfig):
    def build(self):
        return Late(self)


class Late(rvrun.Pipeline):
    commands = ("work",)

    def work(self):
        atexit.register(self.at_exit)
        threading.Thread(target=self.go_on).start()

    def go_on(self):
        self.wait("thread")

    def at_exit(self):
        self.wait("exit")

    def wait(self, name):
        pathlib.Path(f"at-{name}").touch()
        while os.path.exists(f"hold-{name}"):
            time.sleep(0.01)


def get_config(runner):
    return LateConfig(root_uri="out")
"""


@pytest.mark.parametrize("name", ["thread", "exit"])
def test_a_target_is_locked_until_its_process_ends(project: Project, name: str) -> None:
    """Threads, and functions that run at exit, are part of the target."""
    project.write("late.py", AT_EXIT)
    project.rvrun("render", "local", "late.py")
    project.write(f"hold-{name}", "")
    running = start(project, "make", "-C", "runs/late")
    wait_for_target(project, name)
    assert "it is running" in project.rvrun("explain", "late/work").stdout
    (project.folder / f"hold-{name}").unlink()
    running.communicate(timeout=60)
    assert "exit 0" in project.rvrun("explain", "late/work").stdout


def test_a_signal_during_the_import_of_a_config(project: Project) -> None:
    """A target that is ended while its module is imported was stopped, and did not fail."""
    project.write("work.py", WORK)
    project.rvrun("render", "local", "work.py", "--splits", "2")
    slow = "import os, pathlib, time\npathlib.Path(f'at-{os.getpid()}').touch()\ntime.sleep(60)\n"
    project.write("work.py", f"{slow}{WORK}")
    running = start(project, *MAKE, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(list(project.folder.glob("at-*"))) == 2)
    running.terminate()
    _, err = running.communicate(timeout=60)
    wait_for(lambda: not processes_of(project))
    assert "Traceback" not in err
    record = project.read("runs/work/records/work/part.2/0.jsonl").splitlines()
    assert json.loads(record[-1])["exit_code"] == 128 + signal.SIGTERM
