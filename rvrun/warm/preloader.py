"""A preloader: imports what some targets import, and forks a process for each of them.

It is forked from the warm worker, and tells it (`->`) and is told (`<-`):

    -> ready             the imports are done, and targets can be forked
    -> fresh WHY         they cannot; this process ends
    <- start SLOT PID    fork the target of client PID, which reads at SLOT
    -> changed SLOT FILE the user's code was edited, so another preloader must be started for that;
       unused SLOT FILE  and this one has not forked any target
    <- ended PID         the client has ended, so its target must
    <- alive, -> alive   whether this process works
    <- (end of file)     end when all targets have ended
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import sys
import time

from rvrun.errors import RvrunError, describe
from rvrun.pipelines.user_files import changed_files, user_files
from rvrun.warm import protocol, streams
from rvrun.warm.capture import capture
from rvrun.warm.hazards import find_hazards, take_stock
from rvrun.warm.preload import preload
from rvrun.warm.random_state import RandomStates
from rvrun.warm.target import INTERRUPTING, Imported, become_target, set_environ
from rvrun.worker.pipeline import read_document
from rvrun.worker.prctl import end_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from rvrun.warm.protocol import Imports

#: How long a target may take to end after SIGTERM before it is killed, in seconds; as in
#: `worker.processes`, whose imports targets do not need.
GRACE_SECONDS = 5.0
#: The length of the longest message to the server, in bytes.
MAX_MESSAGE = 4096


class Running:
    """A target: its client and the client's slot, its process, and when it is to be killed."""

    def __init__(self, slot: str, client: int, pid: int, pidfd: int) -> None:
        self.slot = slot
        self.client = client
        self.pid = pid
        self.pidfd = pidfd
        self.deadline = float("inf")


def main(
    connection: socket.socket,
    server: int,
    folder: str,
    *,
    imports: Imports,
    config: str,
    without: Sequence[str],
) -> NoReturn:
    """Be a preloader for targets of `config`, or others with the same imports, until told to end.

    - `server`: the process that forked this one. `without`: modules that must not be imported.
    """
    code = 1
    try:
        end_with(server)
        os.setpgid(0, 0)
        _take_place(imports)
        imported = _import(connection, config, without)
        if imported is not None:
            Preloader(connection, folder, imported).run()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the server's stack is above this frame
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _take_place(imports: Imports) -> None:
    """Make this process import as the targets would: with their folder and environment."""
    _, cwd, environ = imports
    os.chdir(cwd)
    pairs = (os.fsdecode(pair).partition("=") for pair in environ.split(b"\0") if pair)
    set_environ({name: value for name, _, value in pairs})


def _import(connection: socket.socket, config: str, without: Sequence[str]) -> Imported | None:
    """Import what targets of `config` import, and return what that left behind.

    Returns None if targets must not be forked from this process; then the server knows why.
    """
    before, since = take_stock(), time.time_ns()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        with capture() as captured, RandomStates() as random_states:
            preload(read_document(config), config, without)
        why_not = next((str(why) for why in (*find_hazards(before), *random_states.doubts)), "")
    except RvrunError as error:
        why_not = str(error)
    except BaseException as error:  # noqa: BLE001 - imports run the user's code
        why_not = f"importing for {config} raised {describe(error)}"
    if why_not:
        connection.send(f"fresh {' '.join(why_not.split())}".encode()[:MAX_MESSAGE])
        return None
    after = {number: signal.getsignal(number) for number in handlers}
    changed: dict[int, Any] = {
        number: new for number, new in after.items() if new != handlers[number]
    }
    return Imported(captured, changed, random_states, user_files(since))


class Preloader:
    """A preloader after its imports: the targets that it runs, and what it does with each event."""

    def __init__(self, connection: socket.socket, folder: str, imported: Imported) -> None:
        self.connection = connection
        self.folder = folder
        self.imported = imported
        self.is_unused = True
        self.running: dict[int, Running] = {}
        self.is_ending = False
        self.was_asked_to_end = False
        self.pid = os.getpid()
        self.streams = streams.own()
        self.selector = selectors.DefaultSelector()
        self.selector.register(connection, selectors.EVENT_READ, self._read_server)
        self.wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self.wakeup[0], selectors.EVENT_READ, self._read_wakeup)

    def run(self) -> None:
        """Fork targets until this process is told to end, and all of them have ended."""
        signal.set_wakeup_fd(self.wakeup[1])
        signal.signal(signal.SIGTERM, self._ask_to_end)
        # What is there now need not be looked at by any collection, which would copy its pages.
        gc.collect()
        gc.freeze()
        self.connection.send(b"ready")
        while self.running or not self.is_ending:
            for key, _ in self.selector.select(self._seconds_left()):
                key.data()
            if self.was_asked_to_end:
                self._end()
            self._kill_late()

    def _ask_to_end(self, signum: int, frame: object) -> None:
        # This may run between any two lines.
        self.was_asked_to_end = True

    def _read_wakeup(self) -> None:
        os.read(self.wakeup[0], 512)

    def _read_server(self) -> None:
        try:
            message = self.connection.recv(65536).decode()
        except OSError:
            message = ""
        match message.split(" "):
            case ["start", slot, pid]:
                self._start(slot, int(pid))
            case ["ended", client]:
                self._terminate(self.running.get(int(client)))
            case ["alive"]:
                self._tell("alive")
            case _:
                # Told to end, when all targets have ended. Without the server, clients are told
                # nothing, but each notices that it has gone.
                self.selector.unregister(self.connection)
                self.is_ending = True

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(text.encode())

    def _reply(self, slot: str, lines: bytes) -> None:
        # Without the server, there may be no reader.
        with contextlib.suppress(OSError):
            fifo = os.open(os.path.join(self.folder, slot), os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(fifo, lines)
            finally:
                os.close(fifo)

    def _start(self, slot: str, client: int) -> None:
        """Fork the target of process `client`."""
        if self.was_asked_to_end:
            self._reply(slot, protocol.line(client, f"exit {128 + signal.SIGTERM}") * 2)
        elif changed := changed_files(self.imported.files):
            self._tell(f"{'unused' if self.is_unused else 'changed'} {slot} {changed[0]}")
        else:
            self.is_unused = False
            # A signal to the target must not reach a handler of this process.
            signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTING)
            pid = os.fork()
            if pid == 0:
                self._become_target(client)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTING)
            target = self.running[client] = Running(slot, client, pid, os.pidfd_open(pid))
            self.selector.register(
                target.pidfd, selectors.EVENT_READ, lambda: self._target_ended(target)
            )
            self._reply(slot, protocol.line(client, f"pid {pid}"))

    def _become_target(self, client: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        self.selector.close()
        self.connection.close()
        for descriptor in (*self.wakeup, *(target.pidfd for target in self.running.values())):
            os.close(descriptor)
        become_target(client, self.pid, self.streams, self.imported)

    def _target_ended(self, target: Running) -> None:
        self.selector.unregister(target.pidfd)
        os.close(target.pidfd)
        del self.running[target.client]
        _, status = os.waitpid(target.pid, 0)
        if os.WIFSIGNALED(status):
            how = f"signal {os.WTERMSIG(status)}"
        else:
            how = f"exit {os.waitstatus_to_exitcode(status)}"
        self._reply(target.slot, protocol.line(target.client, how) * 2)

    def _end(self) -> None:
        """End all targets, once."""
        self.is_ending = True
        for target in self.running.values():
            self._terminate(target)

    def _terminate(self, target: Running | None) -> None:
        """Ask a target to end, once, and kill it later if it does not."""
        if target is not None and target.deadline == float("inf"):
            target.deadline = time.monotonic() + GRACE_SECONDS
            _signal(target.pid, signal.SIGTERM)

    def _kill_late(self) -> None:
        for target in self.running.values():
            if target.deadline <= time.monotonic():
                _signal(target.pid, signal.SIGKILL)

    def _seconds_left(self) -> float | None:
        """Return how long to wait for events: until a target must be killed."""
        deadline = min((target.deadline for target in self.running.values()), default=float("inf"))
        return None if deadline == float("inf") else max(0.05, deadline - time.monotonic())


def _signal(pid: int, number: int) -> None:
    """Send a signal to a target and to its process group, if it has one of its own."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
