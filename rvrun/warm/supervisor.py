"""Starts a warm worker for the targets of a make, watches it, and stops it.

The folder and its FIFOs exist, and are open, before the warm worker runs, so that make can start at
once: a client that comes early waits.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from rvrun.environment import PYTHON, WARM
from rvrun.inputs import from_os_error
from rvrun.prctl import end_with
from rvrun.render.quote import for_make
from rvrun.warm import protocol

#: The least and the greatest number of slots at first. More are made when they are needed.
FIRST_SLOTS = (32, 256)
#: How long a warm worker may take to end its targets and itself, in seconds; then it is killed.
END_SECONDS = 8.0


class WarmWorker:
    """A warm worker as seen by the process that started it.

    - `note`: receives a sentence on why targets start in fresh processes, and whether the reason is
      harmless, so that it need not be shown.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        folder: str,
        note: Callable[[str, bool], None],
    ) -> None:
        self.process = process
        self.folder = folder
        self._control = control
        self._note = note
        self._unanswered = 0
        self._is_over = False

    @property
    def variables(self) -> dict[str, str]:
        """The variables with which Makefiles use this warm worker."""
        return {
            # make expands variables from the environment, too.
            "RVRUN": for_make(shlex.join(["/bin/sh", protocol.CLIENT])),
            WARM: self.folder,
            PYTHON: sys.executable,
        }

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to `read`; for selectors."""
        return self._control.fileno()

    def read(self) -> None:
        """Read what the warm worker says, without waiting."""
        while not self._is_over:
            try:
                message = self._control.recv(65536, socket.MSG_DONTWAIT).decode()
            except BlockingIOError:
                return
            except OSError:
                message = ""
            kind, _, text = message.partition(" ")
            if kind == "alive":
                self._unanswered = 0
            elif text:
                self._note(text, kind == "harmless")
            else:
                self._is_over = True
                self._note("targets start in fresh processes: the warm worker has ended", False)  # noqa: FBT003

    def beat(self) -> None:
        """Ask whether the warm worker works, and kill it if it has not answered for long.

        Call it every `protocol.BEAT_SECONDS`.
        """
        self.read()
        if self._is_over:
            return
        if self._unanswered >= protocol.MISSED_BEATS:
            self.process.kill()
        self._unanswered += 1
        with contextlib.suppress(OSError):
            self._control.send(b"alive", socket.MSG_DONTWAIT)

    def stop(self) -> None:
        """Stop the warm worker, and with it all targets that still run."""
        self._is_over = True
        self._control.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def is_possible() -> bool:
    """Whether this system has what warm workers need, which is Linux."""
    return sys.platform.startswith("linux") and os.path.isdir("/proc/self/fd")


@contextlib.contextmanager
def warm_worker(
    note: Callable[[str, bool], None],
    *,
    without: Sequence[str] = (),
    jobs: int = 0,
    inherited: Sequence[int] = (),
    output: int | None = None,
) -> Iterator[WarmWorker | None]:
    """Start a warm worker, and stop it when the context ends; None, after a note, if that fails.

    - `note`: as in `WarmWorker`. `without`: the modules that must not be imported before a fork.
    - `jobs`: how many targets run in parallel, if that is known.
    - `inherited`: descriptors that targets inherit. `output`: that of the file for what the warm
      worker prints; None for stderr.
    """
    least, most = FIRST_SLOTS
    slots = min(max(least, 2 * jobs), most)
    with contextlib.ExitStack() as stack:
        try:
            folder = tempfile.mkdtemp(prefix="rvrun-warm-")
            stack.callback(protocol.remove_folder, folder)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours)
            with theirs:
                process = _start(
                    folder,
                    theirs,
                    without=without,
                    slots=slots,
                    inherited=inherited,
                    output=output,
                )
        except OSError as error:
            # Such as a full disk, or a folder for temporary files where no FIFO can be.
            why = f"a warm worker cannot be started: {from_os_error(error)}"
            note(f"targets start in fresh processes: {why}", False)  # noqa: FBT003
            yield None
            return
        worker = WarmWorker(process, ours, folder, note)
        stack.callback(worker.stop)
        yield worker


def _start(
    folder: str,
    control: socket.socket,
    *,
    without: Sequence[str],
    slots: int,
    inherited: Sequence[int],
    output: int | None,
) -> subprocess.Popen[bytes]:
    """Make the FIFOs in `folder`, and start the process that holds them open."""
    fifos: list[int] = []
    parent = os.getpid()

    def prepare() -> None:
        # Until it has a handler, which removes the folder.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        end_with(parent)

    try:
        for name in (protocol.REQUESTS, *map(str, range(slots))):
            path = os.path.join(folder, name)
            os.mkfifo(path, 0o600)
            fifos.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        files = (control.fileno(), *fifos)
        words = [protocol.VERB, folder, ",".join(without), *map(str, files)]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "rvrun", *words],
            stdin=subprocess.DEVNULL,
            stdout=2 if output is None else output,
            stderr=output,
            pass_fds=(*files, *inherited),
            process_group=0,
            preexec_fn=prepare,  # noqa: PLW1509 - no other thread runs yet
        )
    finally:
        for fifo in fifos:
            os.close(fifo)
