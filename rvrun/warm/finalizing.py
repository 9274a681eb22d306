"""The end of a target's objects, as Python destroys them when a process ends.

Python destroys all modules then, and with them what they hold. Here, only that is done which others
can notice: files are flushed, `__del__` is called, and generators run their `finally` blocks.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

#: Calls `__del__` or the like, unless that was done, and reports errors as Python does.
_call_finalizer = ctypes.pythonapi.PyObject_CallFinalizer
_call_finalizer.argtypes = [ctypes.py_object]
_call_finalizer.restype = None
#: The class of all files in C, without the slow checks of the abstract classes in `io`.
FILES: Any = io.IOBase.__base__


def finalizable() -> list[Callable[[], Any]]:
    """Return references to all objects whose end others can notice.

    They do not keep these objects alive. Objects that cannot be referred to so are left out.
    """
    references: list[Callable[[], Any]] = []
    for thing in _finalizable():
        with contextlib.suppress(TypeError):
            references.append(weakref.ref(thing))
    return references


def _finalizable() -> Iterator[Any]:
    """Yield those of the objects that the collector knows, and that are not frozen."""
    generators = type(_ for _ in ())
    for thing in gc.get_objects():
        kind = type(thing)
        if issubclass(kind, FILES) or kind is generators or hasattr(kind, "__del__"):
            yield thing


def finalize(before: Sequence[Callable[[], Any]]) -> None:
    """Finalize all objects that are not frozen, and those that `before` refers to."""
    # As Python does it: first what nothing refers to any more.
    gc.collect()
    imported = [thing for reference in before if (thing := reference()) is not None]
    files = []
    for thing in (*imported, *_finalizable()):
        if issubclass(type(thing), FILES):
            files.append(thing)
        else:
            _call_finalizer(thing)
    # Now that nothing writes to them any more.
    for file in files:
        # It may be closed, or its disk full, of which Python says nothing here, either.
        with contextlib.suppress(OSError, ValueError):
            file.flush()
