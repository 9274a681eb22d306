"""One door for each library: who imports what is read from the source, and seen in processes."""

from __future__ import annotations

import ast
import functools
import json
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, Project

PACKAGE = ROOT / "rvrun"
#: Where each library may be imported; an entry that ends in `/` is a folder.
DOORS = {
    "jinja2": ("render/jinja.py",),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "psutil": ("worker/processes.py",),
    "typed_settings": ("settings/schema.py",),
    "cattrs": ("pipelines/serialize.py", "plan/serialize.py"),
    "typeguard": ("pipelines/base.py",),
    "boto3": ("aws/client.py",),
    "botocore": ("aws/client.py", "aws/request_check.py"),
    "stamina": ("aws/client.py",),
    "rastervision": ("adapters/raster_vision/config.py",),
}
#: What the worker of every target imports, so nothing slow stands at their top.
LIGHT = (
    "__main__.py",
    "errors.py",
    "adapters/registry.py",
    "split_ranges.py",
    "paths.py",
    "pipelines/base.py",
    "worker/split_index.py",
    "rundir/records.py",
    "pipelines/imports.py",
    "aws/storage.py",
)
HEAVY = ("attr", "attrs", "typing", *DOORS)


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Each module of the package, by its path in it."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.module


def importers(library: str) -> list[str]:
    return [
        path
        for path, tree in sources().items()
        if any(name.split(".")[0] == library for node in ast.walk(tree) for name in imported(node))
    ]


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_its_door(library: str) -> None:
    """No other module imports it, not even inside of a function."""
    doors = DOORS[library]
    strangers = [
        path
        for path in importers(library)
        if path not in doors and not path.startswith(tuple(d for d in doors if d.endswith("/")))
    ]
    assert strangers == []


def test_the_package_was_read() -> None:
    """The walk sees what is imported, so that an empty list means something."""
    assert importers("jinja2") == ["render/jinja.py"]
    assert importers("typed_settings") == ["settings/schema.py"]
    assert "cli/app.py" in importers("typer")


def test_imports_within_the_package_are_absolute() -> None:
    """A relative import would pass the doors unseen."""
    relative = [
        path
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize("path", [*LIGHT, "worker/target.py", "__init__.py"])
def test_the_workers_modules_import_nothing_heavy(path: str) -> None:
    """At their top there are the standard library's light modules and each other."""
    allowed = {"rvrun." + name.removesuffix(".py").replace("/", ".") for name in LIGHT}
    top = [name for node in sources()[path].body for name in imported(node)]
    ours = {name for name in top if name.startswith("rvrun.")}
    assert set() == ours - allowed
    assert [name for name in top if name.split(".")[0] in HEAVY] == []


WORDS = """
import rvrun

class WordsConfig(rvrun.PipelineConfig):
    top: int = 3
    def build(self):
        return Words(self)

class Words(rvrun.Pipeline):
    commands = ("chip", "train")
    split_commands = ("chip",)
    needs = {"train": [rvrun.aligned("chip")]}
    def chip(self, split_ind=0, num_splits=1):
        print("chip", rvrun.share(range(4), split_ind, num_splits))
    def train(self):
        print("train", self.config.top)
"""
CONFIG = {
    "rvrun_config": 1,
    "source": "words.py",
    "config": {
        "$type": "words:WordsConfig",
        "$version": 1,
        "root_uri": "out",
        "name": "words",
        "top": 5,
    },
}
RUN = """
import sys
before = set(sys.modules)
sys.argv[0] = "rvrun"
from rvrun.__main__ import main
try:
    main()
finally:
    print(sorted({name.split(".")[0] for name in set(sys.modules) - before} & set(HEAVY)))
"""


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("train",), "train 5\n"),
        (("chip", "--split-ind", "1", "--num-splits", "2"), "chip range(2, 4)\n"),
    ],
)
def test_the_worker_imports_nothing_heavy(
    project: Project, words: tuple[str, ...], printed: str
) -> None:
    """A target of a plain pipeline runs without any of the libraries, and leaves its record."""
    project.write("words.py", WORDS)
    project.write("config.json", json.dumps(CONFIG))
    project.write("main.py", f"HEAVY = {HEAVY!r}\n{RUN}")
    command = (sys.executable, "main.py", "run_command", "config.json", *words)
    done = project.run(*command, RVRUN_RUN_DIR=str(project.folder / "runs"))
    assert (f"{printed}[]\n", "") == (done.stdout, done.stderr)
    assert len(list((project.folder / "runs" / "records").rglob("*.jsonl"))) == 1
