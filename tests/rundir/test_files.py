from __future__ import annotations

import os
import pathlib
import sys
import threading

import pytest

from rvrun.rundir.files import UnusableRunDir, is_current, strangers, write
from tests.conftest import Project

FILES = {"Makefile": "all:\n", "plan.json": "{}\n", "config/tiny.json": "ä\n"}


def content(folder: pathlib.Path) -> dict[str, str]:
    """Return all files below `folder`, to see that none is left over."""
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file() and ".configs" not in path.parts
    }


def refusal(folder: pathlib.Path, files: dict[str, str] | None = None) -> str:
    """Return the problem for which `folder` is refused."""
    with pytest.raises(UnusableRunDir) as caught:
        write(folder, files or FILES)
    prefix = f"run directory {folder} cannot be used: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def test_files_are_written_with_their_folders(tmp_path: pathlib.Path) -> None:
    """All files are written, and nothing else."""
    assert list(FILES) == write(tmp_path / "runs" / "tiny", FILES)
    assert content(tmp_path / "runs" / "tiny") == FILES


def test_unchanged_files_keep_their_time(tmp_path: pathlib.Path) -> None:
    """Only changed files are written, and only these are returned."""
    write(tmp_path, FILES)
    for path in FILES:
        os.utime(tmp_path / path, ns=(1_000, 1_000))
    assert write(tmp_path, FILES) == []
    changed = {**FILES, "Makefile": "all: a\n"}
    assert write(tmp_path, changed) == ["Makefile"]
    times = {path: (tmp_path / path).stat().st_mtime_ns for path in FILES}
    assert {path: time for path, time in times.items() if path != "Makefile"} == {
        "plan.json": 1_000,
        "config/tiny.json": 1_000,
    }
    assert times["Makefile"] > 1_000
    assert changed == content(tmp_path)


def test_is_current_compares_bytes(tmp_path: pathlib.Path) -> None:
    """A file is current if it contains exactly the text; a missing file is not current."""
    (tmp_path / "a").write_bytes("ä\n".encode())
    expected = (True, False, False, False)
    results = tuple(
        is_current(tmp_path, path, text)
        for path, text in (("a", "ä\n"), ("a", "ä\r\n"), ("b", ""), ("a/b", ""))
    )
    assert expected == results


def test_a_reader_sees_only_complete_files(tmp_path: pathlib.Path) -> None:
    """A reader of a file that is being replaced sees the old text or the new one."""
    texts = ["a" * 300_000, "b" * 300_000]
    write(tmp_path, {"big": texts[0]})
    done = threading.Event()

    def replace() -> None:
        for i in range(60):
            write(tmp_path, {"big": texts[i % 2]})
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    texts_read = set()
    while not done.is_set():
        texts_read.add((tmp_path / "big").read_text())
    writer.join()
    assert texts_read <= set(texts)
    assert os.listdir(tmp_path) == ["big"]


FULL = """
import pathlib, resource, signal
from rvrun.rundir import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write(pathlib.Path("."), {"file": "new" * 1000})
except files.UnusableRunDir as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(project: Project) -> None:
    """A text that does not fit on the disk replaces nothing and leaves no file behind."""
    project.write("file", "old\n")
    project.run(sys.executable, "-c", FULL)
    assert content(project.folder) == {"file": "old\n"}


def test_a_full_disk_is_reported_with_the_file(project: Project) -> None:
    """The error names the file that could not be written."""
    expected = "run directory . cannot be used: File too large: file\n"
    assert expected == project.run(sys.executable, "-c", FULL).stdout


def test_files_have_the_usual_permissions(tmp_path: pathlib.Path) -> None:
    """The umask decides who may read written files; they are not private like temporary ones."""
    old = os.umask(0o027)
    try:
        write(tmp_path, FILES)
    finally:
        os.umask(old)
    assert [(tmp_path / path).stat().st_mode & 0o777 for path in FILES] == [0o640] * 3


def test_a_foreign_makefile_is_refused(tmp_path: pathlib.Path) -> None:
    """A Makefile without a plan next to it belongs to someone else, and stays."""
    (tmp_path / "Makefile").write_text("mine:\n")
    expected = "its Makefile was not written by rvrun; choose another with --out"
    assert expected == refusal(tmp_path)
    assert content(tmp_path) == {"Makefile": "mine:\n"}


def test_a_file_in_the_way_is_refused(tmp_path: pathlib.Path) -> None:
    """A file where the run directory, or a folder in it, has to be."""
    (tmp_path / "runs").write_text("")
    assert refusal(tmp_path / "runs") == "it is a file"
    assert refusal(tmp_path / "runs" / "tiny").startswith("Not a directory: ")
    (tmp_path / "config").write_text("")
    assert f"File exists: {tmp_path / 'config'}" == refusal(tmp_path)


def test_a_folder_in_the_way_is_refused(tmp_path: pathlib.Path) -> None:
    """A folder where a file has to be; no other file is left behind."""
    (tmp_path / "a").mkdir()
    assert f"Is a directory: {tmp_path / 'a'}" == refusal(tmp_path, {"a": ""})
    assert content(tmp_path) == {}


def test_strangers_are_removed_from_owned_folders(tmp_path: pathlib.Path) -> None:
    """Other files in the owned folders are removed; those elsewhere stay."""
    for path in ("batch/old.json", "batch/deep/older.json", "notes/mine.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    files = {"batch/new.json": "{}\n"}
    assert strangers(tmp_path, files, ["batch"]) == ["batch/deep/older.json", "batch/old.json"]
    write(tmp_path, files, ["batch"])
    assert content(tmp_path) == {"batch/new.json": "{}\n", "notes/mine.txt": ""}
