"""The runs of a run directory: a line of JSON when `rvrun run` starts in it, and one when it ends.

Targets leave records of their own. This only adds what no target can tell: which runner ran them,
how many in parallel, and how the whole run ended. Under plain `make`, nobody writes it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.errors import RvrunError
from rvrun.rundir import records
from rvrun.rundir.attempts import Attempt
from rvrun.rundir.summary import ENDED
from rvrun.signals import SIGNALLED

_BEGIN, _END = "begin", "end"


@attrs.frozen(kw_only=True)
class Session:
    """One call of `rvrun run`.

    - `began`, `ended`: in seconds since 1970; `ended` is None while it runs, or if it was killed.
    - `jobs`: how many targets ran in parallel at most; None if one after the other.
    - `workdir`: where its commands ran, relative to the run directory.
    - `stopped`: how many targets were ended with it, because of a signal or because make ended.
    """

    began: float
    ended: float | None
    runner: str
    jobs: int | None
    exit_code: int | None
    workdir: str
    stopped: int = 0

    @property
    def was_interrupted(self) -> bool:
        """Whether a signal ended it or its make, as far as that is known."""
        return self.exit_code is None or self.exit_code > SIGNALLED or self.stopped > 0


@attrs.define
class Entry:
    """The entry of a run that goes on; the caller sets these facts of `Session` before it ends."""

    exit_code: int | None = None
    stopped: int = 0


@contextlib.contextmanager
def entered(run_dir: pathlib.Path, runner: str, jobs: int | None, workdir: str) -> Iterator[Entry]:
    """Record the start of a run, and its end; the parameters are those of `Session`.

    A full disk does not end the run, which does not depend on this.
    """
    entry = Entry()
    began = _append(run_dir, _BEGIN, runner=runner, jobs=jobs, workdir=workdir, pid=os.getpid())
    try:
        yield entry
    finally:
        _append(run_dir, _END, began=began, exit_code=entry.exit_code, stopped=entry.stopped)


def _append(run_dir: pathlib.Path, event: str, **facts: Any) -> float:
    """Append a line, and return its time."""
    now = round(time.time(), 3)
    path = run_dir / paths.RUNS
    with contextlib.suppress(OSError, RvrunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        records.append(str(path), {"event": event, "time": now, **facts})
    return now


def read_sessions(run_dir: pathlib.Path) -> list[Session]:
    """Return the runs of a run directory, the oldest first. Raises `CannotRead`."""
    begun: dict[float, Session] = {}
    for line in records.read(str(run_dir / paths.RUNS)):
        if line["event"] == _BEGIN and records.is_time(line.get("time")):
            begun[line["time"]] = _session(line)
        elif line["event"] == _END and records.is_time(line.get("began")):
            if line["began"] not in begun:
                continue
            session = begun[line["began"]]
            ended = line["time"] if records.is_time(line.get("time")) else None
            code = _integer(line.get("exit_code"))
            stopped = _integer(line.get("stopped")) or 0
            begun[line["began"]] = attrs.evolve(
                session, ended=ended, exit_code=code, stopped=stopped
            )
    return list(begun.values())


def session_at(sessions: Sequence[Session], time: float) -> Session | None:
    """Return the run in which something began at a time; None if plain make ran then.

    - `sessions`: the oldest first. Of one that was killed, nobody knows when it ended.
    """
    # Records have milliseconds.
    session = next((one for one in reversed(sessions) if one.began <= time + 0.001), None)
    is_over = session is not None and session.ended is not None and session.ended < time - 0.001
    return None if is_over else session


def was_stopped(attempt: Attempt, sessions: Sequence[Session]) -> bool:
    """Whether a target ended because its run was interrupted, and not by itself."""
    if attempt.signal is not None or (attempt.exit_code not in ENDED):
        return False
    session = session_at(sessions, attempt.began)
    # Plain make does not tell. A target that ends with the code of such a signal was then ended by
    # it; one that left no end was killed, which is a failure unless all of the run was.
    return attempt.exit_code is not None if session is None else session.was_interrupted


def _session(line: dict[str, Any]) -> Session:
    return Session(
        began=line["time"],
        ended=None,
        runner=str(line.get("runner", "")),
        jobs=_integer(line.get("jobs")),
        exit_code=None,
        workdir=str(line.get("workdir", "")),
    )


def _integer(value: object) -> int | None:
    return value if type(value) is int else None
