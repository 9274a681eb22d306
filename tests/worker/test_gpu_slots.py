from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pytest

from rvrun.worker.gpu_slots import _try_lock, find_gpus, slot

HOLD = """
import os, sys, time
from rvrun.worker.gpu_slots import slot
folder, log, total, seconds, *devices = sys.argv[1:]
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with slot(devices, int(total) or None, folder) as device:
    os.write(log, f"+{device}\\n".encode())
    time.sleep(float(seconds))
    os.write(log, f"-{device}\\n".encode())
"""


def hold(
    folder: pathlib.Path, total: int = 0, seconds: float = 60, devices: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a process that holds a slot for `seconds` and writes so to `log`."""
    arguments = [str(folder), str(folder / "log"), str(total), str(seconds), *devices]
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stderr=subprocess.PIPE, text=True
    )


def is_free(folder: pathlib.Path, index: int) -> bool:
    descriptor = _try_lock(str(folder / f"slot-{index}"))
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def wait_for_log(folder: pathlib.Path, process: subprocess.Popen[str]) -> None:
    log = folder / "log"
    while process.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.01)


@pytest.mark.usefixtures("processes")
def test_no_more_than_the_slots_are_held_concurrently(tmp_path: pathlib.Path) -> None:
    """Of 12 processes, at most 3 hold a slot at any time; both devices are used, and all end."""
    processes = [hold(tmp_path, 3, 0.1, ("0", "1")) for _ in range(12)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 12
    events = (tmp_path / "log").read_text().split()
    concurrent = list(itertools.accumulate(1 if event[0] == "+" else -1 for event in events))
    assert len(events) == 24
    assert max(concurrent) <= 3
    assert concurrent[-1] == 0
    assert {"+0", "+1", "-0", "-1"} == set(events)


def test_slots_go_round_the_devices(tmp_path: pathlib.Path) -> None:
    """4 slots on 2 devices are 2 slots on each."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(slot(["a", "b"], 4, str(tmp_path / "locks"))) for _ in range(4)]
        assert held == ["a", "b", "a", "b"]
        assert [is_free(tmp_path / "locks", index) for index in range(4)] == [False] * 4
    assert [is_free(tmp_path / "locks", index) for index in range(4)] == [True] * 4


def test_there_is_a_slot_for_each_device(tmp_path: pathlib.Path) -> None:
    """By default there are as many slots as devices; the first free slot is used."""
    folder = str(tmp_path)
    with slot(["a", "b"], None, folder) as first:
        with slot(["a", "b"], None, folder) as second:
            assert (first, second) == ("a", "b")
        with slot(["a", "b"], None, folder) as second:
            assert second == "b"
    assert sorted(os.listdir(tmp_path)) == ["slot-0", "slot-1"]


def test_fewer_slots_than_devices_leave_some_idle(tmp_path: pathlib.Path) -> None:
    """A number of slots below that of the devices is the limit."""
    with slot(["a", "b"], 1, str(tmp_path)) as device:
        assert device == "a"
        assert not is_free(tmp_path, 0)
        assert not (tmp_path / "slot-1").exists()


@pytest.mark.usefixtures("processes")
def test_without_a_device_there_is_one_slot(tmp_path: pathlib.Path) -> None:
    """On a machine without GPUs, GPU targets run one after the other, without a device."""
    with slot([], None, str(tmp_path)) as device:
        assert device is None
        waiting = hold(tmp_path, 0, 0)
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "rvrun: waiting for a free GPU slot (limit: 1)\n"
        assert (tmp_path / "log").read_text() == ""
    assert (waiting.communicate(timeout=60)[1], waiting.returncode) == ("", 0)
    assert (tmp_path / "log").read_text() == "+None\n-None\n"


@pytest.mark.usefixtures("processes")
def test_a_killed_process_frees_its_slot(tmp_path: pathlib.Path) -> None:
    """The kernel releases the lock, however a process ends."""
    process = hold(tmp_path, 1)
    wait_for_log(tmp_path, process)
    assert not is_free(tmp_path, 0)
    process.kill()
    process.communicate(timeout=60)
    assert is_free(tmp_path, 0)


def test_a_failing_target_frees_its_slot(tmp_path: pathlib.Path) -> None:
    """An exception releases the lock, too."""
    with pytest.raises(KeyError), slot(["a"], 1, str(tmp_path)):
        raise KeyError
    assert is_free(tmp_path, 0)


def test_locks_are_in_a_temporary_folder_of_the_user(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default folder is there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with slot(["a"], None, None):
        assert not is_free(tmp_path / f"rvrun-gpu-{os.getuid()}", 0)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("2,0", ["2", "0"]),
        (" 1 , GPU-8932f937 ,", ["1", "GPU-8932f937"]),
        ("", []),
        (" ", []),
    ],
)
def test_visible_devices_are_the_list(
    visible: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If CUDA_VISIBLE_DEVICES is set, it is the list, in its order; empty means no GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus == find_gpus()


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has GPUs")
@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 'GPU 0: A (UUID: x)'; echo '  MIG 1g'; echo 'GPU 1: B (UUID: y)'", ["0", "1"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
    ],
)
@pytest.mark.usefixtures("processes")
def test_gpus_are_those_that_nvidia_smi_lists(
    script: str, gpus: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without device files, too; without nvidia-smi, there are no GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert gpus == find_gpus()
