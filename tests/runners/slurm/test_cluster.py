"""The cluster of the tests itself."""

from __future__ import annotations

import pathlib
import socket
import struct
import subprocess
import sys
import time

import pytest

from tests.conftest import PATIENCE, ROOT
from tests.engines.slurm import reserved_port
from tests.engines.watchdog import processes_of

#: Starts a cluster with a job that runs, prints its folder, and waits.
SCRIPT = """
import time
from tests.engines.slurm import Slurm

cluster = Slurm(nodes=1)
began = cluster.folder / "began"
cluster.call("sbatch", "--output=/dev/null", "--wrap", f"touch {began}; sleep 600")
cluster.wait_for("the job runs", began.exists)
print(cluster.folder, flush=True)
time.sleep(600)
"""
#: Linux's socket option for the ports that a client may get, which Python does not name.
IP_LOCAL_PORT_RANGE = 51

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Slurm runs on Linux only"
)


@pytest.mark.usefixtures("processes")
@linux_only
def test_a_reserved_port_is_nobody_elses() -> None:
    """No client gets it, not even one that may have no other; a daemon can listen on it, twice."""
    with socket.create_server(("127.0.0.1", 0)) as server, reserved_port() as port:
        address = port.getsockname()
        with client_from(address[1]) as client, pytest.raises(OSError, match="Cannot assign"):
            client.connect(server.getsockname())
        for _ in range(2):
            with socket.create_server(address), socket.create_connection(address):
                pass


def client_from(port: int) -> socket.socket:
    """A client that may have this port only."""
    client = socket.socket()
    try:
        client.setsockopt(
            socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", port << 16 | port)
        )
    except OSError:
        client.close()
        pytest.skip("this needs Linux 6.3 or later")
    return client


@pytest.mark.usefixtures("processes")
@linux_only
def test_nothing_survives_killed_tests() -> None:
    """Neither its daemons nor its jobs."""
    tests = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert tests.stdout is not None
    folder = pathlib.Path(tests.stdout.readline().strip())
    assert len(processes_of(folder)) > 4
    tests.kill()
    tests.communicate()
    deadline = time.monotonic() + PATIENCE
    while folder.exists() or processes_of(folder):
        assert time.monotonic() < deadline, processes_of(folder)
        time.sleep(0.05)
