"""Submitting a detached run, and waiting for its end."""

from __future__ import annotations

import pathlib
import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from rvrun.cli.logs import log_end
from rvrun.cli.messages import say, shown_as, warn
from rvrun.cli.options import Common
from rvrun.cli.run_table import print_summary, progress_bar, watching
from rvrun.cli.tables import make_console
from rvrun.errors import DONE, FAILED, INTERRUPTED, Transient
from rvrun.observe.find import DetachedRun, Run
from rvrun.observe.local_run import LocalRun
from rvrun.prepare import Prepared
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import StillRunning
from rvrun.remote.state import Progress, RunState
from rvrun.rundir.lock import locked, locked_if_writable
from rvrun.runners.protocol import DetachedRunner
from rvrun.runners.submissions import check_unread

#: Seconds between two reads of a run's state from a service: at first, and at most.
POLL_FIRST, POLL_MOST = 3.0, 30.0
#: The same of a run directory.
HERE_FIRST, HERE_MOST = 0.5, 2.0
#: The factor by which that time grows.
POLL_GROWTH = 1.3


def submit(prepared: Prepared, runner: DetachedRunner, common: Common, *, wait: bool) -> int:
    """Write and submit a run, wait for its end if `wait`, and return the exit code."""
    run, verb = prepared.run, f"submitted to {runner.TITLE} as"
    warn(*dict.fromkeys(runner.risks(prepared.files)))
    # A run in progress can be waited for where nothing can be written. Nothing can be submitted
    # there: its intention could not be noted.
    lock = locked_if_writable if wait else locked
    with shown_as(run.out_typed), lock(run.run_dir):
        # Before writing: what is refused must not change what the jobs of the earlier run read.
        if runner.CAPABILITIES.keeps_stamps and prepared.changes_files():
            check_unread(ledgers.last(run.run_dir, prepared.runners[0]), runner.state)
        prepared.write()
        with counting("submitting", common) as progress:
            try:
                ledger = runner.submit(run, progress)
            except StillRunning as error:
                if not (wait and error.same_files):
                    raise
                ledger = ledgers.find(error.run, pathlib.Path(ledgers.RUNS))
                verb = "waiting for"
            except KeyboardInterrupt:
                say(
                    "interrupted; run the same command again to continue, or "
                    "`rvrun cancel @latest` to cancel what was submitted"
                )
                return INTERRUPTED
    if ledger is None:
        say("all up to date; nothing was submitted")
        return DONE
    say(f"{verb} {ledger.run_id}")
    if wait:
        return wait_for(DetachedRun(ledger), common)
    if not common.quiet:
        handle = shlex.quote(ledger.handle)
        say(f"  to watch it:   rvrun status {handle} --watch")
        say(f"  to cancel it:  rvrun cancel {handle}")
    print(ledger.run_id)
    return DONE


def counting(work: str, common: Common) -> AbstractContextManager[Progress]:
    """Return a context in which the progress of `work` on a run's jobs is shown."""
    return progress_bar(work, make_console(err=True), quiet=common.quiet)


def wait_for(run: Run, common: Common) -> int:
    """Show a run's progress until it has ended, then its summary; return the exit code."""
    is_here = isinstance(run, LocalRun)
    polls = (HERE_FIRST, HERE_MOST) if is_here else (POLL_FIRST, POLL_MOST)
    try:
        with watching(make_console(err=True), quiet=common.quiet) as show:
            state = follow(run.state, show, polls=polls)
    except KeyboardInterrupt:
        handle = shlex.quote(run.handle)
        if is_here:
            say(f"no longer watching; the run continues: rvrun status {handle}")
        else:
            say(
                f"no longer waiting; the run continues: rvrun status {handle}, "
                f"rvrun cancel {handle}"
            )
        return INTERRUPTED
    log = [] if state.failure is None else log_end(run, state.failure.target)
    print_summary(state, log, run.handle)
    return exit_code(state)


def follow(
    read_state: Callable[[], RunState],
    show: Callable[[RunState], None],
    sleep: Callable[[float], None] = time.sleep,
    polls: tuple[float, float] | None = None,
) -> RunState:
    """Read a run's state until it is over, less and less often; return the last state.

    A call that the service does not answer is repeated: the run does not depend on this process.

    - `polls`: the seconds between two reads, at first and at most; None for those of a service.
    """
    pause, most = polls or (POLL_FIRST, POLL_MOST)
    while True:
        try:
            state = read_state()
        except Transient as error:
            say(f"{error}; the run continues; retrying in {pause:.0f} s")
        else:
            show(state)
            if state.is_over or not state.submitted:
                return state
        sleep(pause)
        pause = min(pause * POLL_GROWTH, most)


def exit_code(state: RunState) -> int:
    """Return the exit code of a run's state."""
    return DONE if state.word in ("succeeded", "running") and not state.has_failed else FAILED
