"""The fingerprint of a command's inputs: a line per file, as text.

`8c2f…64  12345  data/a.tif`: the SHA-256 of a file, or on S3 its ETag, its size in bytes, and its
path. A declared path where nothing is has the line `missing  -  data/b.tif`.

This module imports little, because workers of commands that declare inputs import it.
"""

from __future__ import annotations

from rvrun.aws import storage
from rvrun.data.find import Objects, find_local
from rvrun.data.hashes import Hashes
from rvrun.patterns import covers, item_path, overlap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from rvrun.data.hashes import Advance

#: The version of the rules by which files are found and hashed.
VERSION = 1
MISSING = "missing"
_MARK = "# Input fingerprint, version "
_NEWEST = "# The newest one is from "
_HEADER = """\
{mark}{version}: the files that {command} reads.
# A line is the SHA-256 of a file (on S3 its ETag), its size in bytes, and its path.
{newest}{time} ns since 1970.
"""
_OF_ITEMS = """\
{mark}{version}: the files that {command} reads for each item.
# Below the digest of an item, a line is the SHA-256 of a file (on S3 its ETag), its size in bytes,
# and its path.
"""
_ITEM = "item "
#: In place of the lines of an item that reads nothing, such as an empty folder.
NO_FILES = "no files\n"
#: How many changed files are named in one line.
NUM_CHANGES = 3


class Finder:
    """Finds the inputs of commands; reads no file and no listing twice.

    - `advance`: as in `Hashes`.
    """

    def __init__(self, advance: Advance | None = None) -> None:
        self.hashes = Hashes(advance=advance)
        self.objects = Objects()

    def text(self, command: str, inputs: Sequence[str], produced: Sequence[str] = ()) -> str:
        """Return the fingerprint of what is at the paths and globs `inputs`.

        - `command`: for the heading, `landcover/chip`.
        - `produced`: what the stages that it needs write. Such files are left out: whether they
          changed is known from the stamps of those stages.

        Raises `CannotRead` or `CannotReach`.
        """
        facts, newest = self._facts(self._find_all(inputs, produced))
        header = _HEADER.format(
            mark=_MARK, version=VERSION, command=command, newest=_NEWEST, time=newest
        )
        return header + _lines(facts)

    def of_items(
        self, inputs: Sequence[str], items: Iterable[Any], produced: Sequence[str] = ()
    ) -> list[str]:
        """Return, for each item, the lines of the files that a command reads for it, or NO_FILES.

        - `inputs`: as `model.Stage.item_inputs`. `items`: their JSON values. `produced`: as in
          `text`.

        Raises `CannotRead` or `CannotReach`.
        """
        all_files = [
            self._find_all([item_path(t, item) for t in inputs], produced, is_one_of_many=True)
            for item in items
        ]
        # Of all items together, as each call reads and writes the cache of hashes.
        facts, _ = self._facts({path: file for files in all_files for path, file in files.items()})
        return [
            _lines({path: facts[path] for path in files if path in facts}) or NO_FILES
            for files in all_files
        ]

    def _find_all(
        self, inputs: Iterable[str], produced: Sequence[str], *, is_one_of_many: bool = False
    ) -> dict[str, Any]:
        """Return what is at some paths: an object on S3, None for a local file, or MISSING.

        - `is_one_of_many`: whether a folder on S3 is better listed as a whole.
        """
        files: dict[str, Any] = {}
        for pattern in inputs:
            folder = pattern.rpartition("/")[0]
            matches = self._find(pattern, f"{folder}/" if is_one_of_many else None)
            if matches is None and not any(overlap(other, pattern) for other in produced):
                files[pattern] = MISSING
            files |= {
                path: item
                for path, item in (matches or {}).items()
                if not any(covers(other, path) for other in produced)
            }
        return files

    def _facts(self, files: Mapping[str, Any]) -> tuple[dict[str, str], int]:
        """Return hash and size of what was found, by path, and the time of the newest."""
        facts: dict[str, str] = {}
        newest = 0
        for path, item in files.items():
            if item == MISSING:
                facts[path] = f"{MISSING}  -"
            elif item is not None:
                facts[path] = f"{item['ETag'].strip(chr(34))}  {item['Size']}"
                newest = max(newest, int(item["LastModified"].timestamp() * 1e9))
        local = [path for path, item in files.items() if item is None]
        for path, (digest, size, mtime_ns) in self.hashes.of(local).items():
            facts[path] = f"{digest}  {size}"
            newest = max(newest, mtime_ns)
        return facts, newest

    def _find(self, pattern: str, listed: str | None) -> dict[str, Any] | None:
        """Return what is at a path or glob: objects on S3 by URI, or None by path."""
        if storage.is_on_s3(pattern):
            return self.objects.find(pattern, listed)
        local = find_local(pattern)
        return None if local is None else dict.fromkeys(local)


def _lines(facts: Mapping[str, str]) -> str:
    return "".join(f"{facts[path]}  {_printable(path)}\n" for path in sorted(facts))


def join_items(command: str, texts: Mapping[str, str]) -> str:
    """Return the lines of all items of a command as one text, sorted.

    - `command`: for the heading, `landcover/chip`. `texts`: the lines of each item by its digest.
    """
    header = _OF_ITEMS.format(mark=_MARK, version=VERSION, command=command)
    return header + "".join(f"{_ITEM}{digest}\n{texts[digest]}" for digest in sorted(texts))


def split_items(text: str) -> dict[str, str]:
    """Return the lines of each item by its digest: what `join_items` got."""
    texts: dict[str, str] = {}
    digest = None
    for line in text.splitlines(keepends=True):
        if line.startswith(_ITEM):
            digest = line.removeprefix(_ITEM).strip()
            texts[digest] = ""
        elif digest is not None:
            texts[digest] += line
    return texts


def _printable(path: str) -> str:
    """A path on one line; only names that no pattern spells need it."""
    return path if path.isprintable() else ascii(path)


def is_comparable(text: str) -> bool:
    """Whether a fingerprint was made by the rules of this version."""
    return text.startswith(f"{_MARK}{VERSION}:")


def is_same(old: str, new: str) -> bool:
    """Whether two fingerprints have the same files, whatever their comments say."""
    return is_comparable(old) and is_comparable(new) and _entries(old) == _entries(new)


def _entries(text: str) -> dict[str, str]:
    """The hash and size of each file, by its path; lines that cannot be are ignored."""
    entries = {}
    for line in text.splitlines():
        *facts, path = ["", "", *line.split("  ", maxsplit=2)][-3:]
        if not line.startswith("#") and all(facts):
            entries[path] = "  ".join(facts)
    return entries


def paths_of(text: str) -> list[str]:
    """Return the paths of all files, as the fingerprint has them."""
    return list(_entries(text))


def missing(text: str) -> list[str]:
    """Return the declared paths and globs where nothing was."""
    return [path for path, facts in _entries(text).items() if facts.startswith(f"{MISSING}  ")]


def newest(text: str) -> int | None:
    """Return the time of the newest file, in ns since 1970; None if the text does not say."""
    for line in text.splitlines():
        if line.startswith(_NEWEST):
            number = line.removeprefix(_NEWEST).partition(" ")[0]
            return int(number) if number.isascii() and number.isdigit() else None
    return None


def changes(old: str, new: str) -> list[str]:
    """Return the files that differ between two fingerprints, each with what happened to it."""
    before, after = _entries(old), _entries(new)
    return [
        f"{path}{_describe(before.get(path), after.get(path))}"
        for path in sorted({**before, **after})
        if before.get(path) != after.get(path)
    ]


def _describe(before: str | None, after: str | None) -> str:
    if after is None:
        return " (removed)"
    if after.startswith(MISSING):
        return " (missing)"
    return " (new)" if before is None else ""
