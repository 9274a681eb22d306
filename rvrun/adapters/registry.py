"""Configs of other systems, which run here as they are: which adapter knows them.

An adapter is a module that satisfies `Adapter`. Neither it nor its system is imported before a
config of that system was met. Light on purpose: the worker looks here.
"""

from __future__ import annotations

import importlib
import os

from rvrun.errors import RvrunError, UserCodeError, check_known, describe
from rvrun.pipelines.imports import CannotImport, add_import_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, cast

    from rvrun.adapters.protocol import Adapter

#: Adapters, by the top-level package that a config's class, or one of its bases, comes from.
ADAPTERS = {"rastervision": "rvrun.adapters.raster_vision.config"}
#: The key of a saved config that says whose it is; rvrun's own have none.
KEY = "adapter"
#: Keys by which a system's own saved configs are known.
MARKS = {"type_hint": "rastervision"}


def meet(source: str, verbosity: int = 0) -> None:
    """Import and set up the systems that a user's file or module speaks of, before it does.

    As their own command lines do: their plugins may not be importable in another order. What is
    not installed is passed over, since the user's own import tells that better.
    """
    text = source + _text(source)
    for system in ADAPTERS:
        if system in text:
            try:
                find(system).set_up(verbosity)
            except CannotImport:
                continue


def _text(source: str) -> str:
    """The code of a file or module; empty where that cannot be read."""
    from importlib.util import find_spec

    path: str | None = source
    if not source.endswith(".py") and os.sep not in source:
        try:
            spec = find_spec(source)
        except (ImportError, AttributeError, ValueError):
            return ""
        path = spec.origin if spec else None
    try:
        with open(path or "", encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def of_config(config: object) -> Adapter | None:
    """The adapter that knows `config`; None for what is no config of another system."""
    for cls in type(config).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ADAPTERS:
            return find(package)
    return None


def of_document(document: Mapping[str, Any]) -> Adapter | None:
    """The adapter that a saved config names, or by whose marks it is known; None for rvrun's."""
    if KEY in document:
        return find(document[KEY])
    return next((find(system) for mark, system in MARKS.items() if mark in document), None)


def is_own(document: object) -> bool:
    """Whether `document` is a config that another system saved itself."""
    return isinstance(document, dict) and any(mark in document for mark in MARKS)


def wrapped(document: dict[str, Any]) -> dict[str, Any]:
    """A saved config as rvrun saves it: itself, unless another system saved it."""
    adapter = of_document(document) if is_own(document) else None
    return document if adapter is None else adapter.wrap(document)


def find(system: object) -> Adapter:
    """The adapter of `system`, which is imported for that; the current folder is searched too."""
    check_known("adapter", system if isinstance(system, str) else repr(system), tuple(ADAPTERS))
    assert isinstance(system, str)
    add_import_paths(os.getcwd())
    try:
        module = importlib.import_module(ADAPTERS[system])
    except ModuleNotFoundError as error:
        if error.name not in (system, f"{system}.pipeline"):
            raise _user_error(system, error) from error
        problem = f"this config is of that system; install it (pip install {system}-pipeline)"
        raise CannotImport(system, problem) from None
    except Exception as error:
        raise _user_error(system, error) from error
    return cast("Adapter", module) if TYPE_CHECKING else module


def _user_error(system: str, error: Exception) -> RvrunError:
    """Importing a system imports its plugins, which are the user's code."""
    return UserCodeError(f"importing `{system}` and its plugins raised {describe(error)}")
