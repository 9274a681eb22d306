"""The output of targets while they run, as they append it to their logs."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import threading
from collections.abc import Sequence
from typing import BinaryIO

import attrs

from rvrun import paths
from rvrun.rundir import records
from rvrun.rundir.freshness import StageStatus
from rvrun.runners.run import Reporter

#: How often logs are read while targets run, in seconds.
POLL_SECONDS = 0.1


@attrs.define
class Followed:
    """The log of a target that runs.

    - `unfinished`: the last line, as far as it is written; only if lines get a prefix.
    - `is_line_open`: whether what was printed of it does not end with a line break.
    """

    target: str
    log: BinaryIO
    unfinished: bytes = b""
    is_line_open: bool = False


@attrs.define
class Output:
    """Passes events on to another reporter, and prints what targets write to their logs.

    Logs are followed, instead of pipes to the targets, because a target that runs must not depend
    on whether anyone reads its output, and a log must not depend on whether it is shown.

    - `has_prefixes`: print whole lines, each after its target's name, because several run at once.
      Without it, bytes are printed as they come, and progress bars of targets look as they do in a
      terminal of their own.
    """

    run_dir: pathlib.Path
    reporter: Reporter
    has_prefixes: bool
    followed: dict[str, Followed] = attrs.field(factory=dict, init=False)
    statuses: dict[str, StageStatus] = attrs.field(factory=dict, init=False)
    #: Held by whoever prints: the thread that follows logs, or the one that reports events.
    lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    is_over: threading.Event = attrs.field(factory=threading.Event, init=False)
    thread: threading.Thread | None = attrs.field(default=None, init=False)

    def begin(self, statuses: Sequence[StageStatus]) -> None:
        """Begin to follow the logs of these stages."""
        self.statuses = {status.name: status for status in statuses}
        self.reporter.begin(statuses)
        # A daemon, so that an exception elsewhere does not leave a process that never ends.
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def started(self, target: str) -> None:
        """Follow the log of a target, from where this attempt begins."""
        with self.lock:
            self.reporter.started(target)
            log = self._open(target)
            if log is not None:
                self.followed[target] = Followed(target, log)

    def ended(self, target: str, exit_code: int) -> None:
        """Print the rest of a target's output before its end is reported."""
        with self.lock:
            if (followed := self.followed.pop(target, None)) is not None:
                self._end(followed)
            self.reporter.ended(target, exit_code)

    def noted(self, text: str) -> None:
        """Pass on what a target waits for."""
        with self.lock:
            self.reporter.noted(text)

    def finish(self) -> None:
        """Print the rest of all output, also that of targets that were killed."""
        self.is_over.set()
        if self.thread is not None:
            self.thread.join()
        with self.lock:
            while self.followed:
                self._end(self.followed.popitem()[1])
        self.reporter.finish()

    def _open(self, target: str) -> BinaryIO | None:
        """The log of a target that started; None if it does not write one."""
        pipeline, command, *split = target.split("/")
        stage = self.statuses[f"{pipeline}/{command}"].stage
        path = stage.target(pipeline, int(split[0]) if split else 0).path
        # A target reports its start after it recorded it, so this start is the last one.
        lines, _ = records.last_attempt(str(self.run_dir / paths.record(path)))
        offset = lines[0].get("log_offset") if lines else None
        if offset is None:
            return None
        try:
            log = (self.run_dir / paths.log(path)).open("rb")
        except FileNotFoundError:
            return None
        log.seek(offset)
        return log

    def _follow(self) -> None:
        while not self.is_over.wait(POLL_SECONDS):
            with self.lock:
                for followed in self.followed.values():
                    self._print_new(followed)

    def _end(self, followed: Followed) -> None:
        self._print_new(followed)
        if followed.unfinished:
            self._print_line(followed.target, followed.unfinished)
        elif followed.is_line_open:
            _write(b"\n")
        followed.log.close()

    def _print_new(self, followed: Followed) -> None:
        while data := followed.log.read(1 << 16):
            if not self.has_prefixes:
                _write(data)
                followed.is_line_open = not data.endswith(b"\n")
                continue
            *lines, followed.unfinished = (followed.unfinished + data).split(b"\n")
            for line in lines:
                self._print_line(followed.target, line)

    def _print_line(self, target: str, line: bytes) -> None:
        # A progress bar returns to the start of its line: only its last state is printed.
        text = line.rstrip(b"\r").rpartition(b"\r")[2]
        _write(b"%s | %s\n" % (target.encode(), text))


def _write(data: bytes) -> None:
    # A terminal that was closed must not end the run.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
