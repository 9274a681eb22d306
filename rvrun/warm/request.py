"""What a client asks for, as the warm worker tells a preloader.

Only what differs between the client and the warm worker is part of it. Each page of memory that a
forked process touches is copied, so the warm worker, which forks nothing for a target, does as much
as possible.
"""

from __future__ import annotations

import marshal
import os

from rvrun.warm import processes
from rvrun.warm.protocol import Gone, read_client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: The signals that `processes.INHERITED` lists, as a mask.
INHERITED = sum(1 << (number - 1) for number in processes.INHERITED)
#: How the messages that contain requests begin.
MARK = b"start "


class Request:
    """A request.

    - `slot`, `client`: where the client reads, and its process. `parent`: the client's, make.
    - `arguments`: those of the client: `run_command`, and so on.
    - `variables`: those that the preloader does not have, by name; None for one to be removed.
    - `conditions`: those that the preloader does not have; see `Conditions.differences`.
    - `streams`: the numbers of the standard streams that the preloader does not have.
    - `document`: the saved config that the arguments name; None if it is too long for a message.
    """

    def __init__(
        self,
        slot: str,
        client: int,
        parent: int,
        *,
        arguments: Sequence[str],
        variables: Mapping[str, str | None],
        conditions: Mapping[str, int],
        streams: Sequence[int],
        document: dict[str, Any] | None,
    ) -> None:
        self.slot = slot
        self.client = client
        self.parent = parent
        self.arguments = arguments
        self.variables = variables
        self.conditions = conditions
        self.streams = streams
        self.document = document

    def pack(self) -> bytes:
        """Return a message with this request."""
        return MARK + marshal.dumps(vars(self))

    @classmethod
    def unpack(cls, message: bytes) -> Request:
        """Return the request in a message that `pack` returned."""
        return cls(**marshal.loads(message[len(MARK) :]))  # noqa: S302 - sent by the warm worker


class Conditions:
    """What programs inherit from a process, besides variables and streams, and who its parent is.

    Raises `Gone`.
    """

    def __init__(self, pid: int) -> None:
        status = _fields(read_client(pid, "status"))
        self.parent = int(status[b"PPid"])
        self.umask = int(status[b"Umask"], 8)
        self.ignored = int(status[b"SigIgn"], 16) & INHERITED
        self.blocked = int(status[b"SigBlk"], 16)
        self.cpus = status[b"Cpus_allowed"]
        self.limits = read_client(pid, "limits")
        try:
            self.priority = os.getpriority(os.PRIO_PROCESS, pid)
        except OSError as error:
            raise Gone(str(error)) from error

    def differences(self, other: Conditions) -> dict[str, int]:
        """Return what a process with the conditions `other` has to change to get these.

        The values of `cpus` and `limits` do not matter: they are read from the client.
        """
        changes = {
            name: getattr(self, name)
            for name in ("umask", "ignored", "blocked", "priority")
            if getattr(self, name) != getattr(other, name)
        }
        return changes | {
            name: 1 for name in ("cpus", "limits") if getattr(self, name) != getattr(other, name)
        }


def _fields(status: bytes) -> dict[bytes, bytes]:
    """Return the fields of /proc/PID/status."""
    pairs = (line.partition(b":\t") for line in status.split(b"\n"))
    return {name: value for name, _, value in pairs}


def changed_variables(theirs: Sequence[bytes], ours: Sequence[bytes]) -> dict[str, str | None]:
    """Return the variables that are not among `ours`, and None for those only there, by name."""
    if theirs == ours:
        return {}
    changed: dict[str, str | None] = {_name(pair): None for pair in set(ours).difference(theirs)}
    for pair in set(theirs).difference(ours):
        changed[_name(pair)] = os.fsdecode(pair).partition("=")[2]
    return changed


def _name(pair: bytes) -> str:
    return os.fsdecode(pair).partition("=")[0]
