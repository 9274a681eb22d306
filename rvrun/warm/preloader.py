"""A preloader: imports what some targets import, and forks a process for each of them.

The warm worker forks it, and they exchange messages (`->` to the warm worker, `<-` from it):

    -> ready             the imports are done, and targets can be forked
    -> fresh WHY         they cannot; this process ends
    <- start SLOT PID    fork the target of client PID, which reads at SLOT
    -> changed SLOT FILE the user's code was edited, so another preloader must be started for that;
       unused SLOT FILE  and this one has not forked any target
    <- ended PID         the client has ended, so its target must
    <- alive, -> alive   whether this process works
    <- retire            end when all targets have ended
"""

from __future__ import annotations

# The part of `signal` in C, without enums: this process copies what it touches after a fork.
import _signal  # type: ignore[import-not-found]
import contextlib
import gc
import os
import selectors
import signal
import sys
import time

from rvrun import signals
from rvrun.errors import RvrunError, describe
from rvrun.pipelines.user_files import changed_files, user_files
from rvrun.prctl import end_with
from rvrun.warm import protocol, request
from rvrun.warm.capture import capture
from rvrun.warm.hazards import find_hazards, take_stock
from rvrun.warm.preload import preload
from rvrun.warm.random_state import RandomStates
from rvrun.warm.request import Request
from rvrun.warm.target import INTERRUPTING, Imported, become_target
from rvrun.worker.pipeline import read_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from rvrun.warm.streams import Layout

#: The length of the longest message to the server, in bytes.
MAX_MESSAGE = 4096
#: That of the longest request; the kernel does not deliver longer ones, see socket(7), `wmem_max`.
MAX_REQUEST = 1 << 20


class Running:
    """A target: its client and the client's slot, its process, and when it will be killed."""

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
    layout: Layout,
    *,
    config: str,
    without: Sequence[str],
) -> NoReturn:
    """Be a preloader for targets of `config`, or others with the same imports, until told to end.

    - `server`: the process that forked this one, with signals blocked. `layout`: that of the
      targets' output.
    - `without`: modules that must not be imported.
    """
    code = 1
    try:
        end_with(server)
        _reset_signals()
        os.setpgid(0, 0)
        # As far as those of all its targets are the same.
        sys.argv[1:] = sys.orig_argv[4:] = ["run_command", config]
        imported = _import(connection, layout, config, without)
        if imported is not None:
            Preloader(connection, server, folder, imported).run()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the server's stack is above this frame
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def _reset_signals() -> None:
    """Handle signals as a process does that has just started, not as the server does."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signals.end_on_interrupt()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTING)


def _import(
    connection: socket.socket, layout: Layout, config: str, without: Sequence[str]
) -> Imported | None:
    """Import what targets of `config` import, and return what that left behind.

    Returns None if targets must not be forked from this process; then the server knows why.
    """
    before, since = take_stock(), time.time_ns()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        with capture(layout) as captured, RandomStates() as random_states:
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

    def __init__(
        self, connection: socket.socket, server: int, folder: str, imported: Imported
    ) -> None:
        self.connection = connection
        self.server = server
        self.folder = folder
        self.imported = imported
        self.is_unused = True
        self.running: dict[int, Running] = {}
        self.is_ending = False
        self.was_asked_to_end = False
        self.pid = os.getpid()
        self.selector = selectors.DefaultSelector()
        self.selector.register(connection, selectors.EVENT_READ, self._read_server)
        self.wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self.wakeup[0], selectors.EVENT_READ, self._read_wakeup)

    def run(self) -> None:
        """Fork targets until this process must end, and all of them have ended."""
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
            message = self.connection.recv(MAX_REQUEST)
        except OSError:
            message = b""
        if message.startswith(request.MARK):
            self._start(Request.unpack(message))
            return
        match message.decode().split(" "):
            case ["ended", client]:
                self._terminate(self.running.get(int(client)))
            case ["alive"]:
                self._tell("alive")
            case ["retire"]:
                self.is_ending = True
            case _:
                # The server has ended, and SIGTERM arrives as well.
                self.selector.unregister(self.connection)
                self.is_ending = True

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(text.encode())

    def _reply(self, slot: str, lines: bytes) -> None:
        # Without the server, a client's FIFO ends, and it starts its target in a fresh process. It
        # must not read instead how its target was ended here.
        if os.getppid() == self.server:
            self._write(slot, lines)

    def _write(self, slot: str, lines: bytes) -> None:
        with contextlib.suppress(OSError):
            fifo = os.open(os.path.join(self.folder, slot), os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(fifo, lines)
            finally:
                os.close(fifo)

    def _start(self, request: Request) -> None:
        """Fork the target of a client."""
        slot, client = request.slot, request.client
        if self.was_asked_to_end:
            self._reply(slot, protocol.line(client, f"exit {128 + signal.SIGTERM}") * 2)
        elif changed := changed_files(self.imported.files):
            self._tell(f"{'unused' if self.is_unused else 'changed'} {slot} {changed[0]}")
        else:
            self.is_unused = False
            # A signal to the target must not reach a handler of this process.
            _signal.pthread_sigmask(_signal.SIG_BLOCK, INTERRUPTING)
            try:
                pid = os.fork()
                if pid == 0:
                    self._become_target(request)
            except OSError:
                # There are too many processes, or too little memory.
                self._reply(slot, protocol.line(client, "fresh") * 2)
                return
            finally:
                _signal.pthread_sigmask(_signal.SIG_UNBLOCK, INTERRUPTING)
            target = self.running[client] = Running(slot, client, pid, os.pidfd_open(pid))
            self.selector.register(
                target.pidfd, selectors.EVENT_READ, lambda: self._target_ended(target)
            )
            self._reply(slot, protocol.line(client, f"pid {pid}"))

    def _become_target(self, request: Request) -> NoReturn:
        def decline() -> None:
            self._write(request.slot, protocol.line(request.client, "fresh") * 2)

        try:
            signal.set_wakeup_fd(-1)
            self.selector.close()
            self.connection.close()
            for descriptor in (*self.wakeup, *(target.pidfd for target in self.running.values())):
                os.close(descriptor)
            become_target(request, self.pid, self.imported, decline)
        finally:
            # Nothing of the preloader's may go on here.
            os._exit(1)

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
            target.deadline = time.monotonic() + signals.GRACE_SECONDS
            _send(target.pid, signal.SIGTERM)

    def _kill_late(self) -> None:
        for target in self.running.values():
            if target.deadline <= time.monotonic():
                _send(target.pid, signal.SIGKILL)

    def _seconds_left(self) -> float | None:
        """Return how long to wait for events: until a target must be killed."""
        deadline = min((target.deadline for target in self.running.values()), default=float("inf"))
        return None if deadline == float("inf") else max(0.05, deadline - time.monotonic())


def _send(pid: int, number: int) -> None:
    """Send a signal to a target and to its process group, if it has one of its own."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
