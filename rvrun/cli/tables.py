"""Tables on stdout, the closing summary on stderr. With `progress` the door to rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

import attrs
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rvrun.model import NeedKind, Plan, Stage
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.summary import Failure, Outcome, tail
from rvrun.settings.layers import Option
from rvrun.text import count, duration, title

LOG_LINES = 20


def console(*, err: bool = False) -> Console:
    """A console that breaks no line of text that is piped on, and reads no markup."""
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(
        stderr=err, highlight=False, markup=False, width=width, soft_wrap=not stream.isatty()
    )


def print_plan(plan: Plan, statuses: Sequence[StageStatus], reasons: Mapping[str, str]) -> None:
    """The table of stages, and what would run of each; `reasons` by the stages' names."""
    table = plain_table("stage", "splits", "needs", "on", "would run", "why")
    table.columns[1].justify = "right"
    for status in statuses:
        stage = status.stage
        table.add_row(
            status.name,
            "" if stage.num_splits is None else f"{stage.num_splits:,}",
            _needs(stage),
            "gpu" if stage.gpu else "cpu",
            _todo(status),
            reasons[status.name],
        )
    print_table(table)
    todo = sum(len(status.stale) for status in statuses)
    would = f"{todo:,} would run" if todo else "all up to date"
    print(f"{title(plan)}; {would}")


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of texts."""
    table = plain_table(*headings)
    for row in rows:
        table.add_row(*row)
    print_table(table)


def print_table(table: Table) -> None:
    """On stdout, no blanks at the ends of lines."""
    out = console()
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def plain_table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _needs(stage: Stage) -> str:
    return ", ".join(
        need.command + (" (aligned)" if need.kind is NeedKind.ALIGNED else "")
        for need in stage.needs
    )


def _todo(status: StageStatus) -> str:
    if not status.stale:
        return "up to date"
    if status.stage.num_splits is None:
        return "run"
    return f"{len(status.stale):,} of {status.stage.num_splits:,}"


def print_options(options: Iterable[Option]) -> None:
    """Each setting with its value and where that comes from."""
    table = plain_table("setting", "value", "from", "environment variable", "what")
    for option in options:
        table.add_row(
            option.key, shown_value(option.value), option.origin, option.variable, option.help
        )
    print_table(table)


def shown_value(value: object) -> str:
    """A setting's value as its variable would say it."""
    if isinstance(value, dict):
        pairs = value.items()
        texts = [key if attrs.has(type(each)) else f"{key}={each}" for key, each in pairs]
        return ",".join(texts)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def print_outcome(outcome: Outcome, logs: str, again: str) -> None:
    """The closing summary: the first failure with the end of its log, counts, what to do next."""
    err = console(err=True)
    # A command line that the terminal wraps can be copied, one with line breaks in it cannot.
    err.soft_wrap = True
    if outcome.failures:
        _print_failure(err, outcome.failures[0])
        for failure in outcome.failures[1:10]:
            log = f"; {failure.log}" if failure.log else ""
            err.print(f"also failed: {failure.target} ({_exit(failure)}{log})")
        if len(outcome.failures) > 10:
            err.print(f"… and {len(outcome.failures) - 10:,} more")
    elif outcome.trouble:
        err.print(outcome.trouble)
    summary = _counts(outcome)
    if logs and outcome.ran + len(outcome.failures) + outcome.stopped:
        summary.append(f"; logs in {logs}")
    err.print(summary)
    if outcome.failures or outcome.interrupted or outcome.trouble:
        err.print(f"to go on from here:  {again}")


def _print_failure(err: Console, failure: Failure) -> None:
    after = "" if failure.seconds is None else f" after {duration(failure.seconds)}"
    how = "was killed" if failure.exit_code is None else f"failed ({_exit(failure)})"
    err.print(Text(f"{failure.target} {how}{after}", "bold red"))
    lines = tail(failure.log, LOG_LINES, failure.log_offset) if failure.log else []
    if lines:
        err.print(f"the end of {failure.log}:")
    for line in lines:
        err.print(f"  | {line}")
    err.print(f"to run it alone:     {failure.rerun}")


def _exit(failure: Failure) -> str:
    return "killed" if failure.exit_code is None else f"exit {failure.exit_code}"


def _counts(outcome: Outcome) -> Text:
    good = not (outcome.failures or outcome.interrupted or outcome.trouble)
    parts = [
        f"{count(outcome.ran, 'target')} ran",
        *_part(outcome.up_to_date, "up to date"),
        *_part(len(outcome.failures), "failed"),
        *_part(outcome.stopped, "stopped"),
        *_part(outcome.not_started, "not started"),
    ]
    word = "done" if good else "interrupted" if outcome.interrupted else "failed"
    return Text.assemble(
        (word, "bold green" if good else "bold red"),
        f" in {duration(outcome.seconds)}: {', '.join(parts)}",
    )


def _part(number: int, what: str) -> list[str]:
    return [f"{number:,} {what}"] if number else []
