"""Hashes of inputs are remembered, safely."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable

import pytest

from rvrun.code.results import SETTLED_NS
from rvrun.data import hashes
from rvrun.data.hashes import PIECE, Hashes
from rvrun.inputs import CannotRead


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of files that were read to hash them."""
    paths: list[str] = []
    digest = hashes._digest

    def count(path: str, advance: Callable[[int], None] | None) -> str | None:
        paths.append(path)
        return digest(path, advance)

    monkeypatch.setattr(hashes, "_digest", count)
    return paths


def settle(folder: pathlib.Path) -> None:
    """Wait until the files of a folder changed long enough ago to be remembered."""
    changes = [path.stat() for path in folder.iterdir()]
    newest = max(max(status.st_mtime_ns, status.st_ctime_ns) for status in changes)
    while time.time_ns() - newest <= SETTLED_NS:
        time.sleep(0.02)


def test_a_file_is_read_once(tmp_path: pathlib.Path, read: list[str]) -> None:
    """Also by another process, and again after a change that leaves size and time as they were."""
    file, cache = tmp_path / "a", str(tmp_path / "cache.json")
    file.write_text("one")
    before = file.stat()
    settle(tmp_path)
    expected = hashlib.sha256(b"one").hexdigest()
    for _ in range(3):
        assert Hashes(cache).of([str(file)])[str(file)] == (expected, 3, before.st_mtime_ns)
    assert read == [str(file)]
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Hashes(cache).of([str(file)])[str(file)][0] == hashlib.sha256(b"two").hexdigest()


def test_a_file_that_just_changed_is_not_kept(
    tmp_path: pathlib.Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change within the same tick of the clock could not be seen."""
    file, cache = tmp_path / "a", str(tmp_path / "cache.json")
    file.write_text("one")
    changed = file.stat().st_ctime_ns
    # However long this process is held up.
    monkeypatch.setattr(time, "time_ns", lambda: changed + SETTLED_NS)
    Hashes(cache).of([str(file)])
    Hashes(cache).of([str(file)])
    assert read == [str(file), str(file)]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[1]", '[1, {"PATH": 3}]', '[1, {"PATH": [1, 2, 3, 4, 5, 6]}]', "\x00"]
)
def test_a_damaged_cache_is_ignored(tmp_path: pathlib.Path, text: str) -> None:
    """What it says about a file is not believed."""
    file, cache = tmp_path / "a", tmp_path / "cache.json"
    file.write_text("one")
    cache.write_text(text.replace("PATH", str(file)))
    assert Hashes(str(cache)).of([str(file)])[str(file)][0] == hashlib.sha256(b"one").hexdigest()


def test_without_a_place_for_the_cache(tmp_path: pathlib.Path) -> None:
    """Hashing works, only slower."""
    file = tmp_path / "a"
    file.write_text("one")
    for cache in ("", "/nonexistent/cache.json", str(tmp_path / "a" / "b.json")):
        assert Hashes(cache).of([str(file), str(tmp_path / "gone")]).keys() == {str(file)}


def _hash_all(cache: str, paths: list[str]) -> dict[str, tuple[str, int, int]]:
    return Hashes(cache).of(paths)


@pytest.mark.usefixtures("processes")
def test_processes_share_the_cache(tmp_path: pathlib.Path) -> None:
    """All get the same hashes, and the cache has all of them."""
    paths = []
    for number in range(20):
        (tmp_path / str(number)).write_text(str(number))
        paths.append(str(tmp_path / str(number)))
    settle(tmp_path)
    cache = str(tmp_path / "cache.json")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        results = pool.starmap(_hash_all, [(cache, paths[i:]) for i in range(8)])
    for result in results:
        assert all(value == results[0][path] for path, value in result.items())
    assert set(json.loads(pathlib.Path(cache).read_text())[1]) == set(paths)


def test_a_file_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    """The error names it and what to do."""
    with pytest.raises(CannotRead, match="leave it out of `inputs`"):
        Hashes("").of([f"{tmp_path}/{'x' * 300}"])


def test_progress_is_reported(tmp_path: pathlib.Path) -> None:
    """Bytes done of those to hash, not of what the cache has; and the end in any case."""
    cache = str(tmp_path / "cache.json")
    big, small = tmp_path / "big", tmp_path / "small"
    big.write_bytes(b"x" * (2 * PIECE + 1))
    small.write_bytes(b"y")
    os.utime(small, (1, 1))
    calls: list[tuple[int, int]] = []

    def advance(done: int, total: int) -> None:
        calls.append((done, total))

    paths = [str(big), str(small)]
    plain = Hashes("").of(paths)
    assert Hashes("", advance).of(paths) == plain
    total = 2 * PIECE + 2
    assert calls == [
        *((PIECE, total), (2 * PIECE, total), (total - 1, total)),
        *((total - 1, total), (1, 1)),
    ]
    calls.clear()
    settle(tmp_path)
    Hashes(cache).of(paths)
    assert Hashes(cache, advance).of(paths) == plain
    assert calls == []
