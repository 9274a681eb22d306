"""The cluster of the tests itself."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.engines.watchdog import processes_of

#: Starts a cluster with a job that runs, prints its folder, and waits.
SCRIPT = """
import time
from tests.engines.slurm import Slurm

cluster = Slurm(nodes=1)
cluster.call("sbatch", "--output=/dev/null", "--wrap", "sleep 600")
cluster.wait_for("the job runs", lambda: "R" in cluster.call("squeue", "-h", "-o", "%t").split())
print(cluster.folder, flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Slurm runs on Linux only")
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
    deadline = time.monotonic() + 30
    while folder.exists() or processes_of(folder):
        assert time.monotonic() < deadline, processes_of(folder)
        time.sleep(0.05)
