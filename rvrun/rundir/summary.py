"""Summarize a run from the records of its targets: how each attempt ended."""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.model import CONFIG, NUM_SPLITS, SPLIT_IND, Stage, Target
from rvrun.rundir import records
from rvrun.rundir.freshness import StageStatus

#: Exit codes of targets that a signal ended: 128 + SIGHUP, SIGINT, SIGQUIT, SIGTERM, or none.
ENDED = (129, 130, 131, 143, None)

#: A disk is full if less is free: what did not fit may have been larger.
FULL_BYTES = 64 * 1024


@attrs.frozen(kw_only=True)
class Failure:
    """A target that failed.

    - `exit_code`: None if it was killed and could not record its end.
    - `signal`: the number of the signal that killed it; None if it was not killed, or if that is
      unknown.
    - `peak_memory_kib`: the most memory that its process was seen to use; None if nobody saw it.
    - `seconds`: how long it ran; None if it was killed and nobody saw when.
    - `timeout_seconds`: its time limit, if it was ended because of that.
    - `log`: the file with its output from byte `log_offset` on, after that of earlier attempts;
      None if its output went elsewhere.
    - `rerun`: a shell command line that runs it again.
    """

    target: str
    exit_code: int | None
    seconds: float | None
    log: pathlib.Path | None
    rerun: str
    log_offset: int = 0
    signal: int | None = None
    peak_memory_kib: int | None = None
    timeout_seconds: int | None = None


@attrs.frozen(kw_only=True)
class Outcome:
    """Counts of targets, and the failures in the order in which they ended.

    - `signal`: the number of the signal that interrupted the run; None if it was not interrupted.
    - `stopped`: targets that were running when the run was interrupted.
    - `largest`: the target with the highest peak memory, and that peak in KiB; None if none ended.
    - `warnings`: those of the targets that ran, each once.
    - `trouble`: what went wrong outside of any target, such as an error message of make.
    """

    ran: int
    up_to_date: int
    not_started: int
    stopped: int = 0
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    signal: int | None = None
    largest: tuple[str, int] | None = None
    trouble: str = ""


@attrs.frozen(kw_only=True)
class _Attempt:
    """The last attempt of a target in this run, as the lines of its record.

    - `end`: None if no end was recorded, because it was killed.
    """

    stage: Stage
    target: Target
    start: dict[str, Any]
    end: dict[str, Any] | None
    warnings: tuple[str, ...]

    @property
    def exit_code(self) -> int | None:
        return self.end.get("exit_code") if self.end else None

    @property
    def time(self) -> float:
        """Return when it ended, or when it started if it recorded no end."""
        return float((self.end or self.start)["time"])


def read_outcome(
    run_dir: pathlib.Path,
    out: str,
    statuses: Sequence[StageStatus],
    *,
    since: float,
    until: float,
    signal: int | None = None,
    was_stopped: bool = False,
    trouble: str = "",
) -> Outcome:
    """Read the outcome of the run between `since` and `until`, in seconds since 1970.

    - `out`: the run directory, as paths and command lines in the outcome name it.
    - `statuses`: which targets were stale before the run.
    - `was_stopped`: whether targets that were running were ended, also without a `signal`.
    """
    attempts = list(_attempts(run_dir, statuses, since))
    bad = [attempt for attempt in attempts if attempt.exit_code != 0]
    stopped = [attempt for attempt in bad if was_stopped and attempt.exit_code in ENDED]
    failed = [attempt for attempt in bad if attempt not in stopped]
    num_stale = sum(len(status.stale) for status in statuses)
    warnings = [text for attempt in attempts for text in attempt.warnings]
    if bad or trouble:
        warnings += _full_disk(run_dir, out)
    return Outcome(
        ran=len(attempts) - len(bad),
        up_to_date=sum(status.stage.num_targets for status in statuses) - num_stale,
        not_started=num_stale - sum(status.num_idle for status in statuses) - len(attempts),
        stopped=len(stopped),
        failures=tuple(_failure(attempt, out) for attempt in sorted(failed, key=lambda a: a.time)),
        warnings=tuple(dict.fromkeys(warnings)),
        seconds=until - since,
        signal=signal,
        largest=_largest(attempts),
        trouble=trouble,
    )


def _full_disk(run_dir: pathlib.Path, out: str) -> Iterator[str]:
    """Name a full disk as what targets may have failed of: then they cannot log it either."""
    disk = os.statvfs(run_dir)
    # The last blocks are for root.
    free = disk.f_bavail if os.geteuid() else disk.f_bfree
    # Some file systems do not count files.
    if free * disk.f_frsize < FULL_BYTES or (disk.f_files and not disk.f_ffree):
        yield f"the disk of {out} is full, so logs and records may be incomplete; free space on it"


def _largest(attempts: Sequence[_Attempt]) -> tuple[str, int] | None:
    ends = ((attempt.target.name, attempt.end) for attempt in attempts if attempt.end)
    peaks = [(name, peak) for name, end in ends if (peak := records.memory_of(end)) is not None]
    return max(peaks, key=lambda peak: peak[1], default=None)


def _attempts(
    run_dir: pathlib.Path, statuses: Sequence[StageStatus], since: float
) -> Iterator[_Attempt]:
    """Yield the last attempt of each stale target that was started."""
    for status in statuses:
        for target in status.targets():
            lines, end = records.last_attempt(str(run_dir / paths.record(target.path)))
            # Records have milliseconds: a start right after `since` may seem to be before it.
            if lines and lines[0]["time"] >= since - 0.001:
                yield _Attempt(
                    stage=status.stage,
                    target=target,
                    start=lines[0],
                    end=end,
                    warnings=tuple(li["text"] for li in lines if li["event"] == records.WARNING),
                )


def _failure(attempt: _Attempt, out: str) -> Failure:
    offset = records.log_offset_of(attempt.start)
    end = attempt.end or {}
    return Failure(
        target=attempt.target.name,
        exit_code=attempt.exit_code,
        # Not negative, also if someone has set the clock back.
        seconds=max(attempt.end["time"] - attempt.start["time"], 0.0) if attempt.end else None,
        log=None if offset is None else pathlib.Path(out, paths.log(attempt.target.path)),
        rerun=rerun_line(attempt.stage, attempt.target, out),
        log_offset=offset or 0,
        signal=end.get("signal"),
        peak_memory_kib=records.memory_of(end),
        timeout_seconds=records.timeout_of(end),
    )


def rerun_line(stage: Stage, target: Target, out: str) -> str:
    """Return the command line of a target, as a person would type it in a shell."""
    values = {
        CONFIG: f"{out}/{paths.config(target.pipeline)}",
        SPLIT_IND: str(target.split_ind),
        NUM_SPLITS: str(target.num_splits),
    }
    _, *words = stage.argv
    return shlex.join([*program(), *(values.get(word, word) for word in words)])


def program() -> list[str]:
    """Return the words that call this rvrun: `rvrun`, or a path if that name would not find it."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return [sys.executable, "-m", "rvrun"]
    on_path = shutil.which("rvrun") or ""
    is_on_path = os.path.realpath(on_path) == os.path.realpath(called)
    return ["rvrun"] if is_on_path or os.path.basename(called) != "rvrun" else [called]


def tail(path: pathlib.Path, num_lines: int, offset: int = 0) -> list[str]:
    """Return the last lines of a file, from byte `offset` on; none if it is not a regular file.

    A progress bar returns to the start of its line: only its last state counts.
    """
    # Opening a FIFO would wait for a writer.
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            # A log may be huge; the last 64 KiB are enough for the lines that are shown.
            file.seek(max(file.tell() - 64 * 1024, offset))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = text.removesuffix("\n").split("\n") if text else []
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines[-num_lines:]]
