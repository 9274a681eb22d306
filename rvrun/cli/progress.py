"""How a run goes: a bar for each stage at a terminal, plain lines elsewhere."""

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

#: A stage with more targets than this gets a plain line for each twentieth part of them.
LINE_EACH = 20


def stage_of(target: str) -> str:
    """`tiny/predict/3` → `tiny/predict`."""
    return "/".join(target.split("/")[:2])


@attrs.define
class Bars:
    """A reporter that draws a bar for each stage that has something to do."""

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

    def finish(self) -> None:
        for task in self.tasks.values():
            self.progress.stop_task(task)
        self.progress.stop()


@attrs.define
class Lines:
    """A reporter that prints a line when a target ends; of a large stage, now and then."""

    console: Console
    starts: bool = False
    totals: dict[str, int] = attrs.field(factory=dict, init=False)
    done: dict[str, int] = attrs.field(factory=dict, init=False)

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        self.totals = {status.name: len(status.stale) for status in statuses}
        self.done = dict.fromkeys(self.totals, 0)

    def started(self, target: str) -> None:
        if self.starts:
            self.console.print(f"{target} started")

    def ended(self, target: str, exit_code: int) -> None:
        if exit_code != 0:
            self.console.print(f"{target} failed (exit {exit_code})")
            return
        stage = stage_of(target)
        self.done[stage] = self.done.get(stage, 0) + 1
        done, total = self.done[stage], self.totals.get(stage, 0)
        if total <= LINE_EACH:
            self.console.print(f"{target} done")
        elif done == total or done % (total // LINE_EACH) == 0:
            self.console.print(f"{stage} {done:,} of {total:,} done")

    def finish(self) -> None:
        pass


@attrs.define
class Headings:
    """A reporter for one process, whose targets print what they like: a line before each."""

    console: Console

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        pass

    def started(self, target: str) -> None:
        self.console.print(f"── {target}")

    def ended(self, target: str, exit_code: int) -> None:
        pass

    def finish(self) -> None:
        pass


@attrs.define
class Silent:
    """A reporter that says nothing."""

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        pass

    def started(self, target: str) -> None:
        pass

    def ended(self, target: str, exit_code: int) -> None:
        pass

    def finish(self) -> None:
        pass
