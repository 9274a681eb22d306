"""The machine's GPUs, shared by the processes of its GPU targets: one lock file a slot.

The limit lives here and not in what starts the processes, so it holds under plain `make -j8` and
for several runs at once. The kernel frees the lock of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: How often a waiting process looks for a free slot, in seconds.
POLL_SECONDS = 0.1


def find_gpus() -> list[str]:
    """The devices of this machine as CUDA_VISIBLE_DEVICES names them; none where none is found.

    A CUDA_VISIBLE_DEVICES that is set already is the list.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip()]
    return [str(index) for index in range(_count_devices())]


def _count_devices() -> int:
    """The GPUs whose device file (nvidia0, nvidia1, …) is there, else those nvidia-smi lists."""
    with contextlib.suppress(OSError):
        files = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
        if found := sum(name.removeprefix("nvidia").isdigit() for name in files):
            return found
    return _count_listed()


def _count_listed() -> int:
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


@contextlib.contextmanager
def slot(devices: Sequence[str], num_slots: int | None, folder: str | None) -> Iterator[str | None]:
    """Hold one of the machine's slots, waiting for one to be free; gives the device of it.

    - `num_slots`: how many targets may use the GPUs at once, all together; None: one a device.
      Slots go round the devices, so 4 slots on 2 devices are 2 on each.
    - `folder`: where the lock files are; None: one of this user in the temporary directory.

    Gives None, and still waits its turn, where there is no device.
    """
    total = num_slots or max(len(devices), 1)
    folder = folder or os.path.join(tempfile.gettempdir(), f"rvrun-gpu-{os.getuid()}")
    os.makedirs(folder, exist_ok=True)
    index, descriptor = _wait(folder, total)
    try:
        yield devices[index % len(devices)] if devices else None
    finally:
        os.close(descriptor)


def _wait(folder: str, total: int) -> tuple[int, int]:
    """The index and the open lock file of the first slot that is, or becomes, free."""
    told = False
    while True:
        for index in range(total):
            descriptor = _try_lock(os.path.join(folder, f"slot-{index}"))
            if descriptor is not None:
                return index, descriptor
        if not told:
            print(f"rvrun: waiting for one of {total} GPU slots", file=sys.stderr, flush=True)
            told = True
        time.sleep(POLL_SECONDS)


def _try_lock(path: str) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
