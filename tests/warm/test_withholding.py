"""What is stopped, and what stays, in this process."""

from __future__ import annotations

import importlib
import pathlib
import sys
from collections.abc import Iterator

import pytest

from rvrun.warm.withholding import Withheld, withholding


@pytest.fixture(autouse=True)
def folder(in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The current folder, which is searched first; the modules of before, at the end."""
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(in_folder)
    (in_folder / "heavy.py").write_text("")
    yield in_folder
    # Never without a module that other threads use.
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)


def test_a_module_that_went_on_is_removed_from_its_package(folder: pathlib.Path) -> None:
    """Otherwise `space.inner` would be the half-imported module for code that imports `space`."""
    (folder / "space").mkdir()
    (folder / "space" / "inner.py").write_text("try:\n    import heavy\nexcept:\n    pass\n")
    space = importlib.import_module("space")
    with withholding(["heavy"]) as finder, finder.attempt():
        importlib.import_module("space.inner")
    assert "space.inner" not in sys.modules
    assert not hasattr(space, "inner")
    assert finder.refused == {"space.inner"}
    assert importlib.import_module("space.inner") is space.inner


def test_a_package_stays_without_its_module(folder: pathlib.Path) -> None:
    """It does not refer to the module itself, although it has it as an attribute."""
    (folder / "space").mkdir()
    (folder / "space" / "__init__.py").write_text("")
    (folder / "space" / "inner.py").write_text("try:\n    import heavy\nexcept:\n    pass\n")
    with withholding(["heavy"]) as finder, finder.attempt():
        importlib.import_module("space.inner")
    assert finder.refused == {"space.inner"}
    assert not hasattr(sys.modules["space"], "inner")


def test_errors_that_nothing_stopped_are_raised(folder: pathlib.Path) -> None:
    """Only what follows a stopped import is ignored."""
    (folder / "fails.py").write_text("1 / 0\n")
    (folder / "hides.py").write_text(
        "try:\n    import heavy\nexcept BaseException:\n    raise ValueError from None\n"
    )
    with withholding(["heavy"]) as finder:
        with pytest.raises(ZeroDivisionError), finder.attempt():
            importlib.import_module("fails")
        with finder.attempt():
            importlib.import_module("hides")
        assert finder.refused == {"hides"}
        with pytest.raises(Withheld):
            importlib.import_module("hides")


def test_names_are_those_of_packages(folder: pathlib.Path) -> None:
    """A module of a similar name is not withheld, one below is."""
    (folder / "heavy_not.py").write_text("")
    with withholding(["heavy"]) as finder:
        importlib.import_module("heavy_not")
        assert finder.is_withheld("heavy")
        assert finder.is_withheld("heavy.sub.sub")
        assert not finder.is_withheld("sub.heavy")
