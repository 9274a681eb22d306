"""Which files of loaded modules are the user's, and which have changed."""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections.abc import Iterator

import attrs
import pytest

import rvrun
from rvrun.pipelines.imports import import_source
from rvrun.pipelines.user_files import changed_files, is_user_file, user_files
from tests import conftest


@pytest.fixture
def folder(in_folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A loose file that imports a package without `__init__.py`; removed from `sys.modules`."""
    (in_folder / "loose.py").write_text("import space.inner\n")
    (in_folder / "space").mkdir()
    (in_folder / "space" / "inner.py").write_text("")
    yield in_folder
    for name in ("loose", "space", "space.inner"):
        sys.modules.pop(name, None)


def test_the_users_files_are_those_of_their_modules(folder: pathlib.Path) -> None:
    """The loose file, and modules of namespace packages; nothing that is installed."""
    import_source("loose.py")
    files = user_files()
    assert {str(folder / "loose.py"), str(folder / "space" / "inner.py")} <= files.keys()
    assert conftest.__file__ in files
    installed = (os.__file__, attrs.__file__, rvrun.__file__, sys.modules["rvrun.errors"].__file__)
    assert not files.keys() & set(installed)
    status = os.stat("loose.py")
    assert files[str(folder / "loose.py")] == (status.st_mtime_ns, status.st_size)


@pytest.mark.parametrize(
    ("path", "is_users"),
    [
        (os.__file__, False),
        (attrs.__file__, False),
        (rvrun.__file__, False),
        ("/usr/lib/python3/dist-packages/yaml.py", False),
        (rvrun.__file__.replace("/rvrun/__init__", "/rvrun_plugin/__init__"), True),
        ("/home/site-packages.py", True),
    ],
)
def test_user_files_are_distinguished_from_installed_ones(path: str, is_users: bool) -> None:
    assert is_user_file(path) == is_users


def test_changes_are_noticed(folder: pathlib.Path) -> None:
    """Another time, another size, or no file any more."""
    import_source("loose.py")
    before = {path: state for path, state in user_files().items() if path.startswith(str(folder))}
    assert (len(before), changed_files(before)) == (2, [])
    loose, inner = map(str, (folder / "loose.py", folder / "space" / "inner.py"))
    status = os.stat(loose)
    (folder / "loose.py").write_text("import space.inner  # longer\n")
    os.utime(loose, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed_files(before) == [loose]
    (folder / "loose.py").write_text("import space.inner\n")
    os.utime(loose, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed_files(before) == []
    os.utime(loose, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    os.remove(inner)
    assert changed_files(before) == [loose, inner]


def test_a_file_that_is_gone_has_changed(folder: pathlib.Path) -> None:
    """Also if it was gone before its state was looked at."""
    import_source("loose.py")
    (folder / "loose.py").unlink()
    assert str(folder / "loose.py") in changed_files(user_files())


def test_files_written_during_the_import_have_changed(folder: pathlib.Path) -> None:
    """Nobody knows which version was imported."""
    since = time.time_ns()
    os.utime("loose.py", ns=(since, since))
    os.utime("space/inner.py", ns=(since, since + 1))
    import_source("loose.py")
    changed = changed_files(user_files(since))
    assert [path for path in changed if path.startswith(str(folder))] == [
        str(folder / "space" / "inner.py")
    ]
