"""From names to the user's code: a file or module imported, a config class found, a config made.

Light on purpose: this is the worker's way to its pipeline.
"""

from __future__ import annotations

import importlib
import os
import sys

from rvrun.aws import storage
from rvrun.errors import RvrunError, UserCodeError, describe
from rvrun.pipelines.base import REGISTERED, Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

#: Keys of a saved config. `$` keeps them apart from fields, which are Python names.
TYPE = "$type"
VERSION = "$version"


class CannotImport(RvrunError):
    """A file, module or class that is not there to import."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot import `{self.name}`: {self.problem}"


class NoConfigClass(RvrunError):
    """A type reference in a saved config that names no class it may make."""

    def __init__(self, type_name: object, problem: str) -> None:
        self.type_name = type_name
        self.problem = problem

    def __str__(self) -> str:
        return f"saved config of type {self.type_name!r}: {self.problem}"


def add_import_paths(*folders: str) -> None:
    """Let `folders` be searched for imports, the first one first, before all others."""
    for folder in map(os.path.abspath, reversed(folders)):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def import_source(path: str) -> ModuleType:
    """Import the loose Python file at `path`, or at an S3 URI, as a module named like it, once.

    Its own folder and the current one are searched for what it imports, as if it were run.
    Being in `sys.modules` under its name, its classes can be pickled to child processes.
    """
    from importlib.util import module_from_spec, spec_from_file_location

    path = storage.fetch(path) if storage.scheme(path) else os.path.abspath(path)
    name = os.path.basename(path).removesuffix(".py")
    if name in sys.modules:
        return _already_imported(name, path)
    if not os.path.isfile(path):
        raise CannotImport(path, "there is no such file")
    add_import_paths(os.path.dirname(path), os.getcwd())
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CannotImport(path, "its name does not end in `.py`")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _user_error(path, error) from error
    return module


def _already_imported(name: str, path: str) -> ModuleType:
    module = sys.modules[name]
    origin = getattr(module, "__file__", None)
    if origin is None or not os.path.exists(path) or not os.path.samefile(origin, path):
        raise CannotImport(path, f"another module is named `{name}`; rename the file")
    return module


def import_module(name: str) -> ModuleType:
    """Import the module called `name`; the current folder is searched first."""
    add_import_paths(os.getcwd())
    if not all(name.split(".")):
        raise CannotImport(name, "there is no such module")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise CannotImport(name, "there is no such module") from None
        raise _user_error(name, error) from error
    except Exception as error:
        raise _user_error(name, error) from error


def _user_error(name: str, error: BaseException) -> BaseException:
    if not isinstance(error, (Exception, SystemExit)):
        return error
    return UserCodeError(f"importing `{name}` raised {describe(error)}")


def config_class(type_name: object, base: type[Config]) -> type[Config]:
    """The class that a saved config's `$type` names: registered, or `module:Class`.

    Raises `NoConfigClass` unless it is `base` or a subclass of it, so that a file can make
    nothing but what the user's code declares.
    """
    if not isinstance(type_name, str):
        raise NoConfigClass(type_name, f"`{TYPE}` must be a text such as `module:Class`")
    found: object = REGISTERED.get(type_name) or _imported_class(type_name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise NoConfigClass(type_name, f"it is no {base.__name__}")
    return found


def _imported_class(type_name: str) -> object:
    module_name, _, qualname = type_name.partition(":")
    if not module_name or not qualname:
        raise NoConfigClass(type_name, "it is neither registered nor of the form `module:Class`")
    found: Any = sys.modules.get(module_name) or import_module(module_name)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if found is None:
        raise NoConfigClass(type_name, f"module `{module_name}` has no class `{qualname}`")
    return found


#: Annotations that need no conversion, as they are and as `from __future__` leaves them.
_PLAIN_TYPES = (str, int, float, bool)
_PLAIN: tuple[tuple[object, type], ...] = tuple(
    (annotation, type_) for type_ in _PLAIN_TYPES for annotation in (type_, type_.__name__)
)


#: A class that has any of these makes its instances in a way of its own.
_OWN_WAYS = {"__init__", "__new__", "__slots__", "__attrs_pre_init__", "__attrs_post_init__"}


def plain_config(cls: type[Config], saved: dict[str, Any]) -> Config | None:
    """The config saved as `saved`, where that takes neither attrs nor cattrs, else None.

    That is where `cls` has only fields of type str, int, float and bool, all of them saved, by
    the same version, and none of them an `attrs.field`. The values were validated when saved.
    """
    fields = {name: value for name, value in saved.items() if name not in (TYPE, VERSION)}
    types = _plain_types(cls)
    if types is None or types.keys() != fields.keys():
        return None
    if saved.get(VERSION) != cls.config_version:
        return None
    if any(type(value) is not types[name] for name, value in fields.items()):
        return None
    config = object.__new__(cls)
    config.__dict__.update((name, fields[name]) for name in types)
    return config


def _plain_types(cls: type[Config]) -> dict[str, type] | None:
    types: dict[str, type] = {}
    for base in reversed(cls.__mro__):
        if base in (Config, object):
            continue
        if not _OWN_WAYS.isdisjoint(base.__dict__):
            return None
        for name, annotation in base.__annotations__.items():
            default = base.__dict__.get(name)
            if default is not None and type(default) not in _PLAIN_TYPES:
                return None
            plain = next((type_ for known, type_ in _PLAIN if known == annotation), None)
            if plain is None:
                return None
            types[name] = plain
    return types
