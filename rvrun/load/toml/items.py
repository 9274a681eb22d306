"""The items of a command: a list, the lines of a file, files that match a glob, rows of a table."""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rvrun.errors import Problem
from rvrun.inputs import is_unicode, read_json, read_text
from rvrun.load.toml.keys import ITEM_LIST, NAME_RULE
from rvrun.text import quoted, shorten

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
    elif "glob" in spec:
        patterns = [spec["glob"]] if isinstance(spec["glob"], str) else spec["glob"]
        items = _glob([fill(pattern) for pattern in patterns])
    elif "lines" in spec:
        items = [
            line for line in read_text(fill(spec["lines"]), REMEDY).splitlines() if line.strip()
        ]
    elif "csv" in spec:
        path = fill(spec["csv"])
        items = _column(_read_csv(path), spec.get("column"), path)
    else:
        path = fill(spec["json"])
        items = _column(_read_list(path), spec.get("column"), path)
    if not items:
        raise BadItems(f"must give at least one item, got none from {_shown(spec)}; change it")
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
            raise BadItems(f"must be a pattern such as `*.tif`, got {quoted(pattern)}")
    matches = {path for pattern in patterns for path in glob.glob(pattern, recursive=True)}
    if bad := sorted(path for path in matches if not is_unicode(path)):
        raise BadItems(f"must match files with UTF-8 names, got {quoted(bad[0])}; rename it")
    return sorted(matches)


def _read_csv(path: str) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(read_text(path, REMEDY), newline=""), strict=True)
    try:
        items = list(rows)
    except csv.Error as error:
        raise BadItems(f"cannot read {path}: line {rows.line_num}: {error}; {REMEDY}") from None
    for number, row in enumerate(items, 2):
        if None in row or None in row.values():
            names = ", ".join(rows.fieldnames or ())
            raise BadItems(f"{path}: row {number} must have the columns {names}; {REMEDY}")
    return items


def _read_list(path: str) -> list[Any]:
    values = read_json(path, REMEDY)
    if not isinstance(values, list):
        raise BadItems(f"{path} must be a JSON list, got {quoted(values)}; {REMEDY}")
    return values


def _column(rows: list[Any], column: str | None, path: str) -> list[Any]:
    """The values of a column; whole rows without one. All are values that placeholders can have."""
    items = rows
    if column is not None:
        for row in rows:
            if not isinstance(row, Mapping) or column not in row:
                names = ", ".join(map(shorten, row)) if isinstance(row, Mapping) else quoted(row)
                raise BadItems(
                    f"{path} must have a column `{column}`, got {names}; change `column`"
                )
        items = [row[column] for row in rows]
    for number, item in enumerate(items, 1):
        if not ITEM_LIST.of.accepts(item) or any(ITEM_LIST.of.faults(item, ("items",))):
            rule = f"{ITEM_LIST.of.rule}, whose keys {NAME_RULE}"
            raise BadItems(f"{path}: item {number} must be {rule}, got {quoted(item)}; {REMEDY}")
    return items


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
