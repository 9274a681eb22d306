"""Find the adapter of another system's configs, which run unchanged.

An adapter is a module that satisfies `protocol.Adapter`. Neither it nor its system is imported
before a config of that system is loaded. Light on purpose: the worker looks here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from rvrun.errors import RvrunError, check_known
from rvrun.pipelines.imports import MissingModule, add_import_paths, user_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, cast

    from rvrun.adapters.protocol import Adapter

#: Adapters by system: the top-level package of a config's class, or of one of its bases.
ADAPTERS = {"rastervision": "rvrun.adapters.raster_vision.adapter"}
#: The key of a saved config that names its system; rvrun's own configs do not have it.
KEY = "adapter"
#: Keys that identify configs which a system saved itself.
MARKS = {"type_hint": "rastervision"}


class NotInstalled(RvrunError):
    """A config of a system that is not installed here."""

    system: str
    executable: str = sys.executable
    template = (
        "cannot import `{system}`, which this config requires; "
        "install it (pip install {system}-pipeline)"
    )
    fix = "install `{system}-pipeline` for {executable}"


@contextlib.contextmanager
def set_up_for(source: str, verbosity: int = 0) -> Iterator[None]:
    """Set up the systems that a user's file or module imports, so that it can be imported.

    As their own command lines do: some plugins can only be imported after their system. A system
    that is not installed is skipped, as the user's own import reports that better.
    """
    with contextlib.ExitStack() as stack:
        for system in _imported_systems(source):
            with contextlib.suppress(NotInstalled):
                stack.enter_context(find(system).set_up(verbosity))
        yield


def _imported_systems(source: str) -> list[str]:
    """The systems that the code of `source` imports, or that it is a module of."""
    if source.endswith(".py") or os.sep in source:
        packages = set(_imported_packages(source))
    elif (package := source.partition(".")[0]) in ADAPTERS:
        packages = {package}
    else:
        packages = {name for path in _module_files(source) for name in _imported_packages(path)}
    return [system for system in ADAPTERS if system in packages]


def _module_files(module: str) -> Iterator[str]:
    """The files that importing `module` runs: its own, and those of the packages it is in."""
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    add_import_paths(os.getcwd())
    package, *parts = module.split(".")
    try:
        spec = find_spec(package) if package else None
    except ValueError:  # a module without a spec, such as `__main__`
        return
    while spec is not None:
        yield spec.origin or ""
        if not parts or spec.submodule_search_locations is None:
            return
        # Not `find_spec` of the full name: it would import the package, which is user code.
        spec = PathFinder.find_spec(parts.pop(0), list(spec.submodule_search_locations))


def _imported_packages(path: str) -> Iterator[str]:
    """The top-level packages that a file's code imports; none if it cannot be read or parsed."""
    import ast

    from rvrun.pipelines.import_statements import parse

    tree = parse(path)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def of_config(config: object) -> Adapter | None:
    """Return the adapter of the system that `config` comes from, or None."""
    for cls in type(config).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ADAPTERS:
            return find(package)
    return None


def of_document(document: Mapping[str, Any]) -> Adapter | None:
    """Return the adapter of the system that a saved config comes from; None if it is rvrun's."""
    if KEY in document:
        return find(document[KEY])
    return next((find(system) for mark, system in MARKS.items() if mark in document), None)


def is_own(document: object) -> bool:
    """Whether `document` is a config that another system saved itself."""
    return isinstance(document, dict) and any(mark in document for mark in MARKS)


def wrapped(document: dict[str, Any]) -> dict[str, Any]:
    """Return a saved config as rvrun saves it, converted if another system saved it."""
    adapter = of_document(document) if is_own(document) else None
    return document if adapter is None else adapter.wrap(document)


def find(system: object) -> Adapter:
    """Import the adapter of `system`, and with it the system; the current folder is searched too.

    Raises `UnknownName`, `NotInstalled`, or `UserCodeError` if a plugin of the system raises.
    """
    check_known("adapter", system if isinstance(system, str) else repr(system), tuple(ADAPTERS))
    assert isinstance(system, str)
    add_import_paths(os.getcwd())
    try:
        # Importing a system imports its plugins, which are the user's code.
        with user_code(f"importing `{system}` and its plugins"):
            module = importlib.import_module(ADAPTERS[system])
    except MissingModule as error:
        if error.module in (system, f"{system}.pipeline"):
            raise NotInstalled(system) from None
        raise
    return cast("Adapter", module) if TYPE_CHECKING else module
