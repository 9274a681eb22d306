"""Run a program for a target, or become it.

Light on purpose: targets of programs start here. `subprocess` is not imported, and `posix_spawn`
does not copy the memory of a process that has imported large libraries, as `fork` does.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import functools
import os
import sys
import time

from rvrun.errors import FAILED, RvrunError
from rvrun.signals import GRACE_SECONDS, SIGNALLED, name_of
from rvrun.text import shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

#: Exit codes of shells for a program that cannot be run, and for one that does not exist.
CANNOT_RUN, NOT_FOUND = 126, 127
#: The most characters of a command line that a message shows.
MAX_SHOWN = 1000
#: What coreutils' `timeout` ends with.
TIMED_OUT = 124
#: The longest pause between looks at a program that has a time limit, in seconds.
POLL_SECONDS = 0.05
#: How long a program may take to end by itself after Ctrl-C, which it gets too, in seconds.
INTERRUPT_SECONDS = 1.0
#: How long a program with something to remove may take to end after SIGTERM: less than its target
#: has, which removes it after that.
SHORT_GRACE_SECONDS = GRACE_SECONDS / 2
#: How long a removal may take, in seconds.
REMOVAL_SECONDS = 10.0
#: What `docker run` and `podman run` end with if they could not run a container.
NO_CONTAINER = 125
#: Signals that Python ignores, and programs must not.
IGNORED = (_signal.SIGPIPE, _signal.SIGXFSZ)
SHELL = "/bin/sh"
#: Runs a program in another directory: its arguments are the directory and the command line.
IN_DIRECTORY = 'cd -- "$1" && shift && exec "$@"'


class ProgramFailed(RvrunError):
    """A program that ended with an exit code other than 0, which becomes the target's.

    - `command`: its command line. `code`: its exit code, or 128 + N if signal N ended it.
    - `problem`: how it ended, completing the command line.
    """

    command: str
    problem: str
    code: int = FAILED
    sentences = ("problem", "command")
    template = "`{command}` {problem}"

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        return self.code


class Invocation:
    """One call of a program.

    - `environment`: all variables; None for those of this process.
    - `directory`: where it runs; None for the current directory.
    - `timeout`: in seconds; None for no limit. `retries`: how often to repeat it after a failure.
    - `shown`: the command line as a person would type it; empty for `argv`.
    - `leftover`: a command line that removes what an attempt may leave behind; empty for none.
    """

    __slots__ = ("argv", "directory", "environment", "leftover", "retries", "shown", "timeout")

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
        timeout: float | None = None,
        retries: int = 0,
        shown: str = "",
        leftover: Sequence[str] = (),
    ) -> None:
        self.argv = list(argv)
        self.environment = environment
        self.directory = directory
        self.timeout = timeout
        self.retries = retries
        self.shown = shown
        self.leftover = tuple(leftover)

    def __str__(self) -> str:
        """The command line as a person would type it; of a very long one the beginning."""
        return shorten(self.shown or join(self.argv), MAX_SHOWN)

    def run(self) -> None:
        """Run the program until it succeeds, and wait for it. Raises `ProgramFailed`."""
        for attempt in range(1, self.retries + 2):
            try:
                return self._run_once()
            except ProgramFailed as error:
                if attempt > self.retries or error.code in (CANNOT_RUN, NOT_FOUND):
                    raise
                total = self.retries + 1
                print(f"rvrun: {error}; attempt {attempt + 1} of {total}", file=sys.stderr)
        return None

    def _run_once(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        program = self.find()
        argv = self.argv
        if self.directory is not None:
            words = [os.path.abspath(self.directory), program, *argv[1:]]
            program, argv = SHELL, [SHELL, "-c", IN_DIRECTORY, "sh", *words]
        if self.leftover:
            _remove_once(self.leftover)
        try:
            child = os.posix_spawn(program, argv, self._environ(), setsigdef=IGNORED)
        except OSError as error:
            raise self._cannot_run(error) from None
        code = self._wait(child)
        if code is None:
            raise ProgramFailed(str(self), f"did not end within {self.timeout:g} s", TIMED_OUT)
        if code != 0:
            number = code if code > 0 else SIGNALLED - code
            raise ProgramFailed(str(self), self._how(code), number)

    def _wait(self, child: int) -> int | None:
        """Wait for a child, and return its exit code; None if it took too long."""
        if not self.leftover:
            return _wait(child, self.timeout)
        code = None
        try:
            code = _wait(child, self.timeout, SHORT_GRACE_SECONDS)
        finally:
            if code is None or code < 0 or code == NO_CONTAINER:
                _remove(self.leftover)
        return code

    def _how(self, code: int) -> str:
        if self.leftover and code == NO_CONTAINER:
            engine = os.path.basename(self.argv[0])
            return f"could not start in its container; see the message of {engine} above"
        return f"was killed by {name_of(-code)}" if code < 0 else f"ended with exit code {code}"

    def become(self) -> NoReturn:
        """Replace this process by the program. Raises `ProgramFailed` if that is impossible."""
        program = self.find()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in IGNORED:
            _signal.signal(number, _signal.SIG_DFL)
        try:
            if self.directory is not None:
                os.chdir(self.directory)
            os.execve(program, self.argv, self._environ())  # noqa: S606 - no shell is the point
        except OSError as error:
            raise self._cannot_run(error) from None

    def _environ(self) -> Mapping[str, str]:
        return os.environ if self.environment is None else self.environment

    def find(self) -> str:
        """Return the path of the program. Raises `ProgramFailed` with the fix."""
        if self.directory is not None:
            check_directory(self.directory, str(self))
        name = self.argv[0]
        program = find_program(name, self._environ().get("PATH"), self.directory)
        if program is not None:
            return program
        problem = f"there is no program `{name}`" if "/" in name else f"`{name}` is not on the PATH"
        raise ProgramFailed(str(self), f"cannot run: {problem}; {how_to_find(name)}", NOT_FOUND)

    def _cannot_run(self, error: OSError) -> ProgramFailed:
        import errno

        if error.errno == errno.E2BIG:
            problem = "cannot run: its arguments are too long; use `{items_file}`, or more splits"
        elif error.errno == errno.ENOEXEC:
            problem = "cannot run: it is not a program; begin it with a line such as `#!/bin/sh`"
        else:
            problem = f"cannot run: {error.strerror}"
        return ProgramFailed(str(self), problem, CANNOT_RUN)


def how_to_find(name: str) -> str:
    """Return the fix for a program that does not exist, as an imperative."""
    if " " in name.strip():
        return "write each of its arguments as a string of its own"
    return "install it, or correct its name"


def check_directory(directory: str, command: str) -> None:
    """Raise `ProgramFailed` if the directory in which a command runs does not exist."""
    if not os.path.isdir(directory):
        problem = f"cannot run: there is no directory {directory}; create it"
        raise ProgramFailed(command, problem, CANNOT_RUN)


def find_program(name: str, path: str | None = None, directory: str | None = None) -> str | None:
    """Return the path of the program that a command line names; None if there is none.

    - `path`: the folders to search, as in PATH; None for the usual ones.
    - `directory`: where the program will run.
    """
    if "/" in name:
        candidates = [os.path.join(directory or "", name)]
    else:
        folders = (path if path is not None else os.defpath).split(os.pathsep)
        candidates = [os.path.join(folder or os.curdir, name) for folder in folders]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            # Also valid after the directory has changed.
            return candidate if directory is None else os.path.abspath(candidate)
    return None


def _wait(child: int, timeout: float | None, grace: float = GRACE_SECONDS) -> int | None:
    """Wait for a child, and return its exit code; None if it was ended after `timeout` seconds.

    - `grace`: how long it may take to end after SIGTERM, in seconds.
    """
    try:
        if timeout is None:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = _poll(child, timeout)
        if status is None:
            _end(child, grace)
        return None if status is None else os.waitstatus_to_exitcode(status)
    except KeyboardInterrupt:
        # The terminal interrupts the program as well, which may have something to clean up.
        if _poll(child, INTERRUPT_SECONDS) is None:
            _end(child, grace)
        raise
    except BaseException:
        _end(child, grace)
        raise


def _poll(child: int, seconds: float) -> int | None:
    """Wait for a child for some seconds, and return its status; None if it has not ended."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() >= deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 2, POLL_SECONDS)


def _end(child: int, grace: float) -> None:
    """End a child with all that it has started."""
    from rvrun.processes import end_tree

    end_tree(child, grace)


@functools.cache
def _remove_once(argv: tuple[str, ...]) -> None:
    """Remove what another process left behind; this one removes what it leaves itself."""
    _remove(argv)


def _remove(argv: tuple[str, ...]) -> None:
    """Run a command line that removes something, in silence: usually there is nothing."""
    program = find_program(argv[0], os.environ.get("PATH"))
    if program is None:
        return
    streams = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    with contextlib.suppress(OSError):
        # In a process group of its own, so that Ctrl-C does not end it.
        child = os.posix_spawn(program, argv, os.environ, file_actions=streams, setpgroup=0)
        if _poll(child, REMOVAL_SECONDS) is None:
            _end(child, 0.0)


def join(argv: Sequence[str]) -> str:
    """Return a command line as a person would type it in a shell."""
    import shlex

    return shlex.join(argv)
