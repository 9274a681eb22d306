"""Verbs of runs on AWS: submitting, and the life after it, told from the ledger."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Annotated, Any

import attrs
import typer

from rvrun.cli import options as common
from rvrun.cli.compare import AsJson
from rvrun.cli.messages import say, warn
from rvrun.cli.options import Common
from rvrun.errors import DONE, FAILED, INTERRUPTED, Transient
from rvrun.prepare import Prepared
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import RUNS, Ledger
from rvrun.remote.state import RunState
from rvrun.rundir import files as rundir
from rvrun.rundir.lock import locked
from rvrun.runners.protocol import DetachedRunner
from rvrun.runners.registry import find_detached
from rvrun.runners.submissions import retried_twice
from rvrun.settings.layers import load_settings
from rvrun.text import count

#: Seconds between two looks at a run: at first, and at most.
POLL_FIRST, POLL_MOST = 3.0, 30.0

RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id or the beginning of it, `@latest`, or a run directory.",
        show_default=False,
    ),
]
Runs = Annotated[
    str, typer.Option("--runs", metavar="DIR", help="The folder of the run directories.")
]


def submit(prepared: Prepared, remote: DetachedRunner, said: Common, *, wait: bool) -> int:
    """Write and submit a run, and wait for its end if that is wanted; the exit code."""
    run = prepared.run
    for risk in dict.fromkeys(remote.risks(prepared.files)):
        warn(risk)
    with locked(run.run_dir):
        rundir.write(run.run_dir, prepared.files, prepared.owned)
        with _counting("submitting", said) as told:
            try:
                ledger = remote.submit(run, told)
            except KeyboardInterrupt:
                say("interrupted; type the same command again to go on, or `rvrun cancel @latest`")
                return INTERRUPTED
    say(f"submitted to {remote.TITLE} as {ledger.run_id}")
    if wait:
        return _wait(ledger, remote, said)
    if not said.quiet:
        say(f"  how it goes:  rvrun status {ledger.handle} --watch")
        say(f"  to end it:    rvrun cancel {ledger.handle}")
    print(ledger.run_id)
    return DONE


def list_runs(context: typer.Context, runs: Runs = RUNS, as_json: AsJson = False) -> None:
    """List the runs that were submitted from here, the latest last.

    - `rvrun list`
    """
    found = ledgers.all_ledgers(pathlib.Path(runs))
    rows = [
        {"run": ledger.run_id, **_facts(ledger), "run_dir": str(ledger.run_dir)} for ledger in found
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rvrun.cli.tables import print_rows

    print_rows(("run", "on", "submitted", "run directory"), [tuple(row.values()) for row in rows])


def _facts(ledger: Ledger) -> dict[str, str]:
    facts = ledger.facts
    return {key: str(facts[key]) for key in ("runner", "began")}


def status(
    context: typer.Context,
    run: RunId = ledgers.LATEST,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on until it has ended.")] = False,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> None:
    """Show how a run on AWS stands: its targets by state, what is stuck, the first failure.

    Exit code 1 where a target failed.

    - `rvrun status @latest`
    - `rvrun status @latest --watch`
    """
    if watch and as_json:
        raise common.BadOption("--watch draws for people, --json is for programs; give one of them")
    ledger = ledgers.find(run, pathlib.Path(runs))
    remote = find_detached(ledger.runner)
    if watch:
        raise typer.Exit(_wait(ledger, remote, context.obj))
    state = remote.state(ledger)
    if as_json:
        print(json.dumps(_to_json(state), indent=2, ensure_ascii=False))
    else:
        from rvrun.cli.run_table import print_state

        print_state(state)
    raise typer.Exit(_exit_code(state))


def logs(
    context: typer.Context,
    run: RunId,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="`tiny/train`, or one split, `tiny/predict/3`.",
            show_default=False,
        ),
    ],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Wait for more, until the target has ended.")
    ] = False,
    runs: Runs = RUNS,
) -> None:
    """Print what a target of a run on AWS printed, its last try.

    - `rvrun logs @latest landcover/chip/3 -f`
    """
    ledger = ledgers.find(run, pathlib.Path(runs))
    for line in find_detached(ledger.runner).logs(ledger, target, follow=follow):
        print(line, flush=follow)


def cancel(context: typer.Context, run: RunId, runs: Runs = RUNS) -> None:
    """End all of a run on AWS that waits or runs.

    - `rvrun cancel @latest`
    """
    ledger = ledgers.find(run, pathlib.Path(runs))
    with locked(ledger.run_dir), _counting("cancelling", context.obj) as told:
        ended = find_detached(ledger.runner).cancel(ledger, told)
    if ended:
        say(f"cancelled {ledger.run_id}: {count(ended, 'job')} ended")
    else:
        say(f"nothing of {ledger.run_id} was waiting or running")


def retry(
    context: typer.Context,
    run: RunId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end.")] = False,
    runs: Runs = RUNS,
) -> None:
    """Submit again what failed of a run on AWS, and what hung on it; what is done stays.

    - `rvrun retry @latest --wait`
    """
    ledger = ledgers.find(run, pathlib.Path(runs))
    remote = find_detached(ledger.runner)
    settings = load_settings(profile=context.obj.profile)
    for risk in retried_twice(ledger, remote.OWNS, remote.state(ledger)):
        warn(risk)
    with locked(ledger.run_dir), _counting("submitting", context.obj) as told:
        again = remote.retry(ledger, settings, told)
    say(f"submitted {count(again, 'target')} of {ledger.run_id} again")
    if wait:
        raise typer.Exit(_wait(ledger, remote, context.obj))


def _counting(what: str, said: Common) -> Any:
    from rvrun.cli.run_table import counting
    from rvrun.cli.tables import console

    return counting(what, console(err=True), quiet=said.quiet)


def _wait(ledger: Ledger, remote: DetachedRunner, said: Common) -> int:
    """Show how a run goes until it has ended, then its summary; the exit code."""
    from rvrun.cli.run_table import print_summary, watching
    from rvrun.cli.tables import console

    try:
        with watching(console(err=True), quiet=said.quiet) as show:
            state = follow(lambda: remote.state(ledger), show)
    except KeyboardInterrupt:
        run = ledger.handle
        say(f"no longer waiting; the run goes on: rvrun status {run}, rvrun cancel {run}")
        return INTERRUPTED
    print_summary(state, _tail(ledger, remote, state), ledger.handle)
    return _exit_code(state)


def follow(
    look: Callable[[], RunState],
    show: Callable[[RunState], None],
    sleep: Callable[[float], None] = time.sleep,
) -> RunState:
    """Look until the run is over, less and less often, whether or not AWS answers each time."""
    pause = POLL_FIRST
    while True:
        try:
            state = look()
        except Transient as error:
            say(f"{error}; the run goes on, looking again in {pause:.0f} s")
        else:
            show(state)
            if state.is_over or not state.submitted:
                return state
        sleep(pause)
        pause = min(pause * 1.3, POLL_MOST)


def _tail(ledger: Ledger, remote: DetachedRunner, state: RunState) -> list[str]:
    """The end of the first failure's log; nothing where there is none."""
    from rvrun.cli.tables import LOG_LINES
    from rvrun.errors import RvrunError

    if state.failure is None:
        return []
    try:
        return list(remote.logs(ledger, state.failure.target, follow=False))[-LOG_LINES:]
    except RvrunError as error:
        return [f"(no log: {error})"]


def _exit_code(state: RunState) -> int:
    return DONE if state.word in ("succeeded", "running") and not state.has_failed else FAILED


def _to_json(state: RunState) -> dict[str, Any]:
    """For programs: the run, its stages with counts by state, the first failure."""
    return {
        "run": state.run_id,
        "runner": state.runner,
        "state": state.word,
        "began": state.began,
        "ended": state.ended,
        "stages": [
            {
                "name": stage.name,
                "targets": stage.total,
                **{str(name): many for name, many in stage.counts.items()},
                "began": stage.began,
                "ended": stage.ended,
                "stuck": stage.stuck or None,
            }
            for stage in state.stages
        ],
        "failure": None if state.failure is None else attrs.asdict(state.failure),
    }
