"""Share the GPUs of this machine between the processes of GPU targets: one lock file per slot.

The targets limit themselves, instead of whatever starts them, so the limit also holds under plain
`make -j8` and for several runs at once. The kernel releases the lock of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
import time

from rvrun.errors import RvrunError
from rvrun.rundir.own_files import open_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: How often a waiting process looks for a free slot, in seconds.
POLL_SECONDS = 0.1
#: A line of `nvidia-smi -L`: `GPU 0: NVIDIA A100 (UUID: GPU-5ad9...)`.
_LISTED = re.compile(r"GPU (\d+):.*\(UUID: ([^)]+)\)")


class ForeignLocks(RvrunError):
    """A folder of lock files that another user could change, so that locks in it mean nothing."""

    path: str
    problem: str
    template = (
        "the GPU slots' lock files cannot be in {path}: {problem}; remove it, or name another "
        "folder with RVRUN_LOCAL_GPU_LOCKS"
    )
    fix = "remove {path}, or name another folder with RVRUN_LOCAL_GPU_LOCKS"


def find_gpus() -> list[str]:
    """Return the devices of this machine, as CUDA_VISIBLE_DEVICES names them.

    If CUDA_VISIBLE_DEVICES is set, it is the list, which ends before a negative index, as for CUDA.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(index) for index in range(_count_device_files() or len(_list_gpus()))]
    devices = [device.strip() for device in visible.split(",") if device.strip()]
    ends = [index for index, device in enumerate(devices) if device.startswith("-")]
    return devices[: ends[0]] if ends else devices


def _count_device_files() -> int:
    """Count the GPUs that have a device file: nvidia0, nvidia1, ..."""
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir("/dev") if name.startswith("nvidia")]
        return sum(name.removeprefix("nvidia").isdigit() for name in names)
    return 0


def _list_gpus() -> list[tuple[str, str]]:
    """Return the index and the UUID of the GPUs that nvidia-smi lists; none without it."""
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    done = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)
    matches = map(_LISTED.match, done.stdout.splitlines())
    return [(match[1], match[2]) for match in matches if match]


@contextlib.contextmanager
def slot(
    devices: Sequence[str],
    num_slots: int | None,
    folder: str | None,
    announce: Callable[[str], None],
) -> Iterator[str | None]:
    """Wait for a free slot, hold it, and yield its device; None if there are no devices.

    - `num_slots`: how many targets may use the GPUs concurrently. None: one per device, and no
      limit if there are no devices. Slots are assigned to the devices in turn, so with 4 slots on 2
      devices each device has 2.
    - `folder`: where the lock files are; None for a folder of this user in the temporary directory.
    - `announce`: is called once with what this process waits for, if it has to wait.

    Raises `ForeignLocks`, or `LinkInTheWay`.
    """
    total = num_slots or len(devices)
    if not total:
        yield None
        return
    slots = _deal(devices, total)
    device, descriptor = _wait(folder or own_folder(), slots, announce)
    try:
        yield device
    finally:
        # Not only closed: a process that the target forked and left behind has it open, too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _deal(devices: Sequence[str], total: int) -> list[tuple[str | None, str]]:
    """Return the device and the lock file of each of `total` slots.

    A file is named by its device, so that runs that see other devices, or the same ones in another
    order, share the slots of a device exactly if they share the device.
    """
    names = _canonical_names(devices)
    slots: list[tuple[str | None, str]] = []
    for index in range(total):
        turn = index % max(len(devices), 1)
        device, name = (devices[turn], names[turn]) if devices else (None, "none")
        number = sum(file.rpartition("-")[0] == f"gpu-{name}" for _, file in slots)
        slots.append((device, f"gpu-{name}-{number}"))
    return slots


def _canonical_names(devices: Sequence[str]) -> list[str]:
    """Return a name for each device that does not depend on how CUDA_VISIBLE_DEVICES spells it.

    A GPU may be given by its index, its UUID or a prefix of that. nvidia-smi tells which UUID has
    which index; without it, a device keeps the name that it was given.
    """
    if all(device.isdigit() for device in devices):
        # CUDA numbers GPUs as nvidia-smi does where all are alike, or with
        # CUDA_DEVICE_ORDER=PCI_BUS_ID.
        return [str(int(device)) for device in devices]
    listed = _list_gpus()
    names = []
    for device in devices:
        matches = [index for index, uuid in listed if uuid.startswith(device)]
        name = matches[0] if len(matches) == 1 else device
        names.append(str(int(name)) if name.isdigit() else re.sub(r"[^A-Za-z0-9.-]", "_", name))
    return names


def own_folder() -> str:
    """Create the folder of this user's lock files, which nobody else may change.

    The temporary directory belongs to everybody. Another user could create a folder of that name,
    hold all locks in it, or plant links. Raises `ForeignLocks`.
    """
    folder = os.path.join(tempfile.gettempdir(), f"rvrun-gpu-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise ForeignLocks(folder, "it must be a directory, and not a symbolic link")
    if status.st_uid != os.getuid():
        raise ForeignLocks(folder, f"it must belong to user {os.getuid()}, got {status.st_uid}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        # Earlier versions created it as the umask said.
        os.chmod(folder, 0o700)
    return folder


def _wait(
    folder: str, slots: Sequence[tuple[str | None, str]], announce: Callable[[str], None]
) -> tuple[str | None, int]:
    """Return the device and the locked file of the first slot that is, or becomes, free.

    Waiting polls: `flock` can wait for one file, but not for the first of several.
    """
    os.makedirs(folder, exist_ok=True)
    is_announced = False
    while True:
        for device, file in slots:
            descriptor = _try_lock(os.path.join(folder, file))
            if descriptor is not None:
                return device, descriptor
        if not is_announced:
            announce(f"waiting for a free GPU slot (limit: {len(slots)})")
            is_announced = True
        time.sleep(POLL_SECONDS)


def _try_lock(path: str) -> int | None:
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
