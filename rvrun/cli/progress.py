"""The progress of a run on this machine: a bar for each stage at a terminal, else plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import attrs
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from rvrun.cli.failure_lines import FailureLines
from rvrun.observe.forecast import Forecast
from rvrun.rundir.freshness import StageStatus
from rvrun.text import duration

#: The most lines that are printed for a stage; of a larger one, a line counts several targets.
MAX_LINES = 20
#: How many running targets are named.
NUM_RUNNING = 3


def stage_of(target: str) -> str:
    """Return the stage of a target: `tiny/predict` of `tiny/predict/3`."""
    return "/".join(target.split("/")[:2])


class _Live(Progress):
    """Bars with a line below them, which is made again whenever they are drawn."""

    def __init__(self, *columns: ProgressColumn, console: Console, foot: Callable[[], str]) -> None:
        self.foot = foot
        super().__init__(*columns, console=console)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if text := self.foot():
            yield Text(text, "dim", no_wrap=True, overflow="ellipsis")


@attrs.define
class Bars:
    """Draws a bar for each stage that has targets to run, and what is running below them.

    - `failures`: makes the line of a target that failed. `forecast`: knows how much is left.
    """

    console: Console
    failures: FailureLines
    forecast: Forecast
    progress: _Live = attrs.field(init=False)
    tasks: dict[str, TaskID] = attrs.field(factory=dict, init=False)
    failed: dict[str, int] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.progress = _Live(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="red"),
            console=self.console,
            foot=self.describe_running,
        )

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        self.failures.begin(statuses)
        self.forecast.begin(statuses)
        for status in statuses:
            if status.stale:
                self.tasks[status.name] = self.progress.add_task(
                    status.name, total=len(status.stale), start=False, note=""
                )
        self.progress.start()

    def started(self, target: str) -> None:
        self.failures.started(target)
        task = self.tasks.get(stage_of(target))
        if task is not None and self.progress.tasks[task].start_time is None:
            self.progress.start_task(task)

    def ended(self, target: str, exit_code: int) -> None:
        stage = stage_of(target)
        task = self.tasks.get(stage)
        seconds = self.failures.ended(target)
        self.forecast.ended(stage, seconds if exit_code == 0 else None)
        if exit_code != 0:
            self.console.print(Text(self.failures.format(target, exit_code, seconds), "red"))
        if task is None:
            return
        if exit_code == 0:
            self.progress.advance(task)
            return
        self.failed[stage] = self.failed.get(stage, 0) + 1
        self.progress.update(task, note=f"{self.failed[stage]} failed")

    def describe_running(self) -> str:
        """Return `running: tiny/cut/3 for 12.0 s; 5 of 8 targets done, about 9.0 s left`."""
        # Another thread draws; a copy is taken in one step.
        began, now = dict(self.failures.began), time.monotonic()
        if not began:
            return ""
        elapsed: dict[str, float] = {}
        for target, then in began.items():
            elapsed[stage_of(target)] = elapsed.get(stage_of(target), 0.0) + now - then
        names = [f"{target} for {duration(now - then)}" for target, then in began.items()]
        more = f" and {len(names) - NUM_RUNNING:,} more" if len(names) > NUM_RUNNING else ""
        tasks = self.progress.tasks
        done, total = (int(sum(n or 0 for n in numbers)) for numbers in _totals(tasks))
        left = self.forecast.seconds_left(elapsed)
        about = "" if left is None else f", about {duration(left)} left"
        return f"running: {', '.join(names[:NUM_RUNNING])}{more}; {done:,} of {total:,} done{about}"

    def noted(self, text: str) -> None:
        self.console.print(text)

    def finish(self) -> None:
        for task in self.tasks.values():
            self.progress.stop_task(task)
        self.failures.began.clear()
        self.progress.stop()


def _totals(tasks: Sequence[Task]) -> tuple[list[float], list[float | None]]:
    return [task.completed for task in tasks], [task.total for task in tasks]


@attrs.define
class Lines:
    """Prints a line when a target has ended; for large stages, one for several targets."""

    console: Console
    failures: FailureLines
    shows_starts: bool = False
    totals: dict[str, int] = attrs.field(factory=dict, init=False)
    done: dict[str, int] = attrs.field(factory=dict, init=False)

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        self.failures.begin(statuses)
        self.totals = {status.name: len(status.stale) for status in statuses}
        self.done = dict.fromkeys(self.totals, 0)

    def started(self, target: str) -> None:
        self.failures.started(target)
        if self.shows_starts:
            self.console.print(f"{target} started")

    def ended(self, target: str, exit_code: int) -> None:
        seconds = self.failures.ended(target)
        if exit_code != 0:
            self.console.print(self.failures.format(target, exit_code, seconds))
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
