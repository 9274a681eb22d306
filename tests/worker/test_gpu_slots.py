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

from rvrun.worker import gpu_slots as gpu

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
    """A process that holds a slot for `seconds` and notes so in `log`."""
    arguments = [str(folder), str(folder / "log"), str(total), str(seconds), *devices]
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stderr=subprocess.PIPE, text=True
    )


def is_free(folder: pathlib.Path, index: int) -> bool:
    descriptor = gpu._try_lock(str(folder / f"slot-{index}"))
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def wait_for_log(folder: pathlib.Path, process: subprocess.Popen[str]) -> None:
    log = folder / "log"
    while process.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.01)


@pytest.mark.usefixtures("processes")
def test_no_more_than_the_slots_are_held_at_once(tmp_path: pathlib.Path) -> None:
    """Of 12 processes at most 3 are in at any time, on both devices, and all have their turn."""
    processes = [hold(tmp_path, 3, 0.1, ("0", "1")) for _ in range(12)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 12
    events = (tmp_path / "log").read_text().split()
    at_once = list(itertools.accumulate(1 if event[0] == "+" else -1 for event in events))
    assert len(events) == 24
    assert max(at_once) <= 3
    assert at_once[-1] == 0
    assert {"+0", "+1", "-0", "-1"} == set(events)


def test_slots_go_round_the_devices(tmp_path: pathlib.Path) -> None:
    """4 slots on 2 devices are 2 on each."""
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(gpu.slot(["a", "b"], 4, str(tmp_path / "locks"))) for _ in range(4)
        ]
        assert held == ["a", "b", "a", "b"]
        assert [is_free(tmp_path / "locks", index) for index in range(4)] == [False] * 4
    assert [is_free(tmp_path / "locks", index) for index in range(4)] == [True] * 4


def test_there_is_a_slot_for_each_device(tmp_path: pathlib.Path) -> None:
    """Where no number is given, it is that of the devices; the first free slot is taken."""
    folder = str(tmp_path)
    with gpu.slot(["a", "b"], None, folder) as first:
        with gpu.slot(["a", "b"], None, folder) as second:
            assert (first, second) == ("a", "b")
        with gpu.slot(["a", "b"], None, folder) as second:
            assert second == "b"
    assert sorted(os.listdir(tmp_path)) == ["slot-0", "slot-1"]


def test_fewer_slots_than_devices_leave_some_idle(tmp_path: pathlib.Path) -> None:
    """The number of slots is the limit, also below that of the devices."""
    with gpu.slot(["a", "b"], 1, str(tmp_path)) as device:
        assert device == "a"
        assert not is_free(tmp_path, 0)
        assert not (tmp_path / "slot-1").exists()


@pytest.mark.usefixtures("processes")
def test_without_a_device_there_is_one_slot(tmp_path: pathlib.Path) -> None:
    """On a machine without GPUs such targets run one after the other, with no device."""
    with gpu.slot([], None, str(tmp_path)) as device:
        assert None is device
        waiting = hold(tmp_path, 0, 0)
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "rvrun: waiting for one of 1 GPU slots\n"
        assert (tmp_path / "log").read_text() == ""
    assert (waiting.communicate(timeout=60)[1], waiting.returncode) == ("", 0)
    assert (tmp_path / "log").read_text() == "+None\n-None\n"


@pytest.mark.usefixtures("processes")
def test_a_killed_process_frees_its_slot(tmp_path: pathlib.Path) -> None:
    """The kernel gives the lock back, however a process ends."""
    process = hold(tmp_path, 1)
    wait_for_log(tmp_path, process)
    assert not is_free(tmp_path, 0)
    process.kill()
    process.communicate(timeout=60)
    assert is_free(tmp_path, 0)


def test_a_failing_target_frees_its_slot(tmp_path: pathlib.Path) -> None:
    """So does an exception."""
    with pytest.raises(KeyError), gpu.slot(["a"], 1, str(tmp_path)):
        raise KeyError
    assert is_free(tmp_path, 0)


def test_locks_are_in_a_temporary_folder_of_the_user(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no folder is given."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with gpu.slot(["a"], None, None):
        assert not is_free(tmp_path / f"rvrun-gpu-{os.getuid()}", 0)


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("2,0", ["2", "0"]),
        (" 1 , GPU-8932f937 ,", ["1", "GPU-8932f937"]),
        ("", []),
        (" ", []),
    ],
)
def test_visible_devices_are_the_list(
    visible: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA_VISIBLE_DEVICES, where set, is respected in its order; empty means none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert found == gpu.find_gpus()


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="real GPUs go before nvidia-smi")
@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'GPU 0: A (UUID: x)'; echo '  MIG 1g'; echo 'GPU 1: B (UUID: y)'", ["0", "1"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
    ],
)
@pytest.mark.usefixtures("processes")
def test_nvidia_smi_is_asked(
    script: str, found: list[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without device files, the GPUs are those nvidia-smi lists; without either there are none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.find_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert found == gpu.find_gpus()
