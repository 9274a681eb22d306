"""Which definitions a command reaches: many small programs, each with one edit."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

import pytest

from rvrun.code.reach import Reached, Roots, reach
from rvrun.code.summary import Summary, summarise

#: The beginning of each program: a pipeline with the commands `chip` and `train`.
LAND = """
import rvrun
class Land(rvrun.Pipeline):
    commands = ("chip", "train")
"""


class Program:
    """Modules by name, as text."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        packages = {name.rpartition(".")[0] for name in modules}
        self.summaries: dict[str, Summary] = {
            name: summarise(name, text.encode(), is_package=name in packages)
            for name, text in modules.items()
        }

    def summary(self, name: str) -> Summary | None:
        return self.summaries.get(name)

    def submodules(self, package: str) -> Iterator[str]:
        return (name for name in self.summaries if name.rpartition(".")[0] == package)


def reached(
    modules: Mapping[str, str],
    command: str = "chip",
    pipeline: tuple[str, ...] = ("Land",),
    configs: tuple[str, ...] = (),
) -> Reached:
    """What a command of the pipeline in `land` reaches; classes are named without their module."""
    return reach(
        Program(modules),
        Roots(
            pipeline=(*(("land", name) for name in pipeline), ("rvrun.pipelines.base", "Pipeline")),
            configs=tuple(("land", name) for name in configs),
            config=("land", configs[0]) if configs else None,
            modules=("land",),
            commands=("chip", "train"),
        ),
        command,
    )


def body(text: str, more: str = "", imports: str = "") -> dict[str, str]:
    """The module `land`, whose class has the members in `text`."""
    members = textwrap.indent(textwrap.dedent(text), "    ")
    start = textwrap.dedent(imports)
    return {"land": f"{start}{LAND}{members}\n{textwrap.dedent(more)}"}


#: Name: members of the pipeline, the rest of its module, other modules, and what `chip` reaches
#: apart from the class and the method itself.
CASES: dict[str, tuple[str, str, dict[str, str], set[str]]] = {
    "nothing else": ("def chip(self): return 1", "def other(): pass", {}, set()),
    "a function": ("def chip(self): f()", "def f(): g()\ndef g(): pass", {}, {"f", "g"}),
    "a function as a value": ("def chip(self): map(f, ())", "def f(): pass", {}, {"f"}),
    "a local variable of the same name": (
        "def chip(self):\n f = 1\n f",
        "def f(): pass",
        {},
        set(),
    ),
    "a parameter of the same name": ("def chip(self, f=1): f()", "def f(): pass", {}, set()),
    "a default argument": ("def chip(self, x=f()): pass", "def f(): pass", {}, {"f"}),
    "a name in a comprehension": (
        "def chip(self): return [f for f in ()]",
        "def f(): pass",
        {},
        set(),
    ),
    "a name after a comprehension": (
        "def chip(self):\n [f for f in ()]\n f()",
        "def f(): pass",
        {},
        {"f"},
    ),
    "a nested function": (
        "def chip(self):\n def inner(): f()\n inner()",
        "def f(): pass",
        {},
        {"f"},
    ),
    "a lambda": ("def chip(self): return lambda x: f(x)", "def f(x): pass", {}, {"f"}),
    "a decorator": (
        "def chip(self): g()",
        "def timed(f): return f\n@timed\ndef g(): pass\n@timed\ndef h(): pass",
        {},
        {"g", "timed"},
    ),
    "a constant": ("def chip(self): return A", "A = B + 1\nB = 2\nC = 3", {}, {"A", "B"}),
    "a constant made by a call": ("def chip(self): A", "A = f()\ndef f(): pass", {}, {"A", "f"}),
    "an annotation": ("def chip(self, x: A = 1) -> A: pass", "class A: pass", {}, set()),
    "a method through self": (
        "def chip(self): self.f()\ndef f(self): pass\ndef g(self): pass",
        "",
        {},
        {"Land.f"},
    ),
    "a property": (
        "def chip(self): self.f\n@property\ndef f(self): return A",
        "A = 1",
        {},
        {"Land.f", "A"},
    ),
    "a class attribute": (
        "size = A\nother = B\ndef chip(self): self.size",
        "A = B = 1",
        {},
        {"Land.size", "A"},
    ),
    "a method in a nested function": (
        "def chip(self):\n def inner(): self.f()\n inner()\ndef f(self): pass",
        "",
        {},
        {"Land.f"},
    ),
    "getattr with a constant": (
        "def chip(self): getattr(self, 'f')()\ndef f(self): pass",
        "",
        {},
        {"Land.f"},
    ),
    "type(self)": (
        "def chip(self): type(self).f()\n@classmethod\ndef f(cls): pass",
        "",
        {},
        {"Land.f"},
    ),
    "a static method by the class": (
        "def chip(self): Land.f()\n@staticmethod\ndef f(): pass\ndef g(self): pass",
        "",
        {},
        {"Land.f"},
    ),
    "self given away": (
        "def chip(self): use(self)\ndef f(self): pass\ndef g(self): pass",
        "def use(x): x.f()",
        {},
        {"use", "Land.f"},
    ),
    "a class and the methods that are named": (
        "def chip(self): Tiler().cut()",
        "class Tiler:\n def __init__(self): pass\n def cut(self): self.inner()\n"
        " def inner(self): pass\n def other(self): pass",
        {},
        {"Tiler", "Tiler.__init__", "Tiler.cut", "Tiler.inner"},
    ),
    "a base class": (
        "def chip(self): B().f()",
        "class A:\n def f(self): pass\n def g(self): pass\nclass B(A): pass",
        {},
        {"A", "A.f", "B"},
    ),
    "super": (
        "def chip(self): B().f()",
        "class A:\n def f(self): pass\nclass B(A):\n def f(self): super().f()",
        {},
        {"A", "A.f", "B", "B.f"},
    ),
    "a class with a foreign base": (
        "def chip(self): Net()",
        "import torch\nclass Net(torch.Module):\n def forward(self): f()\ndef f(): pass",
        {},
        {"Net", "Net.forward", "f"},
    ),
    "fields": (
        "def chip(self): Tile(1)",
        "import typing\nclass Tile(typing.NamedTuple):\n a: int = A\nA = 1",
        {},
        {"Tile", "Tile.a", "A"},
    ),
    "an enum": (
        "def chip(self): list(Kind)",
        "import enum\nclass Kind(enum.Enum):\n A = 1",
        {},
        {"Kind", "Kind.A"},
    ),
    "code at import": (
        "def chip(self): pass",
        "TABLE = {}\nTABLE['a'] = f\ndef f(): pass",
        {},
        {"<module>", "TABLE", "f"},
    ),
    "a script": (
        "def chip(self): pass",
        "if __name__ == '__main__':\n f()\ndef f(): pass",
        {},
        set(),
    ),
    "a registry": (
        "def chip(self): TABLE['a']()",
        "TABLE = {}\ndef add(f):\n TABLE['a'] = f\n return f\n@add\ndef a(): b()\ndef b(): pass",
        {},
        {"TABLE", "add", "a", "b"},
    ),
    "subclasses that a base notices": (
        "def chip(self): pass",
        "class A:\n def __init_subclass__(cls): pass\nclass B(A):\n def f(self): pass",
        {},
        {"A", "A.__init_subclass__", "B", "B.f"},
    ),
    "a module": (
        "def chip(self): windows.share()",
        "import windows",
        {"windows": "def share(): size()\ndef size(): pass\ndef other(): pass"},
        {"windows.share", "windows.size"},
    ),
    "a name of a module": (
        "def chip(self): s()",
        "from windows import share as s",
        {"windows": "def share(): pass\ndef other(): pass"},
        {"windows.share"},
    ),
    "a star import": (
        "def chip(self): share()",
        "from windows import *",
        {"windows": "def share(): pass\ndef other(): pass"},
        {"windows.share"},
    ),
    "an import in a function": (
        "def chip(self):\n from windows import share\n share()",
        "",
        {"windows": "print(1)\ndef share(): pass\ndef other(): pass"},
        {"windows.share", "windows.<module>"},
    ),
    "an import in another function": (
        "def chip(self): pass\ndef train(self):\n import windows",
        "",
        {"windows": "print(1)"},
        set(),
    ),
    "what an import runs": (
        "def chip(self): pass",
        "import a",
        {"a": "import b", "b": "print(f())\ndef f(): pass"},
        {"b.<module>", "b.f"},
    ),
    "a package": (
        "def chip(self): pack.windows.share()",
        "import pack.windows",
        {
            "pack": "",
            "pack.windows": "from . import sizes as s\nfrom .sizes import N\ndef share(): s.f(N)",
            "pack.sizes": "N = 1\ndef f(n): pass",
        },
        {"pack.windows.share", "pack.sizes.f", "pack.sizes.N"},
    ),
    "a name that a package exports": (
        "def chip(self): share()",
        "from pack import share",
        {"pack": "from .windows import share", "pack.windows": "def share(): pass"},
        {"pack.windows.share"},
    ),
    "modules that import each other": (
        "def chip(self): a.f()",
        "import a",
        {
            "a": "import b\nfrom b import g\ndef f(): g()",
            "b": "import a\ndef g(): a.f()",
        },
        {"a.f", "b.g"},
    ),
    "import_module with a constant": (
        "def chip(self): importlib.import_module('windows').share()",
        "import importlib",
        {"windows": "def share(): pass\ndef other(): pass"},
        {"windows.*"},
    ),
}


def relative(names: Mapping[str, str]) -> set[str]:
    """Names without `land.`, and without what every command reaches."""
    short = {name.removeprefix("land.") for name in names}
    return short - {"Land", "Land.chip"}


@pytest.mark.parametrize("name", CASES)
def test_what_is_reached(name: str) -> None:
    """Neither less nor more than that."""
    members, rest, modules, expected = CASES[name]
    result = reached({**body(members, rest), **modules})
    assert relative(result.hashes) == expected
    assert set(result.reasons) == {item.removesuffix(".*") for item in expected if ".*" in item}


#: What cannot be resolved, and the reason that the fingerprint states.
WHOLE = {
    "def chip(self): getattr(self, self.x)()": "getattr with a computed name in `land.Land.chip`",
    "def chip(self): exec('x')": "exec() in `land.Land.chip`",
    "def chip(self): eval('x')": "eval() in `land.Land.chip`",
    "def chip(self): globals()['x']()": "globals() in `land.Land.chip`",
    "def chip(self): __import__(self.x)": "an import of a computed name in `land.Land.chip`",
    "def chip(self): vars(self)['x']": "vars() in `land.Land.chip`",
    "def chip(self): missing()": "`missing` is not defined in it",
    "def chip(self): map(getattr, (), ())": "getattr as a value in `land.Land.chip`",
    "def other(self): pass": "`chip` is not defined in a class of it",
}


@pytest.mark.parametrize("members", WHOLE)
def test_what_cannot_be_resolved_counts_as_a_whole(members: str) -> None:
    """The whole module, with all that it refers to, and the reason."""
    result = reached(body(members, "def f(): pass"))
    assert set(result.hashes) == {"land.*"}
    assert result.reasons == {"land": WHOLE[members]}
    other = reached(body(members, "def f(): return 1"))
    assert result.hashes != other.hashes


def test_a_star_import_of_others() -> None:
    """A name that is not defined may come from there."""
    result = reached(body("def chip(self): array()", "from numpy import *"))
    assert result.reasons == {"land": "`array` is not defined in it; it may come from numpy"}


def test_a_module_that_is_changed_from_outside() -> None:
    """What a name of it means is not known any more."""
    modules = {"windows": "def share(): pass\ndef f(): pass"}
    members = "def chip(self): windows.share = None"
    result = reached({**body(members, "import windows"), **modules})
    assert result.reasons == {"windows": "`land.Land.chip` assigns to `windows.share`"}


def test_an_import_with_a_computed_end() -> None:
    """All modules of that package count as a whole."""
    members = "def chip(self): importlib.import_module(f'models.{self.kind}')"
    modules = {"models": "", "models.a": "def f(): pass", "models.b": "A = 1"}
    result = reached({**body(members, "import importlib"), **modules})
    assert set(result.hashes) == {"land.*", "models.a.*", "models.b.*"}


def test_a_module_as_a_value() -> None:
    """Whoever gets it may look up any name."""
    modules = {"windows": "def share(): pass"}
    result = reached({**body("def chip(self): print(windows)", "import windows"), **modules})
    assert result.reasons == {"windows": "`land.Land.chip` uses it as a value"}


def test_another_library_under_the_same_name() -> None:
    """What an import means is part of the code that uses the name."""
    members, rest = "def chip(self): np.array()", "def f(): np.sum()"
    first = reached(body(members, rest, "import numpy as np"))
    second = reached(body(members, rest, "import cupy as np"))
    assert first.hashes.keys() == second.hashes.keys()
    assert first.hashes != second.hashes


def test_methods_of_base_classes() -> None:
    """Methods are looked up in the order in which Python does, and so is `super`."""
    text = """
    import rvrun
    class Base(rvrun.Pipeline):
        def chip(self): self.f()
        def f(self): return 1
        def g(self): return 2
    class Land(Base):
        def f(self): return super().f()
    """
    result = reached({"land": textwrap.dedent(text)}, pipeline=("Land", "Base"))
    names = {"Base", "Base.chip", "Base.f", "Land", "Land.f"}
    assert set(result.hashes) == {f"land.{name}" for name in names}


CONFIG = """
import rvrun
class Scene(rvrun.Config):
    image: str = "{image}"
    size: {size} = 3
    def path(self): return {path}
    def other(self): return 1
class LandConfig(rvrun.PipelineConfig):
    scene: Scene
    def build(self): return Land(self, {build})
def get_config(runner): return LandConfig(scene=Scene(image="{get}"))
class Land(rvrun.Pipeline):
    def chip(self): self.config.scene.path(), self.config.scene.size
    def train(self): pass
    def path(self): pass
"""
DEFAULTS = {"image": "a", "size": "int", "path": "1", "build": "1", "get": "x"}


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({}, set()),
        ({"image": "b"}, set()),
        ({"get": "y"}, set()),
        ({"size": "float"}, {"chip"}),
        ({"path": "2"}, {"chip"}),
        ({"build": "2"}, {"chip", "train"}),
    ],
)
def test_configs(change: dict[str, str], stale: set[str]) -> None:
    """Values are in the saved config; methods, types and `build` are code."""
    before = {"land": CONFIG.format(**DEFAULTS)}
    after = {"land": CONFIG.format(**DEFAULTS | change)}
    classes = ("LandConfig", "Scene")
    changed = {
        command
        for command in ("chip", "train")
        if reached(before, command, configs=classes).hashes
        != reached(after, command, configs=classes).hashes
    }
    assert changed == stale
    # The pipeline that `build` creates is not an object whose class is unknown.
    assert "land.Land.path" not in reached(before, configs=classes).hashes


def test_a_file_that_cannot_be_parsed() -> None:
    """It counts with all of its text."""
    members = "def chip(self):\n import broken"
    result = reached({**body(members), "broken": "def f(:"})
    assert result.reasons == {"broken": "it cannot be parsed: SyntaxError"}
    other = reached({**body(members), "broken": "def f(::"})
    assert result.hashes != other.hashes


#: Edits of a function that do not change what it does.
SAME = {
    "a comment": "def f(a, b=1):\n    # why\n    x = a + b  # this\n    return x\n",
    "a docstring": "def f(a, b=1):\n    'Add.'\n    x = a + b\n    return x\n",
    "layout": "def f(\n    a,\n    b = 1,\n):\n\n    x = (a\n      + b)\n\n    return x\n",
    "semicolons": "def f(a, b=1): x = a + b; return x\n",
    "annotations": "def f(a: int, b: int = 1) -> int:\n    x: int = a + b\n    return x\n",
    "lines before it": "\n\n# more\ndef f(a, b=1):\n    x = a + b\n    return x\n",
    "notation": "def f(a, b=0x1):\n    x = a + b\n    return x\n",
    "other code": "def f(a, b=1):\n    x = a + b\n    return x\ndef g(): pass\n",
    "pass": "def f(a, b=1):\n    pass\n    x = a + b\n    return x\n",
}
CHANGED = {
    "a default": "def f(a, b=2):\n    x = a + b\n    return x\n",
    "a type": "def f(a, b=1.0):\n    x = a + b\n    return x\n",
    "an operator": "def f(a, b=1):\n    x = a - b\n    return x\n",
    "a name": "def f(a, b=1):\n    y = a + b\n    return y\n",
    "a statement": "def f(a, b=1):\n    x = a + b\n    x += 1\n    return x\n",
    "a decorator": "@print\ndef f(a, b=1):\n    x = a + b\n    return x\n",
    "async": "async def f(a, b=1):\n    x = a + b\n    return x\n",
    "None": "def f(a, b=None):\n    x = a + b\n    return x\n",
}
ORIGINAL = "def f(a, b=1):\n    x = a + b\n    return x\n"


@pytest.mark.parametrize("edit", [*SAME, *CHANGED])
def test_edits_of_a_function(edit: str) -> None:
    """Exactly those that change what it does change the hash."""
    members = "def chip(self): f(1)"
    before = reached(body(members, ORIGINAL)).hashes
    after = reached(body(members, {**SAME, **CHANGED}[edit])).hashes
    assert (before == after) == (edit in SAME)
