"""The state of a run: tables, lines, and the summary at its end."""

from __future__ import annotations

import contextlib
import functools
import shlex
import time
from collections.abc import Callable, Iterator, Sequence

import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rvrun.cli.logs import describe
from rvrun.cli.tables import Column, fit, make_console, make_table, print_table
from rvrun.remote.state import OVER, RARE, Progress, RunningTarget, RunState, StageState, State
from rvrun.text import count, duration, memory

#: The styles of states and of whole runs; the others have none.
STYLES = {State.FAILED: "red", State.STOPPED: "red", State.SUCCEEDED: "green"}
RUN_STYLES = {"succeeded": "bold green", "running": "bold"}
#: Characters of a stage's bar.
BAR_WIDTH = 20
BAR = Column("done", rank=1)
#: What is only known of some runs: omitted where no stage has it.
MEDIAN = Column("per target", is_right=True, rank=2)
MEMORY = Column("memory", is_right=True, rank=3)
#: How many running and failed targets are named.
NUM_RUNNING, NUM_FAILED = 5, 5


@contextlib.contextmanager
def progress_bar(work: str, err: Console, *, quiet: bool) -> Iterator[Progress]:
    """Yield a callback that shows how much of `work` is done: a bar at a terminal, else nothing."""
    if quiet or not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(work), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ProgressBars(*columns, console=err, transient=True) as bars:
        task = bars.add_task(work, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def watching(err: Console, *, quiet: bool) -> Iterator[Callable[[RunState], None]]:
    """Yield a callback that shows the current state of a run."""
    if quiet:
        yield lambda state: None
    elif err.is_terminal:
        with Live(console=err, auto_refresh=False) as live:
            yield lambda state: live.update(make_live_view(state, err.width), refresh=True)
    else:
        yield StateLines(err)


@attrs.define
class StateLines:
    """Prints a line for each stage whenever its numbers change."""

    err: Console
    lines: dict[str, str] = attrs.field(factory=dict, init=False)

    def __call__(self, state: RunState) -> None:
        for stage in state.stages:
            line = f"{stage.name}: {format_counts(stage)}"
            if self.lines.get(stage.name) != line:
                self.err.print(line)
                self.lines[stage.name] = line


def format_counts(stage: StageState) -> str:
    """Return `12 pending, 3 running, 1 failed`."""
    parts = [f"{stage.counts[state]:,} {state}" for state in State if stage.counts.get(state)]
    return ", ".join(parts) + (f" ({stage.stuck})" if stage.stuck else "")


def print_state(state: RunState) -> None:
    """Print the table of stages, what runs, waits or failed, and a line about the run."""
    columns, rows = table_of(state)
    print_table(columns, rows)
    for stage in state.stages:
        if stage.stuck:
            print(f"{stage.name} waits: {stage.stuck}")
    if state.running:
        print(f"running: {name_running(state.running)}")
    for text in state.warnings:
        print(f"warning: {text}")
    if state.failure is not None:
        print(f"first failure: {describe(state.failure)}")
        for failure in state.other_failures[: NUM_FAILED - 1]:
            print(f"also failed: {describe(failure)}")
        if (more := len(state.other_failures) - NUM_FAILED + 1) > 0:
            print(f"… and {more:,} more")
    print(_headline(state))


def table_of(state: RunState) -> tuple[list[Column], list[list[str]]]:
    """Return the columns and rows of the table of stages."""
    shown = shown_states(state)
    facts: list[tuple[Column, Callable[[StageState], str]]] = [
        (Column("elapsed"), functools.partial(_elapsed, is_here=state.active is not None)),
        (MEDIAN, _median),
        (MEMORY, _memory),
    ]
    facts = [
        *facts[:1],
        *(pair for pair in facts[1:] if any(pair[1](stage) for stage in state.stages)),
    ]
    rows = [
        [stage.name, *_numbers(stage, shown), *(show(stage) for _, show in facts)]
        for stage in state.stages
    ]
    return [*_columns(shown), *(column for column, _ in facts)], rows


def _median(stage: StageState) -> str:
    return "" if stage.median_seconds is None else duration(stage.median_seconds)


def _memory(stage: StageState) -> str:
    return "" if stage.peak_memory_kib is None else memory(stage.peak_memory_kib)


def name_running(running: Sequence[RunningTarget]) -> str:
    """Return `tiny/cut/3 for 12.0 s, tiny/cut/4 for 2.0 s and 3 more`."""
    now = time.time()
    names = [f"{one.target} for {duration(max(now - one.began, 0))}" for one in running]
    more = f" and {len(names) - NUM_RUNNING:,} more" if len(names) > NUM_RUNNING else ""
    return ", ".join(names[:NUM_RUNNING]) + more


def make_live_view(state: RunState, width: int | None = None) -> Group:
    """Return the table of stages with bars, what is running, and how much longer it will take."""
    lines = [Text(f"running: {name_running(state.running)}")] if state.running else []
    return Group(make_live_table(state, width), *lines, Text(_headline(state)))


def make_live_table(state: RunState, width: int | None = None) -> Table:
    """Return the table of stages with a bar for each, if `width` has space for it."""
    shown = shown_states(state)
    space = " " * BAR_WIDTH
    elapsed = functools.partial(_elapsed, is_here=state.active is not None)
    texts = [[stage.name, *_numbers(stage, shown), space, elapsed(stage)] for stage in state.stages]
    columns, rows = fit([*_columns(shown), BAR, Column("elapsed")], texts, width)
    table = make_table(columns, [])
    for stage, row in zip(state.stages, rows, strict=True):
        bar = ProgressBar(stage.total, stage.count(*OVER), width=BAR_WIDTH)
        table.add_row(*(bar if c is BAR else cell for c, cell in zip(columns, row, strict=True)))
    return table


def shown_states(state: RunState) -> list[State]:
    """Return the states with a column: not those that are rare, unless a target is in them.

    Targets on this machine never wait for one.
    """
    hidden = RARE if state.active is None else (*RARE, State.RUNNABLE)
    return [column for column in State if column not in hidden or state.count(column)]


def _columns(states: Sequence[State]) -> list[Column]:
    counts = [Column(state, is_right=True, style=STYLES.get(state, "")) for state in states]
    return [Column("stage"), *counts]


def _numbers(stage: StageState, states: Sequence[State]) -> list[str]:
    return [f"{stage.counts[state]:,}" if stage.counts.get(state) else "" for state in states]


def _elapsed(stage: StageState, *, is_here: bool = False) -> str:
    """How long a stage took, or has taken so far; empty if none of it has started.

    - `is_here`: whether it runs on this machine, where it may end before all of it is done.
    """
    if stage.began is None:
        return ""
    until = stage.ended if (stage.is_over or is_here) and stage.ended else time.time()
    return duration(max(until - stage.began, 0))


def _headline(state: RunState) -> str:
    """Return `landcover-…: running for 3 min 20 s, 12 of 30 targets done, about 1.0 s left`."""
    total, done = state.total, state.count(State.SUCCEEDED)
    elapsed = duration(max((state.ended or time.time()) - state.began, 0))
    words = {
        "running": f"running for {elapsed}",
        "interrupted": "interrupted while it was submitted",
    }
    if state.active is not None:
        words["interrupted"] = f"interrupted after {elapsed}"
        words["incomplete"] = "incomplete"
    words_or_state = words.get(state.word, f"{state.word} after {elapsed}")
    left = "" if state.seconds_left is None else f", about {duration(state.seconds_left)} left"
    return f"{state.run_id}: {words_or_state}, {done:,} of {count(total, 'target')} done{left}"


def print_summary(state: RunState, log: Sequence[str], run: str) -> None:
    """Print the first failure with the end of its log, what to do next, and the run's state.

    - `run`: what to type for the run.
    """
    err = make_console(err=True)
    for text in state.warnings:
        err.print(f"warning: {text}")
    if state.failure is not None:
        failure = state.failure
        err.print(Text(f"first failure: {describe(failure)}", "bold red"))
        for line in log:
            err.print(f"  | {line}")
        err.print(f"to see all of its log:  rvrun logs {shlex.quote(run)} {failure.target}")
        err.print(f"to retry what failed:   rvrun retry {shlex.quote(run)}")
    if state.word == "interrupted" and state.active is None:
        err.print("to continue the submission, run the command that submitted it again")
    err.print(Text(_headline(state), RUN_STYLES.get(state.word, "bold red")))
