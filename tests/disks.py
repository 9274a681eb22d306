"""Disks that are full or read-only, for processes of their own: values for `preexec_fn`."""

from __future__ import annotations

import ctypes
import pathlib
import resource


def fill_disk() -> None:
    """Let no file of this process grow (setrlimit(2))."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def obey_modes() -> None:
    """Make root, too, obey the modes of directories: drop CAP_DAC_OVERRIDE (capabilities(7))."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def protect(folder: pathlib.Path) -> None:
    """Make a folder and all that is in it read-only."""
    for path in reversed([folder, *folder.rglob("*")]):
        path.chmod(0o500 if path.is_dir() else 0o400)


def unprotect(folder: pathlib.Path) -> None:
    """Make a folder and all that is in it writable."""
    folder.chmod(0o700)
    for path in folder.rglob("*"):
        path.chmod(0o700)
