"""How a run went, as its targets' records tell it."""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.model import CONFIG, NUM_SPLITS, SPLIT_IND, Stage, Target
from rvrun.rundir import records as record
from rvrun.rundir.freshness import StageStatus


@attrs.frozen(kw_only=True)
class Failure:
    """A target that failed.

    - `exit_code`: None where it was killed, so that it could not record its end.
    - `seconds`: how long it ran, None where it was killed.
    - `log`: what it printed, from byte `log_offset` on, after earlier tries; None where it was
      not kept.
    - `rerun`: the command line that runs it again, for a shell.
    """

    target: str
    exit_code: int | None
    seconds: float | None
    log: pathlib.Path | None
    rerun: str
    log_offset: int = 0


@attrs.frozen(kw_only=True)
class Outcome:
    """Counts of targets, and the failures in the order in which they ended.

    - `stopped`: targets that were running when the run was interrupted.
    - `trouble`: what went wrong outside of any target, such as make's own complaint.
    """

    ran: int
    up_to_date: int
    not_started: int
    stopped: int = 0
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    trouble: str = ""


@attrs.frozen(kw_only=True)
class _Try:
    """The last try of a target in this run; `end` is None where it recorded none."""

    status: StageStatus
    target: Target
    start: dict[str, Any]
    end: dict[str, Any] | None

    @property
    def exit_code(self) -> int | None:
        return self.end["exit_code"] if self.end else None

    @property
    def when(self) -> float:
        return float((self.end or self.start)["time"])


def read_outcome(
    run_dir: pathlib.Path,
    out: str,
    statuses: Sequence[StageStatus],
    *,
    since: float,
    until: float,
    interrupted: bool = False,
    trouble: str = "",
) -> Outcome:
    """The outcome of the run between `since` and `until` (seconds since 1970) in `run_dir`.

    `statuses` tell what it had to do; `out` is the run directory as commands are to name it.
    """
    tries = list(_tries(run_dir, statuses, since))
    bad = [each for each in tries if each.exit_code != 0]
    stopped = [each for each in bad if interrupted and each.exit_code in (None, 129, 130, 143)]
    failed = sorted((each for each in bad if each not in stopped), key=lambda each: each.when)
    todo = sum(len(status.todo) for status in statuses)
    return Outcome(
        ran=len(tries) - len(bad),
        up_to_date=sum(status.stage.num_targets for status in statuses) - todo,
        not_started=todo - len(tries),
        stopped=len(stopped),
        failures=tuple(_failure(each, out) for each in failed),
        seconds=until - since,
        interrupted=interrupted,
        trouble=trouble,
    )


def _tries(run_dir: pathlib.Path, statuses: Sequence[StageStatus], since: float) -> Iterable[_Try]:
    for status in statuses:
        for target in status.targets():
            found = _last_try(record.read(str(run_dir / paths.record(target.path))), since)
            if found:
                yield _Try(status=status, target=target, start=found[0], end=found[1])


def _last_try(
    lines: Iterable[dict[str, Any]], since: float
) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
    start = end = None
    for line in lines:
        if line["event"] == "start":
            start, end = line, None
        elif line["event"] == "end":
            end = line
    # Records hold ms: the one that started right after `since` may seem to be before it.
    if start is None or start["time"] < since - 0.001:
        return None
    return start, end


def _failure(bad: _Try, out: str) -> Failure:
    offset = bad.start.get("log_offset")
    return Failure(
        target=bad.target.name,
        exit_code=bad.exit_code,
        seconds=bad.end["time"] - bad.start["time"] if bad.end else None,
        log=None if offset is None else pathlib.Path(out, paths.log(bad.target.path)),
        rerun=rerun_line(bad.status.stage, bad.target, out),
        log_offset=offset or 0,
    )


def rerun_line(stage: Stage, target: Target, out: str) -> str:
    """The command line of `target`, as a person would type it."""
    said = {
        CONFIG: f"{out}/{paths.config(target.pipeline)}",
        SPLIT_IND: str(target.split_ind),
        NUM_SPLITS: str(target.num_splits),
    }
    _, *words = stage.argv
    return shlex.join([*program(), *(said.get(word, word) for word in words)])


def program() -> list[str]:
    """How `rvrun` is called here: as it was, where that name alone would not find it."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return [sys.executable, "-m", "rvrun"]
    found = shutil.which("rvrun") or ""
    is_found = os.path.realpath(found) == os.path.realpath(called)
    return ["rvrun"] if is_found or os.path.basename(called) != "rvrun" else [called]


def tail(path: pathlib.Path, num_lines: int, offset: int = 0) -> list[str]:
    """The last lines of the text at `path`, from byte `offset` on; none where it is not there."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - 64 * 1024, offset))
            return file.read().decode(errors="replace").splitlines()[-num_lines:]
    except FileNotFoundError:
        return []
