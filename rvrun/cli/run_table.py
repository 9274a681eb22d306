"""How runs on AWS stand: tables, lines, the summary at the end. With `output` the door to rich."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import attrs
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rvrun.cli.tables import console, plain_table, print_table
from rvrun.remote.state import OVER, Progress, RemoteFailure, RunState, StageState, State
from rvrun.text import count, duration

#: How states are drawn; the others as they are.
STYLES = {State.FAILED: "red", State.SUCCEEDED: "green"}
WORDS = {"succeeded": "bold green", "running": "bold"}


@contextlib.contextmanager
def counting(what: str, err: Console, *, quiet: bool) -> Iterator[Progress]:
    """Something to be told how many of how many are done: one bar at a terminal, else silent."""
    if quiet or not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBars(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def watching(err: Console, *, quiet: bool) -> Iterator[Callable[[RunState], None]]:
    """Something to be shown how a run stands, again and again."""
    if quiet:
        yield lambda state: None
    elif err.is_terminal:
        with Live(console=err, auto_refresh=False) as live:
            yield lambda state: live.update(_table(state, bars=True), refresh=True)
    else:
        yield StateLines(err)


@attrs.define
class StateLines:
    """Prints a line for each stage whenever its numbers change."""

    err: Console
    said: dict[str, str] = attrs.field(factory=dict, init=False)

    def __call__(self, state: RunState) -> None:
        for stage in state.stages:
            line = f"{stage.name}: {in_numbers(stage)}"
            if self.said.get(stage.name) != line:
                self.err.print(line)
                self.said[stage.name] = line


def in_numbers(stage: StageState) -> str:
    """`12 pending, 3 running, 1 failed`."""
    parts = [f"{stage.counts[each]:,} {each}" for each in State if stage.counts.get(each)]
    return ", ".join(parts) + (f" ({stage.stuck})" if stage.stuck else "")


def print_state(state: RunState) -> None:
    """The table of stages, and a line about the whole; why it failed."""
    print_table(_table(state, bars=False))
    for stage in state.stages:
        if stage.stuck:
            print(f"{stage.name} is stuck: {stage.stuck}")
    if state.failure is not None:
        print(f"first failure: {_failure(state.failure)}")
    print(_headline(state))


def _table(state: RunState, *, bars: bool) -> Table:
    """A row a stage: how many targets are in which state, how long it took."""
    shown = [each for each in State if each is not State.GONE or state.count(each)]
    table = plain_table("stage", *shown, *(["done"] if bars else []), "elapsed")
    for column in table.columns[1 : len(shown) + 1]:
        column.justify = "right"
    for stage in state.stages:
        counts = [Text(_number(stage, each), STYLES.get(each, "")) for each in shown]
        bar = [ProgressBar(stage.total, stage.count(*OVER), width=20)] if bars else []
        table.add_row(stage.name, *counts, *bar, _elapsed(stage))
    return table


def _number(stage: StageState, state: State) -> str:
    return f"{stage.counts[state]:,}" if stage.counts.get(state) else ""


def _elapsed(stage: StageState) -> str:
    """How long it took, or takes so far; empty where nothing of it has started."""
    if stage.began is None:
        return ""
    until = stage.ended if stage.is_over and stage.ended else time.time()
    return duration(max(until - stage.began, 0))


def _headline(state: RunState) -> str:
    """`landcover-…: running for 3 min 20 s, 12 of 30 targets done`."""
    total, done = sum(stage.total for stage in state.stages), state.count(State.SUCCEEDED)
    took = duration(max((state.ended or time.time()) - state.began, 0))
    word = {"running": f"running for {took}", "interrupted": "interrupted while it was submitted"}
    how = word.get(state.word, f"{state.word} after {took}")
    return f"{state.run_id}: {how}, {done:,} of {count(total, 'target')} done"


def _failure(failure: RemoteFailure) -> str:
    code = "" if failure.exit_code is None else f" (exit {failure.exit_code})"
    return f"{failure.target}{code}" + (f": {failure.reason}" if failure.reason else "")


def print_summary(state: RunState, log: Sequence[str], run: str) -> None:
    """At the end of a run: the first failure with the end of its log, and what to do next.

    `run` is what to type for it.
    """
    err = console(err=True)
    if state.failure is not None:
        err.print(Text(f"first failure: {_failure(state.failure)}", "bold red"))
        for line in log:
            err.print(f"  | {line}")
        err.print(f"all of its log:     rvrun logs {run} {state.failure.target}")
        err.print(f"to try it again:    rvrun retry {run}")
    if state.word == "interrupted":
        err.print("to go on with it, type the command again that submitted it")
    err.print(Text(_headline(state), WORDS.get(state.word, "bold red")))
