"""The output of targets of a run on this machine, from their logs."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator

from rvrun import paths
from rvrun.model import Target
from rvrun.observe.attempts import AttemptReader
from rvrun.observe.snapshot import read_saved_plan
from rvrun.remote.errors import NoLog
from rvrun.rundir.attempts import Attempt
from rvrun.rundir.explain import find_target
from rvrun.rundir.lock import is_active

#: How often a log is read that is followed, in seconds.
POLL_SECONDS = 0.2
#: How much of a log is read in one piece, in bytes.
PIECE = 1 << 16
#: Of how many pieces a line may consist.
MAX_PIECES = 256


def read_logs(reader: AttemptReader, name: str, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a target's last attempt; with `follow` as they come, to its end.

    A stage with splits has the output of all of them, each line after the name of its target.
    Raises `UnknownName`, `UnknownTarget` or `NoLog`.
    """
    pipeline, stage, index = find_target(read_saved_plan(reader.run_dir), name)
    if index is not None or stage.num_splits is None:
        yield from _read_log(reader, stage.target(pipeline.name, index or 0), follow=follow)
        return
    if follow:
        raise NoLog(f"--follow requires one split, such as {name}/0, got all of {name}")
    is_empty = True
    for target in stage.targets(pipeline.name):
        attempt = reader.read(target)
        if attempt is not None and attempt.log_offset is not None:
            is_empty = False
            lines = _read_log(reader, target, follow=False)
            yield from (f"{target.name} | {line}" for line in lines)
    if is_empty:
        raise NoLog(f"{name} has no logs in {reader.run_dir}: none of its splits has run yet")


def _read_log(reader: AttemptReader, target: Target, *, follow: bool) -> Iterator[str]:
    run_dir = reader.run_dir
    attempt = reader.read(target)
    while attempt is None and follow and is_active(run_dir):
        time.sleep(POLL_SECONDS)
        attempt = reader.read(target)
    if attempt is None:
        raise NoLog(f"{target.name} has no log in {run_dir}: it has not run yet")
    if attempt.log_offset is None:
        raise NoLog(f"{target.name} has no log in {run_dir}: its output went to the terminal")

    def goes_on() -> bool:
        return follow and _is_running(reader.read(target), attempt.number)

    path = run_dir / paths.log(target.path)
    # Opening a FIFO would wait for a writer.
    if not path.is_file():
        raise NoLog(f"{path} must be a regular file; someone has removed or replaced it")
    yield from _read_lines(path, attempt.log_offset, goes_on)


def _is_running(attempt: Attempt | None, number: int) -> bool:
    return attempt is not None and attempt.number == number and attempt.is_running


def _read_lines(path: pathlib.Path, offset: int, goes_on: Callable[[], bool]) -> Iterator[str]:
    """Yield the lines of a file from a byte on, until its end, and until nothing more is added."""
    with path.open("rb") as file:
        file.seek(offset)
        # In parts, because a line may be as long as the log; a very long one is broken.
        unfinished: list[bytes] = []
        while True:
            # Asked before the last read, so that nothing written before the end is missed.
            may_grow = goes_on()
            while data := file.read(PIECE):
                head, *lines = data.split(b"\n")
                unfinished.append(head)
                if len(unfinished) > MAX_PIECES:
                    lines.insert(0, b"")
                for line in lines:
                    yield b"".join(unfinished).decode(errors="replace")
                    unfinished = [line]
            if not may_grow:
                break
            time.sleep(POLL_SECONDS)
        if any(unfinished):
            yield b"".join(unfinished).decode(errors="replace")
