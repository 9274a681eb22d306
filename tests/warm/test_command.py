"""`rvrun warm`: any command beside a warm worker."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from rvrun.warm import supervisor
from rvrun.warm.protocol import BEAT_SECONDS, CLIENT, TAKEN, line
from tests.conftest import Project, clean_environment
from tests.warm.runs import MAKE, Run, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has warm workers")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["--", "sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -15 $$"], 143),
        (["-q", "ls", "-d", "--color=never", "."], 0),
        (["rvrun", "warm", "sh", "-c", "exit 5"], 5),
    ],
)
def test_exit_codes(project: Project, command: list[str], code: int) -> None:
    """The command's own exit code, and 128 + N for signal N; its options are its own."""
    done = project.rvrun("warm", *command, code=code)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "`rvrun warm` requires COMMAND ...; write `rvrun warm COMMAND ...`"),
        (
            ["no-such-program"],
            "cannot run `no-such-program`: No such file or directory; "
            "name a program that is on PATH",
        ),
        (
            ["/etc/passwd"],
            "cannot run `/etc/passwd`: Permission denied; name a program that is on PATH",
        ),
    ],
)
def test_commands_that_cannot_run(project: Project, command: list[str], message: str) -> None:
    assert project.rvrun("warm", *command, code=2).stderr == f"rvrun: {message}\n"


def test_a_stop(project: Project) -> None:
    """A command goes on after `rvrun warm` was stopped for longer than it waits at a time."""
    run = Run.of(project)
    run.start("rvrun", "warm", "sh", "-c", "touch on; until [ -e go ]; do sleep 0.1; done; exit 5")
    wait_for((project.folder / "on").exists)
    assert run.process is not None
    for _ in range(2):
        time.sleep(0.3)
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5 * BEAT_SECONDS)
        run.process.send_signal(signal.SIGCONT)
    project.write("go", "")
    assert run.code() == 5, run.output()


def test_several_makes(project: Project) -> None:
    """They share the warm worker; what make prints can be read."""
    run = Run.of(project)
    run.start("rvrun", "warm", "sh", "-c", "make -n -C runs/acts; make -j2 -C runs/acts && echo ok")
    assert run.code() == 0, run.output()
    assert f"exec /bin/sh {CLIENT} run_command runs/acts/config/acts.json last" in run.output()
    assert run.output().endswith("ok\n")
    assert len(run.marks("end")) == 4
    run.assert_nothing_is_left()


def test_what_a_command_leaves(project: Project) -> None:
    """A make in the background goes on with fresh processes, and none of its clients hangs."""
    run = Run.of(project)
    run.hold("part0")
    # Until it has ended, a warm worker ends what it is asked to start.
    ended = 'while [ -d "$RVRUN_WARM" ]; do sleep 0.1; done'
    makes = f"make -j1 -C runs/acts; rm hold-part0; {ended}; make -j1 -C runs/acts; touch over"
    waiting = "until grep -q 'begin part0' marks; do sleep 0.1; done"
    run.start("rvrun", "warm", "sh", "-c", f"({makes}) & {waiting} 2>/dev/null")
    assert run.code() == 0, run.output()
    wait_for((project.folder / "over").exists)
    assert sorted(run.marks("end")) == ["last", "part0", "part1", "part2"], run.output()
    run.assert_nothing_is_left()


def test_standard_input(project: Project) -> None:
    """A target reads what make got, not what its client reads."""
    run = Run.of(project)
    project.write("read-part0", "")
    run.start("sh", "-c", "echo hello | rvrun warm make -j1 -C runs/acts")
    assert run.code() == 0, run.output()
    assert "hello" in project.read("marks")
    run.assert_nothing_is_left()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(project: Project, closed: str) -> None:
    run = Run.of(project)
    run.start("rvrun", "warm", "sh", "-c", f"make -s -j1 -C runs/acts {closed}")
    assert run.code() == 0, run.output()
    assert len(run.marks("end")) == 4


def test_few_files(project: Project) -> None:
    """A warm worker that may not open more files declines requests."""
    run = Run.of(project)
    run.start("sh", "-c", f"ulimit -n 48; exec {' '.join(MAKE)}")
    assert run.code() == 0, run.output()
    assert len(run.marks("end")) == 4


def test_a_signal_before_a_fresh_process(project: Project) -> None:
    """A client that is asked to end after it has lost its warm worker starts nothing any more."""
    text = pathlib.Path(CLIENT).read_text(encoding="utf-8")
    assert text.endswith('\nfresh "$@"\n')
    late = text.removesuffix('fresh "$@"\n') + 'kill -TERM $$\nfresh "$@"\n'
    script = project.write("client.sh", late)
    folder = project.folder / "worker"
    folder.mkdir()
    for name in ("requests", "0"):
        os.mkfifo(folder / name)
    # Open before the client starts, as the warm worker has them.
    requests, slot = (os.open(folder / name, os.O_RDWR) for name in ("requests", "0"))
    variables = {"RVRUN_WARM": str(folder), "RVRUN_PYTHON": "echo", "RVRUN_RUN_DIR": "."}
    target = subprocess.Popen(["sleep", "600"])
    client = subprocess.Popen(
        ["sh", script, "run_command"],
        env=clean_environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert os.read(requests, 1024) == f"0 {client.pid}\n".encode()
        os.write(slot, line(client.pid, f"pid {target.pid}"))
        os.close(slot)
        assert client.communicate(timeout=60)[0] == b""
        assert (client.returncode, target.wait(60)) == (-signal.SIGTERM, -signal.SIGTERM)
    finally:
        for process in (client, target):
            process.kill()
            process.wait()
        os.close(requests)


def test_lost_requests(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots of clients that have ended are used again; one that cannot be found is answered."""
    monkeypatch.setattr("tempfile.tempdir", str(project.folder))
    gone = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(gone, 0)
    with supervisor.warm_worker(lambda *_: None) as worker:
        assert worker is not None
        for slot in range(20):
            with open(f"{worker.folder}/{slot}{TAKEN}", "w") as file:
                file.write(f"{gone}\n")
        reading = os.open(f"{worker.folder}/20", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reading, True)
        with open(f"{worker.folder}/requests", "w") as requests:
            requests.write(f"20 {gone}\n")
        assert os.read(reading, 1024) == line(gone, "fresh") * 2
        os.close(reading)
        left = [f"{worker.folder}/{slot}{TAKEN}" for slot in range(20)]
        wait_for(lambda: not any(map(os.path.exists, left)))
