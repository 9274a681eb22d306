"""The stamps of done targets, as the Makefile's own rules make them; for runners without make."""

from __future__ import annotations

import pathlib
import shutil

from rvrun import paths
from rvrun.model import Stage, Target


def prepare(run_dir: pathlib.Path, pipeline: str, stage: Stage) -> None:
    """Make the folder of a stage's stamps, where those of another number of splits end."""
    splits = stage.stamps_folder(pipeline)
    if splits is None:
        (run_dir / paths.DONE / pipeline).mkdir(parents=True, exist_ok=True)
    elif not (run_dir / splits).exists():
        for other in (run_dir / paths.DONE / pipeline).glob(f"{stage.command}.*/"):
            if other.is_dir():
                shutil.rmtree(other)
        (run_dir / splits).mkdir(parents=True)


def done(run_dir: pathlib.Path, target: Target) -> None:
    """Note that `target` was done just now."""
    (run_dir / paths.DONE / target.path).touch()


def join(run_dir: pathlib.Path, pipeline: str, stage: Stage, *, again: bool) -> None:
    """Note that all splits of `stage` are done; `again`, where some were done anew."""
    stamp = run_dir / stage.stamp(pipeline)
    if stage.num_splits is not None and (again or not stamp.exists()):
        stamp.touch()
