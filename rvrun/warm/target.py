"""A process that was forked from a preloader: how it becomes a target, and how it ends as one.

It gives up what it has from the preloader, takes over what make gave to the client, and runs the
target as a fresh process does. In the end it does what Python does at the end of a process, except
for the destruction of all modules, which takes longer than a target that does little, and copies
the memory that it shares.
"""

from __future__ import annotations

# The part of `signal` in C, which makes no enums: each page that they touch would be copied.
import _signal  # type: ignore[import-not-found]
import contextlib
import os
import signal
import sys

from rvrun import signals
from rvrun.errors import INTERRUPTED
from rvrun.prctl import end_with
from rvrun.rundir.records import resident_kib
from rvrun.tracebacks import exit_code_of
from rvrun.warm import streams
from rvrun.warm.finalizing import finalizable, finalize
from rvrun.warm.processes import numbers_of, set_environ, take_over_from
from rvrun.worker.target import ENDING, Start
from rvrun.worker.target import main as run_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    from rvrun.pipelines.user_files import State
    from rvrun.warm.capture import Captured
    from rvrun.warm.random_state import RandomStates
    from rvrun.warm.request import Request

#: Signals that are blocked while a process is forked.
INTERRUPTING = (*ENDING, signal.SIGINT)
#: Python's exit code where it cannot write what is left in the buffer of stdout or stderr.
CANNOT_FLUSH = 120


class Imported:
    """What the imports left behind, for the targets.

    - `captured`: what they printed. `handlers`: the handlers of signals that they set.
    - `files`: the files of the user's that were imported.
    - `finalizable`: what they made that must be finalized in the end.
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
        self.finalizable = finalizable()

    def show(self) -> None:
        """Do what imports would do now that others can see."""
        self.captured.replay()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


def become_target(
    request: Request, preloader: int, imported: Imported, decline: Callable[[], None]
) -> NoReturn:
    """Run the target of a request in this process, which was forked from a preloader.

    Call it with the signals `INTERRUPTING` blocked.

    - `decline`: lets the client start the target in a fresh process; is called if this process may
      not take over what the client has, or cannot because the client has ended.
    """
    code = 1
    try:
        end_with(preloader)
        try:
            start = _take_place(request, imported)
        except OSError:
            decline()
            os._exit(code)
        _unblock(request)
        code = _run(request.arguments, start)
    except SystemExit as error:
        # A signal before the target has begun, as in a fresh process.
        code = exit_code_of(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - the preloader's stack is above this frame
        sys.excepthook(type(error), error, error.__traceback__)
    _end(code, imported)


def _take_place(request: Request, imported: Imported) -> Start:
    """Take over everything from the client; return how the target was started."""
    shared_kib = resident_kib()
    if request.variables:
        set_environ(request.variables)
    if request.streams:
        streams.open_those_of(request.client, request.streams)
    # A process of another group may not read from the terminal.
    has_terminal = 0 in request.streams and os.isatty(0)
    _join_group(os.getpgid(request.client) if has_terminal else 0)
    if has_terminal:
        # As when Python starts.
        sys.stdin.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(f"/proc/{request.client}/cwd")
    for number in imported.handlers:
        signal.signal(number, signal.SIG_DFL)
    if request.conditions:
        take_over_from(request.client, request.conditions)
    imported.random_states.renew()
    # `sys.argv[0]` is the same file: this process, too, began as `python -m rvrun`.
    sys.argv[1:] = request.arguments
    sys.orig_argv[4:] = request.arguments
    return Start(request.parent, request.document, imported.show, shared_kib)


def _join_group(group: int) -> None:
    """Join a process group; 0: one of this process's own."""
    try:
        os.setpgid(0, group)
    except PermissionError:
        # The client is in another session, at another terminal.
        os.setpgid(0, 0)


def _unblock(request: Request) -> None:
    """Block the signals that the client blocks, and no others."""
    if "blocked" in request.conditions:
        blocked = numbers_of(request.conditions["blocked"])
        _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)
    else:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, INTERRUPTING)


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
    if not _flush_output():
        code = CANNOT_FLUSH
    finalize(imported.finalizable)
    os._exit(code & 0xFF)


def _flush_output() -> bool:
    """Write what is left in the buffers of stdout and stderr; return whether that was possible."""
    is_written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except BaseException as error:  # noqa: BLE001 - Python, too, only reports these
            is_written = False
            if stream is sys.stdout:
                _report_ignored(error, stream)
    return is_written


def _report_ignored(error: BaseException, where: object) -> None:
    import traceback

    reason = "".join(traceback.format_exception_only(error))
    with contextlib.suppress(Exception):
        print(f"Exception ignored in: {where!r}\n{reason}", end="", file=sys.stderr, flush=True)
