"""Touch stamps as the recipes of the Makefile do, for runners without make."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Iterable

from rvrun import paths
from rvrun.model import Stage
from rvrun.rundir.freshness import StageStatus
from rvrun.rundir.marks import Marks
from rvrun.rundir.own_files import touch


def prepare(run_dir: pathlib.Path, pipeline: str, stage: Stage) -> None:
    """Create the folder of a stage's stamps, and remove those of other split counts or items.

    Splits of another count have other outputs, which the new ones overwrite; if their stamps
    stayed, they would count as done when that count is used again.
    """
    folder = stage.stamps_folder(pipeline)
    if folder is None:
        (run_dir / paths.DONE / pipeline).mkdir(parents=True, exist_ok=True)
    elif not (run_dir / folder).exists():
        # Removed before the new folder is created: after a crash in between, this runs again.
        # Not the marks of its items.
        for other in (run_dir / paths.DONE / pipeline).glob(f"{stage.command}.[0-9]*/"):
            if other.is_dir():
                shutil.rmtree(other)
        (run_dir / folder).mkdir(parents=True)


def remove(run_dir: pathlib.Path, status: StageStatus, units: Iterable[int]) -> None:
    """Remove the stamps of targets, or the marks of items, whose outputs are missing.

    The split that completes the stage must not take them for those of this run.
    """
    if status.items is not None:
        marks = Marks(str(run_dir), status.pipeline, status.stage.command)
        marks.remove(status.items.list.digests[unit] for unit in units)
        return
    for index in units:
        stamp = run_dir / status.stage.target_stamp(status.pipeline, index)
        stamp.unlink(missing_ok=True)


def forget(run_dir: pathlib.Path, pipeline: str) -> None:
    """Remove all stamps of a pipeline whose root was removed, also of stages that do not run now.

    Once the first target has written to the root again, they would count as done.
    """
    shutil.rmtree(run_dir / paths.DONE / pipeline, ignore_errors=True)


def forget_stages(run_dir: pathlib.Path, names: Iterable[str]) -> None:
    """Remove all stamps of stages, such as `tiny/chip`, so that all of their targets are stale."""
    for name in names:
        pipeline, _, command = name.partition("/")
        # A name of a command has no dot, and what belongs to it continues with one.
        for stamp in (run_dir / paths.DONE / pipeline).glob("*"):
            if stamp.name.partition(".")[0] != command:
                continue
            if stamp.is_dir() and not stamp.is_symlink():
                shutil.rmtree(stamp)
            else:
                stamp.unlink()


def join(run_dir: pathlib.Path, pipeline: str, stage: Stage) -> None:
    """Touch the stamp that stands for all splits of a finished stage.

    It gets the time of the newest split, or of the list of its items, as the Makefile's does:
    several processes that join the same splits then leave the same stamp, and none makes stale what
    another has run since.
    """
    if (folder := stage.stamps_folder(pipeline)) is None:
        return
    files = [*(run_dir / folder).iterdir()]
    if (items := stage.items_file(pipeline)) is not None:
        files.append(run_dir / items)
    newest = max(file.stat().st_mtime_ns for file in files)
    stamp = run_dir / stage.stamp(pipeline)
    if not stamp.exists() or stamp.stat().st_mtime_ns < newest:
        touch(str(stamp), newest)
