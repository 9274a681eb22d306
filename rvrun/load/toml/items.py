"""The items of a command: a list, the lines of a file, files that match a glob, rows of a table."""

from __future__ import annotations

import csv
import glob
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rvrun.errors import Problem, closest
from rvrun.globs import expand
from rvrun.inputs import CannotRead, is_unicode, read_json, read_text
from rvrun.load.toml.keys import ITEM_LIST, NAME, NAME_RULE
from rvrun.load.toml.kinds import has_nul, shown
from rvrun.text import count, quoted, shorten

#: What to do about a file with items that cannot be read.
REMEDY = "correct that file, or change `items`"


class BadItems(Problem):
    """Items that cannot be used; the problem ends with the fix."""


def resolve(spec: Any, fill: Callable[[str], str]) -> list[Any]:
    """Return the items that `items` of a command describes: strings, numbers, or tables.

    - `fill`: replaces the placeholders in a path or pattern.

    Raises `BadItems`, or `CannotRead` for a file.
    """
    if isinstance(spec, list):
        items = spec
    elif "column" in spec and not {"csv", "json"} & spec.keys():
        raise BadItems("must have `column` only with `csv` or `json`; remove it")
    elif "glob" in spec:
        patterns = [spec["glob"]] if isinstance(spec["glob"], str) else spec["glob"]
        items = _glob([fill(pattern) for pattern in patterns])
    elif "lines" in spec:
        items = _read_lines(fill(spec["lines"]))
    elif "csv" in spec:
        path = fill(spec["csv"])
        column = spec.get("column")
        items = _column(_read_csv(path, column), column, path)
    else:
        path = fill(spec["json"])
        items = _column(_read_list(path), spec.get("column"), path)
    if not items:
        raise BadItems(f"must give at least one item, got none from {_shown(spec)}; change it")
    # Whether all are tables, or none is.
    fields_of(items)
    return items


def _shown(spec: Any) -> str:
    """Items as the file has them."""
    if isinstance(spec, list):
        return "an empty list"
    return ", ".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in spec.items()
    )


def _glob(patterns: Sequence[str]) -> list[str]:
    """Files and folders that match, sorted as bytes, which is the same in every locale."""
    for pattern in patterns:
        if not glob.has_magic(pattern):
            problem = f"must have a pattern such as `*.tif` in `glob`, got {quoted(pattern)}"
            raise BadItems(f"{problem}; for certain files, write a list of them")
    matches = {path for pattern in patterns for path in expand(pattern)}
    if bad := sorted(path for path in matches if not is_unicode(path)):
        raise BadItems(f"must match files with UTF-8 names, got {quoted(bad[0])}; rename it")
    return sorted(matches)


def _read_lines(path: str) -> list[str]:
    """Lines as programs count them: U+2028 and the like, where `splitlines` splits, end none."""
    lines = [line.removesuffix("\r") for line in read_text(path, REMEDY).split("\n")]
    for number, line in enumerate(lines, 1):
        if has_nul(line):
            problem = f"must not have a NUL, got {quoted(line)} in line {number}"
            raise CannotRead(path, problem, REMEDY)
    return [line for line in lines if line.strip()]


def _read_csv(path: str, column: str | None) -> list[dict[str, str]]:
    """Rows by column. Without `column`, placeholders may name all columns."""
    reader = csv.reader(io.StringIO(read_text(path, REMEDY), newline=""), strict=True)
    try:
        (_, header), *rows = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except csv.Error as error:
        problem = f"is not CSV ({error}: line {reader.line_num})"
        raise CannotRead(path, problem, REMEDY) from None
    if column not in header:
        _check_separator(path, header)
    for name in header if column is None else [column]:
        _check_column(path, name, header, is_placeholder=column is None)
    for line, row in rows:
        if len(row) != len(header):
            cells = f"{count(len(header), 'cell')} in line {line}, as in its header"
            problem = f"must have {cells}, got {count(len(row), 'cell')}"
            raise CannotRead(path, problem, REMEDY)
    return [dict(zip(header, row, strict=True)) for _, row in rows]


def _check_separator(path: str, header: Sequence[str]) -> None:
    """Refuse a header that has the separators of other programs."""
    if len(header) == 1 and any(sign in header[0] for sign in ";\t"):
        problem = f"must have commas between its columns, got {quoted(header[0])}"
        raise CannotRead(path, problem, "save it with commas")


def _check_column(path: str, name: str, header: Sequence[str], *, is_placeholder: bool) -> None:
    if header.count(name) > 1:
        problem = f"must not have column {quoted(name)} twice"
        raise CannotRead(path, problem, "rename one of the two")
    if is_placeholder and not re.fullmatch(NAME, name):
        problem = f"has a column whose name must {NAME_RULE}, got {quoted(name)}"
        raise CannotRead(path, problem, "rename it, or choose one column with `column`")


def _read_list(path: str) -> list[Any]:
    values = read_json(path, REMEDY)
    if not isinstance(values, list):
        raise CannotRead(path, f"must be a JSON list, got {quoted(values)}", REMEDY)
    return values


def _column(rows: list[Any], column: str | None, path: str) -> list[Any]:
    """The values of a column; whole rows without one. All are values that placeholders can have."""
    items = rows if column is None else [_cell(row, column, path) for row in rows]
    for number, item in enumerate(items, 1):
        _check_item(item, number, path)
    return items


def _cell(row: Any, column: str, path: str) -> Any:
    if not isinstance(row, Mapping):
        problem = f"must have tables to choose column `{column}` of, got {quoted(row)}"
        raise CannotRead(path, problem, "remove `column`, or correct that file")
    if column not in row:
        problem = f"must have a column `{column}`, got {', '.join(map(shorten, row))}"
        near = closest(column, tuple(row))
        raise CannotRead(path, problem, f"write `{near}`" if near else "change `column`")
    return row[column]


def _check_item(item: Any, number: int, path: str) -> None:
    if has_nul(item):
        raise CannotRead(path, f"must not have a NUL, got {quoted(item)}", REMEDY)
    names = item if isinstance(item, Mapping) else ()
    if bad := [name for name in names if not re.fullmatch(NAME, name)]:
        problem = f"has a key that must {NAME_RULE}, got {quoted(bad[0])}"
        raise CannotRead(path, problem, "rename it, or choose one key with `column`")
    if not ITEM_LIST.of.accepts(item) or any(ITEM_LIST.of.faults(item, ("items",))):
        problem = f"must have {ITEM_LIST.of.rule}, got {shown(item)} as item {number}"
        raise CannotRead(path, problem, REMEDY)


def fields_of(items: Sequence[Any]) -> list[str] | None:
    """Return the keys that all items have; None if they are strings and numbers.

    Raises `BadItems` if only some are tables.
    """
    tables = [item for item in items if isinstance(item, Mapping)]
    if not tables:
        return None
    if len(tables) < len(items):
        raise BadItems("must be all tables or none, got both; write all items in the same way")
    return [key for key in tables[0] if all(key in table for table in tables)]
