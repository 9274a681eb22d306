"""Read `pipeline.toml` files: their values, checked, and where each value is."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import attrs

from rvrun.errors import RvrunError
from rvrun.inputs import CannotRead, read_text, read_toml
from rvrun.load.toml.keys import FILE
from rvrun.load.toml.kinds import Fault, Path
from rvrun.load.toml.positions import Place, line_and_column, locate
from rvrun.text import quoted

#: Keys that only the file itself has, not one that it includes.
ONLY_MAIN = ("name", "root", "matrix")
#: Tables whose entries an including file adds to.
MERGED = ("config", "env", "commands")
_POSITION = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)


class BadFile(RvrunError):
    """Something in a `pipeline.toml` that is not as it must be.

    - `place`: `FILE:LINE:COLUMN`. `remedy`: the fix, as an imperative.
    """

    place: str
    problem: str
    remedy: str
    template = "{place}: {problem}; {remedy}"
    fix = "{remedy}"


@attrs.frozen
class File:
    """One TOML file: its path, text, values, and where they are."""

    path: str
    text: str
    values: dict[str, Any]
    places: dict[Path, Place]

    def place(self, path: Path, *, is_key: bool = False) -> str:
        """Return `FILE:LINE:COLUMN` of a value or its key; of the nearest one that is written."""
        while path and path not in self.places:
            path, is_key = path[:-1], False
        offset = 0
        if path:
            offset = self.places[path].key if is_key else self.places[path].value
        line, column = line_and_column(self.text, offset)
        return f"{self.path}:{line}:{column}"


@attrs.frozen
class Source:
    """A file with those that it includes: all values together, and the file that each is from."""

    path: str
    values: dict[str, Any]
    files: dict[Path, File]
    main: File

    def fail(self, path: Path, problem: str, remedy: str, *, is_key: bool = False) -> NoReturn:
        """Raise `BadFile` for the value at `path`."""
        file = self.files.get(path[:2], self.main)
        raise BadFile(file.place(path, is_key=is_key), problem, remedy)


def read_source(path: str) -> Source:
    """Read a `pipeline.toml` and what it includes. Raises `BadFile` or `CannotRead`."""
    main = _read_file(path)
    values: dict[str, Any] = {}
    files: dict[Path, File] = {}
    for file in [*_included(main, (os.path.realpath(path),)), main]:
        for key, value in file.values.items():
            if key in MERGED:
                _merge(file, key, values, files)
            elif file is main:
                values[key] = value
    if "commands" not in values:
        remedy = 'add a table such as [commands.list] with `run = ["ls"]`'
        raise BadFile(main.place(()), f"must have [commands], got {_keys_of(main)}", remedy)
    return Source(path, values, files, main)


def _keys_of(file: File) -> str:
    return ", ".join(f"`{key}`" for key in file.values) or "an empty file"


def _merge(file: File, key: str, values: dict[str, Any], files: dict[Path, File]) -> None:
    table = values.setdefault(key, {})
    for name, value in file.values[key].items():
        other = files.get((key, name))
        if key == "commands" and other is not None:
            problem = f"command `{name}` is already in {other.place((key, name), is_key=True)}"
            raise BadFile(file.place((key, name), is_key=True), problem, "rename one of the two")
        table[name] = value
        files[key, name] = file


def _included(file: File, seen: Sequence[str]) -> list[File]:
    """Read the files that a file includes, each after those that it includes itself."""
    include = file.values.get("include", [])
    names = [include] if isinstance(include, str) else include
    files = []
    for index, name in enumerate(names):
        place = file.place(("include", index) if isinstance(include, list) else ("include",))
        path = os.path.normpath(os.path.join(os.path.dirname(file.path), name))
        if os.path.realpath(path) in seen:
            raise BadFile(
                place, f"`include` must not name the file itself, got {quoted(name)}", "remove it"
            )
        if not os.path.isfile(path):
            problem = f"`include` must name existing files, got {quoted(name)}"
            raise BadFile(place, problem, f"create {path}, or remove it")
        included = _read_file(path)
        for key in ONLY_MAIN:
            if key in included.values:
                problem = f"`{key}` must be in the file that includes this one, {file.path}"
                raise BadFile(included.place((key,), is_key=True), problem, f"move `{key}` there")
        files += [*_included(included, (*seen, os.path.realpath(path))), included]
    return files


def _read_file(path: str) -> File:
    text = read_text(path, "create it with `rvrun init`, or name another file")
    # As tomllib does.
    text = text.replace("\r\n", "\n")
    values = _parse(path, text)
    file = File(path, text, values, locate(text))
    faults = list(FILE.faults(values, ()))
    # A file that is included has no commands of its own.
    faults = [fault for fault in faults if fault.path or "`commands`" not in fault.problem]
    if faults:
        _raise_first(file, faults)
    return file


def _raise_first(file: File, faults: Sequence[Fault]) -> NoReturn:
    def offset(fault: Fault) -> int:
        place = file.places.get(fault.path)
        return 0 if place is None else place.key

    first = min(faults, key=offset)
    place = file.place(first.path, is_key=first.is_key)
    raise BadFile(place, first.problem, first.remedy)


def _parse(path: str, text: str) -> dict[str, Any]:
    """Parse TOML. Raises `BadFile` where it knows the place, else `CannotRead`."""
    try:
        return read_toml(path)
    except CannotRead as error:
        match = _POSITION.match(error.problem.removeprefix("is not TOML (").removesuffix(")"))
        if not match:
            raise
        problem, line, column = match.groups()
        if line is None:
            line, column = line_and_column(text, len(text))
        got = text.split("\n")[int(line) - 1].strip()
        problem = f"must be valid TOML, got {quoted(got)}: {problem[:1].lower()}{problem[1:]}"
        raise BadFile(f"{path}:{line}:{column}", problem, "correct that line") from None
