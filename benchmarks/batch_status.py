"""How long `rvrun status` takes for many arrays on AWS Batch, at 0.1 s per call.

    python -m benchmarks.batch_status [PIPELINES]

An engine of the tests stands in for AWS Batch. Prints the calls and seconds of each look, where
every array has a failed child, and where every array is stuck.
"""

from __future__ import annotations

import collections
import pathlib
import sys
import tempfile
import time

from rvrun.aws.client import Client, Pace
from rvrun.plan.compile import compile_plan
from rvrun.plan.splits import SplitRequest
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import RunState
from rvrun.runners.batch.spec_files import read_specs
from rvrun.runners.batch.state import read_state
from rvrun.runners.batch.submit import Submitter
from tests.build import pipeline
from tests.engines.attempts import Attempt, Outcome
from tests.engines.batch import BatchEngine
from tests.engines.faults import Delay
from tests.runners.batch.test_submit import new_ledger, specs

SECONDS = 0.1


def fail_one(attempt: Attempt) -> Outcome | int:
    return Outcome(1) if attempt.index == 1 else 0


def look(engine: BatchEngine, run: Ledger, title: str) -> RunState:
    """Print the calls and seconds of one look at a run."""
    engine.calls.clear()
    engine.fault = lambda operation, request, number: Delay(SECONDS)
    start = time.perf_counter()
    state = read_state(run, Client("batch", engine.client("batch", max_pool_connections=50)))
    seconds = time.perf_counter() - start
    engine.fault = lambda operation, request, number: None
    calls = collections.Counter(call.operation for call in engine.calls)
    print(f"{title}: {seconds:.1f} s, {dict(calls)}")
    return state


def submit(engine: BatchEngine, folder: pathlib.Path, pipelines: int) -> Ledger:
    """Submit a run of one array for each pipeline."""
    plan = compile_plan(
        [pipeline(f"p{number}", "chip*", "last") for number in range(pipelines)],
        splits=[SplitRequest(3)],
    )
    run = new_ledger(folder, specs(plan))
    client = Client("batch", engine.client("batch"))
    submitter = Submitter(ledger=run, maker=client, reader=client, pace=Pace(10_000))
    submitter.submit(read_specs(run, 1), lambda done, total: None, is_new=True)
    return run


def main() -> None:
    pipelines = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with (
        BatchEngine(execute=fail_one, slots=4) as engine,
        tempfile.TemporaryDirectory() as folder,
    ):
        engine.add_queue("cpu")
        engine.add_definition("work", command=["true"])
        run = submit(engine, pathlib.Path(folder), pipelines)
        engine.wait(600)
        for number in (1, 2):
            look(engine, run, f"{pipelines} failed arrays, look {number}")
        engine.freeze("cpu", "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY")
        run = submit(engine, pathlib.Path(folder), pipelines)
        for number in (1, 2):
            look(engine, run, f"{pipelines} stuck arrays, look {number}")


if __name__ == "__main__":
    main()
