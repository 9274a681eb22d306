from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

import pytest

from rvrun.rundir.own_files import LinkInTheWay
from rvrun.worker.gpu_slots import ForeignLocks, _try_lock, find_gpus, slot

HOLD = """
import os, pathlib, sys, time
from rvrun.worker.gpu_slots import slot
folder, path, total, seconds, *devices = sys.argv[1:]
log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def announce(text):
    print(text, file=sys.stderr, flush=True)
with slot(devices, int(total) or None, folder, announce) as device:
    os.write(log, f"+{device}\\n".encode())
    # Else each process could end before the next one begins.
    while not all(f"+{name}" in pathlib.Path(path).read_text() for name in devices):
        time.sleep(0.01)
    time.sleep(float(seconds))
    os.write(log, f"-{device}\\n".encode())
"""


def hold(
    folder: pathlib.Path, total: int = 0, seconds: float = 60, devices: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a process that holds a slot for `seconds` and writes so to `log`.

    It also holds the slot until all devices have been used.
    """
    arguments = [str(folder), str(folder / "log"), str(total), str(seconds), *devices]
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stderr=subprocess.PIPE, text=True
    )


def take(
    devices: Sequence[str], num_slots: int | None, folder: pathlib.Path | None
) -> AbstractContextManager[str | None]:
    """Take a slot that is free: a wait fails the test."""
    return slot(devices, num_slots, None if folder is None else str(folder), pytest.fail)


def is_free(folder: pathlib.Path, name: str) -> bool:
    descriptor = _try_lock(str(folder / f"gpu-{name}"))
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
    locks = tmp_path / "locks"
    names = ["a-0", "b-0", "a-1", "b-1"]
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(take(["a", "b"], 4, locks)) for _ in range(4)]
        assert held == ["a", "b", "a", "b"]
        assert [is_free(locks, name) for name in names] == [False] * 4
    assert [is_free(locks, name) for name in names] == [True] * 4


def test_there_is_a_slot_for_each_device(tmp_path: pathlib.Path) -> None:
    """By default there are as many slots as devices; the first free slot is used."""
    with take(["a", "b"], None, tmp_path) as first:
        with take(["a", "b"], None, tmp_path) as second:
            assert (first, second) == ("a", "b")
        with take(["a", "b"], None, tmp_path) as second:
            assert second == "b"
    assert sorted(os.listdir(tmp_path)) == ["gpu-a-0", "gpu-b-0"]


def test_fewer_slots_than_devices_leave_some_idle(tmp_path: pathlib.Path) -> None:
    """A number of slots below that of the devices is the limit."""
    with take(["a", "b"], 1, tmp_path) as device:
        assert device == "a"
        assert not is_free(tmp_path, "a-0")
        assert not (tmp_path / "gpu-b-0").exists()


def test_runs_that_see_other_devices_do_not_wait_for_each_other(tmp_path: pathlib.Path) -> None:
    """With CUDA_VISIBLE_DEVICES=0 in one run and 1 in the other, both get a slot."""
    with take(["0"], None, tmp_path) as first, take(["1"], None, tmp_path) as second:
        assert (first, second) == ("0", "1")


def test_runs_that_see_a_device_share_its_slot(tmp_path: pathlib.Path) -> None:
    """A run that sees 1, and one that sees 0 and 1, never use GPU 1 together."""
    with take(["1"], None, tmp_path), take(["1", "0"], None, tmp_path) as second:
        assert second == "0"
    with take(["01"], None, tmp_path), take(["1", "0"], None, tmp_path) as second:
        assert second == "0"


@pytest.mark.usefixtures("processes")
def test_a_uuid_and_its_index_are_one_device(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nvidia-smi tells which UUID has which index; a unique beginning of a UUID is enough."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: GPU-5ad9-1)'; echo 'GPU 1: A (UUID: GPU-77aa-2)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("GPU-77aa-2", "GPU-77"):
        with take(["1"], None, tmp_path), take([name, "0"], None, tmp_path) as second:
            assert second == "0"
    with take(["0", "1"], None, tmp_path), take(["MIG-GPU-77aa-2/1/0"], None, tmp_path) as mig:
        assert mig == "MIG-GPU-77aa-2/1/0"


@pytest.mark.usefixtures("processes")
def test_without_a_device_there_is_no_limit(tmp_path: pathlib.Path) -> None:
    """On a machine without GPUs nothing is shared, so nobody waits, and nothing is locked."""
    with take([], None, tmp_path) as first, take([], None, tmp_path) as second:
        assert (first, second) == (None, None)
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("processes")
def test_a_limit_holds_without_a_device(tmp_path: pathlib.Path) -> None:
    """An explicit number of slots applies to machines without GPUs; a waiting process says so."""
    with take([], 1, tmp_path) as device:
        assert device is None
        waiting = hold(tmp_path, 1, 0)
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "waiting for a free GPU slot (limit: 1)\n"
        assert (tmp_path / "log").read_text() == ""
    assert (waiting.communicate(timeout=60)[1], waiting.returncode) == ("", 0)
    assert (tmp_path / "log").read_text() == "+None\n-None\n"


@pytest.mark.usefixtures("processes")
def test_a_killed_process_frees_its_slot(tmp_path: pathlib.Path) -> None:
    """The kernel releases the lock, however a process ends."""
    process = hold(tmp_path, 1, 60, ("0",))
    wait_for_log(tmp_path, process)
    assert not is_free(tmp_path, "0-0")
    process.kill()
    process.communicate(timeout=60)
    assert is_free(tmp_path, "0-0")


@pytest.mark.usefixtures("processes")
def test_what_a_target_leaves_behind_holds_no_slot(tmp_path: pathlib.Path) -> None:
    """A process that was forked with the slot's file open does not hold the slot for ever."""
    reading, writing = os.pipe()
    with take(["a"], 1, tmp_path):
        left = os.fork()
        if left == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    os.close(reading)
    assert is_free(tmp_path, "a-0")
    os.close(writing)
    os.waitpid(left, 0)


def test_a_failing_target_frees_its_slot(tmp_path: pathlib.Path) -> None:
    """An exception releases the lock, too."""
    with pytest.raises(KeyError), take(["a"], 1, tmp_path):
        raise KeyError
    assert is_free(tmp_path, "a-0")


@pytest.fixture
def temporary(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Make `tmp_path` the temporary directory; return the default folder of locks in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"rvrun-gpu-{os.getuid()}"


def test_locks_are_in_a_temporary_folder_of_the_user(temporary: pathlib.Path) -> None:
    """By default they are in a folder that only this user may enter, also if it existed before."""
    for _ in range(2):
        with take(["a"], None, None):
            assert not is_free(temporary, "a-0")
        assert temporary.stat().st_mode & 0o777 == 0o700
        temporary.chmod(0o755)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(temporary: pathlib.Path) -> None:
    """Another user could hold all locks in it, or plant links."""
    temporary.mkdir()
    os.chown(temporary, 12345, -1)
    with pytest.raises(ForeignLocks) as caught, take(["a"], None, None):
        pass
    assert str(caught.value) == (
        f"the GPU slots' lock files cannot be in {temporary}: it must belong to user 0, got 12345; "
        "remove it, or name another folder with RVRUN_LOCAL_GPU_LOCKS"
    )


def test_a_link_in_the_place_of_the_folder_is_refused(temporary: pathlib.Path) -> None:
    """Its locks would be in a folder of someone else's choice."""
    temporary.symlink_to(temporary.parent)
    with pytest.raises(ForeignLocks, match="must be a directory, and not a symbolic link"):
        take(["a"], None, None).__enter__()


def test_a_link_in_the_place_of_a_lock_is_refused(tmp_path: pathlib.Path) -> None:
    """In a folder that several users share, one could lead to a file of another."""
    victim = tmp_path / "victim"
    (tmp_path / "gpu-a-0").symlink_to(victim)
    with pytest.raises(LinkInTheWay, match="must be a regular file, got a symbolic link"):
        take(["a"], None, tmp_path).__enter__()
    assert not victim.exists()


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("2,0", ["2", "0"]),
        (" 1 , GPU-8932f937 ,", ["1", "GPU-8932f937"]),
        ("", []),
        (" ", []),
        ("-1", []),
        ("1,-1,0", ["1"]),
    ],
)
def test_visible_devices_are_the_list(
    visible: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If CUDA_VISIBLE_DEVICES is set, it is the list, in its order; empty or -1 means no GPU."""
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
