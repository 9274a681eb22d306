"""`rvrun list`: the runs in all run directories, here and elsewhere."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Annotated, Any

import attrs

from rvrun.cli.messages import warn
from rvrun.cli.options import AsJson, BadOption, option
from rvrun.errors import RvrunError
from rvrun.observe.find import is_run_dir, last_local_activity, run_dirs
from rvrun.observe.local_run import LocalRun
from rvrun.remote import ledger as ledgers
from rvrun.remote.ended import read_ended
from rvrun.remote.state import RunState, State, timestamp
from rvrun.text import duration, local_time, shorten

HERE = "."
Below = Annotated[
    str,
    option(
        "--runs",
        metavar="DIR",
        help="Directory below which run directories are looked for; default: the current one.",
    ),
]


@attrs.frozen(kw_only=True)
class Row:
    """A run, as `list` shows it.

    - `run`: what to type for it. `state`: how it ended, as far as that is known here.
    - `began`, `ended`: in seconds since 1970; None if that is not known.
    - `problem`: why it cannot be read; empty if it can.
    """

    run: str
    runner: str
    state: str
    run_dir: str
    began: float | None = None
    ended: float | None = None
    done: int | None = None
    targets: int | None = None
    problem: str = ""


def list_runs(runs: Below = HERE, as_json: AsJson = False) -> None:
    """List the runs in all run directories below here.

    The latest is the last. Services are not asked: a detached run is `submitted` until
    `rvrun status` or another verb has seen its end.

    - `rvrun list`
    """
    if not os.path.isdir(runs or HERE):
        raise BadOption(f"--runs must name a directory, got `{shorten(runs)}`")
    rows = sorted(read_rows(pathlib.Path(runs)), key=lambda row: (row.began or 1e12, row.run))
    # With the others, not instead of them: one damaged file must not hide all runs.
    warn(*(row.problem for row in rows if row.problem))
    if as_json:
        print(json.dumps([row_to_dict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    from rvrun.cli.tables import Column, print_table

    columns = (
        Column("run"),
        Column("runner", rank=2),
        Column("state"),
        Column("targets done", is_right=True, rank=3),
        Column("began", rank=1),
        Column("took", rank=4),
        Column("run directory", rank=5),
    )
    print_table(columns, [_cells(row) for row in rows])


def read_rows(root: pathlib.Path) -> Iterator[Row]:
    """Yield the runs of the run directories in `root`, and of `root` itself."""
    for folder in [root, *run_dirs(root)]:
        yield from map(_detached_row, ledgers.ledgers(folder))
        if is_run_dir(folder) and last_local_activity(folder) is not None:
            yield _local_row(folder)


def _detached_row(ledger: ledgers.Ledger) -> Row:
    """What is known of a detached run without asking its service."""
    row = Row(run=ledger.run_id, runner="damaged", state="", run_dir=str(ledger.run_dir))
    try:
        facts, ended = ledger.facts, read_ended(ledger)
        state = "cancelled" if ledger.has(ledgers.CANCELLED) else "submitted"
        row = attrs.evolve(row, runner=facts["runner"], began=timestamp(facts["began"]))
    except RvrunError as error:
        return attrs.evolve(row, problem=str(error))
    return attrs.evolve(row, state=state) if ended is None else _with_state(row, ended)


def _local_row(folder: pathlib.Path) -> Row:
    row = Row(run=str(folder), runner="damaged", state="", run_dir=str(folder))
    try:
        state = LocalRun(folder).state()
    except RvrunError as error:
        return attrs.evolve(row, problem=str(error))
    return _with_state(attrs.evolve(row, runner=state.runner, began=state.began), state)


def _with_state(row: Row, state: RunState) -> Row:
    return attrs.evolve(
        row,
        state=state.word,
        ended=state.ended,
        done=state.count(State.SUCCEEDED),
        targets=state.total,
    )


def _cells(row: Row) -> tuple[str, ...]:
    is_counted = row.done is not None and row.targets is not None
    took = row.ended is not None and row.began is not None
    return (
        row.run,
        row.runner,
        row.state,
        f"{row.done:,} of {row.targets:,}" if is_counted else "",
        "" if row.began is None else local_time(row.began),
        duration((row.ended or 0) - (row.began or 0)) if took else "",
        "" if row.run == row.run_dir else row.run_dir,
    )


def row_to_dict(row: Row) -> dict[str, Any]:
    """Return a row as JSON values."""
    values = attrs.asdict(row)
    del values["problem"]
    return values
