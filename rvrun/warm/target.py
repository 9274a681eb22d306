"""A process that was forked from a preloader: how it becomes a target, and how it ends as one.

It gives up what it has from the preloader, takes over what make gave to the client, and runs the
target as a fresh process does. In the end it does what Python does at the end of a process, except
for the destruction of all modules, which takes longer than a target that does little, and copies
the memory that it shares.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import weakref

from rvrun import signals
from rvrun.rundir.records import resident_kib
from rvrun.warm import protocol, streams
from rvrun.warm.processes import take_over_from
from rvrun.worker.prctl import end_with
from rvrun.worker.target import ENDING, Start
from rvrun.worker.target import main as run_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from rvrun.pipelines.user_files import State
    from rvrun.warm.capture import Captured
    from rvrun.warm.random_state import RandomStates

#: Signals that are blocked while a process is forked.
INTERRUPTING = (*ENDING, signal.SIGINT)
#: Python's exit code where it cannot write what is left in the buffer of stdout or stderr.
CANNOT_FLUSH = 120


class Imported:
    """What the imports left behind, for the targets.

    - `captured`: what they printed. `handlers`: the handlers of signals that they set.
    - `files`: the files of the user's that were imported. `open_files`: what they left open.
    """

    def __init__(
        self,
        captured: Captured,
        handlers: Mapping[int, Any],
        random_states: RandomStates,
        files: Mapping[str, State],
    ) -> None:
        self.captured = captured
        self.handlers = handlers
        self.random_states = random_states
        self.files = files
        self.open_files = [weakref.ref(file) for file in _open_files()]

    def show(self) -> None:
        """Do what imports would do now that others can see."""
        self.captured.replay()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def become_target(
    client: int, preloader: int, own: Sequence[tuple[int, int]], imported: Imported
) -> NoReturn:
    """Run the target of process `client` in this process, which was forked from a preloader.

    Call it with the signals `INTERRUPTING` blocked. `own`: this process's streams.
    """
    code = 1
    try:
        end_with(preloader)
        arguments, start = _take_place(client, own, imported)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTING)
        code = _run(arguments, start)
    except protocol.Gone as error:
        # Nobody reads that, unless the client lives, and something else is wrong.
        print(f"rvrun: process {client} cannot be taken over from: {error}", file=sys.stderr)
    except BaseException as error:  # noqa: BLE001 - the preloader's stack is above this frame
        sys.excepthook(type(error), error, error.__traceback__)
    _end(code, imported)


def _take_place(
    client: int, own: Sequence[tuple[int, int]], imported: Imported
) -> tuple[list[str], Start]:
    """Take over everything from the client; return its arguments, and how it was started."""
    shared_kib = resident_kib()
    pairs = protocol.variables(protocol.read_client(client, "environ"))
    arguments = protocol.arguments(protocol.read_client(client, "cmdline"))
    split = (os.fsdecode(pair).partition("=") for pair in pairs)
    set_environ({name: value for name, _, value in split})
    try:
        streams.open_those_of(client, own)
        # A process of another group may not read from the terminal.
        os.setpgid(0, os.getpgid(client) if os.isatty(0) else 0)
        make = int(protocol.read_client(client, "stat").rpartition(b")")[2].split()[1])
    except (OSError, IndexError) as error:
        raise protocol.Gone(str(error)) from error
    for number in INTERRUPTING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    take_over_from(client)
    signals.end_on_interrupt()
    imported.random_states.renew()
    # `sys.argv[0]` is the same file: this process, too, began as `python -m rvrun`.
    sys.argv[1:] = arguments
    sys.orig_argv[4:] = arguments
    return arguments, Start(make, imported.show, shared_kib)


def set_environ(variables: Mapping[str, str]) -> None:
    """Make `variables` the environment of this process."""
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _run(arguments: Sequence[str], start: Start) -> int:
    code = run_command(arguments[1:], start)
    if code is None:
        # The command line has to parse it.
        program = [sys.executable, "-P", "-m", "rvrun"]
        os.execv(sys.executable, [*program, *arguments])  # noqa: S606 - this process becomes it
    # As in `rvrun.__main__`.
    signals.end_on_interrupt()
    return code


def _end(code: int, imported: Imported) -> NoReturn:
    """End this process with an exit code, as Python ends one."""
    import atexit

    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()  # noqa: SLF001 - as Python itself calls it
    atexit._run_exitfuncs()  # noqa: SLF001
    _finalize()
    for reference in imported.open_files:
        file = reference()
        if file is not None:
            _flush(file)
    if not all([_flush(sys.stdout), _flush(sys.stderr)]):
        code = CANNOT_FLUSH
    os._exit(code & 0xFF)


def _finalize() -> None:
    """Finalize the objects that exist in the end, as their destruction would.

    What was there before the fork is frozen, and not in the list.
    """
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, io.IOBase):
            _flush(thing)
        elif hasattr(kind, "__del__"):
            try:
                kind.__del__(thing)
            except BaseException as error:  # noqa: BLE001 - Python, too, only reports these
                sys.excepthook(type(error), error, error.__traceback__)


def _open_files() -> list[io.IOBase]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), io.IOBase)]


def _flush(file: Any) -> bool:
    """Write what is left in the buffer of a file, and return whether that was possible."""
    try:
        if not file.closed:
            file.flush()
    except (OSError, ValueError):
        return False
    return True
