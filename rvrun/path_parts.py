"""What placeholders can name of a path. Imports little: workers of programs import it."""

from __future__ import annotations

import os


def path_parts(path: str) -> dict[str, str]:
    """Return what placeholders can name of a path: `a`, `.tif`, `a.tif` and the folder."""
    # A folder may end with a slash.
    path = path.rstrip("/") or path
    name = os.path.basename(path)
    stem, suffix = os.path.splitext(name)
    parent = os.path.dirname(path) or "."
    return {"name": name, "stem": stem, "suffix": suffix, "parent": parent}
