"""Tables on stdout, and consoles for what is drawn in colour.

Where stdout is not a terminal, tables are written without rich, which takes longer to import than
Python takes to start. A test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GAP = "   "


class Column(NamedTuple):
    """A column's heading, its alignment, and rich's style of its cells."""

    heading: str
    is_right: bool = False
    style: str = ""


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout; at a terminal it is folded to the terminal's width."""
    if not sys.stdout.isatty():
        print("\n".join(format_table(columns, rows)))
        return
    out = make_console()
    with out.capture() as captured:
        out.print(make_table(columns, rows))
    for line in captured.get().splitlines():
        print(line.rstrip())


def format_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, as rich would draw it."""
    cells = [[column.heading for column in columns], *map(list, rows)]
    widths = [max(_width(row[index]) for row in cells) for index in range(len(columns))]
    lines = []
    for row in cells:
        pairs = zip(columns, row, widths, strict=True)
        padded = (_pad(text, width, is_right=column.is_right) for column, text, width in pairs)
        lines.append(GAP.join(padded).rstrip())
    rule = "─" * (sum(widths) + len(GAP) * (len(widths) - 1))
    return [lines[0], rule, *lines[1:]]


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
