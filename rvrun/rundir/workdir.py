"""Where the commands of a run directory ran, from which the paths that they declare are seen."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from rvrun.model import Plan
from rvrun.paths import record
from rvrun.rundir import records
from rvrun.rundir.history import read_sessions


@contextlib.contextmanager
def working_in(run_dir: pathlib.Path, plan: Plan) -> Iterator[pathlib.Path]:
    """Change to the folder where the commands of a run directory ran; yield its absolute path.

    Declared paths are relative to that folder, and the verbs that look at a run can be called
    anywhere. Where it is unknown, that is the current folder. Raises `CannotRead`.
    """
    absolute = run_dir.resolve()
    with contextlib.chdir(workdir_of(absolute, plan) or os.getcwd()):
        yield absolute


def workdir_of(run_dir: pathlib.Path, plan: Plan) -> pathlib.Path | None:
    """Return where the commands of a run directory ran; None if that is unknown, or not there.

    Raises `CannotRead`.
    """
    workdir = _recorded(run_dir, plan)
    folder = run_dir.resolve() / (workdir or "")
    return folder if workdir and folder.is_dir() else None


def _recorded(run_dir: pathlib.Path, plan: Plan) -> str | None:
    """Return the folder relative to the run directory; None if nothing ran, or none recorded it."""
    sessions = read_sessions(run_dir)
    if sessions:
        return sessions[-1].workdir
    # Plain make leaves only what its targets record.
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            for target in stage.targets(pipeline.name):
                lines, _ = records.last_attempt(os.path.join(run_dir, record(target.path)))
                if lines:
                    return records.workdir_of(lines[0])
    return None
