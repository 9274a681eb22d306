"""Find the files that declared paths stand for, on this machine and on S3.

This module imports little, because workers of commands that declare files import it.
"""

from __future__ import annotations

import os
import stat

from rvrun.aws import storage
from rvrun.globs import expand
from rvrun.patterns import covers, is_glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


def find_local(pattern: str) -> list[str] | None:
    """Return the files at a path or glob, sorted; None if nothing is there.

    A folder stands for all files in it. A path that exists as it is written is not a glob.
    """
    if os.path.exists(pattern):
        return sorted(_files_in(pattern))
    matching = sorted(set(expand(pattern))) if is_glob(pattern) else []
    files: dict[str, None] = {}
    folder = None
    for path in matching:
        # In sorted order, all that is in a folder follows it, and was found with it.
        if folder is not None and path.startswith(folder):
            continue
        if os.path.isdir(path):
            folder = os.path.join(path, "")
        files |= dict.fromkeys(_files_in(path))
    return sorted(files) if matching else None


def _files_in(path: str) -> Iterator[str]:
    """Yield the regular files at or below a path."""
    if not os.path.isdir(path):
        if _is_file(path):
            yield path
        return
    for folder, _, names in os.walk(path):
        yield from (p for name in names if _is_file(p := os.path.join(folder, name)))


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


class Objects:
    """Objects on S3, of which each listing is read once."""

    def __init__(self) -> None:
        self.listings: dict[str, Mapping[str, Any]] = {}

    def find(self, uri: str, listed: str | None = None) -> dict[str, Any] | None:
        """Return the objects that a URI or glob stands for, by URI; None if there are none.

        - `listed`: the beginning of the URIs to list, if several URIs with it are looked for.

        Raises `CannotReach`.
        """
        # A glob may begin with less than all of `listed`.
        beginning = min(listed, _beginning(uri), key=len) if listed else _beginning(uri)
        if beginning not in self.listings:
            self.listings[beginning] = _list(beginning) if listed or is_glob(uri) else _look_up(uri)
        listing = self.listings[beginning]
        if uri in listing and not is_glob(uri):
            return {uri: listing[uri]}
        # A folder that somebody created in the console is an empty object.
        return {k: o for k, o in listing.items() if covers(uri, k) and k[-1] != "/"} or None


def _beginning(uri: str) -> str:
    """Return the part of a URI before its first character that stands for others."""
    ends = [uri.index(character) for character in "*?[" if character in uri]
    return uri[: min(ends, default=len(uri))]


def _look_up(uri: str) -> dict[str, Any]:
    """Return the object at a URI, or those below it. Raises `CannotReach`."""
    bucket, key = storage.split_s3(uri)
    # Keys are listed in order, so that the key itself comes before those that begin with it.
    first = next(storage.list_objects(bucket, key), None)
    if first is not None and first["Key"] == key:
        return {uri: first}
    return _list(f"{uri.rstrip('/')}/")


def _list(beginning: str) -> dict[str, Any]:
    """List the objects whose URIs have this beginning. Raises `CannotReach`."""
    bucket, prefix = storage.split_s3(beginning)
    return {f"{storage.S3}{bucket}/{o['Key']}": o for o in storage.list_objects(bucket, prefix)}


def exists(path: str, objects: Objects, listed: str | None = None) -> bool:
    """Whether anything is at a path, or matches a glob. Raises `CannotReach`.

    - `objects`, `listed`: as in `Objects.find`, for a path on S3.
    """
    if storage.is_on_s3(path):
        return objects.find(path, listed) is not None
    if os.path.exists(path):
        return True
    return is_glob(path) and next(expand(path), None) is not None
