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
#: A word in every `pyproject.toml` with settings of rvrun: its table is `tool.rvrun`.
PYPROJECT_TABLE = "rvrun"
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
    if _mentions(profile_file(os.environ.get(PROFILE)), IMPORTS):
        return True
    return any(
        _mentions(os.path.join(folder, PROJECT_FILE), IMPORTS)
        # Other tools have a setting with this word, too.
        or _mentions(os.path.join(folder, PYPROJECT_FILE), IMPORTS, PYPROJECT_TABLE)
        for folder in project_folders()
    )


def _mentions(path: str, *words: str) -> bool:
    """Whether a file has all these words; False if it does not exist."""
    if not os.path.exists(path):
        return False
    try:
        content = read_bytes(path)
        return all(word.encode() in content for word in words)
    except RvrunError:
        # Whoever loads the settings reports it.
        return True
