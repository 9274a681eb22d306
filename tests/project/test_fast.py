"""The guard of the fast tier: what a test without the fixture `processes` cannot do."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable

import pytest

from tests.fast import guard


def run_in_a_thread() -> None:
    """The failure in the thread reaches the test that waits for it, too."""
    thread = threading.Thread(target=swallow, daemon=True)
    thread.start()
    threading.Event().wait(60)


def swallow() -> None:
    with contextlib.suppress(BaseException):
        subprocess.run(["true"], check=False)


def listen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def connect() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 9))


@pytest.mark.parametrize(
    ("act", "event"),
    [
        (lambda: subprocess.run(["true"], check=False), "subprocess.Popen"),
        (os.fork, "os.fork"),
        (lambda: os.system("true"), "os.system"),
        (listen, "socket.bind"),
        (connect, "socket.connect"),
        (run_in_a_thread, "subprocess.Popen"),
    ],
    ids=["run", "fork", "system", "bind", "connect", "thread"],
)
def test_a_fast_test_fails_there(act: Callable[[], object], event: str) -> None:
    """It names the event and the way out."""
    with pytest.raises(pytest.fail.Exception, match=f"this test caused `{event}` .*`processes`"):
        act()
    guard.violation = ""


def test_threads_of_other_tests_may() -> None:
    """A server that an earlier test has left running does not fail this one."""
    begin, end = threading.Event(), threading.Event()

    def act() -> None:
        begin.wait(60)
        listen()
        end.set()

    thread = threading.Thread(target=act)
    thread.start()
    guard.arm()
    begin.set()
    thread.join(60)
    assert end.is_set()


def test_the_marker_is_set(request: pytest.FixtureRequest) -> None:
    """A test without the fixture is fast."""
    assert "fast" in [mark.name for mark in request.node.iter_markers()]


@pytest.mark.usefixtures("processes")
def test_other_tests_may(request: pytest.FixtureRequest) -> None:
    """With the fixture, a test starts what it likes, and is not fast."""
    assert "fast" not in [mark.name for mark in request.node.iter_markers()]
    assert subprocess.run(["true"], check=False).returncode == 0
