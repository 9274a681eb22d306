"""Train on several hosts: this process becomes torchrun, which starts the target on each host.

Only jobs of several hosts import this, and it imports nothing heavy.
"""

from __future__ import annotations

import os
import re
import sys
import time

from rvrun.errors import Problem, RvrunError
from rvrun.inputs import parse_integer
from rvrun.text import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The port on which the first host listens for the others; torchrun's own default.
MASTER_PORT = 29500
#: Seconds that a host's name may take to resolve.
NAME_SECONDS = 600


class BadHosts(Problem):
    """A list of hosts from which a worker cannot determine its rank."""


class NoTorchrun(RvrunError):
    """torchrun, which starts the processes of a training job, is not installed."""

    def __str__(self) -> str:
        return "torchrun is not on PATH; install PyTorch in this image to train on several hosts"


class Hosts:
    """All hosts of a job, in the order of their numbers, and which of them this one is.

    - `interface`: the network interface between them; None if the engine does not name one.

    Raises `BadHosts`.
    """

    def __init__(self, current: str, hosts: Sequence[str], interface: str | None = None) -> None:
        self.current = current
        self.hosts = tuple(sorted(hosts, key=_number))
        self.interface = interface
        names = ", ".join(self.hosts) or "empty"
        if current not in self.hosts:
            raise BadHosts(f"host `{current}` is not in the list of hosts: {names}")
        if len(set(self.hosts)) != len(self.hosts):
            raise BadHosts(f"the list of hosts has duplicates: {names}")

    @property
    def rank(self) -> int:
        return self.hosts.index(self.current)

    @property
    def master(self) -> str:
        return self.hosts[0]


def _number(host: str) -> list[tuple[int, str]]:
    """A sort key in which digits count as numbers, so that `algo-10` comes after `algo-2`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d{1,18})", host)
    ]


def processes(text: str) -> int:
    """Parse `--torchrun`: a number of processes, or `gpu` for one per GPU and at least one."""
    if text == "gpu":
        from rvrun.worker.gpu_slots import find_gpus

        return max(1, len(find_gpus()))
    if not (number := parse_integer(text)):
        raise BadHosts(f"--torchrun must be an integer of at least 1 or `gpu`, got {quoted(text)}")
    return number


def torchrun_argv(
    program: str, hosts: Hosts, num_processes: int, words: Sequence[str]
) -> list[str]:
    """Return torchrun's command line on this host, which runs `rvrun` with `words` per process.

    The flags are spelled with `_`, as every version of torchrun accepts them.
    """
    flags = {
        "nnodes": len(hosts.hosts),
        "node_rank": hosts.rank,
        "nproc_per_node": num_processes,
        "master_addr": hosts.master,
        "master_port": MASTER_PORT,
    }
    options = [f"--{name}={value}" for name, value in flags.items()]
    return [program, *options, "-m", "rvrun", *words]


def run_under_torchrun(processes_per_host: str, hosts: Hosts, words: Sequence[str]) -> None:
    """Replace this process by torchrun, which starts `rvrun` with `words` on each of `hosts`.

    - `processes_per_host`: as `--torchrun` gives it; see `processes`.
    """
    import shutil

    beside = os.path.dirname(sys.executable)
    program = shutil.which("torchrun", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if program is None:
        raise NoTorchrun
    argv = torchrun_argv(program, hosts, processes(processes_per_host), words)
    wait_for_name(hosts.master)
    if hosts.interface:
        for library in ("NCCL", "GLOO"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", hosts.interface)
    print(f"rvrun: {' '.join(argv)}", file=sys.stderr, flush=True)
    os.execv(program, argv)  # noqa: S606 - becoming another program is the point


def wait_for_name(
    name: str,
    *,
    seconds: float = NAME_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    resolve: Callable[[str], object] | None = None,
) -> None:
    """Wait until the host called `name` resolves: hosts do not all start at the same time.

    Says so once on stderr, because the log shows nothing else meanwhile. Raises `BadHosts` after
    `seconds`.
    """
    import socket

    resolve = resolve or socket.gethostbyname
    waited = 0.0
    while True:
        try:
            resolve(name)
        except OSError as error:
            if waited >= seconds:
                raise BadHosts(
                    f"host `{name}` does not resolve after {waited:.0f} s ({error})"
                ) from None
            if not waited:
                print(
                    f"rvrun: waiting for host `{name}` to resolve, at most {seconds:.0f} s "
                    f"({error})",
                    file=sys.stderr,
                    flush=True,
                )
            sleep(1)
            waited += 1
        else:
            return
