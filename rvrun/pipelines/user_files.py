"""Notice that code which this process has imported was edited since."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

#: The time a file was written, in nanoseconds, and its size; None: it counts as changed.
State = tuple[int, int] | None
#: Folders of installed packages; `dist-packages` is Debian's name for them.
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
#: Folders of the standard library and of rvrun.
_FOLDERS = tuple(
    os.path.join(folder, "")
    for file in (os.__file__, os.path.dirname(__file__))
    for folder in {os.path.dirname(file), os.path.realpath(os.path.dirname(file))}
)


def is_user_file(path: str) -> bool:
    """Whether a module's file is the user's: not Python's, rvrun's or an installed package's."""
    return not path.startswith(_FOLDERS) and not any(part in path for part in _INSTALLED)


def module_file(module: ModuleType | None) -> str | None:
    """Return the file of a loaded module; None for namespace packages and built-in modules."""
    # Not `getattr`: some libraries have modules that import something when they are asked.
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) else None


def user_files(since: int | None = None) -> dict[str, State]:
    """Return the state of each file of the user's that a loaded module was imported from.

    - `since`: the time in nanoseconds before the first import. A file that was written later counts
      as changed, because nobody can tell whether it was imported before or after.
    """
    states = {path: _state(path) for path in _loaded_files()}
    if since is None:
        return states
    return {path: state if state and state[0] <= since else None for path, state in states.items()}


def _loaded_files() -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        path = module_file(module)
        # `__main__` is what started this process.
        if path and name != "__main__" and is_user_file(path):
            yield path


def _state(path: str) -> State:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def changed_files(before: Mapping[str, State]) -> list[str]:
    """List the files that are not as in `before`, which `user_files` returned, or are gone.

    Called for every target, so it only makes one system call per file.
    """
    stat = os.stat
    changed = []
    for path, state in before.items():
        try:
            status = stat(path)
        except OSError:
            changed.append(path)
        else:
            if state != (status.st_mtime_ns, status.st_size):
                changed.append(path)
    return changed
