from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

import pytest

import rvrun
from rvrun.errors import UserCodeError
from rvrun.pipelines import imports as resolve
from rvrun.pipelines.imports import CannotImport, NoConfigClass
from tests.conftest import Project


class Outer(rvrun.Config):
    class Inner(rvrun.Config):
        size: int = 1


@rvrun.register("tests.old:Outer")
class Moved(Outer):
    pass


@pytest.fixture(autouse=True)
def folder(in_folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The current folder; modules imported from it are forgotten at the end."""
    yield in_folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(in_folder)):
            del sys.modules[name]


def test_a_loose_file_is_imported_once(folder: pathlib.Path) -> None:
    """A file becomes the module of its name, the same one each time."""
    (folder / "loose.py").write_text("value = [1]\n")
    module = resolve.import_source("loose.py")
    assert (module.__name__, module.value) == ("loose", [1])
    assert module is sys.modules["loose"]
    assert module is resolve.import_source(str(folder / "loose.py"))


def test_the_folder_of_a_file_is_searched_first(folder: pathlib.Path) -> None:
    """What stands beside a file is found before what stands in the current folder."""
    (folder / "sub").mkdir()
    (folder / "sub" / "main_of_sub.py").write_text("from beside import where\nimport in_cwd\n")
    (folder / "sub" / "beside.py").write_text("where = 'sub'\n")
    (folder / "beside.py").write_text("where = 'cwd'\n")
    (folder / "in_cwd.py").write_text("")
    assert resolve.import_source("sub/main_of_sub.py").where == "sub"
    assert [str(folder / "sub"), str(folder)] == sys.path[:2]


def test_import_paths_are_added_once(folder: pathlib.Path) -> None:
    """Adding folders again changes nothing."""
    resolve.add_import_paths("a", "b")
    once = list(sys.path)
    resolve.add_import_paths("a", "b")
    assert [str(folder / "a"), str(folder / "b")] == sys.path[:2]
    assert once == sys.path


def test_its_classes_go_to_spawned_processes(project: Project) -> None:
    """Configs and functions of a loose file can be pickled to a spawned child and back."""
    project.write(
        "sub/spoken.py",
        "import rvrun\n"
        "class Word(rvrun.Config):\n    text: str\n"
        "def double(word):\n    return Word(text=2 * word.text)\n",
    )
    project.write(
        "main.py",
        "import multiprocessing\n"
        "from rvrun.pipelines.imports import import_source\n"
        "if __name__ == '__main__':\n"
        "    spoken = import_source('sub/spoken.py')\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(spoken.double, [spoken.Word(text='la')]))\n",
    )
    assert project.run(sys.executable, "main.py").stdout == "[Word(text='lala')]\n"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("gone.py", "there is no such file"),
        ("json.py", "another module is named `json`; rename the file"),
        ("noend", "its name does not end in `.py`"),
    ],
)
def test_a_file_that_cannot_be_a_module_is_refused(
    folder: pathlib.Path, path: str, problem: str
) -> None:
    """The error names the file and what to do."""
    (folder / "json.py").write_text("")
    (folder / "noend").write_text("")
    with pytest.raises(CannotImport) as caught:
        resolve.import_source(path)
    assert f"cannot import `{folder / path}`: {problem}" == str(caught.value)
    assert sys.modules["json"] is json


def test_two_files_of_one_name_clash(folder: pathlib.Path) -> None:
    """A second file of a name already imported is refused, not taken for the first."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "twin.py").write_text("")
    resolve.import_source("a/twin.py")
    with pytest.raises(CannotImport) as caught:
        resolve.import_source("b/twin.py")
    problem = "another module is named `twin`; rename the file"
    assert f"cannot import `{folder}/b/twin.py`: {problem}" == str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause", "said"),
    [
        ("1 / 0\n", ZeroDivisionError, "ZeroDivisionError: division by zero"),
        ("def (:\n", SyntaxError, "SyntaxError: invalid syntax (failing.py, line 1)"),
        (
            "import no_such_package\n",
            ModuleNotFoundError,
            "ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("raise SystemExit(3)\n", SystemExit, "SystemExit: 3"),
    ],
)
def test_a_failing_file_is_the_users_error(
    folder: pathlib.Path, text: str, cause: type[BaseException], said: str
) -> None:
    """What a file raises is kept as the cause, and no half module is left."""
    (folder / "failing.py").write_text(text)
    with pytest.raises(UserCodeError) as caught:
        resolve.import_source("failing.py")
    assert f"importing `{folder / 'failing.py'}` raised {said}" == str(caught.value)
    assert cause is type(caught.value.__cause__)
    assert "failing" not in sys.modules


def test_a_mended_file_can_be_imported(folder: pathlib.Path) -> None:
    """After a failure the file is read anew."""
    file = folder / "mended.py"
    file.write_text("1 / 0\n")
    with pytest.raises(UserCodeError):
        resolve.import_source("mended.py")
    file.write_text("value = 1  # and so it is another size\n")
    assert resolve.import_source("mended.py").value == 1


def test_an_interrupt_is_no_error_of_the_file(folder: pathlib.Path) -> None:
    """Ctrl-C while a file is imported stays what it is."""
    (folder / "slow.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        resolve.import_source("slow.py")
    assert "slow" not in sys.modules


def test_a_module_of_the_current_folder_is_found(folder: pathlib.Path) -> None:
    """A module is named as Python names it; the current folder is searched first."""
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "part.py").write_text("value = 1\n")
    assert resolve.import_module("package.part").value == 1


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.part", "json.no_such_part"])
def test_a_module_that_is_not_there_is_named(name: str) -> None:
    """A missing module, package or part of one is no error of the user's code."""
    with pytest.raises(CannotImport) as caught:
        resolve.import_module(name)
    assert f"cannot import `{name}`: there is no such module" == str(caught.value)


def test_a_module_that_imports_a_missing_one_is_the_users_error(folder: pathlib.Path) -> None:
    """A dependency that is not installed is told from a module that is not there."""
    (folder / "needy.py").write_text("import no_such_package\n")
    with pytest.raises(UserCodeError) as caught:
        resolve.import_module("needy")
    expected = "importing `needy` raised ModuleNotFoundError: No module named 'no_such_package'"
    assert expected == str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_classes_are_found_by_reference() -> None:
    """`module:Class`, `module:Outer.Inner` and registered names all work."""
    assert Outer is resolve.config_class("tests.pipelines.test_imports:Outer", rvrun.Config)
    assert Outer.Inner is resolve.config_class(
        "tests.pipelines.test_imports:Outer.Inner", rvrun.Config
    )
    assert Moved is resolve.config_class("tests.old:Outer", rvrun.Config)
    assert Moved is resolve.config_class("tests.old:Outer", Outer)


@pytest.mark.parametrize(
    ("type_name", "problem"),
    [
        ("subprocess:Popen", "it is no Config"),
        ("os:system", "it is no Config"),
        ("builtins:eval", "it is no Config"),
        ("rvrun:Pipeline", "it is no Config"),
        ("tests.pipelines.test_imports:Project.run", "it is no Config"),
        ("os:no_such_thing", "module `os` has no class `no_such_thing`"),
        ("os:path.no_such_thing", "module `os` has no class `path.no_such_thing`"),
        ("os", "it is neither registered nor of the form `module:Class`"),
        (":Class", "it is neither registered nor of the form `module:Class`"),
        ("", "it is neither registered nor of the form `module:Class`"),
        (None, "`$type` must be a text such as `module:Class`"),
        (5, "`$type` must be a text such as `module:Class`"),
    ],
)
def test_nothing_but_config_classes_is_found(type_name: object, problem: str) -> None:
    """A reference to anything else is refused, naming it."""
    with pytest.raises(NoConfigClass) as caught:
        resolve.config_class(type_name, rvrun.Config)
    assert f"saved config of type {type_name!r}: {problem}" == str(caught.value)


def test_a_class_must_be_of_the_base_asked_for() -> None:
    """A config of another branch is as wrong as none."""
    with pytest.raises(NoConfigClass) as caught:
        resolve.config_class("tests.pipelines.test_imports:Outer", rvrun.PipelineConfig)
    expected = "saved config of type 'tests.pipelines.test_imports:Outer': it is no PipelineConfig"
    assert expected == str(caught.value)


PLAIN = """
import json, sys
import rvrun
from rvrun.pipelines.imports import plain_config

class Plain(rvrun.PipelineConfig):
    size: int = 1
    rate: float = 0.5
    quick: bool = False

class Versioned(Plain):
    config_version = 2
    depth: int = 1

class Nested(rvrun.PipelineConfig):
    inner: tuple[int, ...] = ()

class Finished(rvrun.PipelineConfig):
    def __attrs_post_init__(self): pass

def saved(cls, version=1, **fields):
    return {"$type": f"__main__:{cls.__name__}", "$version": version, "root_uri": "out",
            "name": "n", **fields}
"""


def _plain(project: Project, code: str) -> str:
    project.write("main.py", PLAIN + code)
    return project.run(sys.executable, "main.py").stdout


def test_the_quick_way_makes_the_same_config(project: Project) -> None:
    """`plain_config` gives what the slow way does: equal, same hash, repr and fields."""
    code = """
documents = [
    saved(Plain, size=3, rate=2.0, quick=True),
    saved(Plain, size=-(10**30), rate=1e-300, quick=False),
    saved(Plain, **{"root_uri": "s3://b/ä b", "name": "", "size": 0, "rate": -0.0, "quick": True}),
    saved(Versioned, version=2, size=1, rate=1.0, quick=False, depth=4),
]
quick = [plain_config(globals()[d["$type"].split(":")[1]], d) for d in documents]
print(sorted({"attr", "typing"} & set(sys.modules)))
from rvrun.pipelines.serialize import config_from_json, config_to_json
slow = [config_from_json(d) for d in documents]
print(quick == slow, list(map(hash, quick)) == list(map(hash, slow)), repr(quick) == repr(slow))
print([config_to_json(c) for c in quick] == documents)
"""
    assert _plain(project, code) == "[]\nTrue True True\nTrue\n"


def test_the_quick_way_is_left_where_it_would_not_do(project: Project) -> None:
    """`plain_config` gives None for all that needs conversion, upgrade or a check."""
    code = """
whole = {"size": 3, "rate": 2.0, "quick": True}
cases = {
    "whole": (Plain, saved(Plain, **whole)),
    "a field is missing": (Plain, saved(Plain, size=3, rate=2.0)),
    "one too many": (Plain, saved(Plain, **whole, depth=1)),
    "another version": (Plain, saved(Plain, version=2, **whole)),
    "no version": (Plain, {k: v for k, v in saved(Plain, **whole).items() if k != "$version"}),
    "an older version": (Versioned, saved(Versioned, version=1, **whole, depth=1)),
    "a wrong type": (Plain, saved(Plain, **{**whole, "size": "3"})),
    "an int for a float": (Plain, saved(Plain, **{**whole, "rate": 2})),
    "a bool for an int": (Plain, saved(Plain, **{**whole, "size": True})),
    "a field of another type": (Nested, saved(Nested, inner=[])),
    "a check of its own": (Finished, saved(Finished)),
}
print(json.dumps([name for name, case in cases.items() if plain_config(*case) is not None]))
"""
    assert _plain(project, code) == '["whole"]\n'


@pytest.mark.parametrize("made", ["", "Checked(root_uri='')\n"])
def test_the_quick_way_is_left_for_fields_with_validators(project: Project, made: str) -> None:
    """An `attrs.field` takes the slow way, also once its class was made an attrs class."""
    code = f"""
import attrs
class Checked(rvrun.PipelineConfig):
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
{made}
print(plain_config(Checked, saved(Checked, size=0)))
"""
    assert _plain(project, code) == "None\n"


def test_the_quick_way_is_blind_to_the_order_of_fields(project: Project) -> None:
    """Fields saved in another order give an equal config with the same hash and repr."""
    code = """
one = plain_config(Plain, saved(Plain, size=3, rate=2.0, quick=True))
other = plain_config(Plain, saved(Plain, quick=True, rate=2.0, size=3))
print(one == other, hash(one) == hash(other), repr(one) == repr(other))
"""
    assert _plain(project, code) == "True True True\n"


def test_a_config_of_the_quick_way_is_as_frozen(project: Project) -> None:
    """It refuses changes, and attrs works on it once imported."""
    code = """
one = plain_config(Plain, saved(Plain, size=3, rate=2.0, quick=True))
try:
    one.size = 4
except AttributeError as error:
    print(error)
import attrs
print(attrs.evolve(one, size=5))
"""
    expected = (
        "Plain is frozen: `size` cannot be set\n"
        "Plain(root_uri='out', name='n', size=5, rate=2.0, quick=True)\n"
    )
    assert expected == _plain(project, code)
