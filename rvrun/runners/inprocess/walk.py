"""`inprocess`: every target in this process, one after the other; for debugging."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs

from rvrun.adapters import registry as adapters
from rvrun.errors import FAILED, INTERRUPTED, RvrunError
from rvrun.model import Target
from rvrun.rundir import stamps
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.records import Recorder
from rvrun.rundir.summary import Outcome, read_outcome
from rvrun.runners.run import Reporter, Run
from rvrun.settings.schema import MachineSettings
from rvrun.tracebacks import exit_code_of, print_error, print_traceback, user_frames
from rvrun.worker.target import gpu_slot


def walk(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    """Run what is to be done, in the plan's order, until a command raises.

    With `run.keep_going`, what does not need a failed stage is still run. The first target that
    wants a GPU takes a slot for the rest of the run: CUDA cannot change devices in a process.
    """
    since = time.time()
    reporter.begin(statuses)
    with contextlib.ExitStack() as stack:
        state = _Walk(run=run, reporter=reporter, stack=stack)
        for status in statuses:
            state.stage(status)
    reporter.finish()
    return read_outcome(
        run.run_dir,
        run.out,
        statuses,
        since=since,
        until=time.time(),
        interrupted=state.interrupted,
    )


@attrs.define(kw_only=True)
class _Walk:
    """One run on its way through the plan.

    `failed`: stages not done as wanted. `stopped`: nothing more is to be run.
    """

    run: Run
    reporter: Reporter
    stack: contextlib.ExitStack
    failed: set[str] = attrs.field(factory=set)
    holds_gpu: bool = False
    stopped: bool = False
    interrupted: bool = False

    def stage(self, status: StageStatus) -> None:
        """Run what is to be done of one stage, unless it needs a failed one."""
        needed = {f"{status.pipeline}/{need.command}" for need in status.stage.needs}
        if self.stopped or needed & self.failed:
            self.failed.add(status.name)
            return
        stamps.prepare(self.run.run_dir, status.pipeline, status.stage)
        if status.stage.gpu and status.todo and not self.holds_gpu:
            self.stack.enter_context(gpu_slot(self.run.settings.of(MachineSettings)))
            self.holds_gpu = True
        for target in status.targets():
            if not self.stopped and not self.target(target):
                self.failed.add(status.name)
                self.stopped = self.interrupted or not self.run.keep_going
        if status.name not in self.failed:
            stamps.join(self.run.run_dir, status.pipeline, status.stage, again=bool(status.todo))

    def target(self, target: Target) -> bool:
        """Run one target; whether it went well."""
        recorder = Recorder(str(self.run.run_dir), target.path)
        self.reporter.started(target.name)
        recorder.start()
        code = self.call(target)
        recorder.end(code)
        self.reporter.ended(target.name, code)
        if code == 0:
            stamps.done(self.run.run_dir, target)
        return code == 0

    def call(self, target: Target) -> int:
        """Call the target's method; its exit code. What it raises is shown, or debugged."""
        split: dict[str, Any] = {}
        if target.split_ind is not None:
            split = {"split_ind": target.split_ind, "num_splits": target.num_splits}
        try:
            with self.opened(target) as pipeline:
                getattr(pipeline, target.command)(**split)
        except RvrunError as error:
            print_error(error)
            return error.exit_code
        except KeyboardInterrupt:
            self.interrupted = True
            return INTERRUPTED
        except SystemExit as error:
            return exit_code_of(error)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            print_traceback(error)
            if self.run.debug:
                _debug(error)
            return FAILED
        return 0

    def opened(self, target: Target) -> AbstractContextManager[Any]:
        """Within, the target's pipeline: rvrun's is the same for all targets of a run."""
        loaded = next(p for p in self.run.pipelines if p.name == target.pipeline)
        adapter = adapters.of_document(loaded.document)
        if adapter is None:
            return contextlib.nullcontext(loaded.pipeline)
        return adapter.opened(
            loaded.document,
            target.command,
            target.split_ind,
            target.num_splits,
            verbosity=self.run.verbosity,
        )


def _debug(error: Exception) -> None:
    """Python's debugger, in the frame of the user's code that raised."""
    import pdb  # noqa: T100 - what `--pdb` is for

    pdb.post_mortem(user_frames(error.__traceback__) or error.__traceback__)
