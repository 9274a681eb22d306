"""Withhold modules from a process: whatever imports them is not imported either.

A module that imports a withheld one is stopped half-way. `except ImportError` must not catch that,
as the module would go on without what it has in a target; and if `except:` catches it, every later
import of the same attempt is stopped, too. So all modules that were being imported are known, and
none of them stays.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import FunctionType, ModuleType


class Withheld(BaseException):
    """The import of a withheld module, or of one that imports it, was stopped."""


class Withholding:
    """A finder that stops imports of the modules `names` and of all below them.

    - `refused`: modules that are known to import these. Those that are found out are added.
    """

    def __init__(self, names: Sequence[str], refused: Iterable[str] = ()) -> None:
        self.names = frozenset(names)
        self.refused = set(refused)
        self._before = frozenset(sys.modules)
        self._has_stopped = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise `Withheld` if the module `name` must not be imported; else find nothing."""
        if self._has_stopped or self.is_withheld(name) or self.is_refused(name):
            self._has_stopped = True
            self.refused |= _being_imported() - self._before
            raise Withheld(name)

    def is_withheld(self, name: str) -> bool:
        """Whether the user withholds the module."""
        return not self.names.isdisjoint(_with_parents(name))

    def is_refused(self, name: str) -> bool:
        """Whether the module, or a package that it is in, imports a withheld one."""
        return not self.refused.isdisjoint(_with_parents(name))

    @contextlib.contextmanager
    def attempt(self, *names: str) -> Iterator[None]:
        """Import something; if that is stopped, the block ends, and nothing half-imported stays.

        - `names`: the modules that the block imports. Compiled ones run no line of Python, so that
          only the caller knows them.
        """
        self._has_stopped = False
        before = frozenset(sys.modules)
        try:
            yield
        except (Withheld, Exception, SystemExit):
            # Code may turn what stopped it into another error.
            if not self._has_stopped:
                raise
        finally:
            if self._has_stopped:
                self.refused |= {name for name in names if not self.is_withheld(name)}
                self._forget(before)
            self._has_stopped = False

    def _forget(self, before: frozenset[str]) -> None:
        """Remove the new modules that are refused, or below such a one, or refer to one.

        In a cycle of imports, a module can be complete before one that it refers to is stopped.
        """
        new = sys.modules.keys() - before
        while referrers := {name for name in new if self._refers_to_refused(name)}:
            self.refused |= referrers
            new -= referrers
        for name in sys.modules.keys() - before:
            if self.is_refused(name):
                del sys.modules[name]
                _unbind(name)

    def _refers_to_refused(self, name: str) -> bool:
        """Whether an attribute of a module is refused, or a class or function of such a module."""
        for attribute, value in list(getattr(sys.modules[name], "__dict__", {}).items()):
            if isinstance(value, ModuleType):
                origin = value.__dict__.get("__name__")
                if origin == f"{name}.{attribute}":
                    # Python itself makes a module an attribute of its package.
                    continue
            elif isinstance(value, type | FunctionType):
                origin = value.__module__
            else:
                continue
            if isinstance(origin, str) and origin != name and self.is_refused(origin):
                return True
        return False


def _with_parents(name: str) -> Iterator[str]:
    """`a.b.c`, `a.b`, `a`."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _being_imported() -> set[str]:
    """The modules whose code is running."""
    names = set()
    frame = sys._getframe()  # noqa: SLF001 - there is no public way to a frame
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            names.add(frame.f_globals.get("__name__", ""))
        frame = frame.f_back  # type: ignore[assignment]
    return names & sys.modules.keys()


def _unbind(name: str) -> None:
    """Remove the attribute for a module that its package has."""
    parent, _, attribute = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(attribute, None)


@contextlib.contextmanager
def withholding(names: Sequence[str], refused: Iterable[str] = ()) -> Iterator[Withholding]:
    """Withhold the modules `names` in the block; without names, imports work as ever."""
    finder = Withholding(names, refused)
    if not names:
        yield finder
        return
    sys.meta_path.insert(0, finder)
    try:
        yield finder
    finally:
        sys.meta_path.remove(finder)
