"""Write rendered files into a run directory, replacing only those whose text changed."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time_ns

from rvrun import item_list, paths
from rvrun.code.fingerprint import is_comparable, is_same
from rvrun.errors import RvrunError
from rvrun.rundir.roots import check_same_roots
from rvrun.text import shorten

#: Digits of a time in the name of a copy of a config, so that names sort by time.
TIME_DIGITS = 20


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
    stamps = functools.cache(functools.partial(_stamp_times, folder))
    written = [
        path
        for path, text in files.items()
        if _write_if_changed(
            folder, path, text, functools.partial(_new_time, folder, path, text, stamps)
        )
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


def _new_time(
    folder: pathlib.Path, path: str, text: str, stamp_times: Callable[[str], list[tuple[str, int]]]
) -> int | None:
    """Return the time that a fingerprint which is written now gets; None for the current time.

    - `stamp_times`: returns the stamps and marks of a pipeline, see `_stamp_times`.

    It is newer than all stamps of its pipeline, also those from the future: if the clock was set
    back since, the change would go unnoticed. But the first fingerprint of code is as old as the
    oldest stamp of its stage, as nobody knows which code that ran with. And a list of the same
    items in another order keeps its time.
    """
    kind, _, rest = path.partition("/")
    pipeline = rest.partition("/")[0].removesuffix(".json")
    if kind == paths.CODE and not _has_code(folder, path):
        command = rest.rpartition("/")[2].removesuffix(".txt")
        times = [time for name, time in stamp_times(pipeline) if name.partition(".")[0] == command]
        return min(times, default=None)
    if _is_reordered(folder, path, text):
        return (folder / path).stat().st_mtime_ns
    if kind not in (paths.CODE, paths.CONFIGS, paths.ITEMS):
        return None
    newest = max((time for _, time in stamp_times(pipeline)), default=0)
    return newest + 1 if newest >= time_ns() else None


def _is_reordered(folder: pathlib.Path, path: str, text: str) -> bool:
    """Whether `text` lists the same items as the file in another order, or with other labels.

    Such a list is written, as targets read positions from it, but makes nothing stale.
    """
    if not path.startswith(f"{paths.ITEMS}/"):
        return False
    old = read_text(folder, path)
    return old is not None and old != text and item_list.is_same(old, text)


def _has_code(folder: pathlib.Path, path: str) -> bool:
    """Whether a code fingerprint exists that new ones can be compared with."""
    text = read_text(folder, path)
    return text is not None and is_comparable(text)


def _stamp_times(folder: pathlib.Path, pipeline: str) -> list[tuple[str, int]]:
    """Return the time of each stamp and mark, with its name or that of the folder that it is in."""
    times: list[tuple[str, int]] = []
    # Twice as fast as `rglob`: there may be 100,000 marks.
    todo = [("", str(folder / paths.DONE / pipeline))]
    while todo:
        name, place = todo.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(place) as files:
            for file in files:
                if file.is_dir(follow_symlinks=False):
                    todo.append((name or file.name, file.path))
                    continue
                with contextlib.suppress(FileNotFoundError):
                    times.append((name or file.name, file.stat().st_mtime_ns))
    return times


def _write_if_changed(
    folder: pathlib.Path, path: str, text: str, choose_time: Callable[[], int | None] | None = None
) -> bool:
    """Write one file, and return whether its text changed. Raises `UnusableRunDir`.

    An unchanged file keeps its time, so that make does not consider its dependents stale. A changed
    file is written under another name first: `replace` is atomic, so a reader sees the old or the
    new text, and a crash or a full disk leaves the old one. The process id is part of that name, so
    that two processes never write to the same unfinished file. It is removed before, as a link
    planted there would lead the text elsewhere.
    """
    file = folder / path
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if is_current(folder, path, text) and not _is_reordered(folder, path, text):
            return False
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        with unfinished.open("xb") as new:
            new.write(text.encode())
        time = choose_time() if choose_time else None
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
    if path.startswith(f"{paths.CODE}/"):
        old = read_text(folder, path)
        return old is not None and is_same(old, text)
    if path.startswith(f"{paths.ITEMS}/"):
        old = read_text(folder, path)
        return old is not None and item_list.is_same(old, text)
    try:
        return (folder / path).read_bytes() == text.encode()
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_text(folder: pathlib.Path, path: str) -> str | None:
    """Return the text of the file at `path` in `folder`; None if there is none."""
    try:
        return (folder / path).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _versions_of(path: str) -> str | None:
    """Return the folder of the versions of a fingerprint; None if no versions are kept."""
    kind, *parts = path.split("/")
    if kind == paths.CONFIGS and len(parts) == 1:
        return paths.config_versions(parts[0].removesuffix(".json"))
    if kind == paths.CODE and len(parts) == 2:
        return paths.code_versions(parts[0], parts[1].removesuffix(".txt"))
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
