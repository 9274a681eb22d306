"""What the client, the warm worker and its preloaders tell each other, and where.

The folder of a warm worker contains:

    requests   a FIFO, to which clients write `SLOT PID`
    0, 1, ...  a FIFO per slot, from which the client that has taken it reads how its target goes
    0.taken    made by the client that takes slot 0, with its PID in it

A client reads these lines. They begin with its own PID, so that it ignores what an earlier client
of the slot did not read. The last one comes twice, in case a signal interrupts its reading:

    PID pid N      the target is process N
    PID exit N     it ended with exit code N
    PID signal N   it was killed by signal N
    PID fresh      start it in a fresh process

All else about a target is in /proc/PID of its client, which has exactly the arguments, environment,
working directory and streams that make gave it.
"""

from __future__ import annotations

import contextlib
import os

from rvrun import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from rvrun.warm.streams import Layout

    #: What a preloader is for: targets with the same imports (`preload.identity`), in the same
    #: working directory, with the same variables (`imported_with`), and the same layout of output.
    Imports: TypeAlias = tuple[str, str, bytes, Layout]

#: The client, in POSIX shell.
CLIENT = os.path.join(os.path.dirname(__file__), "client.sh")
REQUESTS = "requests"
#: The end of the name of the file that marks a slot as taken.
TAKEN = ".taken"
#: The verb of `python -m rvrun` that is a warm worker. Only `supervisor` calls it.
VERB = "warm_worker"
#: How often a warm worker, and each of its preloaders, is asked whether it still works, in seconds.
BEAT_SECONDS = 1.0
#: After so many questions without an answer it is killed.
MISSED_BEATS = 10

#: Variables that differ between targets, but do not matter to what is imported.
_OF_TARGETS = (
    *(b"MAKEFLAGS", b"MAKELEVEL", b"MFLAGS", b"MAKE_TERMOUT", b"MAKE_TERMERR", b"MAKEFILE_PATH"),
    *(b"_", b"PWD", b"OLDPWD", b"SHLVL"),
    *(name.encode() for name in environment.INTERNAL),
)
#: The beginnings of names of variables that a process reads when it starts, or that change how C
#: libraries work, so that it is too late to set them when a target is forked.
_OF_START = (b"PYTHON", b"LD_", b"LC_", b"LANG", b"TZ", b"MALLOC_", b"GLIBC_")


def remove_folder(folder: str) -> None:
    """Remove the folder of a warm worker, if it is still there.

    It is renamed first, so that no client makes a file in it meanwhile.
    """
    removed = f"{folder}.removed"
    with contextlib.suppress(OSError):
        os.rename(folder, removed)
    with contextlib.suppress(OSError):
        for name in os.listdir(removed):
            os.unlink(os.path.join(removed, name))
        os.rmdir(removed)


class Gone(Exception):
    """A client that has ended."""


def read_client(pid: int, name: str) -> bytes:
    """Return the contents of the file /proc/PID/NAME of a client. Raises `Gone`."""
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = b""
            while part := os.read(descriptor, 65536):
                text += part
            return text
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Gone(str(error)) from error


def line(client: int, text: str) -> bytes:
    """Return the line that tells `text` to a client."""
    return f"{client} {text}\n".encode()


def arguments(cmdline: bytes) -> list[str]:
    """Return the arguments of a client from its `cmdline`, without the shell and the script."""
    words = [os.fsdecode(word) for word in cmdline.split(b"\0")[:-1]]
    return words[words.index(CLIENT) + 1 :] if CLIENT in words else []


def variables(environ: bytes) -> list[bytes]:
    """Return the variables of a client, each as `NAME=VALUE`, from its `environ`."""
    return [variable for variable in environ.split(b"\0") if b"=" in variable]


def imported_with(pairs: list[bytes]) -> bytes:
    """Return those variables that imports may read, sorted."""
    return b"\0".join(sorted(pair for pair in pairs if pair.partition(b"=")[0] not in _OF_TARGETS))


def has_log(pairs: list[bytes]) -> bool:
    """Whether variables say that the output of a target goes to a log."""
    values = dict(pair.split(b"=", 1) for pair in pairs)
    return all(values.get(name.encode()) for name in (environment.RUN_DIR, environment.LOGS))


def started_with(pairs: list[bytes]) -> list[bytes]:
    """Return those variables that only take effect when a process starts, sorted."""
    return sorted(pair for pair in pairs if pair.startswith(_OF_START))
