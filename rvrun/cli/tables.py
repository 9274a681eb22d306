"""Tables on stdout, and consoles for what is drawn in colour.

Where stdout is not a terminal, tables are written without rich, which takes longer to import than
Python takes to start. A test compares the two.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GAP = "   "
#: The least width, in characters, to which a column is wrapped; and where columns can be omitted
#: instead, the longest word that is not broken.
LEAST, LONGEST = 12, 18


class Column(NamedTuple):
    """A column of a table.

    - `wraps`: whether its cells are wrapped where the table is too wide, as the last column's are.
    - `rank`: the column with the highest one is omitted first where wrapping is not enough; 0 for
      a column that is only omitted if all its cells are empty. Ranks differ.
    """

    heading: str
    is_right: bool = False
    style: str = ""
    wraps: bool = False
    rank: int = 0


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout, as wide as the terminal at most."""
    columns, rows = fit(columns, list(rows), find_width())
    if not sys.stdout.isatty():
        print("\n".join(format_table(columns, rows)))
        return
    out = make_console()
    with out.capture() as captured:
        out.print(make_table(columns, rows))
    for line in captured.get().splitlines():
        print(line.rstrip())


def find_width() -> int | None:
    """Return the width of stdout, as in COLUMNS or of the terminal; None if nothing limits it."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else None


def fit(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[Sequence[Column], Sequence[Sequence[str]]]:
    """Return the columns and rows of a table that is `width` wide at most, as far as possible.

    Cells are wrapped, and columns are omitted: empty ones first, then by rank.
    """
    kept = list(range(len(columns)))
    widths = _natural_widths(columns, rows)
    if width is not None and _total(widths) > width:
        kept = [index for index in kept if index == 0 or any(row[index] for row in rows)]
    while True:
        table = [columns[index] for index in kept]
        cells = [[row[index] for index in kept] for row in rows]
        natural = _natural_widths(table, cells)
        rank = max(column.rank for column in table)
        widths = _shrink(table, cells, natural, width, breaks_words=rank == 0)
        if rank == 0 or width is None or _total(widths) <= width:
            break
        kept = [index for index in kept if columns[index].rank != rank]
    wrapped = [
        ["\n".join(_wrap(text, limit)) for text, limit in zip(row, widths, strict=True)]
        for row in cells
    ]
    return table, wrapped


def _natural_widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    headings = [column.heading for column in columns]
    return [max(map(_width, cells)) for cells in zip(headings, *rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _shrink(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    width: int | None,
    *,
    breaks_words: bool,
) -> list[int]:
    """Return the widths after wrapping the widest columns as much as is needed and allowed."""
    least = {}
    for index, column in enumerate(columns):
        if column.wraps or index == len(columns) - 1:
            words = (word for row in rows for word in row[index].split())
            longest = max(map(_width, words), default=0)
            least[index] = LEAST if breaks_words else max(LEAST, min(longest, LONGEST))
    shrunk = list(widths)
    while width is not None and _total(shrunk) > width:
        wide = [index for index in least if shrunk[index] > least[index]]
        if not wide:
            break
        shrunk[max(wide, key=lambda index: shrunk[index])] -= 1
    return shrunk


def _wrap(text: str, width: int) -> list[str]:
    """Return `text` in lines of at most `width`, broken between words where that is possible."""
    if _width(text) <= width:
        return [text]
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if _width(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if _width(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


def format_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, as rich would draw it; cells may have several lines."""
    split = [[cell.split("\n") for cell in row] for row in rows]
    lines = [[column.heading for column in columns]]
    lines += [list(line) for row in split for line in itertools.zip_longest(*row, fillvalue="")]
    widths = [max(_width(line[index]) for line in lines) for index in range(len(columns))]
    texts = []
    for line in lines:
        pairs = zip(columns, line, widths, strict=True)
        padded = (_pad(text, width, is_right=column.is_right) for column, text, width in pairs)
        texts.append(GAP.join(padded).rstrip())
    return [texts[0], "─" * _total(widths), *texts[1:]]


def _pad(text: str, width: int, *, is_right: bool) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if is_right else text + blanks


def _width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def make_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Table:
    """Return rich's table."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.is_right else "left",
            style=column.style,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    return table


def make_console(*, err: bool = False) -> Console:
    """Return a console that breaks no line of what is piped on, and reads no markup."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(
        stderr=err, highlight=False, markup=False, width=width, soft_wrap=not stream.isatty()
    )
