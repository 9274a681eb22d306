"""What targets print: in the run directory, in the same logs as on this machine."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator

from rvrun import paths
from rvrun.remote.errors import NoLog
from rvrun.remote.ledger import Ledger
from rvrun.remote.state import OVER, State
from rvrun.rundir.records import last_attempt
from rvrun.runners.slurm.commands import NoAnswer
from rvrun.runners.slurm.jobs import Job
from rvrun.runners.slurm.looks import look
from rvrun.runners.slurm.reasons import target_path
from rvrun.runners.slurm.render import OUTPUT
from rvrun.runners.slurm.rounds import read_jobs, read_rounds
from rvrun.text import count

#: Seconds between looks at a log, and at the state of its target.
LOG_SECONDS, STATE_SECONDS = 0.5, 3.0


def logs(ledger: Ledger, target: str, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a target's last attempt; with `follow` as they come, to its end.

    If it has not printed anything, that is the output of its job. Raises `NoLog`.
    """
    job, index = find_target(ledger, target)
    log = ledger.run_dir / paths.log(target_path(job, index))
    if follow:
        yield from _follow(log, lambda: _target_state(ledger, job, index) in OVER)
    if log.exists():
        if not follow:
            yield from _read(log, _start(ledger, job, index))
        return
    outputs = list(_job_outputs(ledger, job, index))
    if not outputs:
        state = _target_state(ledger, job, index)
        raise NoLog(f"{target} has no log: it is {state.value}, and its job has printed nothing")
    yield from _read(outputs[-1], 0)


def find_target(ledger: Ledger, target: str) -> tuple[Job, int]:
    """Return the job of a target, and its index. Raises `NoLog`."""
    jobs = {job.stage: job for job in read_jobs(ledger)}
    if (job := jobs.get(target)) is not None:
        if job.num_splits is not None:
            splits = count(job.num_splits, "split")
            raise NoLog(f"{target} has {splits}: choose one, such as `{target}/0`")
        return job, 0
    stage, _, split = target.rpartition("/")
    job = jobs.get(stage)
    if job is None or job.num_splits is None:
        stages = ", ".join(f"`{name}`" for name in jobs)
        raise NoLog(f"run {ledger.handle} has no target `{target}`; its stages: {stages}")
    if not split.isdecimal() or int(split) >= job.num_splits:
        last = job.num_splits - 1
        raise NoLog(f"the splits of {stage} are 0 to {last}, got `{split}`")
    return job, int(split)


def _target_state(ledger: Ledger, job: Job, index: int) -> State:
    looks, _ = look(ledger)
    return next(own.targets[index] for own in looks if own.job.stage == job.stage)


def _start(ledger: Ledger, job: Job, index: int) -> int:
    """Where in a log the last attempt begins, in bytes."""
    lines, _ = last_attempt(str(ledger.run_dir / paths.record(target_path(job, index))))
    offset = lines[0].get("log_offset") if lines else 0
    return offset if isinstance(offset, int) and offset > 0 else 0


def _read(path: pathlib.Path, start: int) -> Iterator[str]:
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            yield line.decode(errors="replace").rstrip("\r\n")


def _follow(path: pathlib.Path, is_over: Callable[[], bool]) -> Iterator[str]:
    """Yield complete lines as they are written, until `is_over`; then also the last, unended one.

    A retry appends to the log, so what an earlier attempt printed comes first. While the controller
    does not answer, the log still grows.
    """
    position, unfinished, looked, ended = 0, b"", 0.0, False
    while True:
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
            position += len(data)
            *lines, unfinished = (unfinished + data).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in lines)
        if ended:
            break
        if time.monotonic() - looked >= STATE_SECONDS:
            # What was written before the end is read once more.
            with contextlib.suppress(NoAnswer):
                ended = is_over()
            looked = time.monotonic()
        if not ended:
            time.sleep(LOG_SECONDS)
    if unfinished:
        yield unfinished.decode(errors="replace")


def _job_outputs(ledger: Ledger, job: Job, index: int) -> Iterator[pathlib.Path]:
    """What the jobs of a target printed, the last one last."""
    name = job.stage.replace("/", "-")
    for round_ in read_rounds(ledger):
        for call in round_.submissions:
            task = index // job.pack
            if call.job.stage != job.stage or task not in call.tasks or call.key not in round_.ids:
                continue
            suffix = "" if call.array is None else f"_{task - call.offset}"
            path = ledger.run_dir / OUTPUT / f"{name}-{round_.ids[call.key]}{suffix}.out"
            if path.exists():
                yield path
