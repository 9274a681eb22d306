"""Stamp the splits of which all items are done, as a run directory is written.

Marks say which items are done, but make only knows the stamps of splits. Another number of splits,
another order, or one more item gives the splits other stamps, so make would run all of them. Where
rvrun writes a run directory, it makes the stamps what the marks say: then `make -n` shows the
splits with an item that is not done, and no others.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Sequence

from rvrun.rundir import stamps
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.own_files import touch
from rvrun.rundir.times import NEVER, NOW


def settle(run_dir: pathlib.Path, statuses: Sequence[StageStatus]) -> None:
    """Make the stamps of stages with items what their marks say, and join what is complete.

    Call it with the lock of the run directory, so that no `rvrun run` works there meanwhile.

    - `statuses`: of a whole plan, as it is after all files were written.
    """
    for status in statuses:
        if status.lost:
            continue
        if status.items is not None:
            _settle_stage(run_dir, status)
        elif not status.stale and not (run_dir / status.stage.stamp(status.pipeline)).exists():
            # Someone removed the stamp of all splits.
            _join(run_dir, status)


def _join(run_dir: pathlib.Path, status: StageStatus) -> None:
    # make would touch it, and show what depends on it as stale whatever its time becomes.
    stamps.join(run_dir, status.pipeline, status.stage)


def _settle_stage(run_dir: pathlib.Path, status: StageStatus) -> None:
    stage, pipeline = status.stage, status.pipeline
    stale = set(status.stale)
    folder = run_dir / str(stage.stamps_folder(pipeline))
    # Without an item that is done, the folder comes into being when the first split runs.
    if len(stale) == stage.num_targets and not folder.exists() and set(status.units) == {NEVER}:
        return
    stamps.prepare(run_dir, pipeline, stage)
    for index, time in enumerate(status.times):
        stamp = run_dir / stage.target_stamp(pipeline, index)
        if index in stale:
            # Its items may have changed although the stamp stayed: someone removed a mark.
            with contextlib.suppress(FileNotFoundError):
                stamp.unlink()
        elif time < NOW and not _has_time(stamp, time):
            touch(str(stamp), time)
    if not stale:
        _join(run_dir, status)


def _has_time(stamp: pathlib.Path, time: int) -> bool:
    try:
        return stamp.stat().st_mtime_ns == time
    except FileNotFoundError:
        return False
