"""The warm worker: takes the requests of clients, and passes each on to the preloader that fits.

    python -P -m rvrun warm_worker FOLDER WITHOUT CONTROL REQUESTS SLOT...

It imports nothing of the user's. Each distinct set of imports gets a process forked from this one,
a preloader, which imports them once and forks the targets. So whatever an import does, this process
goes on, and can tell clients to start their targets in fresh processes.
"""

from __future__ import annotations

import collections
import contextlib
import os
import selectors
import signal
import socket
import time

from rvrun import environment
from rvrun.errors import RvrunError
from rvrun.inputs import parse_integer
from rvrun.warm import processes, protocol, streams
from rvrun.warm.protocol import Gone
from rvrun.warm.request import Conditions, Request, changed_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rvrun.warm.protocol import Imports

#: So many slots are made in advance, beyond the last one that was taken.
SPARE_SLOTS = 16
#: Signals that end a warm worker.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: How long preloaders may take to end, after their targets, in seconds; then they are killed.
END_SECONDS = 6.0
#: A longer saved config, in bytes, is not sent along with each request.
MAX_DOCUMENT = 32_768
#: A longer request, in bytes, might not fit into the buffer of a connection (socket(7)).
MAX_REQUEST = 100_000
#: More preloaders than that would not be worth their memory and their start.
MAX_PRELOADERS = 8
#: After so many preloaders in a row that were edited before they forked a target, it is the imports
#: that write files which they import.
MAX_UNUSED = 3


class Config:
    """A saved config.

    - `version`: differs after a change of the file. `identity`: see `preload.identity`.
    - `document`: its content; None if it is long.
    """

    def __init__(
        self, version: tuple[int, ...], identity: str, document: dict[str, Any] | None
    ) -> None:
        self.version = version
        self.identity = identity
        self.document = document


class Slot:
    """A slot: its FIFO, held open so that it ends for its client when this process does.

    - `pid`: the client that has it, or 0. `pidfd`: becomes readable when that client has ended.
    - `preloader`: what runs, or will run, the client's target; `request`: the message for it.
    """

    def __init__(self, name: str, fifo: int) -> None:
        self.name = name
        self.fifo = fifo
        self.pid = 0
        self.pidfd = -1
        self.preloader: Preloader | None = None
        self.request = b""


class Preloader:
    """A preloader as this process sees it.

    - `variables`: those that it has, each as `NAME=VALUE`.
    - `waiting`: slots of requests that came before it was ready.
    - `why_fresh`: why its targets start in fresh processes; empty while they do not.
    """

    def __init__(
        self, imports: Imports, variables: list[bytes], pid: int, connection: socket.socket
    ) -> None:
        self.imports = imports
        self.variables = variables
        self.pid = pid
        self.connection = connection
        self.is_ready = False
        self.waiting: list[Slot] = []
        self.why_fresh = ""
        self.unsent: collections.deque[bytes] = collections.deque()
        self.unanswered = 0

    @property
    def is_running(self) -> bool:
        return self.pid > 0

    def send(self, message: bytes) -> None:
        """Send a message, now or in a later `flush`."""
        self.unsent.append(message)
        self.flush()

    def flush(self) -> None:
        """Send messages until no more fit into the buffer of the connection."""
        while self.unsent:
            try:
                self.connection.send(self.unsent[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                # It has ended, which is noticed elsewhere.
                self.unsent.clear()
            else:
                self.unsent.popleft()


class Server:
    """The state of a warm worker, and what it does with each event."""

    def __init__(
        self, folder: str, control: socket.socket, requests: int, without: Sequence[str]
    ) -> None:
        self.folder = folder
        self.control = control
        self.without = without
        self.slots: dict[str, Slot] = {}
        self.preloaders: dict[Imports, Preloader] = {}
        self.retired: list[Preloader] = []
        self.num_unused: dict[Imports, int] = collections.defaultdict(int)
        self.configs: dict[str, Config] = {}
        self.variables = protocol.variables(protocol.read_client(os.getpid(), "environ"))
        self.started_with = protocol.started_with(self.variables)
        self.conditions = Conditions(os.getpid())
        self.streams = streams.own()
        self.is_ending = False
        self.was_asked_to_end = False
        self.deadline = float("inf")
        self.selector = selectors.DefaultSelector()
        self.requests = requests
        self._listen(requests, self._read_requests)
        self._listen(control, self._read_control)

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def _listen(self, file: int | socket.socket, handle: Callable[[], None]) -> None:
        self.selector.register(file, selectors.EVENT_READ, handle)

    # Slots

    def add_slot(self, fifo: int) -> None:
        """Add the next slot, whose FIFO is open as descriptor `fifo`."""
        name = str(len(self.slots))
        self.slots[name] = Slot(name, fifo)

    def _open(self, name: str) -> int:
        return os.open(self._path(name), os.O_RDWR | os.O_NONBLOCK)

    def _provide_slots(self, taken: int) -> None:
        """Make more slots if the one numbered `taken` is among the last."""
        if taken + SPARE_SLOTS < len(self.slots):
            return
        self._free_lost_slots()
        # If there can be no more, clients that get no slot start fresh processes.
        with contextlib.suppress(OSError):
            for number in range(len(self.slots), taken + 2 * SPARE_SLOTS):
                os.mkfifo(self._path(str(number)), 0o600)
                self.add_slot(self._open(str(number)))

    def _free_lost_slots(self) -> None:
        """Free slots of clients that have ended, and were not watched."""
        for slot in self.slots.values():
            taken = self._path(slot.name + protocol.TAKEN)
            if slot.pid == 0 and os.path.exists(taken):
                with open(taken, "rb") as file:
                    pid = parse_integer(file.read().decode().strip())
                if pid is not None and not os.path.exists(f"/proc/{pid}"):
                    self._free(slot)

    def _free(self, slot: Slot) -> None:
        """Make a slot available for another client, with nothing left in its FIFO."""
        if slot.pidfd >= 0:
            self.selector.unregister(slot.pidfd)
            os.close(slot.pidfd)
        os.close(slot.fifo)
        slot.fifo = self._open(slot.name)
        slot.pid, slot.pidfd, slot.preloader = 0, -1, None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(slot.name + protocol.TAKEN))

    def _client_ended(self, slot: Slot) -> None:
        preloader = slot.preloader
        if preloader is not None:
            if slot in preloader.waiting:
                preloader.waiting.remove(slot)
            elif preloader.is_running:
                preloader.send(f"ended {slot.pid}".encode())
        self._free(slot)

    def _reply(self, slot: Slot, text: str) -> None:
        if slot.pid:
            os.write(slot.fifo, protocol.line(slot.pid, text) * 2)
            slot.preloader = None

    # Requests

    def _read_requests(self) -> None:
        for line in os.read(self.requests, 65536).split(b"\n"):
            match line.decode(errors="replace").split():
                case [name, pid] if name in self.slots and pid.isdecimal():
                    self._provide_slots(int(name))
                    if self.slots[name].pid == 0:
                        self._begin(self.slots[name], int(pid))

    def _begin(self, slot: Slot, pid: int) -> None:
        """Begin with the request of process `pid`, which has taken `slot`."""
        try:
            slot.pidfd = os.pidfd_open(pid)
        except OSError:
            # It has ended already, has another number there than here, or is one too many. The slot
            # stays taken: a second reader could take this line from the first.
            os.write(slot.fifo, protocol.line(pid, "fresh") * 2)
            return
        slot.pid = pid
        self._listen(slot.pidfd, lambda: self._client_ended(slot))
        if self.is_ending:
            self._reply(slot, f"exit {128 + signal.SIGTERM}")
            return
        self._try_to_assign(slot)

    def _try_to_assign(self, slot: Slot) -> None:
        """Pass a request on, or let the target start in a fresh process if that is impossible.

        The client may have ended, may be another user's, or a system limit may be reached.
        """
        try:
            self._assign(slot)
        except (Gone, OSError):
            self._reply(slot, "fresh")

    def _assign(self, slot: Slot) -> None:
        """Pass a request on to the preloader of its imports. Raises `Gone`."""
        pairs = protocol.variables(protocol.read_client(slot.pid, "environ"))
        arguments = protocol.arguments(protocol.read_client(slot.pid, "cmdline"))
        cwd = _working_directory(slot.pid)
        if protocol.started_with(pairs) != self.started_with:
            self._decline(slot, "a variable that Python reads when it starts has another value")
        elif (others := streams.others(slot.pid, self.streams)) is None:
            self._decline(slot, "its input or output is a file or socket that it shares")
        elif (
            len(arguments) < 3
            or (config := self._read_config(os.path.join(cwd, arguments[1]))) is None
        ):
            # The fresh process says what is wrong with the call.
            self._reply(slot, "fresh")
        else:
            layout = streams.layout(slot.pid, has_log=protocol.has_log(pairs))
            imports = (config.identity, cwd, protocol.imported_with(pairs), layout)
            preloader = self._preloader_of(imports, arguments[1], pairs)
            if preloader is None:
                self._decline(slot, "there are many targets with different imports or variables")
                return
            conditions = Conditions(slot.pid)
            slot.request = Request(
                slot.name,
                slot.pid,
                conditions.parent,
                arguments=arguments,
                variables=changed_variables(pairs, preloader.variables),
                conditions=conditions.differences(self.conditions),
                streams=others,
                document=config.document,
            ).pack()
            self._hand_over(slot, preloader)

    def _decline(self, slot: Slot, why: str) -> None:
        self._note("harmless", f"a target started in a fresh process: {why}")
        self._reply(slot, "fresh")

    def _read_config(self, path: str) -> Config | None:
        """Read a saved config, unless it is as it was read before; None if it cannot be read."""
        from rvrun.warm.preload import identity
        from rvrun.worker.pipeline import read_document

        try:
            status = os.stat(path)
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            config = self.configs.get(path)
            if config is None or config.version != version:
                document = read_document(path)
                kept = document if status.st_size <= MAX_DOCUMENT else None
                config = self.configs[path] = Config(version, identity(document), kept)
        except (RvrunError, OSError):
            return None
        return config

    def _hand_over(self, slot: Slot, preloader: Preloader) -> None:
        slot.preloader = preloader
        if preloader.why_fresh:
            self._reply(slot, "fresh")
        elif len(slot.request) > MAX_REQUEST:
            self._decline(slot, "its arguments are long")
        elif preloader.is_ready:
            preloader.send(slot.request)
        else:
            preloader.waiting.append(slot)

    # Preloaders

    def _preloader_of(self, imports: Imports, config: str, pairs: list[bytes]) -> Preloader | None:
        """Return the preloader of `imports`, started if there is none; None if there are many."""
        if imports not in self.preloaders:
            if len(self.preloaders) >= MAX_PRELOADERS:
                return None
            self._start_preloader(imports, config, pairs)
        return self.preloaders[imports]

    def _start_preloader(self, imports: Imports, config: str, pairs: list[bytes]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = os.getpid()
        # This process's handler would swallow a signal to the other one.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            raise
        if pid == 0:
            try:
                ours.close()
                self._close()
                processes.set_environ(changed_variables(pairs, self.variables))
                _, cwd, _, layout = imports
                os.chdir(cwd)
                from rvrun.warm.preloader import main

                main(theirs, server, self.folder, layout, config=config, without=self.without)
            finally:
                # Nothing of this process's may go on there.
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        theirs.close()
        preloader = self.preloaders[imports] = Preloader(imports, pairs, pid, ours)
        self._listen(ours, lambda: self._read_preloader(preloader))

    def _close(self) -> None:
        """Close all that belongs to this process, in a process that was forked from it."""
        for key in list(self.selector.get_map().values()):
            if not isinstance(key.fileobj, socket.socket):
                os.close(key.fd)
        self.selector.close()
        for slot in self.slots.values():
            os.close(slot.fifo)
        for preloader in (*self.preloaders.values(), *self.retired):
            preloader.connection.close()
        self.control.close()
        os.close(signal.set_wakeup_fd(-1))

    def _read_preloader(self, preloader: Preloader) -> None:
        try:
            message = preloader.connection.recv(65536).decode()
        except OSError:
            message = ""
        word, _, rest = message.partition(" ")
        match word:
            case "ready":
                preloader.is_ready = True
                waiting, preloader.waiting = preloader.waiting, []
                for slot in waiting:
                    self._hand_over(slot, preloader)
            case "alive":
                preloader.unanswered = 0
            case "changed" | "unused":
                name, _, file = rest.partition(" ")
                self._replace(preloader, self.slots[name], file, is_unused=word == "unused")
            case "fresh" | "harmless":
                self._give_up(preloader, rest, "note" if word == "fresh" else "harmless")
            case "":
                self._preloader_ended(preloader)

    def _replace(self, preloader: Preloader, slot: Slot, file: str, *, is_unused: bool) -> None:
        """Start another preloader, for `slot` and others, instead of one whose code was edited.

        - `file`: what was edited. `is_unused`: whether the preloader has not forked any target.
        """
        number = self.num_unused[preloader.imports] + 1 if is_unused else 0
        self.num_unused[preloader.imports] = number
        if number > MAX_UNUSED:
            self._give_up(preloader, f"importing changes `{file}`, which is imported", "note")
            return
        if self.preloaders.get(preloader.imports) is preloader:
            del self.preloaders[preloader.imports]
            self.retired.append(preloader)
            preloader.send(b"retire")
        if slot.pid and slot.preloader is preloader:
            slot.preloader = None
            self._try_to_assign(slot)

    def _give_up(self, preloader: Preloader, why: str, kind: str) -> None:
        """Let the targets of a preloader start in fresh processes from now on."""
        if not preloader.why_fresh:
            preloader.why_fresh = why
            self._note(kind, f"targets start in fresh processes: {why}")
        preloader.waiting = []
        self._reply_to_all(preloader, "fresh")

    def _reply_to_all(self, preloader: Preloader, text: str) -> None:
        for slot in self.slots.values():
            if slot.preloader is preloader:
                self._reply(slot, text)

    def _preloader_ended(self, preloader: Preloader) -> None:
        self.selector.unregister(preloader.connection)
        preloader.connection.close()
        how = processes.describe_end(preloader.pid)
        preloader.pid = 0
        if preloader in self.retired:
            self.retired.remove(preloader)
        elif not self.is_ending:
            self._give_up(preloader, f"the process that imports for them {how}", "note")
        # What it could not tell its clients any more.
        text = f"exit {128 + signal.SIGTERM}" if self.is_ending else "fresh"
        self._reply_to_all(preloader, text)

    # The supervisor

    def _read_control(self) -> None:
        try:
            message = self.control.recv(64)
        except OSError:
            message = b""
        if message:
            self._tell(b"alive")
        else:
            self.end()

    def _note(self, kind: str, text: str) -> None:
        self._tell(f"{kind} {text}".encode())

    def _tell(self, message: bytes) -> None:
        try:
            self.control.send(message, socket.MSG_DONTWAIT)
        except OSError:
            # The supervisor has ended, or is about to.
            return

    def ask_to_end(self) -> None:
        """End soon, as this may be called between any two lines."""
        self.was_asked_to_end = True

    def end(self) -> None:
        """End all preloaders, and with them their targets, and answer the clients."""
        if self.is_ending:
            return
        self.is_ending = True
        self.deadline = time.monotonic() + END_SECONDS
        for preloader in (*self.preloaders.values(), *self.retired):
            if preloader.is_running:
                os.kill(preloader.pid, signal.SIGTERM)
        for slot in self.slots.values():
            if slot.preloader is None or slot.preloader.why_fresh or not slot.preloader.is_ready:
                self._reply(slot, f"exit {128 + signal.SIGTERM}")

    @property
    def is_over(self) -> bool:
        everyone = (*self.preloaders.values(), *self.retired)
        return self.is_ending and not any(preloader.is_running for preloader in everyone)

    def run(self) -> None:
        """Handle events until the supervisor has ended, or SIGTERM arrived."""
        beat = time.monotonic()
        while not self.is_over:
            for preloader in (*self.preloaders.values(), *self.retired):
                preloader.flush()
            for key, _ in self.selector.select(protocol.BEAT_SECONDS):
                # An earlier event may have removed this one's file.
                if self.selector.get_map().get(key.fd) is key:
                    key.data()
            if self.was_asked_to_end:
                self.end()
            if time.monotonic() - beat >= protocol.BEAT_SECONDS:
                beat = time.monotonic()
                self._beat()

    def _beat(self) -> None:
        """Ask the preloaders whether they work, and kill one that has not answered for long."""
        for preloader in (*self.preloaders.values(), *self.retired):
            if not preloader.is_running:
                continue
            hangs = preloader.unanswered >= protocol.MISSED_BEATS
            if hangs or time.monotonic() > self.deadline:
                os.kill(preloader.pid, signal.SIGKILL)
            elif preloader.is_ready:
                preloader.unanswered += 1
                preloader.send(b"alive")


def _working_directory(pid: int) -> str:
    """Return the working directory of a client. Raises `Gone`."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError as error:
        raise Gone(str(error)) from error


def keep_from_programs() -> None:
    """Keep the files that targets get from their run from programs that an import starts."""
    for name in (environment.EVENTS, environment.LOCK):
        number = parse_integer(os.environ.get(name, ""))
        with contextlib.suppress(OSError, OverflowError):
            if number is not None:
                os.set_inheritable(number, False)  # noqa: FBT003 - it takes no keywords


def main(argv: Sequence[str]) -> int:
    """Be a warm worker until the supervisor ends; `argv` is all after `warm_worker`."""
    folder, without, *numbers = argv
    control, requests, *fifos = map(int, numbers)
    for number in (control, requests, *fifos):
        os.set_inheritable(number, False)  # noqa: FBT003 - it takes no keywords
    keep_from_programs()
    connection = socket.socket(fileno=control)
    server = Server(folder, connection, requests, without.split(",") if without else ())
    for fifo in fifos:
        server.add_slot(fifo)
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing)
    for signum in ENDING:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, lambda *_: server.ask_to_end())
    # Blocked by the supervisor.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    server.selector.register(reading, selectors.EVENT_READ, lambda: os.read(reading, 512))
    server.run()
    # The supervisor would remove it, but may have been killed.
    protocol.remove_folder(folder)
    return 0
