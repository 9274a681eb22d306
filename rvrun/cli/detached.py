"""The verbs that only detached runs have, or need a ledger for: cancel."""

from __future__ import annotations

import pathlib

import typer

from rvrun.cli.messages import say
from rvrun.cli.options import BadOption, read_common
from rvrun.cli.run_options import Run, Runs
from rvrun.observe.find import DetachedRun, find_run
from rvrun.remote import ledger as ledgers
from rvrun.rundir.lock import locked_if_writable
from rvrun.text import count


def cancel(context: typer.Context, run: Run, runs: Runs = ledgers.RUNS) -> None:
    """Cancel all waiting and running jobs of a run.

    - `rvrun cancel @latest`
    """
    from rvrun.cli.submit import counting

    observed = find_run(run, pathlib.Path(runs))
    if not isinstance(observed, DetachedRun):
        raise BadOption(
            f"`cancel` only works with detached runs; {observed.handle} is a run on this machine: "
            "press Ctrl-C where it was started"
        )
    ledger = observed.ledger
    with (
        locked_if_writable(ledger.run_dir),
        counting("cancelling", read_common(context)) as progress,
    ):
        num_jobs = observed.runner.cancel(ledger, progress)
    if num_jobs:
        say(f"cancelled {ledger.run_id}: {count(num_jobs, 'job')} ended")
    else:
        say(f"nothing in {ledger.run_id} was waiting or running")
