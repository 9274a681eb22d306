"""Which files have settings. Light on purpose: the worker looks whether one restricts imports."""

from __future__ import annotations

import os

from rvrun.errors import RvrunError
from rvrun.inputs import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PROFILE = "RVRUN_PROFILE"
PROJECT_FILE = "rvrun.toml"
PYPROJECT_FILE = "pyproject.toml"
#: The setting that the worker obeys, and its environment variable.
IMPORTS = "imports"
IMPORTS_VARIABLE = "RVRUN_IMPORTS"


def project_folders() -> Iterator[str]:
    """Yield the directories whose settings may apply here: the current one, then those above."""
    folder = os.getcwd()
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent


def profile_file(profile: str | None) -> str:
    """Return the path of a profile; None for the default one."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "rvrun", f"{profile or 'default'}.toml")


def may_restrict_imports() -> bool:
    """Whether a variable or a file may set `imports`; if not, the settings need not be loaded.

    Loading them takes a target longer than starting Python, and few projects set it.
    """
    if IMPORTS_VARIABLE in os.environ:
        return True
    paths = [profile_file(os.environ.get(PROFILE))]
    for folder in project_folders():
        paths += [os.path.join(folder, PROJECT_FILE), os.path.join(folder, PYPROJECT_FILE)]
    return any(_mentions(path) for path in paths if os.path.exists(path))


def _mentions(path: str) -> bool:
    try:
        return IMPORTS.encode() in read_bytes(path)
    except RvrunError:
        # Whoever loads the settings reports it.
        return True
