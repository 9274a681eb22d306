"""Submit, inspect and retry 1,000,000 splits on AWS Batch: calls, seconds and memory of each.

    python -m benchmarks.batch_million [SPLITS]

An engine of the tests stands in for AWS Batch, without a delay. Each step runs in a process of its
own, so that its memory is rvrun's. One percent of the splits fails, chosen at random.
"""

from __future__ import annotations

import collections
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import SplitRequest
from rvrun.remote.ledger import Ledger
from rvrun.rundir.records import peak_memory_kib
from rvrun.runners.batch import lifecycle
from rvrun.runners.batch.spec_files import read_specs
from rvrun.settings.layers import load_settings
from tests.build import pipeline
from tests.engines.batch import BatchEngine
from tests.engines.batch_jobs import FAILED, SUCCEEDED
from tests.runners.batch.test_submit import new_ledger, specs

FAILING = 0.01


def ignore(done: int, total: int) -> None:
    """Show no progress."""


def act(action: str, run: Ledger) -> str:
    """Do one step in this process, and return its result."""
    if action == "submit":
        ids = lifecycle.submitter(run, 50).submit(read_specs(run, 1), ignore, is_new=True)
        return f"{len(ids)} jobs"
    if action == "retry":
        return f"{lifecycle.retry(run, load_settings(), ignore):,} targets"
    state = lifecycle.state(run)
    return f"{state.word}, {sum(stage.total for stage in state.stages):,} targets"


def measure(engine: BatchEngine, action: str, run: Ledger) -> None:
    """Do one step in another process; print what it took."""
    engine.calls.clear()
    command = [sys.executable, "-m", "benchmarks.batch_million", "--act", action, str(run.folder)]
    environment = {**os.environ, **engine.variables}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    calls = collections.Counter(call.operation for call in engine.calls)
    print(f"{action}: {done.stdout.strip()}, {dict(calls)}", flush=True)


def end_all(engine: BatchEngine) -> None:
    """End all jobs as if they had run; some children have failed."""
    dice = random.Random(1)  # noqa: S311 - only to choose what fails
    with engine.changed:
        for job in engine.jobs.values():
            if job.status in (SUCCEEDED, FAILED):
                continue
            for child in job.children:
                child.status = FAILED if dice.random() < FAILING else SUCCEEDED
                child.started = child.stopped = child.created
            job.counts = collections.Counter(child.status for child in job.children)
            job.head.status, job.head.stopped = FAILED, job.head.created


def main() -> None:
    if sys.argv[1:2] == ["--act"]:
        start = time.perf_counter()
        result = act(sys.argv[2], Ledger(pathlib.Path(sys.argv[3])))
        seconds = time.perf_counter() - start
        print(f"{result}, {seconds:.1f} s, {peak_memory_kib() // 1024} MiB")
        return
    splits = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    plan = compile_plan([pipeline("p", "chip*")], splits=[SplitRequest(splits)])
    with BatchEngine(slots=0) as engine, tempfile.TemporaryDirectory() as folder:
        engine.add_queue("cpu")
        engine.add_definition("work", command=["true"])
        run = new_ledger(pathlib.Path(folder), specs(plan))
        measure(engine, "submit", run)
        measure(engine, "status", run)
        end_all(engine)
        for action in ("status", "retry", "status"):
            measure(engine, action, run)


if __name__ == "__main__":
    main()
