"""Which systems are set up before a user's file or module is imported."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import pytest

from rvrun.adapters import registry
from rvrun.load.source import load
from rvrun.pipelines.declare import CannotLoad
from tests.conftest import Project

#: An adapter of a system `terrain`, which notes when it is set up and when that ends.
ADAPTER = """
import contextlib

events = []

@contextlib.contextmanager
def set_up(verbosity):
    events.append(f"set up {verbosity}")
    yield
    events.append("end")
"""


@pytest.fixture
def folder(in_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The current folder, with the adapter of `terrain`, the only system."""
    monkeypatch.setattr(registry, "ADAPTERS", {"terrain": "terrain_adapter"})
    (in_folder / "terrain_adapter.py").write_text(ADAPTER)
    yield in_folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(in_folder)):
            del sys.modules[name]


def events(source: str) -> list[str]:
    """What happens around the import of `source`; empty if the adapter is not even imported."""
    with registry.set_up_for(source, 2):
        module = sys.modules.get("terrain_adapter")
        if module is not None:
            module.events.append("import")
    return [] if module is None else list(module.events)


USED = ["set up 2", "import", "end"]


@pytest.mark.parametrize(
    "code",
    [
        "import terrain\n",
        "import json, terrain.plugin as plugin\n",
        "from terrain import Config\n",
        "from terrain.plugin import Config\n",
        "def get_config(runner):\n    from terrain.plugin import Config\n",
        "try:\n    import terrain\nexcept ImportError:\n    pass\n",
        "# -*- coding: latin-1 -*-\nimport terrain  # \xe4\n",
    ],
)
def test_a_file_that_imports_a_system_needs_it(folder: pathlib.Path, code: str) -> None:
    """Wherever in the file, in whatever encoding; it remains set up during the import."""
    (folder / "cfg.py").write_text(code, encoding="latin-1")
    assert events("cfg.py") == USED


@pytest.mark.parametrize(
    "code",
    [
        "# import terrain\n",
        '"""import terrain"""\n',
        "name = 'terrain'\nterrain = 5\n",
        "import terrains\n",
        "import other.terrain\n",
        "from other import terrain\n",
        "from . import terrain\n",
        "from .terrain import Config\n",
        "import terrain\ndef (:\n",
        "",
    ],
)
def test_a_file_that_only_mentions_a_system_does_not(folder: pathlib.Path, code: str) -> None:
    """Neither do relative imports, nor a file that cannot be parsed."""
    (folder / "cfg.py").write_text(code)
    assert events("cfg.py") == []


@pytest.mark.parametrize("source", ["gone.py", "gone", "gone.cfg", "", ".", "..cfg", "json.gone"])
def test_a_source_that_does_not_exist_needs_no_system(folder: pathlib.Path, source: str) -> None:
    """Its import reports that it does not exist."""
    assert events(source) == []


@pytest.mark.parametrize("first", ["package/__init__.py", "package/inner/__init__.py"])
def test_the_packages_of_a_module_are_read_too(folder: pathlib.Path, first: str) -> None:
    """They are imported before it. Reading them imports nothing."""
    for path in ("package/__init__.py", "package/inner/__init__.py", "package/inner/cfg.py"):
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_text("import terrain\n" if path == first else "# import terrain\n")
    assert events("package.inner.cfg") == USED
    assert "package" not in sys.modules


@pytest.mark.parametrize(("code", "expected"), [("import terrain\n", USED), ("# terrain\n", [])])
def test_a_module_is_read(folder: pathlib.Path, code: str, expected: list[str]) -> None:
    """A module may be in a package without `__init__.py`."""
    (folder / "spaces" / "inner").mkdir(parents=True)
    (folder / "spaces" / "inner" / "cfg.py").write_text(code)
    assert events("spaces.inner.cfg") == expected


def test_a_module_of_the_system_needs_it(folder: pathlib.Path) -> None:
    """It need not import its own system, nor be found before the system is set up."""
    assert events("terrain.example") == USED


def test_a_system_that_is_not_installed_is_skipped(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own import reports that it is missing."""
    (folder / "terrain_adapter.py").write_text("import terrain\n")
    (folder / "cfg.py").write_text("import terrain\n")
    assert events("cfg.py") == []
    monkeypatch.setattr(registry, "MARKS", {"terrain_version": "terrain"})
    with pytest.raises(registry.NotInstalled) as caught:
        registry.of_document({"terrain_version": 1})
    assert str(caught.value) == (
        "cannot import `terrain`, which this config requires; "
        "install it (pip install terrain-pipeline)"
    )
    assert caught.value.how_to_fix() == f"install `terrain-pipeline` for {sys.executable}"


def test_the_system_is_set_up_while_get_config_runs(folder: pathlib.Path) -> None:
    """The function may import and register classes, too."""
    code = (
        "import sys\n"
        "def get_config(runner):\n"
        "    from terrain_adapter import events\n"
        "    return list(events)\n"
    )
    (folder / "cfg.py").write_text(f"if False:\n    import terrain\n{code}")
    with pytest.raises(CannotLoad) as caught:
        load("cfg.py", "local", {}, verbosity=1)
    assert str(caught.value).endswith("got 'set up 1'")


def test_a_mention_imports_nothing(tiny: Project) -> None:
    """A config that names Raster Vision in a comment runs even if that cannot be imported."""
    tiny.write("rastervision.py", "raise RuntimeError('imported')\n")
    tiny.write("tiny.py", f"# unlike rastervision\n{tiny.read('tiny.py')}")
    assert "tiny/show" in tiny.rvrun("plan", "tiny.py").stdout


def test_the_adapters_that_mypy_checks_are_those_that_are_found() -> None:
    """`builtin` and `registry` list the same modules."""
    from rvrun.adapters.builtin import ADAPTERS  # not at the top: it imports Raster Vision

    names = {system: vars(adapter)["__name__"] for system, adapter in ADAPTERS.items()}
    assert names == registry.ADAPTERS
