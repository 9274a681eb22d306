"""Import the user's code: a file, a module, the class of a saved config.

Light on purpose: this is the worker's way to its pipeline.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from rvrun.aws import storage
from rvrun.errors import RvrunError, UserCodeError, describe
from rvrun.pipelines.base import (
    REGISTERED,
    Config,
    InvalidType,
    InvalidValue,
    own_annotations,
)
from rvrun.tracebacks import innermost_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

#: Keys of a saved config. `$` keeps them apart from fields, which are Python names.
TYPE = "$type"
#: The key of another system's saved config: the path of the file that the system keeps below the
#: root. The first target writes it; without it, the root was removed with all that was done there.
ROOT_FILE = "root_file"
VERSION = "$version"


class CannotImport(RvrunError):
    """A file or module that does not exist or cannot be imported under its name."""

    name: str
    problem: str
    executable: str = sys.executable
    template = "cannot import `{name}`: {problem}"
    fix = "name a file, or a module that {executable} can import from here"


class MissingModule(UserCodeError):
    """The user's code imports a module that is not installed."""

    module: str
    executable: str = sys.executable
    fix = "install `{module}` for {executable}, or add its directory to PYTHONPATH"


class SavedConfigError(RvrunError):
    """A saved config whose values do not fit; `place` is its path, if that is known."""

    # Not a fact: `naming` adds it, as what converts values does not know their file.
    place = ""

    def describe(self) -> str:
        """Return the message without the path."""
        return super().__str__()

    def __str__(self) -> str:
        if not self.place:
            return self.describe()
        return f"{self.place}: {self.describe()}; {self.how_to_fix()}"

    def how_to_fix(self) -> str:
        if not self.place:
            return super().how_to_fix()
        return "correct that file, or save it again with `rvrun render`"


@contextlib.contextmanager
def naming(place: str) -> Iterator[None]:
    """Let errors in a saved config name its file."""
    try:
        yield
    except SavedConfigError as error:
        error.place = error.place or place
        raise


class NoConfigClass(SavedConfigError):
    """A type in a saved config that is not the name of a suitable config class."""

    type_name: object
    problem: str
    template = "saved config of type {type_name!r}: {problem}"


class InvalidField(RvrunError):
    """A value that a config's field does not accept, where the user's code created the config.

    - `problem`: a sentence with the field, the rule and the value. `place`: `file:line`, or empty.
    - `remedy`: what to change, as an imperative.
    """

    problem: str
    field: str
    place: str = ""
    remedy: str = "change that value"

    def __str__(self) -> str:
        return f"{self.place}{': ' if self.place else ''}{self.problem}; {self.remedy}"

    def how_to_fix(self) -> str:
        return self.remedy


@contextlib.contextmanager
def user_code(action: str) -> Iterator[None]:
    """Turn any exception of the user's code into a `UserCodeError` with that cause.

    - `action`: what the code is doing: "building pipeline `tiny`".

    An `RvrunError` passes as it is; so does an interrupt. A value that a config refuses is an
    `InvalidField`.
    """
    try:
        yield
    except RvrunError:
        raise
    except (InvalidType, InvalidValue) as error:
        # The rule says it all; a traceback would end in attrs or in rvrun.
        raise InvalidField(str(error), error.field, innermost_place(error)) from None
    except (Exception, SystemExit) as error:
        problem = f"{action} raised {describe(error)}"
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise MissingModule(problem, error.name) from error
        raise UserCodeError(problem) from error


class BadSource(RvrunError):
    """A `source` in a saved config that is not a Python file."""

    place: str
    problem: str
    source: object
    template = (
        "{place}: `source` must be {problem}, got {source!r}; save the config again with "
        "`rvrun render`"
    )
    fix = "save the config again with `rvrun render`"


class NotTrusted(RvrunError):
    """Code in a place from which the setting `imports` does not allow it."""

    name: str
    folder: str
    template = (
        "`{name}` must be in {folder} or in an installed package, because of the setting "
        '`imports = "project"`; move it, or set `imports = "any"` if you trust it'
    )
    fix = 'move it, or set `imports = "any"` if you trust it'


#: The only directory, besides installed packages, from which a config's code may be imported; empty
#: for any. Process-wide, as imports are: the class of a nested config is imported deep in cattrs.
_trusted: list[str] = []


def restrict_to(folder: str | None) -> None:
    """Import the code of configs only from `folder` and installed packages; None for anywhere.

    What that code imports is its own business.
    """
    _trusted[:] = [] if folder is None else [folder]


def _check_trusted(name: str, *paths: str) -> None:
    """Raise `NotTrusted` unless all of `paths`, at least one, are where code may be."""
    if not _trusted:
        return
    import site

    # Not the standard library: it has no configs, and importing some of it does something.
    folders = [*_trusted, *site.getsitepackages(), site.getusersitepackages()]
    roots = [os.path.join(os.path.realpath(folder), "") for folder in folders]
    if not paths or not all(os.path.realpath(path).startswith(tuple(roots)) for path in paths):
        raise NotTrusted(name, *_trusted)


def _check_trusted_module(name: str) -> None:
    """Raise `NotTrusted` unless the package of a module is where code may be. Imports nothing."""
    # This package is imported already, wherever it is installed.
    if not _trusted or name.partition(".")[0] == __name__.partition(".")[0]:
        return
    from importlib.util import find_spec

    try:
        spec = find_spec(name.partition(".")[0])
    except ValueError:  # a module without a spec, such as `__main__`
        return
    if spec is not None:
        places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
        _check_trusted(name, *places)


def import_saved_source(source: object, place: str) -> ModuleType:
    """Import the `source` of the saved config at `place`. Raises what `import_source` raises.

    A saved config may come from anyone, so what it names is looked at first. Raises `BadSource`.
    """
    if not isinstance(source, str):
        raise BadSource(place, "a path or null", source)
    if "\0" in source or not os.path.basename(source).removesuffix(".py"):
        raise BadSource(place, "the path of a Python file", source)
    if not source.endswith(".py"):
        raise BadSource(place, "a path that ends in `.py`", source)
    is_remote = storage.scheme(source)
    if is_remote and not storage.is_on_s3(source):
        raise BadSource(place, f"a path or an {storage.S3} URI", source)
    if not is_remote and os.path.lexists(source) and not os.path.isfile(source):
        raise BadSource(place, "a regular file", source)
    return import_source(source)


def add_import_paths(*folders: str) -> None:
    """Search `folders` for imports, in this order, before all other folders."""
    for folder in map(os.path.abspath, reversed(folders)):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def import_source(path: str) -> ModuleType:
    """Import the loose Python file at `path`, or at an S3 URI, as a module of the same name.

    A file is imported once. Its own folder and the current one are searched for its imports, as
    if the file were run. Being in `sys.modules` under its name, its classes can be pickled to
    child processes. Raises `CannotImport`, `CannotReach` or `UserCodeError`.
    """
    from importlib.util import module_from_spec, spec_from_file_location

    # Before it is fetched: code on S3 is never in the project.
    _check_trusted(path, *([] if storage.scheme(path) else [path]))
    path = storage.fetch(path) if storage.scheme(path) else os.path.abspath(path)
    name = os.path.basename(path).removesuffix(".py")
    if name in sys.modules:
        return _imported_before(name, path)
    if not os.path.isfile(path):
        raise CannotImport(path, "there is no such file")
    add_import_paths(os.path.dirname(path), os.getcwd())
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CannotImport(path, "its name does not end in `.py`")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with user_code(f"importing `{path}`"):
            spec.loader.exec_module(module)
    except BaseException:
        # A later import must read the file again, not get a module that lacks its end.
        del sys.modules[name]
        raise
    return module


def _imported_before(name: str, path: str) -> ModuleType:
    module = sys.modules[name]
    origin = getattr(module, "__file__", None)
    if origin is None or not os.path.exists(path) or not os.path.samefile(origin, path):
        raise CannotImport(path, f"another module is named `{name}`; rename the file")
    return module


def import_module(name: str) -> ModuleType:
    """Import the module called `name`; the current folder is searched first.

    Raises `CannotImport` or `UserCodeError`.
    """
    add_import_paths(os.getcwd())
    if not all(name.split(".")) or "\0" in name:
        raise CannotImport(name, "there is no such module")
    _check_trusted_module(name)
    try:
        with user_code(f"importing `{name}`"):
            return importlib.import_module(name)
    except MissingModule as error:
        # What is missing is the module itself, or the package it would be in.
        if f"{name}.".startswith(f"{error.module}."):
            raise CannotImport(name, "there is no such module") from None
        raise


def config_class(type_name: object, base: type[Config]) -> type[Config]:
    """Return the class that a saved config's `$type` names: registered, or `module:Class`.

    Raises `NoConfigClass` unless it is `base` or a subclass of it. That limits which objects a file
    can create, but not which code runs: the module that it names is imported first. Whoever does
    not trust the file restricts the modules with the setting `imports` (`restrict_to`).
    """
    if not isinstance(type_name, str):
        raise NoConfigClass(type_name, f"`{TYPE}` must be a string such as `module:Class`")
    cls: object = REGISTERED.get(type_name) or _imported_class(type_name)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise NoConfigClass(type_name, f"it is not a subclass of {base.__name__}")
    return cls


def _imported_class(type_name: str) -> object:
    module_name, _, qualname = type_name.partition(":")
    if not module_name or not qualname:
        raise NoConfigClass(type_name, "it is neither registered nor of the form `module:Class`")
    value: Any = sys.modules.get(module_name) or import_module(module_name)
    for name in qualname.split("."):
        value = getattr(value, name, None)
    if value is None:
        raise NoConfigClass(type_name, f"module `{module_name}` has no class `{qualname}`")
    return value


#: Types whose values need no conversion, by how annotations name them: as they are, and as
#: strings, which `from __future__ import annotations` makes of them. A plain `dict` has only JSON
#: values, as it was the same after saving and reading.
_PLAIN_TYPES: dict[object, type] = {
    annotation: type_
    for type_ in (str, int, float, bool, dict)
    for annotation in (type_, type_.__name__)
}
#: A class that defines any of these customizes how instances are created.
_CREATION = {"__init__", "__new__", "__slots__", "__attrs_pre_init__", "__attrs_post_init__"}


def plain_config(cls: type[Config], saved: dict[str, Any]) -> Config | None:
    """Return the config saved as `saved` if it is plain, else None."""
    fields = _plain_fields(cls, saved)
    if fields is None:
        return None
    config = object.__new__(cls)
    config.__dict__.update(fields)
    return config


def is_plain(cls: type[Config], saved: dict[str, Any]) -> bool:
    """Whether the config saved as `saved` requires neither attrs nor cattrs.

    It requires neither if `cls` has only fields of type str, int, float, bool and dict, none of
    them an `attrs.field`, and all were saved by the same version. The values were validated when
    saved.
    """
    return _plain_fields(cls, saved) is not None


def _plain_fields(cls: type[Config], saved: dict[str, Any]) -> dict[str, Any] | None:
    """The values of a plain config, in the order of its fields; None if it is not plain."""
    fields = {name: value for name, value in saved.items() if name not in (TYPE, VERSION)}
    types = _plain_types(cls)
    if types is None or types.keys() != fields.keys():
        return None
    if saved.get(VERSION) != cls.config_version:
        return None
    if any(type(value) is not types[name] for name, value in fields.items()):
        return None
    return {name: fields[name] for name in types}


def _plain_types(cls: type[Config]) -> dict[str, type] | None:
    """The type of each field, in order; None if one is not plain, or creation is customized."""
    types: dict[str, type] = {}
    for base in reversed(cls.__mro__):
        if base in (Config, object):
            continue
        if not _CREATION.isdisjoint(base.__dict__):
            return None
        for name, annotation in own_annotations(base).items():
            default = base.__dict__.get(name)
            if default is not None and type(default) not in _PLAIN_TYPES:
                return None
            if not isinstance(annotation, str | type) or annotation not in _PLAIN_TYPES:
                return None
            types[name] = _PLAIN_TYPES[annotation]
    return types
