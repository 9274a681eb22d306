"""However a run with a warm worker ends, no process of it is left, and it can be resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator

import psutil
import pytest

from rvrun.warm.protocol import CLIENT
from tests.conftest import Project
from tests.warm.runs import LOCAL, MAKE, Run, read_terminal, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has warm workers")
PARTS = ("part0", "part1", "part2")
ways = pytest.mark.parametrize("way", [LOCAL, MAKE], ids=["local", "make"])


@pytest.fixture
def run(project: Project) -> Iterator[Run]:
    """A project without a run yet; afterwards, nothing of it may be left."""
    run = Run.of(project)
    yield run
    run.release()
    if run.process is not None:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        run.assert_nothing_is_left()


def start_and_hold(run: Run, *way: str, at_terminal: bool = False) -> None:
    """Start a run, and wait until its first three targets are in the middle, forked."""
    run.hold(*PARTS)
    run.start(*way, at_terminal=at_terminal)
    run.wait_for_begin(*PARTS)
    assert len(run.roles()["target"]) == 3, run.roles()


def resume(run: Run) -> None:
    """Run what is left: afterwards, all is done, and nothing was done twice."""
    run.release()
    for path in run.project.folder.glob("child-*"):
        # A target that is done may leave its children behind.
        path.unlink()
    run.start(*LOCAL)
    assert run.code() == 0, run.output()
    assert sorted(run.marks("end")) == sorted((*PARTS, "last"))
    run.project.make("-q", "-C", "runs/acts")


@ways
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal(run: Run, way: tuple[str, ...], number: signal.Signals) -> None:
    """A signal to rvrun ends everything, after the `finally` blocks of the targets."""
    run.project.write("slow-part1", "")
    run.project.write("child-part1", "")
    start_and_hold(run, *way)
    assert run.process is not None
    run.process.send_signal(number)
    assert run.code() in (128 + number, 2)
    run.assert_all_have_ended()
    assert sorted(run.marks("finally")) == sorted(PARTS)
    assert run.marks("end") == []
    resume(run)


@ways
def test_ctrl_c(run: Run, way: tuple[str, ...]) -> None:
    """Ctrl-C at a terminal, where a target also has children."""
    run.project.write("child-part0", "")
    run.project.write("slow-part1", "")
    start_and_hold(run, *way, at_terminal=True)
    assert run.terminal is not None
    os.write(run.terminal, b"\x03")
    shown = read_terminal(run.terminal)
    # Seldom, make itself ends with 2, as after a failure; an error of rvrun would be shown.
    is_make = way == MAKE and "rvrun: " not in shown
    assert run.code() in ((130, 2) if is_make else (130,)), shown
    assert "Traceback" not in shown
    assert "cannot" not in shown
    run.assert_all_have_ended()
    assert sorted(run.marks("finally")) == sorted(PARTS)
    resume(run)


@ways
def test_a_closed_terminal(run: Run, way: tuple[str, ...]) -> None:
    start_and_hold(run, *way, at_terminal=True)
    assert run.terminal is not None
    assert run.process is not None
    os.close(run.terminal)
    run.process.wait(60)
    run.terminal = None
    run.assert_all_have_ended()
    assert sorted(run.marks("finally")) == sorted(PARTS)
    resume(run)


@ways
@pytest.mark.parametrize("role", ["rvrun", "make", "both"])
def test_killed_parents(run: Run, way: tuple[str, ...], role: str) -> None:
    """SIGKILL to rvrun, to make, or to both: the targets are asked to end."""
    start_and_hold(run, *way)
    assert run.process is not None
    make = run.one("make")
    if role != "make":
        run.process.kill()
    if role != "rvrun":
        make.kill()
    assert run.code() in (-9, 1, 137)
    run.assert_nothing_is_left()
    assert sorted(run.marks("finally")) == sorted(PARTS)
    resume(run)


@ways
@pytest.mark.parametrize("role", ["server", "preloader"])
@pytest.mark.parametrize("stops_clients", [False, True])
def test_a_killed_warm_worker(
    run: Run, way: tuple[str, ...], role: str, *, stops_clients: bool
) -> None:
    """The run goes on with fresh processes, also if a client notices late."""
    start_and_hold(run, *way)
    clients, targets = run.roles()["client"], run.roles()["target"]
    if stops_clients:
        for client in clients:
            client.suspend()
    run.one(role).kill()
    # A target that ends itself meanwhile could be ended between its last effect and its stamp.
    wait_for(lambda: not any(target.is_running() for target in targets))
    run.release()
    if stops_clients:
        for client in clients:
            client.resume()
    assert run.code() == 0, run.output()
    assert sorted(run.marks("end")) == sorted((*PARTS, "last"))
    assert run.output().count("fresh processes") == 1


@ways
def test_a_killed_client(run: Run, way: tuple[str, ...]) -> None:
    """Its target ends, after its `finally` blocks; make reports a failure."""
    start_and_hold(run, *way)
    run.one("client").kill()
    wait_for(lambda: run.marks("finally"))
    run.release()
    assert run.code() == (1 if way == LOCAL else 2)
    assert len(run.marks("end")) == 2
    resume(run)


@ways
def test_a_killed_target(run: Run, way: tuple[str, ...]) -> None:
    """Its client ends by the same signal, so that make says so, and the record, too."""
    run.project.write("exit-part1", "0")
    start_and_hold(run, *way)
    (pid,) = [
        line.split()[2]
        for line in run.project.read("marks").splitlines()
        if line.startswith("begin part1 ")
    ]
    os.kill(int(pid), signal.SIGKILL)
    run.release()
    assert run.code() == (1 if way == LOCAL else 2)
    log = run.project.read("runs/acts/logs/make.log") if way == LOCAL else run.output()
    assert "done/acts/part.3/1] Killed" in log
    if way == LOCAL:
        lines = run.project.read("runs/acts/records/acts/part.3/1.jsonl").splitlines()
        assert json.loads(lines[-1])["signal"] == signal.SIGKILL


@ways
def test_a_target_that_ignores_signals(run: Run, way: tuple[str, ...]) -> None:
    """It is killed after the grace period."""
    run.project.write("ignore-part1", "")
    start_and_hold(run, *way)
    assert run.process is not None
    run.process.terminate()
    assert run.code() in (143, 2)
    run.assert_all_have_ended()
    assert sorted(run.marks("finally")) == ["part0", "part2"]


def test_a_second_interrupt(run: Run) -> None:
    """It does not wait for the grace period."""
    run.project.write("ignore-part1", "")
    start_and_hold(run, *LOCAL, at_terminal=True)
    assert run.terminal is not None
    os.write(run.terminal, b"\x03")
    wait_for(lambda: len(run.marks("finally")) == 2)
    os.write(run.terminal, b"\x03")
    assert run.code() == 130
    run.assert_all_have_ended()


def test_a_second_signal(run: Run) -> None:
    run.project.write("ignore-part1", "")
    start_and_hold(run, *MAKE)
    assert run.process is not None
    run.process.terminate()
    wait_for(lambda: len(run.marks("finally")) == 2)
    run.process.terminate()
    run.process.terminate()
    run.code()
    run.assert_all_have_ended()


@ways
def test_nohup(run: Run, way: tuple[str, ...]) -> None:
    """A closed terminal does not end a run that nohup started."""
    start_and_hold(run, "nohup", *way)
    assert run.process is not None
    os.killpg(run.process.pid, signal.SIGHUP)
    run.process.send_signal(signal.SIGHUP)
    run.release()
    assert run.code() == 0, run.output()


def test_interrupts_that_are_ignored(run: Run) -> None:
    """As a shell starts jobs in the background."""
    start_and_hold(run, "sh", "-c", f"trap '' INT QUIT; exec {' '.join(MAKE)}")
    assert run.process is not None
    os.killpg(run.process.pid, signal.SIGINT)
    run.release()
    assert run.code() == 0, run.output()


@ways
def test_a_stopped_preloader(run: Run, way: tuple[str, ...]) -> None:
    """A preloader that is stopped does not survive its run."""
    start_and_hold(run, *way)
    assert run.process is not None
    run.one("preloader").suspend()
    run.process.terminate()
    run.code()
    run.assert_all_have_ended()


def test_an_early_end(run: Run) -> None:
    """A run that ends while its warm worker starts, while that imports, or soon after."""
    run.hold(*PARTS)  # else make may be done before it is killed
    run.project.write("acts.py", "import time\ntime.sleep(0.5)\n" + run.project.read("acts.py"))
    for seconds in (0.0, 0.1, 0.2, 0.4, 0.6):
        run.start("rvrun", "warm", "sh", "-c", f"{' '.join(MAKE[2:])} & sleep {seconds}; kill $!")
        assert run.code() == 0
        run.assert_nothing_is_left()


def test_the_target_of_an_edited_pipeline(run: Run) -> None:
    """A target whose code has been edited since still ends with its client."""
    run.project.write("hold-part1", "")
    run.start("rvrun", "warm", "make", "-j1", "-k", "-C", "runs/acts")
    run.wait_for_begin("part1")
    client = run.one("client")
    run.project.write("acts.py", run.project.read("acts.py") + "\n# edited\n")
    client.kill()
    assert run.code() == 2
    assert "part1" in run.marks("finally")


def test_edited_while_targets_run(run: Run) -> None:
    """The old preloader goes on to watch its targets: one ends if its client does."""
    run.hold("part0", "part1")
    run.start("rvrun", "warm", "make", "-j2", "-k", "-C", "runs/acts")
    run.wait_for_begin("part0", "part1")
    old = run.one("preloader")
    run.project.write("acts.py", run.project.read("acts.py") + "\n# edited\n")
    run.hold("part2")
    (run.project.folder / "hold-part0").unlink()
    run.wait_for_begin("part2")
    assert old in run.roles()["preloader"]
    assert len(run.roles()["preloader"]) == 2
    (target,) = old.children()
    for client in run.roles()["client"]:
        client.kill()
    wait_for(lambda: not target.is_running())
    wait_for(lambda: not old.is_running())
    run.release()
    assert run.code() == 2
    resume(run)


def wait_until_the_client_knows_its_target(run: Run) -> None:
    """Wait until the one client has read which process its target is, which runs already.

    The preloader sends it right after the fork, and then waits; a client with something to read
    does not wait before it has read that.
    """
    for role in ("preloader", "client"):
        process = run.one(role)
        wait_for(lambda process=process: process.status() == psutil.STATUS_SLEEPING)  # type: ignore[misc]


SHELLS = ["dash", "bash --posix", "busybox ash"]


@pytest.mark.parametrize("shell", SHELLS)
def test_shells(run: Run, shell: str) -> None:
    """The client works in each shell that is the `sh` of a Linux distribution."""
    if shutil.which(shell.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{shell} is not installed")
    words = ("rvrun", "warm", "make", "-j3", "-C", "runs/acts", f"RVRUN={shell} {CLIENT}")
    run.project.write("exit-part1", "7")
    start_and_hold(run, *words)
    run.release()
    assert run.code() == 2
    assert "part.3/1] Error 7" in run.output()
    (run.project.folder / "exit-part1").unlink()
    run.hold("part1")
    run.start(*words)
    wait_for(lambda: run.marks("begin").count("part1") == 2)
    wait_until_the_client_knows_its_target(run)
    run.one("client").terminate()
    assert run.code() == 2
    assert "part.3/1] Error 143" in run.output()
    run.start(*words)
    wait_for(lambda: run.marks("begin").count("part1") == 3)
    run.one("target").kill()
    assert run.code() == 2
    assert "part.3/1] Killed" in run.output()
    run.start(*words)
    wait_for(lambda: run.marks("begin").count("part1") == 4)
    run.one("server").kill()
    run.release()
    assert run.code() == 0, run.output()
