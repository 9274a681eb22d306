"""The layout: the order of packages, one door per library, no runner named outside of its folder.

All of it is read from the source, and what the worker imports is seen in a process, too.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import json
import re
import statistics
import sys
from collections.abc import Iterator, Mapping

import pytest

from rvrun.plugins import runner_names
from tests.conftest import ROOT, Project

PACKAGE = ROOT / "rvrun"
#: A module or package may import those before it, at its top, in functions and for types alone.
FOUNDATION = (
    "streams",
    "text",
    "errors",
    "inputs",
    "paths",
    "environment",
    "plugins",
    "split_ranges",
    "memory_limit",
    "cpus",
    "secret_marks",
    "signals",
    "prctl",
    "processes",
    "tracebacks",
    "item_list",
    "model",
    "finding",
    "path_parts",
    "patterns",
    "globs",
)
ORDER = (
    *FOUNDATION,
    "aws",
    "pipelines",
    "programs",
    "adapters",
    "load",
    "code",
    "data",
    "plan",
    "render",
    "settings",
    "rundir",
    "worker",
    "warm",
    "remote",
    "runners",
    "observe",
    "report",
    "prepare",
    "reviewed",
    "testing",
    "checks",
    "cli",
    "__main__",
)
#: What `import rvrun` imports: the face that users see, which is not part of the order.
FACE = ""
#: Where each library may be imported; an entry that ends in `/` is a folder.
DOORS = {
    "jinja2": ("render/jinja.py",),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "psutil": ("processes.py",),
    "cattrs": ("pipelines/serialize.py",),
    "typeguard": ("pipelines/base.py",),
    "boto3": ("aws/client.py",),
    "botocore": ("aws/client.py", "aws/request_check.py"),
    "stamina": ("aws/client.py",),
    "rastervision": ("adapters/raster_vision/",),
}
#: What the worker of every target imports, so nothing slow is imported at their top.
LIGHT = (
    "__init__.py",
    "__main__.py",
    "adapters/registry.py",
    "aws/storage.py",
    "environment.py",
    "errors.py",
    "inputs.py",
    "item_list.py",
    "path_parts.py",
    "paths.py",
    "patterns.py",
    "pipelines/base.py",
    "pipelines/imports.py",
    "pipelines/items.py",
    "plugins.py",
    "rundir/marks.py",
    "rundir/own_files.py",
    "rundir/planned_stage.py",
    "rundir/records.py",
    "rundir/target_lock.py",
    "programs/container.py",
    "programs/engines.py",
    "programs/pipeline.py",
    "programs/process.py",
    "programs/program.py",
    "programs/script.py",
    "programs/template.py",
    "rundir/times.py",
    "settings/files.py",
    "signals.py",
    "split_ranges.py",
    "cpus.py",
    "streams.py",
    "text.py",
    "tracebacks.py",
    "worker/call.py",
    "worker/limits.py",
    "worker/pipeline.py",
    "worker/split_index.py",
    "worker/forks.py",
    "worker/item_work.py",
    "worker/target.py",
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


@functools.cache
def imports() -> dict[str, set[str]]:
    """The libraries that each module imports, wherever in it."""
    return {
        path: {name.split(".")[0] for node in ast.walk(tree) for name in imported(node)}
        for path, tree in sources().items()
    }


def importers(library: str) -> list[str]:
    return [path for path, libraries in imports().items() if library in libraries]


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
    assert importers("boto3") == ["aws/client.py"]
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


def part_of(name: str) -> str:
    """The part of the package that a module is in: `aws` of `rvrun.aws.client`."""
    return [*name.split("."), FACE][1]


def internal_imports(path: str, tree: ast.Module) -> Iterator[str]:
    """The parts that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (part_of(a.name) for a in node.names if a.name.split(".")[0] == "rvrun")
        elif isinstance(node, ast.ImportFrom) and node.module == "rvrun":
            parts = {alias.name for alias in node.names}
            yield from (part if part in ORDER else FACE for part in parts)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rvrun."):
            yield part_of(str(node.module))


@functools.cache
def part_graph() -> Mapping[str, set[str]]:
    """The parts that each part imports."""
    graph: dict[str, set[str]] = {part: set() for part in ORDER}
    for path, tree in sources().items():
        part = path.split("/")[0].removesuffix(".py")
        if part != "__init__":
            graph[part] |= set(internal_imports(path, tree)) - {part, FACE}
    return graph


def test_every_part_is_in_the_order() -> None:
    """A new package or module has to be given its place."""
    parts = {path.split("/")[0].removesuffix(".py") for path in sources()}
    assert sorted(parts - {"__init__"} - set(ORDER)) == []


@pytest.mark.parametrize("part", ORDER)
def test_a_part_imports_only_parts_before_it(part: str) -> None:
    """At its top, inside of functions and under TYPE_CHECKING."""
    allowed = ORDER[: ORDER.index(part)]
    assert sorted(part_graph()[part] - set(allowed)) == []


def test_the_parts_have_no_cycle() -> None:
    """The order says so too; this also holds should the order become a partial one."""
    assert len(list(graphlib.TopologicalSorter(part_graph()).static_order())) >= len(ORDER)


def test_packages_have_no_logic() -> None:
    """An `__init__.py` is empty, so that importing a module imports no other."""
    paths = [path for path in sources() if path.endswith("/__init__.py")]
    assert [path for path in paths if (PACKAGE / path).read_text(encoding="utf-8")] == []


def test_no_runner_is_named_outside_of_its_folder() -> None:
    """Adding one touches nothing else. `runners/builtin.py` lists them for mypy alone."""
    names = [name for name in runner_names() if name != "local"]
    # `batch_sz` is a field of Raster Vision's configs.
    word = re.compile(rf"({'|'.join(names)})(?!_sz\b)", re.IGNORECASE)
    own = tuple(f"runners/{name}/" for name in runner_names())
    others = [p for p in sources() if not p.startswith((*own, "runners/builtin.py"))]
    text = {path: (PACKAGE / path).read_text(encoding="utf-8") for path in others}
    assert {path for path in others if word.search(text[path])} == set()


def test_the_default_runner_is_named_once() -> None:
    """`local` is also a word, so only strings that are just that are looked for."""
    strings = [
        path
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == "local"
    ]
    assert [path for path in strings if not path.startswith("runners/local/")] == [
        "runners/builtin.py",
        "runners/registry.py",
    ]


def test_what_detached_runners_share_does_not_mention_aws() -> None:
    """Other services and schedulers should be able to use it too."""
    verbs = tuple(f"cli/{verb}.py" for verb in ("detached", "list_runs", "logs", "retry", "status"))
    shared = [p for p in sources() if p.startswith(("remote/", "observe/", *verbs))]
    shared += ["runners/submissions.py", "runners/protocol.py", "runners/problems.py"]
    text = {path: (PACKAGE / path).read_text(encoding="utf-8") for path in shared}
    aws = re.compile(r"\bAWS\b|boto|SubmitJob|CloudWatch", re.IGNORECASE)
    mentions = {
        path: [line for line in text[path].splitlines() if aws.search(line)] for path in shared
    }
    allowed = "from rvrun.aws import storage"
    assert {p: lines for p, lines in mentions.items() if set(lines) - {allowed}} == {}


def function_lengths(outside: str) -> list[tuple[int, str]]:
    """The lines of each function without its docstring, and where it is; not those in `outside`."""
    lengths = []
    for path, tree in sources().items():
        if path.startswith(outside):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                has_docstring = ast.get_docstring(node) is not None
                first = node.body[1] if has_docstring and len(node.body) > 1 else node.body[0]
                length = (node.end_lineno or 0) - first.lineno + 1
                lengths.append((length, f"{path}:{node.name}"))
    return sorted(lengths, reverse=True)


def test_functions_are_short() -> None:
    """None is longer than 40 lines, and nine of ten have at most 20."""
    lengths = function_lengths("cli/")
    assert [place for length, place in lengths if length > 40] == []
    assert statistics.quantiles([length for length, _ in lengths], n=10)[-1] <= 20


@pytest.mark.parametrize("path", LIGHT)
def test_the_workers_modules_import_nothing_heavy(path: str) -> None:
    """At their top there are the standard library's light modules and each other."""
    allowed = {
        ".".join(["rvrun", *name.removesuffix(".py").split("/")]).removesuffix(".__init__")
        for name in LIGHT
    }
    names = []
    for node in sources()[path].body:
        if isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names += [node.module] if node.module in allowed - {"rvrun"} else sorted(full)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    ours = {name for name in names if name.startswith("rvrun.")}
    modules = {name if name in allowed else name.rpartition(".")[0] for name in ours}
    assert modules - allowed == set()
    assert [name for name in names if name.split(".")[0] in HEAVY] == []


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
