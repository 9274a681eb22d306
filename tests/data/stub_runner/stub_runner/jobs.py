"""What rvrun asks of the stub's runner: jobs rendered, submitted, looked at, cancelled, retried."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rvrun import paths
from rvrun.errors import check_known
from rvrun.remote import ledger as ledgers
from rvrun.remote.errors import NoLog, NothingToRetry, StillRunning
from rvrun.remote.ledger import CANCELLED, SUBMITTED, Ledger, run_name
from rvrun.remote.state import Progress, RemoteFailure, RunState, StageState, State, timestamp
from rvrun.remote.upload import rvrun_argv
from rvrun.render.jinja import Template, render as render_template
from rvrun.runners.problems import check_fit
from rvrun.runners.run import Run
from rvrun.runners.submissions import unfinished
from stub_runner.settings import StubSettings

NAME = "stub"
JOBS = "stub/jobs.json"
_TEMPLATE = Template("stub_runner", "templates", "stub-jobs.json.j2")


def render(run: Run) -> dict[str, str]:
    settings = run.settings.of(StubSettings)
    check_fit("the stub engine", [] if settings.queue else ["no queue; set `stub.queue`"])
    jobs = [
        {
            "stage": f"{pipeline.name}/{stage.command}",
            "splits": stage.num_splits,
            "argv": rvrun_argv(f"{run.out}/{paths.config(pipeline.name)}", stage, NAME, None),
            "needs": [f"{pipeline.name}/{need.command}" for need in stage.needs],
        }
        for pipeline in run.plan.pipelines
        for stage in pipeline.stages
    ]
    templates = run.settings.templates
    return {JOBS: render_template(_TEMPLATE, templates, queue=settings.queue, jobs=jobs)}


def submit(run: Run, progress: Progress) -> Ledger:
    files = render(run)
    last = ledgers.last(run.run_dir, NAME)
    ledger = last and unfinished(
        last,
        files,
        cancelled=last.has(CANCELLED),
        submitted=last.has(SUBMITTED),
        read_state=lambda: state(last),
    )
    if ledger is None:
        facts = {"workdir": str(run.workdir), "slots": run.settings.of(StubSettings).slots}
        ledger = ledgers.create(run.run_dir, run_name(run.out, run.name), NAME, files, facts)
    _start(ledger)
    ledger.note(SUBMITTED)
    progress(1, 1)
    return ledger


def _start(ledger: Ledger) -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "stub_runner.engine", str(ledger.folder.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=ledger.facts["workdir"],
    )
    (ledger.folder / "engine.pid").write_text(str(process.pid))


def _jobs(ledger: Ledger) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads(ledger.round_files(1)[JOBS])["jobs"]
    return jobs


def _targets(ledger: Ledger) -> dict[str, str]:
    """The state of each target that the engine has started, and of those it never will."""
    with contextlib.suppress(FileNotFoundError):
        targets: dict[str, str] = json.loads((ledger.folder / "state.json").read_text())
        return targets
    return {}


def _names(job: Mapping[str, Any]) -> list[str]:
    if "splits" not in job:
        return [job["stage"]]
    return [f"{job['stage']}/{index}" for index in range(job["splits"])]


def state(ledger: Ledger) -> RunState:
    states, cancelled = _targets(ledger), ledger.has(CANCELLED)
    unknown = State.FAILED if cancelled else State.PENDING
    jobs = _jobs(ledger)
    stages = tuple(
        StageState(
            name=job["stage"],
            counts=Counter(State(states.get(name, unknown)) for name in _names(job)),
        )
        for job in jobs
    )
    failed = [n for job in jobs for n in _names(job) if states.get(n) == "failed"]
    began = [name for name in failed if (ledger.folder / "logs" / _log(name)).exists()]
    return RunState(
        run_id=ledger.run_id,
        runner=ledger.runner,
        stages=stages,
        began=timestamp(ledger.facts["began"]),
        submitted=ledger.has(SUBMITTED),
        cancelled=cancelled,
        failure=RemoteFailure(target=began[0], reason="exited") if began else None,
    )


def _log(target: str) -> str:
    return target.replace("/", ".")


def logs(ledger: Ledger, target: str) -> Iterator[str]:
    check_known("target", target, tuple(n for job in _jobs(ledger) for n in _names(job)))
    path: pathlib.Path = ledger.folder / "logs" / _log(target)
    if not path.exists():
        raise NoLog(f"{target} has not started")
    yield from path.read_text().splitlines()


def cancel(ledger: Ledger) -> int:
    alive = state(ledger).count(State.PENDING, State.RUNNING)
    ledger.note(CANCELLED)
    if alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((ledger.folder / "engine.pid").read_text()), signal.SIGTERM)
        while state(ledger).count(State.RUNNING):
            time.sleep(0.05)
    return alive


def retry(ledger: Ledger) -> int:
    now = state(ledger)
    if not now.is_over:
        raise StillRunning(ledger.handle)
    failed = now.count(State.FAILED)
    if not failed:
        raise NothingToRetry(ledger.handle)
    done = {name: word for name, word in _targets(ledger).items() if word == "succeeded"}
    (ledger.folder / "state.json").write_text(json.dumps(done))
    _start(ledger)
    return failed
