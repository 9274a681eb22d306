"""A real Slurm of the tests' own: its daemons in a short folder, on the loopback interface only.

It needs no systemd, no cgroups and no privileges. Each node is a slurmd process with a port of its
own. With accounting, it also starts slurmdbd and a MariaDB server (Slurm's documentation, "Quick
Start Administrator Guide" and "Accounting and Resource Limits").
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engines import watchdog

#: Seconds within which a daemon must be up, on a machine however busy.
PATIENCE = 120.0
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ACCOUNTING_PROGRAMS = ("slurmdbd", "mariadbd")
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=60
MessageTimeout=60
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1,\
requeue_setup_env_fail
KillWait=60
CompleteWait=0
MinJobAge={min_job_age}
MaxArraySize={max_array_size}
SlurmdTimeout=120
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{accounting}
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=9
PartitionName=closed Nodes=ALL MaxTime=60 State=DOWN
"""
NODE = "NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs={cpus} "
RESOURCES = "RealMemory=8000 Gres=gpu:2 State=UNKNOWN"
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.sock
"""
DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
CommitDelay=1
"""


class NotUp(Exception):
    """A daemon that did not start, with the end of its log."""


def started(**options: Any) -> Iterator[Slurm]:
    """A cluster that ends with the fixture of a test. Slurm runs on Linux only."""
    if not sys.platform.startswith("linux"):
        pytest.skip("Slurm runs on Linux only")
    cluster = Slurm(**options)
    yield cluster
    cluster.close()


def missing_programs(*, accounting: bool = False) -> list[str]:
    """The programs that are not installed."""
    names = (*PROGRAMS, *(ACCOUNTING_PROGRAMS if accounting else ()))
    return [name for name in names if find(name) is None]


def find(program: str) -> str | None:
    """The path of a program, also outside of the PATH of ordinary users."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Slurm:
    """A cluster with its daemons; `variables` lead Slurm's commands to it.

    - `nodes`: how many there are. `cpus`: of each.
    - `min_job_age`: seconds for which the controller knows a job that has ended.
    - `accounting`: whether it has a database of jobs, which `sacct` reads.
    """

    def __init__(
        self,
        *,
        nodes: int = 2,
        cpus: int = 4,
        max_array_size: int = 1001,
        min_job_age: int = 300,
        accounting: bool = False,
    ) -> None:
        missing = missing_programs(accounting=accounting)
        assert not missing, f"install {', '.join(missing)}, as .ci/run does"
        # Short: it has unix sockets, whose paths can have 107 characters.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))
        self.folder.chmod(0o755)
        self.watchdog = self._start_watchdog()
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.cpus = cpus
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: list[socket.socket] = []
        self._hastened: set[str] = set()
        self.values: dict[str, object] = {
            "folder": self.folder,
            "host": socket.gethostname().partition(".")[0],
            "user": getpass.getuser(),
            "controller_port": self._port(),
            "max_array_size": max_array_size,
            "min_job_age": min_job_age,
            "accounting": "",
            "nodes": "\n".join(self._node(name) for name in self.nodes),
        }
        try:
            self._start(accounting=accounting)
        except BaseException:
            self.close()
            raise

    @property
    def variables(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def version(self) -> tuple[int, ...]:
        """Slurm's version, from `slurm-wlm 22.05.8`."""
        return tuple(map(int, self.call(str(find("slurmctld")), "-V").split()[-1].split(".")[:2]))

    def _node(self, name: str) -> str:
        host = socket.gethostname().partition(".")[0]
        return NODE.format(name=name, host=host, port=self._port(), cpus=self.cpus) + RESOURCES

    def _port(self) -> int:
        """A port that is this cluster's until it is closed."""
        self._ports.append(reserved_port())
        port: int = self._ports[-1].getsockname()[1]
        return port

    def _start(self, *, accounting: bool) -> None:
        (self.folder / "state").mkdir()
        self._start_munge()
        if accounting:
            self._start_accounting()
        self.write("slurm.conf", CONFIG)
        self.write("gres.conf", "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        if self.version >= (23, 2):
            self.write("cgroup.conf", "CgroupPlugin=disabled\n")
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        self.wait_for("the nodes are idle", self._is_idle)

    def _is_idle(self) -> bool:
        """Whether the controller answers, has no jobs, and all nodes are usable."""
        states = self._ask("sinfo", "-h", "-N", "-o", "%T")
        return set(states or ()) == {"idle"} and self._ask("squeue", "-h") == []

    def _ask(self, *words: str) -> list[str] | None:
        """The words that a command prints; None if it failed, as without a controller."""
        done = self._run(*words)
        return done.stdout.split() if done.returncode == 0 else None

    def write(self, name: str, template: str, **values: object) -> None:
        path = self.folder / name
        path.write_text(template.format_map({**self.values, **values}), encoding="utf-8")
        # slurmdbd insists on it.
        path.chmod(0o600)

    def _start_watchdog(self) -> subprocess.Popen[bytes]:
        """Start a process that ends the cluster if this one is killed."""
        return subprocess.Popen(
            [sys.executable, watchdog.__file__, str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        folder = self.folder
        self.daemon(
            "munged",
            *("--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock"),
            *(f"--log-file={folder}/munged.log", f"--pid-file={folder}/munged.pid"),
            *(f"--seed-file={folder}/munged.seed", "--num-threads=4"),
        )
        self.wait_for("munged listens", lambda: is_listening_at(folder / "munge.sock"))

    def _start_accounting(self) -> None:
        port, database_port = self._port(), self._port()
        data = self.folder / "db"
        user = ["--user=root"] if os.geteuid() == 0 else []
        data.mkdir()
        own = ["--no-defaults", f"--datadir={data}", *user]
        self.write("create.sql", "CREATE DATABASE slurm;\n")
        self.daemon(
            "mariadbd",
            *(*own, f"--port={database_port}", "--bind-address=127.0.0.1"),
            *(f"--socket={self.folder}/db.sock", f"--pid-file={self.folder}/db.pid"),
            *(f"--init-file={self.folder}/create.sql", "--innodb-buffer-pool-size=64M"),
            # Without its system tables, which are not needed then, it starts in a second.
            *("--innodb-flush-log-at-trx-commit=0", "--skip-grant-tables"),
        )
        self.wait_for("the database listens", lambda: is_listening(database_port))
        self.write("slurmdbd.conf", DATABASE, port=port, database_port=database_port)
        self.daemon("slurmdbd", "-D")
        self.wait_for("slurmdbd listens", lambda: is_listening(port))
        self.values["accounting"] = ACCOUNTING.format(port=port, folder=self.folder)
        (self.folder / "slurm.conf").touch()
        self.write("slurm.conf", CONFIG)
        name = str(self.values["user"])
        for entity in (["cluster", "tests"], ["account", "lab"], ["user", name, "account=lab"]):
            self.call("sacctmgr", "-i", "add", *entity)

    def start_controller(self) -> None:
        """Start slurmctld, which reads the state that an earlier one saved."""
        self.daemon("slurmctld", "-D", "-i")

    def wait_for_controller(self) -> None:
        """Wait until slurmctld, which was just started, answers."""
        self.wait_for("slurmctld answers", lambda: self._ask("squeue", "-h") is not None)

    def wait_until_answered(self) -> None:
        """Wait until slurmctld has handled all that it was sent, also by commands that are gone."""
        self.wait_for("slurmctld has answered", lambda: not self.has_questions())

    def has_questions(self) -> bool:
        """Whether slurmctld has connections that it has not closed yet."""
        states = connections(int(str(self.values["controller_port"])))
        # ESTABLISHED, and CLOSE_WAIT: the command is gone.
        return not {"01", "08"}.isdisjoint(states)

    def stop(self, program: str) -> None:
        """End a daemon in order."""
        process = self.processes.pop(program)
        process.terminate()
        process.wait(PATIENCE)

    def kill(self, program: str) -> None:
        """Kill a daemon."""
        process = self.processes.pop(program)
        process.kill()
        process.wait()

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node."""
        (self.folder / name).mkdir(exist_ok=True)
        self.daemon("slurmd", "-D", "-N", name, key=name)

    def stop_node(self, name: str) -> None:
        """Kill the slurmd of a node, with the jobs on it, as a power failure would."""
        self.kill(name)
        jobs = self._processes_of_jobs(name)
        # The parents first, or they would report how their jobs ended.
        parents = {parent for pid in jobs if is_slurmstepd(parent := parent_of(pid))}
        for pid in (*parents, *jobs):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _processes_of_jobs(self, node: str) -> list[int]:
        own, variable = watchdog.processes_of(self.folder), f"SLURMD_NODENAME={node}\0".encode()
        return [pid for pid in own if variable in read_process(pid, "environ")]

    def daemon(self, program: str, *words: str, key: str = "") -> None:
        """Start a daemon in the foreground; it ends with `close`."""
        with (self.folder / f"{key or program}.out").open("wb") as output:
            self.processes[key or program] = subprocess.Popen(
                [str(find(program)), *words],
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, event: str, is_so: Callable[[], bool]) -> None:
        """Wait until `is_so`. Raises `NotUp` if a daemon ends, or after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "".join(self._log(name) for name in ended or self.processes)
                raise NotUp(f"{event}: not within {PATIENCE:.0f} s, or {ended} ended\n{logs}")
            time.sleep(0.05)

    def _log(self, name: str) -> str:
        paths = (self.folder / f"{name}.out", self.folder / f"{name}.log")
        texts = [path.read_text(errors="replace")[-2000:] for path in paths if path.exists()]
        return f"--- {name}\n{''.join(texts)}\n"

    def call(self, *words: str, check: bool = True, **env: str) -> str:
        """Run one of Slurm's commands, and return what it prints."""
        done = self._run(*words, **env)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def _run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            env={**os.environ, **self.variables, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def reset(self) -> None:
        """Cancel all jobs, and make all nodes usable again."""
        for node in self.nodes:
            if node not in self.processes:
                self.start_node(node)
        self.wait_for("no jobs, and the nodes are idle", self._is_reset)

    def _is_reset(self) -> bool:
        """Whether there are no jobs, and all nodes are usable; if not, see to it.

        Each time, as the controller may not answer, and a node may not have registered yet.
        """
        if self._is_idle():
            return True
        self._run("scancel", "--user", str(self.values["user"]))
        for node in self.nodes:
            self._run("scontrol", "update", f"nodename={node}", "state=resume")
        return False

    def start_requeued(self) -> None:
        """Let jobs that were requeued start soon, instead of after their credentials expired."""
        for line in self.call("squeue", "-h", "--format=%i|%r").splitlines():
            id_, _, reason = line.partition("|")
            if reason == "BeginTime" and id_ not in self._hastened:
                self._hastened.add(id_)
                # Not in the second of their end: slurmd would take the credential for the old one.
                self._run("scontrol", "update", f"jobid={id_}", "StartTime=now+2")

    def close(self) -> None:
        """End all daemons, and remove the folder."""
        names = list(self.processes)
        for name in reversed(names):
            process = self.processes[name]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # The jobs, too.
        watchdog.end_all(self.folder)
        self.watchdog.communicate()
        for port in self._ports:
            port.close()


def reserved_port() -> socket.socket:
    """A port of the loopback interface for a daemon that is started later.

    Until the socket is closed, Linux gives the port to nobody who asks for any free one, as clients
    that connect do; a daemon that names it, with SO_REUSEADDR, can listen on it.
    """
    port = socket.socket()
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind(("127.0.0.1", 0))
    return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_listening_at(path: pathlib.Path) -> bool:
    """Whether a daemon listens on a unix socket, which exists a moment before it does."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def connections(port: int) -> list[str]:
    """The states of the sockets of a daemon at its port, as in /proc/net/tcp (proc(5))."""
    rows = pathlib.Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return [row.split()[3] for row in rows if row.split()[1].endswith(f":{port:04X}")]


def parent_of(pid: int) -> int:
    """The id of the parent of a process; 0 if it has ended."""
    fields = read_process(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def is_slurmstepd(pid: int) -> bool:
    return read_process(pid, "comm").strip() == b"slurmstepd"


def read_process(pid: int, file: str) -> bytes:
    """What a file of a process in /proc says; nothing if it has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:
        return b""
