"""Share the GPUs of this machine between the processes of GPU targets: one lock file per slot.

The targets limit themselves, instead of whatever starts them, so the limit also holds under plain
`make -j8` and for several runs at once. The kernel releases the lock of a process that dies.
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
    """Return the devices of this machine, as CUDA_VISIBLE_DEVICES names them.

    If CUDA_VISIBLE_DEVICES is set, it is the list.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip()]
    return [str(index) for index in range(_count_device_files() or _count_listed())]


def _count_device_files() -> int:
    """Count the GPUs that have a device file: nvidia0, nvidia1, ..."""
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
        return sum(name.removeprefix("nvidia").isdigit() for name in names)
    return 0


def _count_listed() -> int:
    """Count the GPUs that nvidia-smi lists."""
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


@contextlib.contextmanager
def slot(devices: Sequence[str], num_slots: int | None, folder: str | None) -> Iterator[str | None]:
    """Wait for a free slot, hold it, and yield its device; None if there are no devices.

    - `num_slots`: how many targets may use the GPUs concurrently. None: one per device, or one if
      there are no devices. Slots are assigned to the devices in turn, so with 4 slots on 2 devices
      each device has 2.
    - `folder`: where the lock files are; None for a folder of this user in the temporary directory.
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
    """Return the index and the locked file of the first slot that is, or becomes, free.

    Waiting polls: `flock` can wait for one file, but not for the first of several.
    """
    is_announced = False
    while True:
        for index in range(total):
            descriptor = _try_lock(os.path.join(folder, f"slot-{index}"))
            if descriptor is not None:
                return index, descriptor
        if not is_announced:
            message = f"rvrun: waiting for a free GPU slot (limit: {total})"
            print(message, file=sys.stderr, flush=True)
            is_announced = True
        time.sleep(POLL_SECONDS)


def _try_lock(path: str) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
