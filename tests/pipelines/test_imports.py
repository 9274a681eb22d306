from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator

import pytest

import rvrun
from rvrun.errors import UserCodeError
from rvrun.pipelines import imports
from rvrun.pipelines.imports import CannotImport, MissingModule, NoConfigClass
from tests.conftest import Project


class Outer(rvrun.Config):
    class Inner(rvrun.Config):
        size: int = 1


@rvrun.register("tests.old:Outer")
class Moved(Outer):
    pass


@pytest.fixture(autouse=True)
def folder(in_folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The current folder; modules imported from it are removed from `sys.modules` at the end."""
    yield in_folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(in_folder)):
            del sys.modules[name]


def test_a_loose_file_is_imported_once(folder: pathlib.Path) -> None:
    """A file becomes a module of the same name, which later imports return."""
    (folder / "loose.py").write_text("value = [1]\n")
    module = imports.import_source("loose.py")
    assert (module.__name__, module.value) == ("loose", [1])
    assert module is sys.modules["loose"]
    assert module is imports.import_source(str(folder / "loose.py"))


def test_the_folder_of_a_file_is_searched_first(folder: pathlib.Path) -> None:
    """Modules next to a file are found before those in the current folder."""
    (folder / "sub").mkdir()
    (folder / "sub" / "main_of_sub.py").write_text("from beside import where\nimport in_cwd\n")
    (folder / "sub" / "beside.py").write_text("where = 'sub'\n")
    (folder / "beside.py").write_text("where = 'cwd'\n")
    (folder / "in_cwd.py").write_text("")
    assert imports.import_source("sub/main_of_sub.py").where == "sub"
    assert [str(folder / "sub"), str(folder)] == sys.path[:2]


def test_import_paths_are_added_once(folder: pathlib.Path) -> None:
    """Adding the same folders again changes nothing."""
    imports.add_import_paths("a", "b")
    once = list(sys.path)
    imports.add_import_paths("a", "b")
    assert [str(folder / "a"), str(folder / "b")] == sys.path[:2]
    assert once == sys.path


def test_classes_of_a_loose_file_can_be_pickled(project: Project) -> None:
    """Its configs and functions reach a spawned child process, and come back."""
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
def test_a_file_that_cannot_be_imported_is_refused(
    folder: pathlib.Path, path: str, problem: str
) -> None:
    """The error names the file and the problem."""
    (folder / "json.py").write_text("")
    (folder / "noend").write_text("")
    with pytest.raises(CannotImport) as caught:
        imports.import_source(path)
    assert f"cannot import `{folder / path}`: {problem}" == str(caught.value)
    assert sys.modules["json"] is json


def test_two_files_of_the_same_name_clash(folder: pathlib.Path) -> None:
    """A second file of the same name is refused, instead of returning the first one's module."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "twin.py").write_text("")
    imports.import_source("a/twin.py")
    with pytest.raises(CannotImport) as caught:
        imports.import_source("b/twin.py")
    problem = "another module is named `twin`; rename the file"
    assert f"cannot import `{folder}/b/twin.py`: {problem}" == str(caught.value)


@pytest.mark.parametrize(
    ("code", "cause", "problem"),
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
def test_a_failing_file_is_a_user_code_error(
    folder: pathlib.Path, code: str, cause: type[BaseException], problem: str
) -> None:
    """The file's exception is the cause, and no incomplete module remains."""
    (folder / "failing.py").write_text(code)
    with pytest.raises(UserCodeError) as caught:
        imports.import_source("failing.py")
    assert f"importing `{folder / 'failing.py'}` raised {problem}" == str(caught.value)
    assert cause is type(caught.value.__cause__)
    assert "failing" not in sys.modules


def test_a_fixed_file_can_be_imported(folder: pathlib.Path) -> None:
    """After a failure, the file is read again."""
    file = folder / "fixed.py"
    file.write_text("1 / 0\n")
    with pytest.raises(UserCodeError):
        imports.import_source("fixed.py")
    file.write_text("value = 1  # which changes its size, too\n")
    assert imports.import_source("fixed.py").value == 1


def test_an_interrupt_is_not_a_user_code_error(folder: pathlib.Path) -> None:
    """Ctrl-C while a file is imported remains a KeyboardInterrupt."""
    (folder / "slow.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        imports.import_source("slow.py")
    assert "slow" not in sys.modules


def test_a_module_of_the_current_folder_is_found(folder: pathlib.Path) -> None:
    """A module has a dotted name, as in Python; the current folder is searched first."""
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "part.py").write_text("value = 1\n")
    assert imports.import_module("package.part").value == 1


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.part", "json.no_such_part"])
def test_a_module_that_does_not_exist_is_refused(name: str) -> None:
    """A missing module, package or part of one is not an error in the user's code."""
    with pytest.raises(CannotImport) as caught:
        imports.import_module(name)
    assert f"cannot import `{name}`: there is no such module" == str(caught.value)


def test_a_missing_dependency_is_a_user_code_error(folder: pathlib.Path) -> None:
    """The error tells a dependency that is not installed from a module that does not exist."""
    (folder / "needy.py").write_text("import no_such_package\n")
    with pytest.raises(MissingModule) as caught:
        imports.import_module("needy")
    expected = "importing `needy` raised ModuleNotFoundError: No module named 'no_such_package'"
    assert expected == str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    fix = f"install `no_such_package` for {sys.executable}, or add its directory to PYTHONPATH"
    assert fix == caught.value.how_to_fix()


def test_classes_are_found_by_reference() -> None:
    """`module:Class`, `module:Outer.Inner` and registered names work."""
    assert Outer is imports.config_class("tests.pipelines.test_imports:Outer", rvrun.Config)
    assert Outer.Inner is imports.config_class(
        "tests.pipelines.test_imports:Outer.Inner", rvrun.Config
    )
    assert Moved is imports.config_class("tests.old:Outer", rvrun.Config)
    assert Moved is imports.config_class("tests.old:Outer", Outer)


@pytest.mark.parametrize(
    ("type_name", "problem"),
    [
        ("subprocess:Popen", "it is not a subclass of Config"),
        ("os:system", "it is not a subclass of Config"),
        ("builtins:eval", "it is not a subclass of Config"),
        ("rvrun:Pipeline", "it is not a subclass of Config"),
        ("tests.pipelines.test_imports:Project.run", "it is not a subclass of Config"),
        ("os:no_such_thing", "module `os` has no class `no_such_thing`"),
        ("os:path.no_such_thing", "module `os` has no class `path.no_such_thing`"),
        ("os", "it is neither registered nor of the form `module:Class`"),
        (":Class", "it is neither registered nor of the form `module:Class`"),
        ("", "it is neither registered nor of the form `module:Class`"),
        (None, "`$type` must be a string such as `module:Class`"),
        (5, "`$type` must be a string such as `module:Class`"),
    ],
)
def test_only_config_classes_are_found(type_name: object, problem: str) -> None:
    """A reference to anything else is refused."""
    with pytest.raises(NoConfigClass) as caught:
        imports.config_class(type_name, rvrun.Config)
    assert f"saved config of type {type_name!r}: {problem}" == str(caught.value)


def test_a_class_must_have_the_base() -> None:
    """A config class that is not a subclass of the given base is refused."""
    with pytest.raises(NoConfigClass) as caught:
        imports.config_class("tests.pipelines.test_imports:Outer", rvrun.PipelineConfig)
    name = "tests.pipelines.test_imports:Outer"
    expected = f"saved config of type {name!r}: it is not a subclass of PipelineConfig"
    assert expected == str(caught.value)


PLAIN = """
import sys
before = set(sys.modules)
import json
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


def test_a_plain_config_equals_a_structured_one(project: Project) -> None:
    """`plain_config` and `config_from_json` return equal configs of equal hash and repr."""
    code = """
documents = [
    saved(Plain, size=3, rate=2.0, quick=True),
    saved(Plain, size=-(10**30), rate=1e-300, quick=False),
    saved(Plain, **{"root_uri": "s3://b/ä b", "name": "", "size": 0, "rate": -0.0, "quick": True}),
    saved(Versioned, version=2, size=1, rate=1.0, quick=False, depth=4),
]
quick = [plain_config(globals()[d["$type"].split(":")[1]], d) for d in documents]
print(sorted({"attr", "typing"} & set(sys.modules) - before))
from rvrun.pipelines.serialize import config_from_json, config_to_json
slow = [config_from_json(d) for d in documents]
print(quick == slow, list(map(hash, quick)) == list(map(hash, slow)), repr(quick) == repr(slow))
print([config_to_json(c) for c in quick] == documents)
"""
    assert _plain(project, code) == "[]\nTrue True True\nTrue\n"


def test_other_configs_are_not_plain(project: Project) -> None:
    """`plain_config` returns None if values require conversion, an upgrade or a check."""
    code = """
complete = {"size": 3, "rate": 2.0, "quick": True}
cases = {
    "complete": (Plain, saved(Plain, **complete)),
    "a field is missing": (Plain, saved(Plain, size=3, rate=2.0)),
    "an unknown field": (Plain, saved(Plain, **complete, depth=1)),
    "another version": (Plain, saved(Plain, version=2, **complete)),
    "no version": (Plain, {k: v for k, v in saved(Plain, **complete).items() if k != "$version"}),
    "an older version": (Versioned, saved(Versioned, version=1, **complete, depth=1)),
    "a wrong type": (Plain, saved(Plain, **{**complete, "size": "3"})),
    "an int for a float": (Plain, saved(Plain, **{**complete, "rate": 2})),
    "a bool for an int": (Plain, saved(Plain, **{**complete, "size": True})),
    "a field of another type": (Nested, saved(Nested, inner=[])),
    "a check of its own": (Finished, saved(Finished)),
}
print(json.dumps([name for name, case in cases.items() if plain_config(*case) is not None]))
"""
    assert _plain(project, code) == '["complete"]\n'


@pytest.mark.parametrize("first", ["", "Checked(root_uri='')\n"])
def test_a_config_with_validators_is_not_plain(project: Project, first: str) -> None:
    """It is not plain after attrs has processed its class, either."""
    code = f"""
import attrs
class Checked(rvrun.PipelineConfig):
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
{first}
print(plain_config(Checked, saved(Checked, size=0)))
"""
    assert _plain(project, code) == "None\n"


def test_a_plain_config_does_not_depend_on_the_order_of_fields(project: Project) -> None:
    """Fields saved in a different order give an equal config with the same hash and repr."""
    code = """
one = plain_config(Plain, saved(Plain, size=3, rate=2.0, quick=True))
other = plain_config(Plain, saved(Plain, quick=True, rate=2.0, size=3))
print(one == other, hash(one) == hash(other), repr(one) == repr(other))
"""
    assert _plain(project, code) == "True True True\n"


def test_a_plain_config_is_frozen(project: Project) -> None:
    """It refuses changes, and works with attrs once that is imported."""
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
