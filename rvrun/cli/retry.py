"""`rvrun retry`: run again what failed, here or elsewhere."""

from __future__ import annotations

import os
import pathlib
from typing import Annotated

import attrs
import typer

from rvrun import paths
from rvrun.cli.messages import say, warn
from rvrun.cli.options import Common, option, read_common
from rvrun.cli.run_options import Run, Runs
from rvrun.errors import DONE
from rvrun.observe.find import DetachedRun, find_run
from rvrun.observe.local_run import LocalRun
from rvrun.observe.snapshot import Snapshot, saved_configs
from rvrun.prepare import Request, load_pipelines
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import NothingToRetry
from rvrun.remote.state import State
from rvrun.rundir.lock import locked
from rvrun.rundir.workdir import workdir_of
from rvrun.runners.run import Run as PlannedRun
from rvrun.text import count

Wait = Annotated[bool, option("--wait", help="Wait until a detached run has ended.")]
#: The states of targets without which there is nothing to retry. What is stale runs, too.
UNFINISHED = (State.FAILED, State.STOPPED, State.PENDING)


def retry(context: typer.Context, run: Run, wait: Wait = False, runs: Runs = ledgers.RUNS) -> int:
    """Retry the failed targets of a run.

    Also runs what depends on them. What is done is kept. On this machine, that continues the run
    with the plan and the configs in its run directory, and returns when it has ended.

    - `rvrun retry @latest`
    - `rvrun retry landcover-20260102-030405-abcdef01 --wait`
    """
    common = read_common(context)
    observed = find_run(run, pathlib.Path(runs))
    if isinstance(observed, DetachedRun):
        return retry_detached(observed, common, wait=wait)
    return retry_here(observed, common)


def retry_detached(run: DetachedRun, common: Common, *, wait: bool) -> int:
    """Submit what failed again."""
    from rvrun.cli.submit import counting, wait_for
    from rvrun.runners.submissions import retried_twice
    from rvrun.settings.layers import load_settings

    ledger, runner = run.ledger, run.runner
    settings = load_settings(profile=common.profile)
    warn(*retried_twice(ledger, runner.OWNS, lambda: runner.state(ledger)))
    with locked(ledger.run_dir), counting("submitting", common) as progress:
        num_targets = runner.retry(ledger, settings, progress)
    say(f"submitted {count(num_targets, 'target')} of {ledger.run_id} again")
    return wait_for(run, common) if wait else DONE


def retry_here(run: LocalRun, common: Common) -> int:
    """Run what is left of a run on this machine; return the exit code."""
    from rvrun.cli.run import run_stages
    from rvrun.rundir.freshness import plan_status
    from rvrun.runners.registry import DEFAULT, as_local, find_runner

    snapshot = run.snapshot()
    if not any(one.state in UNFINISHED for one in snapshot.targets):
        raise NothingToRetry(run.handle)
    name = snapshot.sessions[-1].runner if snapshot.sessions else DEFAULT
    runner = as_local(find_runner(name))
    assert runner is not None, "a run in a run directory without a ledger is a local one"
    continued = _run_of(snapshot, common, is_isolated=runner.CAPABILITIES.isolated)
    with locked(continued.run_dir) as lock:
        statuses = plan_status(
            snapshot.plan,
            continued.run_dir,
            saved_configs(continued.run_dir),
            force=not runner.CAPABILITIES.keeps_stamps,
        )
        return run_stages(attrs.evolve(continued, lock=lock), name, runner, statuses, common)


def _run_of(snapshot: Snapshot, common: Common, *, is_isolated: bool) -> PlannedRun:
    """Return the run as its run directory has it, and change to the folder where it began."""
    from rvrun.settings.layers import load_settings

    run_dir = snapshot.run_dir.resolve()
    os.chdir(workdir_of(run_dir, snapshot.plan) or os.getcwd())
    settings = load_settings(profile=common.profile)
    out = os.path.relpath(run_dir)
    run = PlannedRun(
        plan=snapshot.plan,
        pipelines=(),
        out=out,
        settings=settings,
        keep_going=True,
        verbosity=common.verbose,
    )
    if is_isolated:
        return run
    # Such a runner calls the user's code itself.
    requests = [
        Request(config=f"{out}/{paths.config(pipeline.name)}", verbosity=common.verbose)
        for pipeline in snapshot.plan.pipelines
    ]
    loaded = [one for request in requests for one in load_pipelines(request, settings)]
    return attrs.evolve(run, pipelines=tuple(loaded))
