"""The run directory on disk: rendered files written when they change, one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from rvrun import paths
from rvrun.errors import RvrunError


class CannotUse(RvrunError):
    """A directory that cannot be the run directory."""

    def __init__(self, path: pathlib.Path, problem: str) -> None:
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"run directory {self.path} cannot be used: {self.problem}"


def write(folder: pathlib.Path, files: Mapping[str, str], owned: Sequence[str] = ()) -> list[str]:
    """Write those of `files` whose text is new, each at once and whole; gives their paths.

    An unchanged file keeps its time, so make has nothing to do for it. A Makefile that rvrun did
    not write is refused, not replaced. What else is in the `owned` folders is removed.
    """
    if folder.exists() and not folder.is_dir():
        raise CannotUse(folder, "it is a file")
    if (folder / paths.MAKEFILE).exists() and not (folder / paths.PLAN).exists():
        raise CannotUse(folder, "its Makefile was not written by rvrun; name another with --out")
    for path in strangers(folder, files, owned):
        (folder / path).unlink()
    written = [path for path, text in files.items() if _write(folder, path, text)]
    for path in written:
        if path.startswith(f"{paths.CONFIGS}/") and path.count("/") == 1:
            _keep_version(folder, path, files[path])
    return written


def strangers(folder: pathlib.Path, files: Mapping[str, str], owned: Sequence[str]) -> list[str]:
    """The files in the `owned` folders of `folder` that are none of `files`."""
    found = (path for name in owned for path in (folder / name).rglob("*") if path.is_file())
    return sorted({path.relative_to(folder).as_posix() for path in found} - files.keys())


def _keep_version(folder: pathlib.Path, path: str, text: str) -> None:
    """Keep a config as it is from now on, to tell later what changed since a target was done."""
    name = path.removeprefix(f"{paths.CONFIGS}/").removesuffix(".json")
    since = (folder / path).stat().st_mtime_ns
    _write(folder, f"{paths.config_versions(name)}/{since:020}.json", text)


def config_version(folder: pathlib.Path, pipeline: str, time_ns: int) -> str | None:
    """The config of `pipeline` that was in force at `time_ns`; None where none was kept."""
    versions = (folder / paths.config_versions(pipeline)).glob("*.json")
    before = [path for path in versions if int(path.stem) <= time_ns]
    return max(before).read_text(encoding="utf-8") if before else None


def is_current(folder: pathlib.Path, path: str, text: str) -> bool:
    """Whether the file at `path` in `folder` holds `text`."""
    try:
        return (folder / path).read_bytes() == text.encode()
    except (FileNotFoundError, NotADirectoryError):
        return False


def _write(folder: pathlib.Path, path: str, text: str) -> bool:
    file = folder / path
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if is_current(folder, path, text):
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(text.encode())
        new.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise CannotUse(folder, f"{error.strerror}: {error.filename or path}") from None
    return True


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Hold the run directory; `CannotUse` where another run of rvrun holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / paths.LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        problem = "it is a file" if folder.is_file() else str(error.strerror)
        raise CannotUse(folder, problem) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise CannotUse(folder, f"another rvrun (process {holder}) is running in it") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
