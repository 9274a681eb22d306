"""The progress of a run on this machine: a bar for each stage at a terminal, else plain lines."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from rvrun.rundir.freshness import StageStatus

#: The most lines that are printed for a stage; of a larger one, a line counts several targets.
MAX_LINES = 20


def stage_of(target: str) -> str:
    """Return the stage of a target: `tiny/predict` of `tiny/predict/3`."""
    return "/".join(target.split("/")[:2])


@attrs.define
class Bars:
    """Draws a bar for each stage that has targets to run."""

    console: Console
    progress: Progress = attrs.field(init=False)
    tasks: dict[str, TaskID] = attrs.field(factory=dict, init=False)
    failed: dict[str, int] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="red"),
            console=self.console,
        )

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        for status in statuses:
            if status.stale:
                self.tasks[status.name] = self.progress.add_task(
                    status.name, total=len(status.stale), start=False, note=""
                )
        self.progress.start()

    def started(self, target: str) -> None:
        task = self.tasks.get(stage_of(target))
        if task is not None and self.progress.tasks[task].start_time is None:
            self.progress.start_task(task)

    def ended(self, target: str, exit_code: int) -> None:
        stage = stage_of(target)
        task = self.tasks.get(stage)
        if task is None:
            return
        if exit_code == 0:
            self.progress.advance(task)
            return
        self.failed[stage] = self.failed.get(stage, 0) + 1
        self.progress.update(task, note=f"{self.failed[stage]} failed")

    def noted(self, text: str) -> None:
        self.console.print(text)

    def finish(self) -> None:
        for task in self.tasks.values():
            self.progress.stop_task(task)
        self.progress.stop()


@attrs.define
class Lines:
    """Prints a line when a target has ended; for large stages, one for several targets."""

    console: Console
    shows_starts: bool = False
    totals: dict[str, int] = attrs.field(factory=dict, init=False)
    done: dict[str, int] = attrs.field(factory=dict, init=False)

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        self.totals = {status.name: len(status.stale) for status in statuses}
        self.done = dict.fromkeys(self.totals, 0)

    def started(self, target: str) -> None:
        if self.shows_starts:
            self.console.print(f"{target} started")

    def ended(self, target: str, exit_code: int) -> None:
        if exit_code != 0:
            self.console.print(f"{target} failed (exit {exit_code})")
            return
        stage = stage_of(target)
        self.done[stage] = self.done.get(stage, 0) + 1
        done, total = self.done[stage], self.totals.get(stage, 0)
        if total <= MAX_LINES:
            self.console.print(f"{target} done")
        elif done == total or done % (total // MAX_LINES) == 0:
            self.console.print(f"{stage} {done:,} of {total:,} done")

    def noted(self, text: str) -> None:
        self.console.print(text)

    def finish(self) -> None:
        pass


@attrs.define
class Headings:
    """Prints a heading before each target, for runners whose targets print to the terminal."""

    console: Console

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        pass

    def started(self, target: str) -> None:
        self.console.print(f"── {target}")

    def ended(self, target: str, exit_code: int) -> None:
        pass

    def noted(self, text: str) -> None:
        self.console.print(text)

    def finish(self) -> None:
        pass


@attrs.define
class Silent:
    """Prints nothing."""

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        pass

    def started(self, target: str) -> None:
        pass

    def ended(self, target: str, exit_code: int) -> None:
        pass

    def noted(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass
