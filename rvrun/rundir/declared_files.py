"""The files that a target's command declares, checked before and after it runs.

This module imports little, because workers of commands that declare files import it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from rvrun.data.find import Objects, exists
from rvrun.data.fingerprint import Finder, is_same
from rvrun.errors import FAILED, RvrunError
from rvrun.patterns import (
    describe_absence,
    is_per_item,
    is_per_split,
    item_path,
    output_path,
)
from rvrun.rundir.target_lock import is_up_to_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from rvrun.rundir.planned_stage import PlannedStage


class MissingInput(RvrunError):
    """A declared input that does not exist when a target starts."""

    target: str
    path: str
    exit_code = FAILED
    fix = "add the file, or correct `inputs`"

    def __str__(self) -> str:
        problem = describe_absence(self.path)
        return f"{self.target} was not started: its input {self.path} {problem}; {self.fix}"


class MissingOutput(RvrunError):
    """A declared output that does not exist after the command has ended."""

    target: str
    path: str
    exit_code = FAILED
    fix = "let the command write it, or correct `outputs`"

    def __str__(self) -> str:
        problem = describe_absence(self.path)
        return f"{self.target} has ended, but its output {self.path} {problem}; {self.fix}"


class DeclaredFiles:
    """The declared files of one target.

    - `name`: of the target, `tiny/chip/3`. `split_ind`, `num_splits`: None if it is a whole stage.
    - `inputs`, `item_inputs`, `produced`, `outputs`: as in `model.Stage`.
    - `items`: the JSON values of all items that this target does, where nothing else looks for
      their files.
    """

    def __init__(
        self,
        name: str,
        split_ind: int | None,
        num_splits: int | None,
        *,
        inputs: Sequence[str],
        item_inputs: Sequence[str] = (),
        outputs: Sequence[str],
        produced: Sequence[str] = (),
        items: Sequence[Any] = (),
    ) -> None:
        self.name = name
        self.split_ind, self.num_splits = split_ind, num_splits
        self.inputs, self.produced = inputs, produced
        self.of_items = [item_path(path, item) for path in item_inputs for item in items]
        is_own = split_ind is None or num_splits == 1
        per_item = [output for output in outputs if is_per_item(output)]
        others = [output for output in outputs if output not in per_item]
        per_split = [output for output in others if is_own or is_per_split(output)]
        self.own = [output_path(output, split_ind, num_splits) for output in per_split]
        self.own += [item_path(output, item) for output in per_item for item in items]
        shared = (output for output in others if output not in per_split)
        self.shared = [output_path(output, split_ind, num_splits) for output in shared]

    def check_inputs(self) -> None:
        """Raise `MissingInput` unless all inputs exist."""
        objects = Objects()
        for path in (*self.inputs, *self.of_items):
            if not exists(path, objects):
                raise MissingInput(self.name, path)

    def check_outputs(self) -> None:
        """Raise `MissingOutput` unless all outputs exist that only this target writes."""
        check_written(self.name, self.own)

    def check_shared(self, run_dir: str, stage: PlannedStage) -> None:
        """Raise `MissingOutput` if the stage is done, but lacks an output that its splits share.

        Call it after this target's stamp was touched: then at least one of several splits that end
        at the same time sees the stamps of all. The stamp is removed again if an output is missing.
        """
        # From the last split on: splits are started in order, so one look is usually enough.
        others = (i for i in reversed(range(self.num_splits or 0)) if i != self.split_ind)
        if not self.shared or not all(is_up_to_date(run_dir, stage.split(i)) for i in others):
            return
        try:
            check_written(self.name, self.shared)
        except RvrunError:
            os.unlink(os.path.join(run_dir, stage.stamp))
            raise

    def refresh_fingerprint(self, run_dir: str, stage: PlannedStage) -> None:
        """Write the fingerprint of the inputs unless it describes them as they are.

        It describes what targets have read: plain make also starts them for inputs that changed
        since rvrun wrote it. Raises `CannotRead`, `CannotReach` or `UnusableRunDir`.
        """
        path = stage.inputs_file
        if path is None:
            return
        name = f"{stage.pipeline}/{stage.command}"
        if self._is_described(os.path.join(run_dir, path), name):
            return
        # One split writes it. Written again by the next one, it would be newer than what the first
        # has seen, and that split would count as stale.
        with locked_beside(os.path.join(run_dir, path)):
            text = Finder().text(name, self.inputs, self.produced)
            import pathlib

            from rvrun.rundir.files import write

            write(pathlib.Path(run_dir), {path: text})

    def _is_described(self, path: str, name: str) -> bool:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                old = file.read()
        except OSError:
            return False
        return is_same(old, Finder().text(name, self.inputs, self.produced))


def check_written(name: str, outputs: Sequence[str]) -> None:
    """Raise `MissingOutput` unless all outputs of the target called `name` exist."""
    objects = Objects()
    for path in outputs:
        if not exists(path, objects):
            raise MissingOutput(name, path)


@contextlib.contextmanager
def locked_beside(path: str) -> Iterator[None]:
    """Hold a lock beside the file at `path`."""
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(os.path.join(folder, f".{name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def of_plan(stage: PlannedStage, name: str) -> DeclaredFiles:
    """Return what the saved plan declares for the target called `name`."""
    return DeclaredFiles(
        name,
        stage.split_ind,
        stage.num_splits,
        inputs=stage.inputs,
        outputs=stage.outputs,
        produced=stage.produced,
    )
