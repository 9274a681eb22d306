"""Preloading, each time in a process of its own: what is imported is compared with real targets."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from rvrun.pipelines.base import PipelineConfig
from rvrun.pipelines.imports import is_plain, plain_config
from rvrun.warm.preload import identity
from tests.conftest import Project
from tests.warm.modules import SCRIPT, modules

PLAIN = """
import rvrun

class PlainConfig(rvrun.PipelineConfig):
    top: int = 3
    def build(self):
        return Plain(self)

class Plain(rvrun.Pipeline):
    commands = ("chip", "train")
    split_commands = ("chip",)
    def chip(self, split_ind=0, num_splits=1):
        import colorsys
        print("chip")
    def train(self):
        from plistlib import dumps
        from wave import open as open_wave
        print("train")
"""
NESTED = """
from __future__ import annotations

import typing

import rvrun
if typing.TYPE_CHECKING:
    import for_types

class Model(rvrun.Config):
    layers: tuple[int, ...] = (1, 2)

class NestedConfig(rvrun.PipelineConfig):
    model: Model
    extra: dict[str, typing.Any] | None = None
    def build(self):
        from . import work
        return work.Nested(self)
"""
WORK = """
import rvrun
from .lib import helper

class Nested(rvrun.Pipeline):
    commands = ("train",)
    gpu_commands = GPU
    def train(self):
        from .lib.steps import fit
        helper.help_out()
        fit()
"""
#: The models of this pipeline are in a module that only the saved config names.
OTHER = "from proj import Model\nclass Other(Model):\n    import colorsys\n    depth: int = 2\n"
FILES = {
    "plain.py": PLAIN,
    "proj/__init__.py": NESTED,
    "proj/work.py": WORK.replace("GPU", "()"),
    "proj/lib/__init__.py": "",
    "proj/lib/helper.py": "def help_out():\n    from ..lib import names\n",
    "proj/lib/names.py": "import wave\n",
    "proj/lib/steps.py": "def fit():\n    import plistlib, sndhdr_gone as _\n"
    "    raise SystemExit(0)\n".replace(", sndhdr_gone as _", ""),
    "other.py": OTHER,
    "space/inner/steps.py": "",
}


def plain(**fields: Any) -> dict[str, Any]:
    config = {"$type": "plain:PlainConfig", "$version": 1, "root_uri": "out", "name": "p", "top": 5}
    return {"rvrun_config": 1, "source": "plain.py", "config": config | fields}


def nested(model: str = "proj:Model", **fields: Any) -> dict[str, Any]:
    layers: dict[str, Any] = {"$type": model, "$version": 1, "layers": [3]}
    config = {"$type": "proj:NestedConfig", "$version": 1, "root_uri": "out", "name": "p"}
    return {"rvrun_config": 1, "config": config | {"model": layers} | fields}


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a loose file, and a package whose modules import each other lazily."""
    for path, text in FILES.items():
        project.write(path, text)
    return project


SPLIT = ("--split-ind", "0", "--num-splits", "2")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(plain(), ("chip", *SPLIT), id="plain-split"),
        pytest.param(plain(), ("train",), id="plain"),
        pytest.param(plain() | {"source": None}, ("train",), id="plain-module"),
        pytest.param(nested(), ("train",), id="nested"),
        pytest.param(nested("other:Other"), ("train",), id="nested-elsewhere"),
        pytest.param(nested(extra={"$type": "gone:Gone"}), ("train",), id="not-a-config"),
    ],
)
def test_a_target_imports_nothing_more(
    project: Project, document: dict[str, Any], words: tuple[str, ...]
) -> None:
    """All that a fresh target has imported at its end is preloaded."""
    run = {"RVRUN_RUN_DIR": str(project.folder / "runs"), "RVRUN_LOGS": "1"}
    needed = modules(project, document, *words, **run)
    assert len(needed) > 50
    assert needed - modules(project, document) == set()


@pytest.mark.parametrize(
    "declared", ["('train',)", "property(lambda self: ('train',))"], ids=["tuple", "property"]
)
@pytest.mark.parametrize("settings", ["", "[local]\ngpu_slots = 1\n"], ids=["none", "some"])
def test_the_worker_of_a_gpu_target_imports_nothing_more(
    project: Project, declared: str, settings: str
) -> None:
    """It reads the settings, and looks for GPUs."""
    project.write("proj/work.py", WORK.replace("GPU", declared))
    project.write("rvrun.toml", settings)
    needed = modules(project, nested(), "train")
    assert "rvrun.settings.layers" in needed
    assert needed - modules(project, nested()) == set()


def test_restricted_imports_are_preloaded_too(project: Project) -> None:
    """The setting `imports` is obeyed, and what reads it is preloaded."""
    project.write("rvrun.toml", 'imports = "project"\n')
    assert modules(project, plain(), "train") - modules(project, plain()) == set()
    project.write("config.json", json.dumps(plain() | {"source": "/tmp/evil.py"}))
    done = project.run(sys.executable, "modules.py", "config.json", "", code=1)
    assert "NotTrusted" in done.stderr


def test_a_plain_pipeline_loads_no_libraries(project: Project) -> None:
    """Preloading imports what the pipeline needs, and not everything that some pipeline needs."""
    loaded = modules(project, plain())
    assert {"plain", "colorsys", "plistlib", "wave"} <= loaded
    assert not loaded & {"attr", "cattrs", "typeguard", "rvrun.settings.layers", "psutil"}


def test_imports_for_type_checkers_are_left_out(project: Project) -> None:
    """They may be circular, or not be installed."""
    project.write("for_types.py", "")
    assert "for_types" not in modules(project, nested())


def test_lazy_imports_that_fail_are_ignored(project: Project) -> None:
    """A target may never get there. What they imported before they failed does not stay."""
    failing = (
        "    def never(self):\n        import broken\n        import ends\n        import gone\n"
    )
    project.write("plain.py", PLAIN + failing)
    project.write("broken/__init__.py", "from broken import half\n1 / 0\n")
    project.write("broken/half.py", "import sched\n")
    project.write("ends.py", "raise SystemExit(3)\n")
    loaded = modules(project, plain())
    assert {"plistlib", "sched"} <= loaded
    assert not {name for name in loaded if name.startswith(("broken", "ends"))}


@pytest.mark.parametrize(
    ("text", "document", "message"),
    [
        ("1 / 0\n", plain(), "ZeroDivisionError"),
        ("", plain(), "module `plain` has no class `PlainConfig`"),
        ("", plain() | {"source": "gone.py"}, "there is no such file"),
        ("", plain(**{"$type": "gone:Gone"}), "cannot import `gone`"),
    ],
)
def test_what_a_target_raises_is_raised(
    project: Project, text: str, document: dict[str, Any], message: str
) -> None:
    project.write("plain.py", text)
    project.write("config.json", json.dumps(document))
    project.write("modules.py", SCRIPT)
    command = (sys.executable, "modules.py", "config.json", "")
    assert message in project.run(*command, code=1).stderr
    assert message in project.run(*command, "train", code=2).stderr


def test_nothing_is_built(project: Project) -> None:
    """Neither a config nor a pipeline is created."""
    marked = PLAIN.replace(
        "    def build", "    def __init__(self, **fields):\n        BUILT\n    def build"
    )
    project.write("plain.py", marked.replace("return Plain(self)", "BUILT"))
    assert "plistlib" in modules(project, plain())


# Withheld modules


def test_withheld_modules_are_not_imported(project: Project) -> None:
    """What imports them is left out, too, but not the rest of what that imports."""
    project.write("plain.py", "import uses, quopri\n" + PLAIN)
    project.write("uses.py", "import sched\nfrom deep import er\nimport imghdr_\n")
    project.write("imghdr_.py", "def f():\n    import chunk_\n")
    project.write("chunk_.py", "")
    project.write("deep/__init__.py", "import stringprep\nimport nntplib_\n")
    project.write("deep/er.py", "import trace\n")
    project.write("nntplib_.py", "")
    loaded = modules(project, plain(), without="nntplib_")
    assert {"sched", "stringprep", "trace", "quopri", "imghdr_", "chunk_", "plistlib"} <= loaded
    assert not loaded & {"plain", "uses", "deep", "deep.er", "nntplib_"}


@pytest.mark.parametrize("clause", ["except ImportError:", "except:", "except BaseException:"])
def test_no_module_goes_on_without_a_withheld_one(project: Project, clause: str) -> None:
    """Otherwise it would be without it in all targets."""
    swallowing = f"try:\n    import heavy\n{clause}\n    heavy = None\nimport quopri\n"
    project.write("plain.py", "import sched, swallows\n" + PLAIN)
    project.write("swallows.py", swallowing)
    project.write("heavy/__init__.py", "")
    loaded = modules(project, plain(), without="heavy")
    assert {"sched", "quopri", "plistlib"} <= loaded
    assert not loaded & {"heavy", "swallows", "plain"}


def test_a_module_that_swallows_it_last_is_left_out(project: Project) -> None:
    """Even if nothing is imported after it, so that the import succeeds."""
    project.write("plain.py", PLAIN + "try:\n    import heavy.sub\nexcept:\n    pass\n")
    project.write("heavy/__init__.py", "")
    project.write("heavy/sub.py", "")
    loaded = modules(project, plain(), without="heavy.sub")
    assert "plistlib" in loaded
    assert not loaded & {"heavy.sub", "plain"}


def test_modules_that_refer_to_a_half_imported_one_are_left_out(project: Project) -> None:
    """In an import cycle, a module may be complete before the one that it imports is stopped."""
    project.write("plain.py", "import cycle\n" + PLAIN)
    project.write("cycle.py", "class Half: ...\nimport back\nimport heavy\n")
    project.write("back.py", "import cycle\nimport sched\n")
    project.write("heavy.py", "")
    loaded = modules(project, plain(), without="heavy")
    assert "sched" in loaded
    assert not loaded & {"cycle", "back", "heavy"}


#: Code that can run only once in a process.
ONCE = "import sys\nassert not hasattr(sys, 'once')\nsys.once = 1\n"


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"once.py": f"{ONCE}import heavy\n"}, id="stopped"),
        pytest.param(
            {
                "once.py": f"{ONCE}from swallows import heavy\n",
                "swallows.py": "try:\n    import heavy\nexcept:\n    heavy = None\n",
            },
            id="after-one-that-swallows",
        ),
        pytest.param(
            {
                "first.py": "def half(): ...\nimport once, heavy\n",
                "once.py": f"{ONCE}from first import half\n",
            },
            id="cycle",
        ),
    ],
)
def test_the_process_stays_as_if_never_stopped(project: Project, files: dict[str, str]) -> None:
    """What is stopped has no effect, as it is not begun: a target can import all of it."""
    names = [*sorted(files.keys() - {"once.py"}), "once.py"]
    imports = "".join(f"import {name.removesuffix('.py')}\n" for name in names)
    for name, text in files.items():
        project.write(name, text)
    project.write("plain.py", f"{imports}print('out')\n{PLAIN}")
    project.write("heavy.py", "")
    code = (
        "import sys\nfrom rvrun.warm.preload import preload\n"
        "from rvrun.worker.pipeline import read_document\n"
        "before = list(sys.meta_path)\n"
        "preload(read_document('config.json'), 'config.json', ['heavy'])\n"
        "assert before == sys.meta_path\n"
        "assert not {'once', 'plain', 'first', 'swallows', 'heavy'} & sys.modules.keys()\n"
        "assert 'plistlib' in sys.modules and not hasattr(sys, 'once')\n"
        "import plain\nprint(sys.once)\n"
    )
    project.write("config.json", json.dumps(plain()))
    done = project.run(sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == ("out\n1\n", "")


def test_compiled_modules_are_not_begun_either(project: Project) -> None:
    """No line of Python runs while this one is imported, which imports a module in Python."""
    project.write("plain.py", "import _elementtree\n" + PLAIN)
    project.write("config.json", json.dumps(plain()))
    code = (
        "import sys\nfrom rvrun.warm.preload import preload\n"
        "from rvrun.worker.pipeline import read_document\n"
        "loaded = []\n"
        # With a path, this is the event of loading a library.
        "sys.addaudithook(lambda event, args: event == 'import' and args[1] and "
        "loaded.append(args[0]))\n"
        "preload(read_document('config.json'), 'config.json', ['xml.etree.ElementPath'])\n"
        "print('_elementtree' in loaded)\n"
        "import _elementtree\nprint('_elementtree' in loaded)\n"
    )
    assert project.run(sys.executable, "-c", code).stdout == "False\nTrue\n"


def test_what_code_prints_appears_once(project: Project) -> None:
    """The child process that finds out what is stopped imports it, too."""
    project.write("plain.py", "import prints, heavy\n" + PLAIN)
    project.write("prints.py", "import os\nos.write(1, b'a')\nos.write(2, b'b')\n")
    project.write("heavy.py", "")
    project.write("config.json", json.dumps(plain()))
    project.write("modules.py", SCRIPT)
    done = project.run(sys.executable, "modules.py", "config.json", "heavy")
    assert (done.stdout, done.stderr) == ("a", "b")


def test_code_on_s3_is_refused(project: Project) -> None:
    """Each target reads it anew, and none has the same copy."""
    project.write("config.json", json.dumps(plain() | {"source": "s3://bucket/plain.py"}))
    project.write("modules.py", SCRIPT)
    done = project.run(sys.executable, "modules.py", "config.json", "", code=1)
    assert done.stderr.endswith(
        "CannotPreload: s3://bucket/plain.py cannot be imported once for all targets: it is not on "
        "this machine, and each target reads it again\n"
    )


# Identity


def test_the_identity_is_that_of_the_imports() -> None:
    """Values do not count; source and classes do."""
    same = identity(plain())
    assert same == identity(plain(top=7, root_uri="elsewhere"))
    assert same != identity(plain() | {"source": "plain2.py"})
    assert same != identity(plain(**{"$type": "plain:Other"}))
    assert identity(nested()) != identity(nested("other:Other"))
    assert identity(nested()) == identity(nested(extra={"type_hint": "a"}))


def test_the_identity_of_another_systems_config() -> None:
    """It has the type hints, wherever they are; fields of other names do not count."""

    def document(hint: str, **fields: str) -> dict[str, Any]:
        config = {"type_hint": "tiles", "parts": [{"type_hint": hint, **fields}]}
        return {"adapter": "rastervision", "source": None, "name": "tiles", "config": config}

    assert identity(document("a")) == identity(document("a", **{"$type": "b"}))
    assert identity(document("a")) != identity(document("b"))


class Flat(PipelineConfig):
    top: int = 1


def test_plain_configs_are_recognized() -> None:
    """Exactly those that `plain_config` creates: none, once attrs has prepared the class."""
    saved = {"$type": "", "$version": 1, "root_uri": "", "name": ""}
    for top in (1, 1.5, [1]):
        values = saved | {"top": top}
        assert is_plain(Flat, values) == (plain_config(Flat, values) is not None)
        assert top == 1 or not is_plain(Flat, values)
