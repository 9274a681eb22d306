"""Import what the targets of a saved config import, in a process that will be forked for each.

1. what a target imports to open its pipeline: the source file, and the classes of all configs
2. what the code found there imports inside of functions: `def train(self): import torch`
3. what the worker itself imports on the way

Nothing is built and no method is called. Code is scanned if the user might edit it, or if it is in
the package of a config's class.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from typing import Any

from rvrun.adapters import registry as adapters
from rvrun.aws import storage
from rvrun.errors import RvrunError
from rvrun.pipelines import imports
from rvrun.pipelines.base import Config, Pipeline, PipelineConfig
from rvrun.pipelines.import_statements import Import, find_imports
from rvrun.pipelines.user_files import is_user_file, module_file
from rvrun.warm.withholding import Withholding, withholding
from rvrun.worker.pipeline import restrict_imports

#: What the worker of every target imports at its end.
WORKER = ("resource", "traceback")
#: What the worker imports for a config that is more than strings, numbers and booleans.
CONVERSION = ("rvrun.pipelines.declare", "rvrun.pipelines.serialize", "typeguard")
#: What it imports for a command that needs a GPU.
GPU = ("rvrun.worker.gpu_slots", "shutil", "subprocess")


class CannotPreload(RvrunError):
    """A source that each target must import itself."""

    source: str
    template = (
        "{source} cannot be imported once for all targets: it is not on this machine, and each "
        "target reads it again"
    )


def identity(document: dict[str, Any]) -> str:
    """Return a string that is equal for saved configs whose targets import the same."""
    return json.dumps(
        [document.get(adapters.KEY), document.get("source"), sorted(_type_names(document))]
    )


def _type_names(document: dict[str, Any]) -> set[str]:
    """The names of the classes of all configs in a saved config."""
    system = document.get(adapters.KEY)
    marks = (mark for mark, name in adapters.MARKS.items() if name == system)
    return set(_strings(document["config"], next(marks, imports.TYPE)))


def _strings(values: Any, key: str) -> Iterator[str]:
    """All strings called `key` in JSON values."""
    if isinstance(values, dict):
        if isinstance(values.get(key), str):
            yield values[key]
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _strings(value, key)


def preload(document: dict[str, Any], uri: str, without: Sequence[str] = ()) -> None:
    """Import what targets of the saved config `document`, read from `uri`, would import.

    - `without`: modules that must not be imported, nor any below them. A module that imports one of
      them is left out, too, but not the other modules that it imports.

    Obeys the setting `imports`. Raises `CannotPreload`, or what a target would raise if the source
    or the class of the config cannot be imported. Ignores errors of other imports, which targets
    may never reach.
    """
    source = document.get("source")
    if isinstance(source, str) and storage.scheme(source):
        raise CannotPreload(source)
    # Before anything is withheld that rvrun's own settings may require.
    restrict_imports()
    refused: set[str] = set()
    if without:
        from rvrun.warm.scout import scout

        refused = scout(lambda finder: _load(finder, document, uri), without)
    with withholding(without, refused) as finder:
        _load(finder, document, uri)


def _load(finder: Withholding, document: dict[str, Any], uri: str) -> None:
    loader = _Loader(finder)
    is_own = adapters.KEY not in document
    import_classes = _import_classes if is_own else _import_classes_of_system
    classes = import_classes(document, uri, finder)
    loader.follow(classes)
    loader.import_all(WORKER)
    if is_own and not (classes and imports.is_plain(classes[0], document["config"])):
        loader.import_all(CONVERSION)
    if not is_own or _has_gpu_commands(Pipeline):
        loader.import_all(GPU)
        _import_settings(finder)


def _import_classes_of_system(
    document: dict[str, Any], uri: str, finder: Withholding
) -> list[type[Any]]:
    """Import another system, its adapter, and the classes of a config of that system."""
    classes: list[type[Any]] = []
    with finder.attempt():
        adapter = adapters.of_document(document)
        assert adapter is not None
        classes += adapter.config_classes(document)
    return classes


def _import_classes(document: dict[str, Any], uri: str, finder: Withholding) -> list[type[Any]]:
    """Import the classes of rvrun's own saved config, the pipeline's first."""
    if document.get("source"):
        with finder.attempt():
            imports.import_saved_source(document["source"], uri)
    name = document["config"].get(imports.TYPE)
    classes: list[type[Any]] = []
    with imports.naming(uri), finder.attempt():
        classes.append(imports.config_class(name, PipelineConfig))
    for nested in sorted(_type_names(document) - {name}):
        # A dictionary of the user's own may look like a config.
        with contextlib.suppress(Exception, SystemExit), finder.attempt():
            classes.append(imports.config_class(nested, Config))
    return classes


def _has_gpu_commands(cls: type[Pipeline]) -> bool:
    """Whether a class of pipelines has GPU commands, or a property that may return some."""
    declared = next((vars(base)["gpu_commands"] for base in cls.__mro__ if _declares(base)), ())
    return bool(declared) or any(map(_has_gpu_commands, cls.__subclasses__()))


def _declares(cls: type) -> bool:
    return "gpu_commands" in vars(cls)


def _import_settings(finder: Withholding) -> None:
    """Import what reading the settings imports, by reading them."""
    with contextlib.suppress(RvrunError), finder.attempt():
        from rvrun.settings.layers import load_settings
        from rvrun.settings.schema import MachineSettings

        load_settings().of(MachineSettings)


class _Loader:
    """Imports what code imports inside of functions, and in turn what that code imports."""

    def __init__(self, finder: Withholding) -> None:
        self.finder = finder
        #: Modules to scan: those that are loaded from now on.
        self.before = frozenset(sys.modules)
        self.packages: set[str] = set()
        self.scanned: set[str] = set()
        self.requested: dict[Import, None] = {}

    def follow(self, classes: Sequence[type]) -> None:
        """Import what the modules of config classes, and the user's own code, may import later."""
        names = {cls.__module__.partition(".")[0] for cls in classes}
        self.packages = names - {__name__.partition(".")[0]}
        while new := [item for item in self._scan() if item not in self.requested]:
            for item in dict.fromkeys(new):
                self.requested[item] = None
                self._import(*item)

    def import_all(self, names: Sequence[str]) -> None:
        """Import the modules `names`."""
        for name in names:
            self._import(name, ())

    def _scan(self) -> Iterator[Import]:
        """The imports in code that was not scanned before."""
        for name, module in list(sys.modules.items()):
            path = module_file(module)
            if path and self._is_own(name, path) and name not in self.scanned:
                self.scanned.add(name)
                package = getattr(getattr(module, "__spec__", None), "parent", None) or ""
                yield from find_imports(path, package, only_in_functions=True)
        for name in self._left_out():
            self.scanned.add(name)
            if path := _locate(name):
                is_package = os.path.basename(path) == "__init__.py"
                package = name if is_package else name.rpartition(".")[0]
                yield from find_imports(path, package, only_in_functions=False)

    def _is_own(self, name: str, path: str) -> bool:
        if name.partition(".")[0] in self.packages:
            return True
        return name not in self.before and is_user_file(path)

    def _left_out(self) -> list[str]:
        """The modules that were asked for and import a withheld one, or are in such a package."""
        if not self.finder.names:
            return []
        parts = {f"{name}.{part}" for name, parts in self.requested for part in parts}
        names = self.finder.refused | {name for name, _ in self.requested} | parts
        return sorted(
            name
            for name in names - self.scanned
            if self.finder.is_refused(name) and not self.finder.is_withheld(name)
        )

    def _import(self, name: str, attributes: Sequence[str]) -> None:
        """Import a module, and those of `attributes` that are submodules; ignore failures."""
        before = frozenset(sys.modules)
        try:
            with self.finder.attempt(name):
                module = importlib.import_module(name)
                for attribute in attributes:
                    if not hasattr(module, attribute):
                        importlib.import_module(f"{name}.{attribute}")
        except (Exception, SystemExit):  # noqa: BLE001 - a target raises it again, if it gets there
            _drop_orphans(before)


def _drop_orphans(before: frozenset[str]) -> None:
    """Remove new modules of packages whose import failed.

    A later import of such a package would find them, but would not make them its attributes.
    """
    while orphans := [
        name
        for name in sys.modules.keys() - before
        if "." in name and name.rpartition(".")[0] not in sys.modules
    ]:
        for name in orphans:
            del sys.modules[name]


def _locate(name: str) -> str | None:
    """Return the source file of a module, and import nothing; None if there is none."""
    path: Sequence[str] | None = None
    spec = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec.origin if spec and spec.origin and spec.origin.endswith(".py") else None
