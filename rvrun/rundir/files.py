"""Write rendered files into a run directory, replacing only those whose text changed."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from rvrun import item_list, paths
from rvrun.code import fingerprint as code
from rvrun.data import fingerprint as data
from rvrun.errors import RvrunError
from rvrun.rundir.fingerprints import FingerprintTimes, is_reordered, read_text
from rvrun.rundir.roots import check_same_roots
from rvrun.text import shorten

#: Digits of a time in the name of a copy of a config, so that names sort by time.
TIME_DIGITS = 20
#: What compares the texts of files of which not everything counts, by their folder.
_IS_SAME = {
    paths.CODE: code.is_same,
    paths.INPUTS: data.is_same,
    paths.ITEMS: item_list.is_same,
}


class UnusableRunDir(RvrunError):
    """A directory that cannot be used as the run directory."""

    path: pathlib.Path
    problem: str
    template = "run directory {path} cannot be used: {problem}"
    fix = "choose another directory with --out"


class OtherRunner(RvrunError):
    """A run directory in which another runner has files or stamps that would no longer match."""

    out: str
    other: str
    suggestion: str
    template = (
        "run directory {out} belongs to runner `{other}`, whose files in it would no longer match "
        "its configs; choose another directory with --out {suggestion}"
    )
    fix = "add --out {suggestion}, or remove {out} if you do not need it any more"


def write(folder: pathlib.Path, files: Mapping[str, str], owned: Sequence[str] = ()) -> list[str]:
    """Write those of `files` whose text changed, and return their paths.

    - `files`: text by path in `folder`.
    - `owned`: folders that belong to the rendered files; other files in them are removed.

    Raises `UnusableRunDir`, also if `folder` has a Makefile that rvrun did not write, and
    `OtherRoot` if its stamps are for another root.
    """
    if folder.exists() and not folder.is_dir():
        raise UnusableRunDir(folder, "it is a file")
    if (folder / paths.MAKEFILE).exists() and not (folder / paths.PLAN).exists():
        problem = "its Makefile was not written by rvrun; choose another with --out"
        raise UnusableRunDir(folder, problem)
    check_same_roots(folder, files)
    for path in strangers(folder, files, owned):
        (folder / path).unlink()
    times = FingerprintTimes(folder)
    written = [
        path for path, text in files.items() if _write_if_changed(folder, path, text, times.choose)
    ]
    for path in written:
        if versions := _versions_of(path):
            _keep_version(folder, path, versions, files[path])
    return written


def check_owner(
    folder: pathlib.Path,
    files: Mapping[str, str],
    runner: str,
    others: Callable[[], Iterable[tuple[str, str]]],
) -> None:
    """Raise `OtherRunner` if writing `files` would change what another runner's files rely on.

    Runners share the plan and the configs of a run directory. Written for one runner, these may no
    longer be what another runner's Makefile, specs or stamps in the directory were made for. While
    they stay the same, runners can share the directory.

    - `runner`: the name of the one that `files` were rendered for.
    - `others`: returns other runners by name, with a file or folder that they leave in a run
      directory. It is only called if the plan or a config would change.
    """
    shared = (path for path in files if path == paths.PLAN or path.startswith(f"{paths.CONFIGS}/"))
    if not (folder / paths.PLAN).exists() or all(
        is_current(folder, path, files[path]) for path in shared
    ):
        return
    for other, path in others():
        if (folder / path).exists():
            out = os.path.relpath(folder)
            raise OtherRunner(out, other, f"{out}-{runner}")


def strangers(folder: pathlib.Path, files: Mapping[str, str], owned: Sequence[str]) -> list[str]:
    """Return the paths of the files in the `owned` folders of `folder` that are not in `files`."""
    present = (path for name in owned for path in (folder / name).rglob("*") if path.is_file())
    return sorted({path.relative_to(folder).as_posix() for path in present} - files.keys())


def would_change(folder: pathlib.Path, files: Mapping[str, str], owned: Sequence[str]) -> bool:
    """Whether `write` would change anything in `folder`."""
    return bool(strangers(folder, files, owned)) or any(
        not is_current(folder, path, text) for path, text in files.items()
    )


def _write_if_changed(
    folder: pathlib.Path,
    path: str,
    text: str,
    choose_time: Callable[[str, str], int | None] = lambda path, text: None,
) -> bool:
    """Write one file, and return whether its text changed. Raises `UnusableRunDir`.

    - `choose_time`: returns the file's time from its path and text; None for the current time.

    An unchanged file keeps its time, so that make does not consider its dependents stale. A changed
    file is written under another name first: `replace` is atomic, so a reader sees the old or the
    new text, and a crash or a full disk leaves the old one. The process id is part of that name, so
    that two processes never write to the same unfinished file. It is removed before, as a link
    planted there would lead the text elsewhere.
    """
    file = folder / path
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if is_current(folder, path, text) and not is_reordered(folder, path, text):
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        with unfinished.open("xb") as new:
            new.write(text.encode())
        time = choose_time(path, text)
        if time is not None:
            os.utime(unfinished, ns=(time, time))
        unfinished.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise UnusableRunDir(
            folder, f"{error.strerror}: {shorten(str(error.filename or path))}"
        ) from None
    return True


def is_current(folder: pathlib.Path, path: str, text: str) -> bool:
    """Return whether the file at `path` in `folder` exists and contains exactly `text`."""
    is_same = _IS_SAME.get(path.partition("/")[0])
    if is_same is not None:
        old = read_text(folder, path)
        return old is not None and is_same(old, text)
    try:
        return (folder / path).read_bytes() == text.encode()
    except (FileNotFoundError, NotADirectoryError):
        return False


def _versions_of(path: str) -> str | None:
    """Return the folder of the versions of a fingerprint; None if no versions are kept."""
    kind, *parts = path.split("/")
    if kind == paths.CONFIGS and len(parts) == 1:
        return paths.config_versions(parts[0].removesuffix(".json"))
    if kind == paths.CODE and len(parts) == 2:
        return paths.code_versions(parts[0], parts[1].removesuffix(".txt"))
    # What an item read is in its mark.
    if kind == paths.INPUTS and len(parts) == 2 and not parts[1].endswith(paths.ITEMS_SUFFIX):
        return paths.input_versions(parts[0], parts[1].removesuffix(".txt"))
    return None


def _keep_version(folder: pathlib.Path, path: str, versions: str, text: str) -> None:
    """Keep a copy of a fingerprint, so that `explain` can tell what changed since a target ran.

    The name of the copy is the file's mtime, which make compares with the times of stamps.
    """
    since = (folder / path).stat().st_mtime_ns
    suffix = pathlib.PurePath(path).suffix
    _write_if_changed(folder, f"{versions}/{since:0{TIME_DIGITS}}{suffix}", text)


def version_at(folder: pathlib.Path, path: str, when: int) -> pathlib.Path | None:
    """Return the copy of the fingerprint at `path` as of `when`; None if none was kept."""
    versions = {}
    for file in (folder / str(_versions_of(path))).glob("*.*"):
        # Other files in it are not ours.
        if file.stem.isascii() and file.stem.isdigit() and len(file.stem) == TIME_DIGITS:
            versions[int(file.stem)] = file
    earlier = [since for since in versions if since <= when]
    return versions[max(earlier)] if earlier else None
