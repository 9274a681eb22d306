"""Read `pipeline.toml` files: their values, checked, and where each value is."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import attrs

from rvrun.errors import RvrunError
from rvrun.inputs import CannotRead, parse_toml, read_bytes
from rvrun.load.toml.keys import FILE
from rvrun.load.toml.kinds import Fault, Path
from rvrun.load.toml.positions import Place, find_in_string, line_and_column, locate
from rvrun.text import quoted

#: Keys that only the file itself has, not one that it includes.
ONLY_MAIN = ("name", "root", "matrix")
#: Tables whose entries an including file adds to.
MERGED = ("config", "env", "commands")
#: More digits than Python converts.
_LONG_NUMBER = re.compile(r"[0-9][0-9_]{4300,}")
_LONG_QUOTES = ('"""', "'''")
#: Keys as a message of tomllib has them: `('commands', 'a')`.
_KEYS = re.compile(r"\('[^()]*\)")
#: What to do about what tomllib reports.
_FIXES = {
    "invalid value": "put strings in quotes, and write booleans as `true` and `false`",
    "unescaped": "write `\\\\` for a backslash, or put the string in single quotes",
    "illegal character '\\n'": "end the string in its line",
    "unterminated string": "end it with the quotes that it begins with",
    "expected '='": "write `key = value`",
    "twice": "keep one of them",
    "cannot overwrite": "keep one of them",
    "unclosed array": "end the list with `]`",
    "expected ']'": "end the name of the table with `]`",
}
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

    def place(self, path: Path, *, is_key: bool = False, part: str = "") -> str:
        """Return `FILE:LINE:COLUMN` of a value or its key; of the nearest one that is written.

        - `part`: a part of a string, whose place it is then.
        """
        while path and path not in self.places:
            path, is_key = path[:-1], False
        offset = 0
        if path:
            offset = self.places[path].key if is_key else self.places[path].value
        if part:
            offset = find_in_string(self.text, offset, part)
        line, column = line_and_column(self.text, offset)
        return f"{self.path}:{line}:{column}"


@attrs.frozen
class Source:
    """A file with those that it includes: all values together, and the file that each is from."""

    path: str
    values: dict[str, Any]
    files: dict[Path, File]
    main: File

    def fail(
        self, path: Path, problem: str, remedy: str, *, is_key: bool = False, part: str = ""
    ) -> NoReturn:
        """Raise `BadFile` for the value at `path`, or for a part of it."""
        file = self.files.get(path[:2], self.main)
        raise BadFile(file.place(path, is_key=is_key, part=part), problem, remedy)


def read_source(path: str) -> Source:
    """Read a `pipeline.toml` and what it includes. Raises `BadFile` or `CannotRead`."""
    main = _read_file(path)
    values: dict[str, Any] = {}
    files: dict[Path, File] = {}
    for file in _distinct([*_included(main, (os.path.realpath(path),)), main]):
        for key, value in file.values.items():
            if key in MERGED:
                _merge(file, key, values, files)
            elif file is main:
                values[key] = value
    if "commands" not in values:
        remedy = 'add a table such as [commands.list] with `run = ["ls"]`'
        raise BadFile(main.place(()), f"must have [commands], got {_keys_of(main)}", remedy)
    return Source(path, values, files, main)


def _distinct(files: Sequence[File]) -> list[File]:
    """Files that several others include count once, where they come first."""
    return list({os.path.realpath(file.path): file for file in files}.values())


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
            rule = "`include` must not name the file itself, or one that includes it"
            raise BadFile(place, f"{rule}, got {quoted(name)}", "remove it")
        if not os.path.isfile(path):
            problem = f"`include` must name existing files, got {quoted(name)}"
            raise BadFile(place, problem, "correct the path, or remove it")
        included = _read_file(path)
        for key in ONLY_MAIN:
            if key in included.values:
                problem = f"`{key}` must be in the file that includes this one, {file.path}"
                raise BadFile(included.place((key,), is_key=True), problem, f"move `{key}` there")
        files += [*_included(included, (*seen, os.path.realpath(path))), included]
    return files


def _read_file(path: str) -> File:
    text = _read_text(path)
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


def _read_text(path: str) -> str:
    content = read_bytes(path, "create it with `rvrun init`, or name another file")
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line, column = line_and_column(before, len(before))
        problem = f"must be UTF-8, got the byte 0x{content[error.start]:02x}"
        raise BadFile(f"{path}:{line}:{column}", problem, "save it as UTF-8") from None


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
        return parse_toml(text, path)
    except CannotRead as error:
        raise _located(path, text, error) from None


def _located(path: str, text: str, error: CannotRead) -> RvrunError:
    """Return the error of a file that is not TOML with its place, if that is known."""
    match = _POSITION.match(error.problem.removeprefix("is not TOML (").removesuffix(")"))
    if match:
        line, column = line_and_column(text, len(text))
        if match[2]:
            line, column = int(match[2]), int(match[3])
        elif "string" in match[1] and (opening := max(map(text.rfind, _LONG_QUOTES))) >= 0:
            line, column = line_and_column(text, opening)
        got = text.split("\n")[line - 1].strip()
        rule = _KEYS.sub(lambda keys: ".".join(re.findall(r"'([^']*)'", keys[0])), match[1])
        problem = f"must be valid TOML, got {quoted(got)}: {rule[:1].lower()}{rule[1:]}"
        remedy = next((fix for part, fix in _FIXES.items() if part in problem), "correct that line")
        if "{" in got and "key part" in problem:
            remedy = "write a table in braces on one line, without a comma at its end"
        return BadFile(f"{path}:{line}:{column}", problem, remedy)
    if number := _LONG_NUMBER.search(text):
        line, column = line_and_column(text, number.start())
        problem = f"must not have a number of {len(number[0]):,} digits"
        return BadFile(f"{path}:{line}:{column}", problem, "shorten it")
    return error
