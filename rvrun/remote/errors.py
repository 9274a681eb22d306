"""Why a verb cannot act on a detached run; `run` is what users type to name it."""

from __future__ import annotations

from rvrun.errors import Problem, RvrunError


class StillRunning(RvrunError):
    """A run that must have ended first."""

    run: str
    template = (
        "run {run} is still running; look with `rvrun status {run}`, wait until it ends, or end it "
        "with `rvrun cancel {run}`"
    )


class Interrupted(RvrunError):
    """An interrupted submission that cannot be continued, because its files have changed."""

    run: str
    template = (
        "run {run} was interrupted while it was submitted, and the files to submit have changed "
        "since; end what was submitted of it with `rvrun cancel {run}`"
    )


class NotSubmitted(RvrunError):
    """A retry of a run whose submission was interrupted."""

    run: str
    template = (
        "run {run} was interrupted while it was submitted; repeat the command that submitted it to "
        "continue, or end what was submitted of it with `rvrun cancel {run}`"
    )


class NothingToRetry(RvrunError):
    """A run without failures."""

    run: str
    template = "nothing in run {run} failed, so there is nothing to retry"


class Forgotten(RvrunError):
    """A run so old that its service no longer says which of its targets failed."""

    run: str
    template = (
        "the jobs of run {run} are too old: their service no longer reports which failed; start a "
        "new run with `rvrun run`"
    )


class NoLog(Problem):
    """A target that has no log, or not yet, or that does not exist."""
