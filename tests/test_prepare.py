"""From a request to rendered files, and where the run directory is."""

from __future__ import annotations

import pathlib
import shutil
import sys

import attrs
import pytest

from rvrun.prepare import Conflict, EmptyOut, Request, kept, prepare, prepare_all, run_dir_of
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _forget_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another test that has the same name must not be in the way."""
    for name in ("tiny", "mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, name, None)  # so that it is removed at the end
        del sys.modules[name]


@pytest.fixture
def request_for_tiny(in_folder: pathlib.Path) -> Request:
    """A request for the tiny example."""
    shutil.copy(ROOT / "examples/tiny.py", in_folder / "tiny.py")
    return Request(config="tiny.py", splits=("2",))


def test_everything_is_rendered_and_nothing_written(
    request_for_tiny: Request, in_folder: pathlib.Path
) -> None:
    """The plan, the configs, the runner's own files."""
    prepared = prepare(request_for_tiny)
    assert {"plan.json", "Makefile", "config/tiny.json"} <= set(prepared.files)
    assert (prepared.run.out, prepared.warnings) == ("runs/tiny", ())
    assert [path.name for path in in_folder.iterdir()] == ["tiny.py"]


def test_idle_splits_are_a_warning(request_for_tiny: Request) -> None:
    """The user who started the run must see it."""
    prepared = prepare(attrs.evolve(request_for_tiny, splits=("cut=9", "count=9")))
    assert [warning.partition(" has ")[0] for warning in prepared.warnings] == [
        "tiny/cut",
        "tiny/count",
    ]


def test_several_runners_share_a_run_directory(request_for_tiny: Request) -> None:
    """The run is the first one's; a runner given twice counts once."""
    prepared = prepare_all(["inprocess", "local", "inprocess"], request_for_tiny)
    assert "Makefile" in prepared.files
    assert "Makefile" not in prepare(attrs.evolve(request_for_tiny, runner="inprocess")).files


def test_a_config_that_depends_on_the_runner(in_folder: pathlib.Path) -> None:
    """It cannot be saved for two runners in one place."""
    text = (ROOT / "examples/tiny.py").read_text(encoding="utf-8")
    own = "def get_config(runner):\n    return TinyConfig(root_uri='out', top=2 * len(runner))\n"
    (in_folder / "mine.py").write_text(f"{text}\n\n{own}", encoding="utf-8")
    with pytest.raises(Conflict) as caught:
        prepare_all(["local", "inprocess"], Request(config="mine.py"))
    assert str(caught.value) == (
        "plan.json differs between --runner local and --runner inprocess; plan each into "
        "its own --out"
    )


def test_a_kept_plan_owns_its_configs_until_something_ran(request_for_tiny: Request) -> None:
    """Then a config that comes back must not look new."""
    prepared = prepare(request_for_tiny)
    assert kept(prepared).owned == ("Makefile", "config", "code", "items")
    (prepared.run.run_dir / "done").mkdir(parents=True)
    assert kept(prepared).owned == ("Makefile",)


@pytest.mark.parametrize(
    ("config", "out", "run_dir"),
    [
        ("tiny.py", None, "runs/tiny"),
        ("deep/er/tiny.py", None, "runs/tiny"),
        ("package.module", None, "runs/module"),
        ("saved.json", None, "runs/saved"),
        ("runs/big/config/tiny.json", None, "runs/big"),
        ("tiny.py", "x/../y/", "y"),
        ("tiny.py", "-x", "./-x"),
    ],
)
def test_the_run_directory(config: str, out: str | None, run_dir: str) -> None:
    """`--out`, else named after the config; a saved config belongs to its own."""
    assert run_dir_of(config, out) == run_dir


def test_an_empty_run_directory_is_refused() -> None:
    """It would be the current folder by accident."""
    with pytest.raises(EmptyOut) as caught:
        run_dir_of("tiny.py", "")
    assert str(caught.value) == "--out must name a directory, got an empty string"
