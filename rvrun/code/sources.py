"""Find the source files of modules without importing them, and summarise the user's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

from rvrun.code.cache import Cache
from rvrun.code.summary import Summary
from rvrun.pipelines.user_files import is_user_file, module_file


class Sources:
    """The user's modules by name, each read once."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.summaries: dict[str, Summary | None] = {}
        #: The files that were read, and the folders in which modules were looked for.
        self.paths: set[str] = set()
        self.specs: dict[str, tuple[str | None, tuple[str, ...]] | None] = {}

    def summary(self, name: str) -> Summary | None:
        """Return the summary of a module of the user's; None for any other, or if there is none."""
        if name not in self.summaries:
            self.summaries[name] = self._summarise(name)
        return self.summaries[name]

    def submodules(self, package: str) -> Iterator[str]:
        """Yield the names of the modules directly in a package of the user's, in order."""
        place = self._find(package)
        for folder in place[1] if place else ():
            self.paths.add(folder)
            for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
                stem, ending = os.path.splitext(entry)
                if ending == ".py" and stem.isidentifier() and stem != "__init__":
                    yield f"{package}.{stem}"

    def _summarise(self, name: str) -> Summary | None:
        place = self._find(name)
        path = place[0] if place else None
        if path is None or not path.endswith(".py") or not is_user_file(path):
            return None
        self.paths.add(path)
        return self.cache.summarise(name, path)

    def _find(self, name: str) -> tuple[str | None, tuple[str, ...]] | None:
        """The file of a module and, of a package, its folders; None if there is no such module."""
        if name not in self.specs:
            self.specs[name] = self._look_up(name)
        return self.specs[name]

    def _look_up(self, name: str) -> tuple[str | None, tuple[str, ...]] | None:
        module = sys.modules.get(name)
        if module is not None and name != "__main__":
            folders = getattr(module, "__dict__", {}).get("__path__", ())
            return module_file(module), tuple(folders)
        parent, _, _ = name.rpartition(".")
        search = None
        if parent:
            place = self._find(parent)
            # What is below a package of others is theirs, too.
            if not place or not place[1] or (place[0] and not is_user_file(place[0])):
                return None
            search = list(place[1])
        self.paths.update(sys.path if search is None else search)
        spec = _find_spec(name, search)
        if spec is None:
            return None
        return spec.origin, tuple(spec.submodule_search_locations or ())


def _find_spec(name: str, search: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, search) if find else None
        if spec is not None:
            return spec
    return None
