"""The last lines that a pipeline printed, at the end of a run on this machine."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

from rvrun import paths
from rvrun.cli.tables import make_console
from rvrun.model import Target
from rvrun.observe.attempts import AttemptReader
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.summary import tail
from rvrun.runners.run import Run

#: How many lines of a pipeline's last stage are shown, and of how many pipelines.
NUM_LINES, NUM_PIPELINES = 10, 3
#: How lines begin that rvrun itself prints to the log of a target.
OWN = "rvrun: "


def print_last_output(run: Run, statuses: Sequence[StageStatus]) -> None:
    """Print the end of what the last stage of each pipeline printed, if it ran.

    - `statuses`: which targets were stale before the run.
    """
    err = make_console(err=True)
    err.soft_wrap = True
    reader = AttemptReader(run.run_dir)
    for target in list(last_targets(run, statuses, reader))[:NUM_PIPELINES]:
        attempt = reader.read(target)
        if attempt is None or attempt.log_offset is None:
            continue
        log = pathlib.Path(run.out, paths.log(target.path))
        lines = [
            line
            for line in tail(run.workdir / log, 4 * NUM_LINES, attempt.log_offset)
            if not line.startswith(OWN)
        ]
        if not lines:
            continue
        is_cut = len(lines) > NUM_LINES
        err.print(f"the end of {log}:" if is_cut else f"{target.name} printed:")
        for line in lines[-NUM_LINES:]:
            err.print(f"  | {line}")


def last_targets(
    run: Run, statuses: Sequence[StageStatus], reader: AttemptReader
) -> Iterator[Target]:
    """Yield the target of each pipeline's last stage that ended last."""
    by_name = {status.name: status for status in statuses}
    for pipeline in run.plan.pipelines:
        status = by_name[f"{pipeline.name}/{pipeline.stages[-1].command}"]
        attempts = [(reader.read(target), target) for target in status.targets()]
        ends = [(a.ended or a.began, target.name, target) for a, target in attempts if a]
        if ends:
            yield max(ends, key=lambda end: end[:2])[2]
