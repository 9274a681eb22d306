"""Run every stale target in this process, in the plan's order."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import attrs

from rvrun.adapters import registry as adapters
from rvrun.errors import DONE, FAILED, INTERRUPTED, RvrunError
from rvrun.model import Target
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.rundir import stamps
from rvrun.rundir.declared_files import DeclaredFiles, of_plan
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.planned_stage import PlannedStage
from rvrun.rundir.records import Recorder
from rvrun.rundir.summary import Outcome, read_outcome
from rvrun.rundir.target_lock import (
    newest,
    renew_stamp,
    target_locked,
    touch_stamp,
    was_done_since,
)
from rvrun.runners.run import Reporter, Run
from rvrun.settings.schema import MachineSettings
from rvrun.tracebacks import exit_code_of, print_error, print_traceback, user_frames
from rvrun.worker.item_work import ItemWork
from rvrun.worker.pipeline import run_items
from rvrun.worker.target import call_split, gpu_slot, warn_user


def walk(run: Run, statuses: Sequence[StageStatus], reporter: Reporter) -> Outcome:
    """Run the stale targets, in the plan's order, until one fails.

    With `run.keep_going`, targets that do not need a failed stage still run.
    """
    since = time.time()
    reporter.begin(statuses)
    for pipeline in {status.pipeline for status in statuses if status.lost}:
        stamps.forget(run.run_dir, pipeline)
    with contextlib.ExitStack() as until_end:
        state = _Walk(run=run, reporter=reporter, until_end=until_end, since=since)
        for status in statuses:
            state.run_stage(status)
    reporter.finish()
    return read_outcome(
        run.run_dir,
        run.out,
        statuses,
        since=since,
        until=time.time(),
        signal=state.signal,
        was_stopped=state.signal is not None,
    )


@attrs.define(kw_only=True)
class _Walk:
    """The state of a run.

    - `until_end`: what is held until the run ends.
    - `since`: when it began, in seconds since 1970.
    - `incomplete`: the names of stages that failed, or did not run because of a failure.
    - `stopped`: whether no further target may start.
    """

    run: Run
    reporter: Reporter
    until_end: contextlib.ExitStack
    since: float
    incomplete: set[str] = attrs.field(factory=set)
    holds_gpu: bool = False
    stopped: bool = False
    signal: int | None = None

    def run_stage(self, status: StageStatus) -> None:
        """Run the stale targets of a stage, unless it needs an incomplete one."""
        needed = {f"{status.pipeline}/{need.command}" for need in status.stage.needs}
        if self.stopped or needed & self.incomplete:
            self.incomplete.add(status.name)
            return
        run_dir = self.run.run_dir
        stamps.prepare(run_dir, status.pipeline, status.stage)
        stamps.remove(run_dir, status, status.lost_outputs)
        if status.stage.gpu and status.stale and not self.holds_gpu:
            # Held to the end of the run: CUDA cannot change devices within a process.
            machine = self.run.settings.of(MachineSettings)
            self.until_end.enter_context(gpu_slot(self.reporter.noted, machine))
            self.holds_gpu = True
        for target in status.targets():
            if not self.stopped and self.run_target(target) != DONE:
                self.incomplete.add(status.name)
                self.stopped = self.signal is not None or not self.run.keep_going
        if status.name not in self.incomplete:
            # Only a complete stage is joined, so that its dependents never start early.
            stamps.join(run_dir, status.pipeline, status.stage)

    def run_target(self, target: Target) -> int:
        """Run one target, unless another process has run it meanwhile; return its exit code."""
        run_dir = str(self.run.run_dir)
        with target_locked(run_dir, target.path, self.reporter.noted):
            recorder = Recorder(run_dir, target.path)
            stage = PlannedStage.read(run_dir, target.path)
            if not self.run.force and was_done_since(run_dir, stage, lambda: self.since):
                recorder.note("skip", pid=os.getpid())
                return DONE
            files = of_plan(stage, target.name)
            failure = self.read_inputs(stage, files)
            work = None
            least = newest(run_dir, stage.prerequisites)
            if stage.items and failure is None:
                saved = self.loaded(target).document["config"]
                work = ItemWork(run_dir, stage, saved, is_forced=self.run.force)
                if not work.unfinished:
                    recorder.note("skip", pid=os.getpid())
                    renew_stamp(run_dir, stage, max(least, work.newest))
                    return DONE
            self.reporter.started(target.name)
            recorder.start()
            code = self.call(target, recorder, work, files, failure)
            if code == DONE:
                # The stamp comes last, so a run that is killed before has to repeat the target.
                touch_stamp(run_dir, stage, least)
                code = self.attempt(lambda: files.check_shared(run_dir, stage))
            recorder.end(code)
            self.reporter.ended(target.name, code)
        return code

    def read_inputs(self, stage: PlannedStage, files: DeclaredFiles) -> RvrunError | None:
        """Check the declared inputs and renew their fingerprint; return what is wrong with them."""
        try:
            files.check_inputs()
            files.refresh_fingerprint(str(self.run.run_dir), stage)
        except RvrunError as error:
            return error
        return None

    def call(
        self,
        target: Target,
        recorder: Recorder,
        work: ItemWork | None,
        files: DeclaredFiles,
        failure: RvrunError | None,
    ) -> int:
        """Call the target's method between the checks of its files, and return the exit code.

        - `failure`: what is wrong with its inputs.
        """

        def do() -> None:
            if failure is not None:
                raise failure
            with self.open_pipeline(target, recorder) as pipeline:
                self.call_method(pipeline, target, work)
            files.check_outputs()

        return self.attempt(do)

    def attempt(self, function: Callable[[], None]) -> int:
        """Call a function, show or debug what it raises, and return the exit code."""
        try:
            function()
        except RvrunError as error:
            print_error(error)
            return error.exit_code
        except KeyboardInterrupt:
            self.signal = signal.SIGINT
            return INTERRUPTED
        except SystemExit as error:
            return exit_code_of(error)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            print_traceback(error)
            if self.run.debug:
                import pdb  # noqa: T100 - this is what `--pdb` is for

                # In the frame of the user's code; in rvrun's only if there is no such frame.
                pdb.post_mortem(user_frames(error.__traceback__) or error.__traceback__)
            return FAILED
        return DONE

    def call_method(self, pipeline: Any, target: Target, work: ItemWork | None) -> None:
        method = getattr(pipeline, target.command)
        if work is not None:
            loaded = self.loaded(target)
            run_items(work, pipeline, loaded.document, target.command)
        elif target.split_ind is not None:
            num_splits = target.num_splits or 1
            call_split(pipeline, method, target.command, target.split_ind, num_splits)
        else:
            method()

    def loaded(self, target: Target) -> LoadedPipeline:
        return next(p for p in self.run.pipelines if p.name == target.pipeline)

    def open_pipeline(self, target: Target, recorder: Recorder) -> AbstractContextManager[Any]:
        """Open the target's pipeline; a pipeline of rvrun's is shared by all targets of a run."""
        loaded = self.loaded(target)
        adapter = adapters.of_document(loaded.document)
        if adapter is None:
            return contextlib.nullcontext(loaded.pipeline)
        return adapter.opened(
            loaded.document,
            target.command,
            target.split_ind,
            target.num_splits,
            verbosity=self.run.verbosity,
            warn=functools.partial(warn_user, recorder),
        )
