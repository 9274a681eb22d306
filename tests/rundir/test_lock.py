from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from rvrun.rundir.files import UnusableRunDir
from rvrun.rundir.lock import locked

HOLD = """
import pathlib, sys, time
from rvrun.rundir.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.usefixtures("processes")
def test_one_run_at_a_time(tmp_path: pathlib.Path) -> None:
    """The error names the process that holds the lock; when that is dead, the lock is free."""
    folder = tmp_path / "runs"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UnusableRunDir) as caught, locked(folder):
            pass
        holder.kill()
    expected = (
        f"run directory {folder} cannot be used: "
        f"another rvrun (process {holder.pid}) is running in it"
    )
    assert expected == str(caught.value)
    with locked(folder):
        assert f"{os.getpid()}\n" == (folder / ".lock").read_text()


def test_a_lock_is_released(tmp_path: pathlib.Path) -> None:
    """After a run, also a failed one, the next run may start."""
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path), pytest.raises(UnusableRunDir), locked(tmp_path):
        pass


def test_a_file_in_the_way_is_refused(tmp_path: pathlib.Path) -> None:
    """A file where the run directory has to be is reported as such."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(UnusableRunDir) as caught, locked(tmp_path / "runs"):
        pass
    assert f"run directory {tmp_path / 'runs'} cannot be used: it is a file" == str(caught.value)
