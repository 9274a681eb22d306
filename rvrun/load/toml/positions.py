"""Where keys and values are in a TOML file: the line and column of each.

tomllib does not say where a value is, and tomlkit, which keeps the layout, does not either. This
module reads only text that tomllib has accepted, so it needs no errors of its own.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

Path = tuple[str | int, ...]
#: What is between tokens: spaces, line breaks and comments.
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(
    r"""(?P<bare>[A-Za-z0-9_-]+)|'(?P<literal>[^'\n]*)'|"(?P<basic>(?:[^"\\\n]|\\.)*)\""""
)
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]*")


@attrs.frozen
class Place:
    """The offsets of a key, which is that of its value for an item of a list, and of its value."""

    key: int
    value: int


def locate(text: str) -> dict[Path, Place]:
    """Return the place of each key and value in valid TOML, by its path."""
    reader = _Reader(text)
    reader.read()
    return reader.places


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the line and column of an offset, both from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def find_in_string(text: str, offset: int, part: str) -> int:
    """Return where the string at an offset has a part, as it is written; else the offset."""
    string = _STRING.match(text, offset)
    # Doubled braces are no placeholder.
    match = string and re.compile(rf"(?<!\{{){re.escape(part)}").search(text, offset, string.end())
    return match.start() if match else offset


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.places: dict[Path, Place] = {}
        #: How many tables `[[name]]` there are so far, by path.
        self.lengths: dict[Path, int] = {}

    def read(self) -> None:
        table: Path = ()
        self._skip_gap()
        while self.position < len(self.text):
            table = self._read_header() if self._at("[") else self._read_pair(table)
            self._skip_gap()

    def _at(self, string: str) -> bool:
        return self.text.startswith(string, self.position)

    def _skip_gap(self) -> None:
        self.position = self._end(_GAP)

    def _end(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.position)
        return match.end() if match else self.position

    def _read_header(self) -> Path:
        start = self.position
        is_array = self._at("[[")
        self.position += 1 + is_array
        self._skip_gap()
        *parents, last = self._read_key()
        self.position = self.text.index("]", self.position) + 1 + is_array
        path = (*self._resolve(tuple(parents)), last)
        if is_array:
            number = self.lengths.get(path, 0)
            self.lengths[path] = number + 1
            self.places.setdefault(path, Place(start, start))
            path = (*path, number)
        self._put(path, start, start)
        return path

    def _resolve(self, keys: tuple[str, ...]) -> Path:
        """The path of a table, with the number of the latest `[[table]]` in each list."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        return path

    def _put(self, path: Path, key: int, value: int) -> None:
        for length in range(1, len(path)):
            self.places.setdefault(path[:length], Place(key, value))
        self.places[path] = Place(key, value)

    def _read_pair(self, table: Path) -> Path:
        """Read `key = value`, and return the table that it is in."""
        start = self.position
        keys = self._read_key()
        self.position = self.text.index("=", self.position) + 1
        self.position += len(self.text[self.position :]) - len(
            self.text[self.position :].lstrip(" \t")
        )
        path = (*table, *keys)
        self._put(path, start, self.position)
        self._read_value(path)
        return table

    def _read_key(self) -> tuple[str, ...]:
        keys = []
        while match := _KEY.match(self.text, self.position):
            keys.append(_unquoted(match))
            self.position = match.end()
            dot = _DOT.match(self.text, self.position)
            if not dot:
                break
            self.position = dot.end()
        return tuple(keys)

    def _read_value(self, path: Path) -> None:
        if self._at("["):
            self._read_members(path, "]", is_list=True)
        elif self._at("{"):
            self._read_members(path, "}", is_list=False)
        elif self._at('"') or self._at("'"):
            self.position = self._end(_STRING)
        else:
            self.position = self._end(_SCALAR)

    def _read_members(self, path: Path, closing: str, *, is_list: bool) -> None:
        self.position += 1
        index = 0
        self._skip_gap()
        while not self._at(closing):
            if self._at(","):
                self.position += 1
            elif is_list:
                self._put((*path, index), self.position, self.position)
                self._read_value((*path, index))
                index += 1
            else:
                self._read_pair(path)
            self._skip_gap()
        self.position += 1


def _unquoted(match: re.Match[str]) -> str:
    if match["basic"] is None:
        return match["bare"] or match["literal"] or ""
    import tomllib

    values: dict[str, Any] = tomllib.loads(f'x = "{match["basic"]}"')
    return str(values["x"])
