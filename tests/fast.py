"""The fast tier: a test that starts no process and opens no socket gets the marker `fast`.

A test that does either requests the fixture `processes`, itself or through a fixture such as
`project` or `moto`. In every run, an audit hook stops all other tests from doing it, so that
`pytest -m fast` stays what it says.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest

FIXTURE = "processes"
#: Audit events that a fast test must not cause (Python documentation, "Audit events table").
FORBIDDEN = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "socket.bind",
    "socket.connect",
    "subprocess.Popen",
}


class Guard:
    """Fails a fast test where it starts a process or uses a socket."""

    def __init__(self) -> None:
        self.is_armed = False
        self.violation = ""
        #: Threads that earlier tests, or pytest, have started.
        self.others: set[int | None] = set()

    def arm(self) -> None:
        main = threading.main_thread()
        self.others = {thread.ident for thread in threading.enumerate() if thread is not main}
        self.is_armed = True

    def audit(self, event: str, args: tuple[object, ...]) -> None:
        if self.is_armed and event in FORBIDDEN and threading.get_ident() not in self.others:
            self.violation = (
                f"this test caused `{event}` {args[:2]!r}, but does not request the fixture "
                f'`{FIXTURE}`; mark it with `@pytest.mark.usefixtures("{FIXTURE}")`, which takes '
                "it out of the fast tier, or do without"
            )
            if threading.current_thread() is not threading.main_thread():
                # The test may be waiting for this thread, so it has to fail, too.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            # An exception that `except Exception` in the code under test does not catch.
            pytest.fail(self.violation)

    def interrupt(self, signum: int, frame: object) -> None:
        pytest.fail(self.violation)


guard = Guard()
# A hook cannot be removed again, so it is added once for each process.
sys.addaudithook(guard.audit)
signal.signal(signal.SIGUSR1, guard.interrupt)


@pytest.fixture(scope="session")
def processes() -> None:
    """Lets a test start processes and use sockets, and keeps it out of the fast tier."""


def is_fast(item: pytest.Item) -> bool:
    return FIXTURE not in getattr(item, "fixturenames", (FIXTURE,))


# First, so that `-m fast` sees the markers.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_fast(item):
            item.add_marker(pytest.mark.fast)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Arm the guard also for the test's fixtures; disarm it for pytest's own work in between."""
    if is_fast(item):
        guard.arm()
    try:
        return (yield)
    finally:
        guard.is_armed = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail also where the test, or a thread of it, swallowed the failure."""
    guard.violation = ""
    result = yield
    if guard.violation:
        pytest.fail(guard.violation)
    return result
