from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading

import pytest

from rvrun.rundir import files as rundir
from rvrun.rundir.files import CannotUse
from tests.conftest import Project

FILES = {"Makefile": "all:\n", "plan.json": "{}\n", "config/tiny.json": "ä\n"}


def content(folder: pathlib.Path) -> dict[str, str]:
    """All files below `folder`, so that nothing is left over unseen."""
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file() and ".configs" not in path.parts
    }


def refusal(folder: pathlib.Path, files: dict[str, str] | None = None) -> str:
    with pytest.raises(CannotUse) as caught:
        rundir.write(folder, files or FILES)
    prefix = f"run directory {folder} cannot be used: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def test_files_are_written_with_their_folders(tmp_path: pathlib.Path) -> None:
    """All files, and nothing else."""
    assert list(FILES) == rundir.write(tmp_path / "runs" / "tiny", FILES)
    assert content(tmp_path / "runs" / "tiny") == FILES


def test_unchanged_files_keep_their_time(tmp_path: pathlib.Path) -> None:
    """Only what changed is written anew, and told."""
    rundir.write(tmp_path, FILES)
    for path in FILES:
        os.utime(tmp_path / path, ns=(1_000, 1_000))
    assert rundir.write(tmp_path, FILES) == []
    changed = {**FILES, "Makefile": "all: a\n"}
    assert rundir.write(tmp_path, changed) == ["Makefile"]
    times = {path: (tmp_path / path).stat().st_mtime_ns for path in FILES}
    assert {path: time for path, time in times.items() if path != "Makefile"} == {
        "plan.json": 1_000,
        "config/tiny.json": 1_000,
    }
    assert times["Makefile"] > 1_000
    assert changed == content(tmp_path)


def test_is_current_compares_bytes(tmp_path: pathlib.Path) -> None:
    """A file is current where it holds the very text; one that is not there is not."""
    (tmp_path / "a").write_bytes("ä\n".encode())
    expected = (True, False, False, False)
    found = tuple(
        rundir.is_current(tmp_path, path, text)
        for path, text in (("a", "ä\n"), ("a", "ä\r\n"), ("b", ""), ("a/b", ""))
    )
    assert expected == found


def test_a_reader_sees_whole_files_only(tmp_path: pathlib.Path) -> None:
    """While files are replaced, who reads them sees one text or the other."""
    texts = ["a" * 300_000, "b" * 300_000]
    rundir.write(tmp_path, {"big": texts[0]})
    done = threading.Event()

    def replace() -> None:
        for i in range(60):
            rundir.write(tmp_path, {"big": texts[i % 2]})
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add((tmp_path / "big").read_text())
    writer.join()
    assert seen <= set(texts)
    assert os.listdir(tmp_path) == ["big"]


FULL = """
import pathlib, resource, signal
from rvrun.rundir import files as rundir
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    rundir.write(pathlib.Path("."), {"file": "new" * 1000})
except rundir.CannotUse as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file(project: Project) -> None:
    """A text that cannot be written whole replaces nothing and leaves nothing over."""
    project.write("file", "old\n")
    project.run(sys.executable, "-c", FULL)
    assert content(project.folder) == {"file": "old\n"}


def test_a_full_disk_is_told_with_the_file(project: Project) -> None:
    """The error names what could not be written."""
    expected = "run directory . cannot be used: File too large: file\n"
    assert expected == project.run(sys.executable, "-c", FULL).stdout


def test_files_have_the_rights_of_others(tmp_path: pathlib.Path) -> None:
    """Written files are as readable as the umask says, not private as temporary ones."""
    old = os.umask(0o027)
    try:
        rundir.write(tmp_path, FILES)
    finally:
        os.umask(old)
    assert [(tmp_path / path).stat().st_mode & 0o777 for path in FILES] == [0o640] * 3


def test_a_foreign_makefile_is_refused(tmp_path: pathlib.Path) -> None:
    """A Makefile without a plan beside it is somebody's own, and stays."""
    (tmp_path / "Makefile").write_text("mine:\n")
    expected = "its Makefile was not written by rvrun; name another with --out"
    assert expected == refusal(tmp_path)
    assert content(tmp_path) == {"Makefile": "mine:\n"}


def test_a_file_in_the_way_is_refused(tmp_path: pathlib.Path) -> None:
    """Where the run directory, or a folder of it, would be."""
    (tmp_path / "runs").write_text("")
    assert refusal(tmp_path / "runs") == "it is a file"
    assert refusal(tmp_path / "runs" / "tiny").startswith("Not a directory: ")
    (tmp_path / "config").write_text("")
    assert f"File exists: {tmp_path / 'config'}" == refusal(tmp_path)


def test_a_folder_in_the_way_is_refused(tmp_path: pathlib.Path) -> None:
    """Where a file would be; and nothing is left over."""
    (tmp_path / "a").mkdir()
    assert f"Is a directory: {tmp_path / 'a'}" == refusal(tmp_path, {"a": ""})
    assert content(tmp_path) == {}


HOLD = """
import pathlib, sys, time
from rvrun.rundir.files import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.usefixtures("processes")
def test_one_run_at_a_time(tmp_path: pathlib.Path) -> None:
    """While another process runs there it is named; once it is dead, its lock is gone."""
    folder = tmp_path / "runs"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CannotUse) as caught, rundir.locked(folder):
            pass
        holder.kill()
    expected = (
        f"run directory {folder} cannot be used: "
        f"another rvrun (process {holder.pid}) is running in it"
    )
    assert expected == str(caught.value)
    with rundir.locked(folder):
        assert f"{os.getpid()}\n" == (folder / ".lock").read_text()


def test_a_lock_is_given_back(tmp_path: pathlib.Path) -> None:
    """After a run, also one that failed, the next may begin."""
    with pytest.raises(KeyError), rundir.locked(tmp_path):
        raise KeyError
    with rundir.locked(tmp_path), pytest.raises(CannotUse), rundir.locked(tmp_path):
        pass


def test_a_lock_needs_a_folder(tmp_path: pathlib.Path) -> None:
    """A file in the way is told."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(CannotUse) as caught, rundir.locked(tmp_path / "runs"):
        pass
    assert f"run directory {tmp_path / 'runs'} cannot be used: it is a file" == str(caught.value)
