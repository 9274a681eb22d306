"""Tables: as rich draws them, and no wider than the terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import termios

import pytest
import rich.console
from rich.cells import cell_len

from rvrun.cli.run_table import make_live_table
from rvrun.cli.tables import Column, fit, format_table, make_table
from rvrun.remote.state import RunState, StageState, State
from tests.conftest import Project, clean_environment
from tests.runners.local.test_make import read_terminal

COLUMNS = (
    Column("name"),
    Column("number", is_right=True),
    Column("note", wraps=True, rank=1),
    Column("empty"),
    Column("why"),
)
ROWS = [
    ("tiny/cut", "1,000", "", "", "config changed: scene.treeline, model.learning_rate"),
    ("tiny/predict", "", "配置 changed a lot since then", "", ""),
]


def draw(columns: object, rows: object, width: int = 200) -> list[str]:
    """The lines that rich draws."""
    console = rich.console.Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(make_table(columns, rows))  # type: ignore[arg-type]
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("width", [None, 200, 80, 60, 45])
def test_tables_are_as_rich_draws_them(width: int | None) -> None:
    """Without a terminal they are written without rich; wide characters take two columns."""
    columns, rows = fit(COLUMNS, ROWS, width)
    lines = format_table(columns, rows)
    assert lines == draw(columns, rows)
    if width is not None:
        assert max(map(cell_len, lines)) <= width


def test_a_table_that_is_too_wide() -> None:
    """Empty columns are omitted and cells wrapped between words, then columns by their rank."""
    assert format_table(*fit(COLUMNS, ROWS, 72)) == [
        "name           number   note                 why",
        "─" * 64,
        "tiny/cut        1,000                        config changed:",
        "                                             scene.treeline,",
        "                                             model.learning_rate",
        "tiny/predict            配置 changed a lot",
        "                        since then",
    ]
    assert format_table(*fit(COLUMNS, ROWS, 46)) == [
        "name           number   why",
        "─" * 43,
        "tiny/cut        1,000   config changed:",
        "                        scene.treeline,",
        "                        model.learning_rate",
        "tiny/predict",
    ]


@pytest.mark.parametrize("width", [None, 80, 20])
def test_a_table_without_rows_is_its_headings(width: int | None) -> None:
    """As `rvrun list` prints where nothing was submitted."""
    columns, rows = fit(COLUMNS, [], width)
    assert format_table(columns, rows)[0].startswith("name")


def at_terminal(project: Project, width: int, *words: str) -> list[str]:
    """What `words` prints at a terminal of that width, line by line."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = clean_environment(TERM="dumb")
    with subprocess.Popen(
        words, cwd=project.folder, env=environment, stdout=theirs, stderr=theirs, stdin=theirs
    ):
        os.close(theirs)
        text = read_terminal(ours)
    os.close(ours)
    return text.splitlines()


@pytest.mark.parametrize("words", ["plan tiny.py --splits 3 -a top 9", "config"])
@pytest.mark.parametrize("width", [60, 80])
def test_tables_fit_a_narrow_terminal(tiny: Project, words: str, width: int) -> None:
    """At a terminal and with COLUMNS in a pipe, the same; no short word is cut in two."""
    tiny.rvrun("run", "local", "tiny.py", "--splits", "3")
    shown = at_terminal(tiny, width, "rvrun", *words.split())
    assert max(map(cell_len, shown)) <= width
    piped = tiny.rvrun(*words.split(), COLUMNS=str(width)).stdout
    assert piped.splitlines() == shown
    wide = tiny.rvrun(*words.split()).stdout
    long = [word for word in wide.split() if len(word) > 18]
    cut = set(piped.split()) - set(wide.split())
    assert all(any(part in word for word in long) for part in cut)


def test_the_live_table_has_a_bar_where_there_is_space() -> None:
    """The counts of targets matter more."""
    counts = {State.SUCCEEDED: 3, State.RUNNING: 2}
    stages = (StageState(name="landcover/predict", counts=counts),)
    state = RunState(run_id="r", runner="batch", stages=stages, began=0)
    wide, narrow = (
        [str(column.header) for column in make_live_table(state, width).columns]
        for width in (120, 50)
    )
    assert "done" in wide
    assert narrow == ["stage", "running", "succeeded"]
