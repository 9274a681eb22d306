"""Checks of the inputs that commands declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rvrun.checks.case import Case, attempt
from rvrun.errors import RvrunError
from rvrun.finding import Finding, error, ok, warning
from rvrun.rundir.freshness import plan_status
from rvrun.rundir.inputs import absent_inputs, input_fingerprints
from rvrun.runners.run import Run
from rvrun.text import count

FIX = "add the file, or correct `inputs`"


def check_inputs(case: Case) -> Iterator[Finding]:
    """Check that declared inputs exist, unless a stage before may write them."""
    run, files = case.run, case.files
    if run is None or not isinstance(files, Mapping):
        return
    num_stages = sum(bool(stage.declared_inputs) for p in run.plan.pipelines for stage in p.stages)
    if not num_stages:
        return
    absent = attempt(lambda: _find_absent(run, files, has_stamps=_keeps_stamps(case)))
    if isinstance(absent, RvrunError):
        yield error("inputs", absent, FIX)
        return
    for text in absent:
        yield warning("inputs", text, FIX)
    if not absent:
        yield ok(
            "inputs", f"those of {count(num_stages, 'stage')} exist, or are still to be written"
        )


def _keeps_stamps(case: Case) -> bool:
    return not isinstance(case.runner, RvrunError) and case.runner.CAPABILITIES.keeps_stamps


def _find_absent(run: Run, files: Mapping[str, str], *, has_stamps: bool) -> list[str]:
    """Return what is absent, as sentences. Raises `CannotRead`, `CannotReach` or `OtherRoot`."""
    everything = {**files, **input_fingerprints(run.plan, run.run_dir, files)}
    return absent_inputs(plan_status(run.plan, run.run_dir, everything, force=not has_stamps))
