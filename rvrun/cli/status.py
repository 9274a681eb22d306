"""`rvrun status`: the state of a run, here or elsewhere."""

from __future__ import annotations

import json
import pathlib
from typing import Annotated, Any

import attrs
import typer

from rvrun.cli.options import AsJson, BadOption, option, read_common
from rvrun.cli.run_options import LatestRun, Runs
from rvrun.observe.find import find_run
from rvrun.remote import ledger as ledgers
from rvrun.remote.state import RunState, StageState

Watch = Annotated[bool, option("-w", "--watch", help="Update until the run has ended.")]
RunId = Annotated[
    str | None,
    option("--run-id", metavar="ID", help="Id of a run that was submitted anywhere."),
]
RunnerName = Annotated[
    str | None,
    option("--runner", metavar="NAME", help="Its runner; default: the one that can look it up."),
]


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

    Counts the targets of each stage by state, and shows what is running or stuck and what failed.
    Exit code 0 if the run succeeded or is running without a failure, else 1.

    With `--run-id`, the run may have been submitted on another machine. The service is asked, with
    the region and the job queues in the settings here.

    - `rvrun status`
    - `rvrun status runs/landcover --watch`
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
    observed = find_run(run, pathlib.Path(runs))
    if watch:
        return wait_for(observed, read_common(context))
    state = observed.state()
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


def state_to_dict(state: RunState) -> dict[str, Any]:
    """Return the state of a run, its stages and its failures as JSON values."""
    failures = [] if state.failure is None else [state.failure, *state.other_failures]
    return {
        "run": state.run_id,
        "runner": state.runner,
        "state": state.word,
        "began": state.began,
        "ended": state.ended,
        "seconds_left": _rounded(state.seconds_left),
        "stages": [_stage_to_dict(stage) for stage in state.stages],
        "running": [attrs.asdict(one) for one in state.running],
        "failure": None if state.failure is None else attrs.asdict(state.failure),
        "failures": [attrs.asdict(failure) for failure in failures],
        "warnings": list(state.warnings),
    }


def _stage_to_dict(stage: StageState) -> dict[str, Any]:
    return {
        "name": stage.name,
        "targets": stage.total,
        **{str(name): number for name, number in stage.counts.items()},
        "began": stage.began,
        "ended": stage.ended,
        "median_seconds": _rounded(stage.median_seconds),
        "peak_memory_kib": stage.peak_memory_kib,
        "stuck": stage.stuck or None,
    }


def _rounded(seconds: float | None) -> float | None:
    """Records have milliseconds."""
    return None if seconds is None else round(seconds, 3)
