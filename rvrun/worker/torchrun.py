"""The instances of a SageMaker job, as each of them is told: which splits they are, and how they
train together under torchrun.

Only the workers of such jobs import this, and nothing heavy comes with it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time

from rvrun.errors import RvrunError
from rvrun.worker.split_index import RESOURCE_CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The file that lists the instances; of a processing job, and of a training job.
RESOURCE_CONFIGS = (
    "/opt/ml/config/resourceconfig.json",
    "/opt/ml/input/config/resourceconfig.json",
)
#: Where the first host listens for the others; torchrun's own default.
MASTER_PORT = 29500
#: How long a host's name may take to become known to the others, in seconds.
NAME_SECONDS = 600


class BadHosts(RvrunError):
    """A list of hosts that does not say what a worker has to know."""


class NoTorchrun(RvrunError):
    """There is no torchrun to start the processes of a training job."""

    def __str__(self) -> str:
        return "torchrun is not on PATH; this image needs PyTorch to train on several instances"


class Hosts:
    """All hosts of a job, in the order of their numbers, and which of them this one is.

    `interface` is the network interface between them, where that is told.
    """

    def __init__(self, current: str, hosts: Sequence[str], interface: str | None = None) -> None:
        self.current = current
        self.hosts = tuple(sorted(hosts, key=_number))
        self.interface = interface
        if current not in self.hosts:
            raise BadHosts(f"host `{current}` is none of {', '.join(self.hosts) or 'no hosts'}")
        if len(set(self.hosts)) != len(self.hosts):
            raise BadHosts(f"a host is there twice: {', '.join(self.hosts)}")

    @property
    def rank(self) -> int:
        return self.hosts.index(self.current)

    @property
    def master(self) -> str:
        return self.hosts[0]


def _number(host: str) -> list[tuple[int, str]]:
    """What hosts are sorted by: digits count as numbers, so `algo-10` comes after `algo-2`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", host)
    ]


def read_hosts(environment: Mapping[str, str]) -> Hosts:
    """The hosts of this job. Raises `BadHosts` where that cannot be known."""
    given = environment.get(RESOURCE_CONFIG)
    paths = (given,) if given else RESOURCE_CONFIGS
    path = next((path for path in paths if os.path.exists(path)), None)
    if path is None:
        raise BadHosts(f"no list of this job's instances at {' or '.join(paths)}")
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        current, hosts = values["current_host"], values["hosts"]
        return Hosts(
            str(current), [str(host) for host in hosts], values.get("network_interface_name")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadHosts(f"{path} does not list this job's instances ({error!r})") from None


def processes(said: str) -> int:
    """How many processes `--torchrun` says: a number, or `gpu` for one a GPU and at least one."""
    if said == "gpu":
        from rvrun.worker.gpu_slots import find_gpus

        return max(1, len(find_gpus()))
    if not (said.isascii() and said.isdigit() and int(said) > 0):
        raise BadHosts(f"--torchrun {said}: give a number of at least 1, or gpu")
    return int(said)


def torchrun_argv(
    program: str, hosts: Hosts, num_processes: int, words: Sequence[str]
) -> list[str]:
    """The command line of torchrun on this host, which runs `rvrun` with `words` in each process.

    Its flags are spelled as every version of it reads them.
    """
    flags = {
        "nnodes": len(hosts.hosts),
        "node_rank": hosts.rank,
        "nproc_per_node": num_processes,
        "master_addr": hosts.master,
        "master_port": MASTER_PORT,
    }
    return [program, *(f"--{name}={value}" for name, value in flags.items()), "-m", "rvrun", *words]


def run_under_torchrun(said: str, words: Sequence[str]) -> None:
    """Become torchrun, which starts `rvrun` with `words` on each of the hosts alike.

    - `said`: how many processes on each, as `--torchrun` has it.
    """
    import shutil

    beside = os.path.dirname(sys.executable)
    program = shutil.which("torchrun", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if program is None:
        raise NoTorchrun
    hosts = read_hosts(os.environ)
    argv = torchrun_argv(program, hosts, processes(said), words)
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
    """Return when the host called `name` is known: instances do not all start at once."""
    import socket

    resolve = resolve or socket.gethostbyname
    waited = 0.0
    while True:
        try:
            resolve(name)
        except OSError as error:
            if waited >= seconds:
                raise BadHosts(
                    f"host `{name}` is not known after {waited:.0f} s ({error})"
                ) from None
            sleep(1)
            waited += 1
        else:
            return
