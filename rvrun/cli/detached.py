"""The verbs of detached runs: list, status, logs, cancel, retry. They read a run's ledger."""

from __future__ import annotations

import json
import pathlib
from typing import Annotated, Any

import attrs
import typer

from rvrun.cli.messages import say, warn
from rvrun.cli.options import AsJson, BadOption, argument, candidates, option, read_common
from rvrun.errors import DONE, RvrunError
from rvrun.remote import ledger as ledgers
from rvrun.remote.state import RunState
from rvrun.rundir.lock import locked, locked_if_writable
from rvrun.runners.registry import find_detached
from rvrun.text import count

RUN = "A run's id or its beginning, `@latest`, or a run directory."
Run = Annotated[str, argument(metavar="RUN", help=RUN, autocompletion=candidates("runs"))]
LatestRun = Annotated[
    str,
    argument(
        metavar="[RUN]",
        help=f"{RUN.removesuffix('.')}; default: {ledgers.LATEST}.",
        autocompletion=candidates("runs"),
    ),
]
Runs = Annotated[
    str,
    option(
        "--runs",
        metavar="DIR",
        help=f"Directory of the run directories; default: {ledgers.RUNS}.",
    ),
]
Target = Annotated[
    str,
    argument(
        metavar="TARGET",
        help="`tiny/train`, or one split, `tiny/predict/3`.",
        autocompletion=candidates("targets of a run"),
    ),
]
Watch = Annotated[bool, option("-w", "--watch", help="Update until the run has ended.")]
RunId = Annotated[
    str | None,
    option("--run-id", metavar="ID", help="Id of a run that was submitted anywhere."),
]
RunnerName = Annotated[
    str | None,
    option("--runner", metavar="NAME", help="Its runner; default: the one that can look it up."),
]
Follow = Annotated[
    bool, option("-f", "--follow", help="Follow the log until the target has ended.")
]
Wait = Annotated[bool, option("--wait", help="Wait until the run has ended.")]


def list_runs(runs: Runs = ledgers.RUNS, as_json: AsJson = False) -> None:
    """List the runs that were submitted from here.

    The latest is the last.

    - `rvrun list`
    """
    rows = [_row(ledger) for ledger in ledgers.all_ledgers(pathlib.Path(runs))]
    # With the others, not instead of them: one damaged file must not hide all runs.
    warn(*(problem for row in rows if (problem := row.pop("problem"))))
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rvrun.cli.tables import Column, print_table

    columns = (
        Column("run"),
        Column("runner"),
        Column("submitted", rank=1),
        Column("run directory"),
    )
    print_table(columns, [tuple(row.values()) for row in rows])


def _row(ledger: ledgers.Ledger) -> dict[str, str]:
    """What `list` shows of a run, and its problem; `damaged` if its run.json cannot be read."""
    row = {"run": ledger.run_id, "runner": "damaged", "began": "", "run_dir": str(ledger.run_dir)}
    try:
        facts = ledger.facts
    except RvrunError as error:
        return {**row, "problem": str(error)}
    return {**row, "runner": facts["runner"], "began": facts["began"], "problem": ""}


def status(
    context: typer.Context,
    run: LatestRun = ledgers.LATEST,
    watch: Watch = False,
    runs: Runs = ledgers.RUNS,
    as_json: AsJson = False,
    run_id: RunId = None,
    runner_name: RunnerName = None,
) -> int:
    """Show the state of a run.

    Counts the targets of each stage by state, and shows what is stuck and the first failure. Exit
    code 1 if a target failed.

    With `--run-id`, the run may have been submitted on another machine. The service is asked, with
    the region and the job queues in the settings here.

    - `rvrun status @latest`
    - `rvrun status @latest --watch`
    - `rvrun status --run-id landcover-20260102-030405-abcdef01`
    """
    from rvrun.cli.submit import exit_code, wait_for

    if watch and as_json:
        raise BadOption("--watch and --json cannot be combined; keep one")
    if watch and run_id:
        raise BadOption("--watch and --run-id cannot be combined; keep one")
    if runner_name and not run_id:
        raise BadOption("--runner requires --run-id: without it, the ledger names the runner")
    if run_id:
        state = _recovered_state(context, run_id, runner_name)
        _print(state, as_json=as_json)
        return exit_code(state)
    ledger = ledgers.find(run, pathlib.Path(runs))
    runner = find_detached(ledger.runner)
    if watch:
        return wait_for(ledger, runner, read_common(context))
    state = runner.state(ledger)
    _print(state, as_json=as_json)
    return exit_code(state)


def _print(state: RunState, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(state_to_dict(state), indent=2, ensure_ascii=False))
    else:
        from rvrun.cli.run_table import print_state

        print_state(state)


def _recovered_state(context: typer.Context, run_id: str, runner_name: str | None) -> RunState:
    """The state of a run without a ledger here; one is made for this look."""
    import tempfile

    from rvrun.runners.registry import find_recovering
    from rvrun.settings.layers import load_settings

    runner = find_recovering(runner_name)
    settings = load_settings(profile=read_common(context).profile)
    with tempfile.TemporaryDirectory(prefix="rvrun-") as folder:
        return runner.state(runner.recover(run_id, settings, pathlib.Path(folder)))


def logs(run: Run, target: Target, follow: Follow = False, runs: Runs = ledgers.RUNS) -> None:
    """Print the output of a target.

    That is the output of its last attempt.

    - `rvrun logs @latest landcover/chip/3 -f`
    """
    ledger = ledgers.find(run, pathlib.Path(runs))
    for line in find_detached(ledger.runner).logs(ledger, target, follow=follow):
        print(line, flush=follow)


def cancel(context: typer.Context, run: Run, runs: Runs = ledgers.RUNS) -> None:
    """Cancel all waiting and running jobs of a run.

    - `rvrun cancel @latest`
    """
    from rvrun.cli.submit import counting

    ledger = ledgers.find(run, pathlib.Path(runs))
    with (
        locked_if_writable(ledger.run_dir),
        counting("cancelling", read_common(context)) as progress,
    ):
        num_jobs = find_detached(ledger.runner).cancel(ledger, progress)
    if num_jobs:
        say(f"cancelled {ledger.run_id}: {count(num_jobs, 'job')} ended")
    else:
        say(f"nothing in {ledger.run_id} was waiting or running")


def retry(context: typer.Context, run: Run, wait: Wait = False, runs: Runs = ledgers.RUNS) -> int:
    """Retry the failed targets of a run.

    Also submits what depends on it. What is done is kept.

    - `rvrun retry @latest --wait`
    """
    from rvrun.cli.submit import counting, wait_for
    from rvrun.runners.submissions import retried_twice
    from rvrun.settings.layers import load_settings

    common = read_common(context)
    ledger = ledgers.find(run, pathlib.Path(runs))
    runner = find_detached(ledger.runner)
    settings = load_settings(profile=common.profile)
    warn(*retried_twice(ledger, runner.OWNS, lambda: runner.state(ledger)))
    with locked(ledger.run_dir), counting("submitting", common) as progress:
        num_targets = runner.retry(ledger, settings, progress)
    say(f"submitted {count(num_targets, 'target')} of {ledger.run_id} again")
    return wait_for(ledger, runner, common) if wait else DONE


def state_to_dict(state: RunState) -> dict[str, Any]:
    """Return the state of a run, its stages and its first failure as JSON values."""
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
                **{str(name): number for name, number in stage.counts.items()},
                "began": stage.began,
                "ended": stage.ended,
                "stuck": stage.stuck or None,
            }
            for stage in state.stages
        ],
        "failure": None if state.failure is None else attrs.asdict(state.failure),
        "warnings": list(state.warnings),
    }
