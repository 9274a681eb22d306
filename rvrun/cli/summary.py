"""The summary at the end of a run on this machine, on stderr."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from rich.text import Text

from rvrun.cli.tables import make_console
from rvrun.rundir.exits import describe_exit, explain_exit
from rvrun.rundir.summary import Failure, Outcome, tail
from rvrun.signals import name_of
from rvrun.text import count, duration, memory

if TYPE_CHECKING:
    from rich.console import Console

#: How many lines of a failed target's log are shown.
LOG_LINES = 20
#: How many failed targets are listed.
NUM_FAILURES = 10


def print_summary(outcome: Outcome, logs: str, command_line: str) -> None:
    """Print the first failure with the end of its log, the counts, and how to continue.

    - `logs`: the folder of the logs; empty if there are none.
    - `command_line`: continues the run.
    """
    err = make_console(err=True)
    # A command line that the terminal wraps can be copied; one with line breaks in it cannot.
    err.soft_wrap = True
    if outcome.failures:
        _print_failure(err, outcome.failures[0])
        for failure in outcome.failures[1:NUM_FAILURES]:
            log = f"; {failure.log}" if failure.log else ""
            err.print(f"also failed: {failure.target} {_end(failure)}{log}")
        if len(outcome.failures) > NUM_FAILURES:
            err.print(f"… and {len(outcome.failures) - NUM_FAILURES:,} more")
    elif outcome.trouble:
        err.print(outcome.trouble)
    for text in outcome.warnings:
        err.print(Text(f"warning: {text}", "yellow"))
    counts = _counts(outcome)
    if logs and outcome.ran + len(outcome.failures) + outcome.stopped:
        counts.append(f"; logs in {logs}")
        if outcome.largest is not None:
            target, peak = outcome.largest
            counts.append(f"; peak memory {memory(peak)} ({target})")
    err.print(counts)
    if outcome.failures or outcome.signal or outcome.trouble:
        err.print(f"to continue:           {command_line}")


def _print_failure(err: Console, failure: Failure) -> None:
    verb = "was" if failure.exit_code is None else "failed"
    err.print(Text(f"{failure.target} {verb} {_end(failure)}", "bold red"))
    hint = explain_exit(
        failure.exit_code,
        failure.signal,
        failure.peak_memory_kib,
        timeout_seconds=failure.timeout_seconds,
    )
    if hint:
        err.print(hint)
    lines = tail(failure.log, LOG_LINES, failure.log_offset) if failure.log else []
    if lines:
        err.print(f"the end of {failure.log}:")
    for line in lines:
        err.print(f"  | {line}")
    err.print(f"to rerun this target:  {failure.rerun}")


def _end(failure: Failure) -> str:
    """Return `(exit 1) after 2.0 s`, or `killed by SIGKILL (137) after 2.0 s`."""
    end = describe_exit(failure.exit_code, failure.signal)
    after = "" if failure.seconds is None else f" after {duration(failure.seconds)}"
    return f"({end}){after}" if failure.exit_code is not None else f"{end}{after}"


def _counts(outcome: Outcome) -> Text:
    is_good = not (outcome.failures or outcome.signal or outcome.trouble)
    others = {
        "up to date": outcome.up_to_date,
        "failed": len(outcome.failures),
        "stopped": outcome.stopped,
        "not started": outcome.not_started,
    }
    parts = [f"{count(outcome.ran, 'target')} ran"]
    parts += [f"{number:,} {state}" for state, number in others.items() if number]
    word = "done" if is_good else "failed"
    if outcome.signal:
        # Ctrl-C needs no name.
        is_ctrl_c = outcome.signal == signal.SIGINT
        word = "interrupted" if is_ctrl_c else f"interrupted by {name_of(outcome.signal)}"
    return Text.assemble(
        (word, "bold green" if is_good else "bold red"),
        f" in {duration(outcome.seconds)}: {', '.join(parts)}",
    )
