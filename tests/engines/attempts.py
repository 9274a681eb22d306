"""One attempt of a job, run as a local process in the way a container is run."""

from __future__ import annotations

import contextlib
import enum
import os
import pathlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import attrs

EXITED = "Essential container in task exited"
NOT_STARTED = "Task failed to start"


@attrs.frozen
class Outcome:
    """How an attempt ended, in the service's words. Without an exit code there was no process."""

    exit_code: int | None
    reason: str = ""
    status_reason: str = EXITED

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0


class Stop(enum.Enum):
    """Why the service ends an attempt."""

    TERMINATED = "terminated"
    TIMED_OUT = "timed out"
    RECLAIMED = "reclaimed"


class Attempt:
    """What `execute` gets: what to run, where its lines go, and when to stop."""

    def __init__(
        self,
        *,
        job_id: str,
        job_name: str,
        index: int | None,
        number: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: pathlib.Path,
        stream: str,
        write: Callable[[str], None],
    ) -> None:
        self.job_id = job_id
        self.job_name = job_name
        self.index = index
        self.number = number
        self.command = command
        self.environment = environment
        self.folder = folder
        self.stream = stream
        self.write = write
        self.why: Stop | None = None
        self._lock = threading.Lock()
        self._stopped: Callable[[Stop], None] | None = None

    def stop(self, why: Stop) -> None:
        """Stop it; later calls do nothing."""
        with self._lock:
            if self.why is not None:
                return
            self.why = why
            stopped = self._stopped
        if stopped:
            stopped(why)

    def when_stopped(self, action: Callable[[Stop], None]) -> None:
        """Call `action` when it is stopped; immediately if it has been."""
        with self._lock:
            self._stopped = action
            why = self.why
        if why is not None:
            action(why)

    def wait_until_stopped(self) -> Outcome:
        """Wait until it is stopped: an `execute` without a process."""
        stopped = threading.Event()
        self.when_stopped(lambda _: stopped.set())
        stopped.wait()
        return Outcome(128 + signal.SIGTERM)


Execute = Callable[[Attempt], Outcome | int]


def run_process(attempt: Attempt, *, grace: float = 5.0) -> Outcome:
    """Run the command in an empty folder and its own session; kill what it leaves behind."""
    work = attempt.folder / "work"
    work.mkdir(parents=True)
    (attempt.folder / "tmp").mkdir()
    environment = {
        **attempt.environment,
        "HOME": str(attempt.folder),
        "TMPDIR": str(attempt.folder / "tmp"),
    }
    try:
        return _run(attempt, work, environment, grace)
    except OSError as err:
        reason = f"CannotStartContainerError: exec {attempt.command[0]!r}: {err.strerror}"
        return Outcome(None, reason, NOT_STARTED)
    finally:
        shutil.rmtree(attempt.folder, ignore_errors=True)


def _run(
    attempt: Attempt, work: pathlib.Path, environment: Mapping[str, str], grace: float
) -> Outcome:
    process = subprocess.Popen(
        attempt.command,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout
    pump = threading.Thread(target=_pump, args=(process.stdout, attempt.write), daemon=True)
    pump.start()
    group = _Group(process.pid)
    attempt.when_stopped(lambda why: group.end(why, grace))
    # Wait without reaping: until `close`, the group must not be another process's.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    group.close()
    code = process.wait()
    pump.join(timeout=60)
    return Outcome(code if code >= 0 else 128 - code)


def _pump(stream: IO[bytes], write: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            write(line.decode("utf-8", "replace").rstrip("\r\n"))


class _Group:
    """A process group that is signalled only as long as its id cannot have been reused."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        self._gone = False

    def signal(self, number: int) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            if not self._gone:
                os.killpg(self._pid, number)

    def end(self, why: Stop, grace: float) -> None:
        """Terminate, and kill after `grace` seconds; a reclaimed host kills immediately."""
        if why is Stop.RECLAIMED:
            self.signal(signal.SIGKILL)
            return
        self.signal(signal.SIGTERM)
        timer = threading.Timer(grace, self.signal, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Kill what the leader, which has ended but is not reaped, left behind."""
        self.signal(signal.SIGKILL)
        with self._lock:
            self._gone = True
