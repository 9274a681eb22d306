"""Find runs by what users type, here and elsewhere, and show both through the same functions."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

import attrs

from rvrun import paths
from rvrun.errors import RvrunError
from rvrun.observe.attempts import newest_record
from rvrun.observe.local_run import LocalRun
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import LATEST, RUN_FILE, Ledger, NoRun
from rvrun.remote.state import RunState, timestamp
from rvrun.rundir.history import read_sessions
from rvrun.runners.protocol import DetachedRunner
from rvrun.runners.registry import find_detached
from rvrun.text import shorten

#: How deep below a folder run directories are looked for.
DEPTH = 3
#: Folders without run directories, which may be huge.
SKIPPED = ("node_modules", "__pycache__", "site-packages", paths.RECORDS, paths.LOGS, paths.DONE)


@attrs.frozen
class DetachedRun:
    """A run that was submitted, with its ledger."""

    ledger: Ledger

    @property
    def run_dir(self) -> pathlib.Path:
        return self.ledger.run_dir

    @property
    def handle(self) -> str:
        """What to type for it in the current folder."""
        return self.ledger.handle

    @property
    def runner(self) -> DetachedRunner:
        """Its runner. Raises `NotDetached`, `UnknownName` or `BrokenRunner`."""
        return find_detached(self.ledger.runner)

    def state(self) -> RunState:
        """Ask the service for the state of the run and its stages."""
        return self.runner.state(self.ledger)

    def logs(self, target: str, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a target's last attempt; with `follow` as they come, to its end."""
        return self.runner.logs(self.ledger, target, follow=follow)


Run = LocalRun | DetachedRun


def find_run(run: str, root: pathlib.Path) -> Run:
    """Find the run that `run` names.

    An id of a detached run or its beginning, `@latest`, a run directory, or the name of one in
    `root`. A run directory names its latest run. Raises `NoRun`.
    """
    if run == LATEST:
        return latest_run(root)
    for folder in (pathlib.Path(run), root / run):
        if (folder / RUN_FILE).exists():
            return DetachedRun(Ledger(folder))
        if is_run_dir(folder):
            return run_of(folder)
    try:
        return DetachedRun(ledgers.find(run, root))
    except NoRun:
        if (folder := pathlib.Path(run)).is_dir():
            raise NoRun(f"{shorten(run)} is not a run directory: nothing has run there") from None
        raise


def latest_run(root: pathlib.Path) -> Run:
    """Return the run that began or recorded something last. Raises `NoRun`.

    In a run directory, that is its own.
    """
    here = pathlib.Path()
    folders = [here] if is_run_dir(here) else run_dirs(root, depth=1)
    runs = [(age_of(folder), str(folder), folder) for folder in folders]
    if not runs:
        raise NoRun(
            f"nothing has run in the run directories in {root}; start a run with `rvrun run`"
        )
    return run_of(max(runs)[2])


def run_of(folder: pathlib.Path) -> Run:
    """Return the latest run of a run directory, which may have runs of both kinds."""
    submitted = ledgers.ledgers(folder)
    if not submitted:
        return LocalRun(folder)
    is_submitted = _time_of(submitted[-1]) >= (last_local_activity(folder) or 0.0)
    return DetachedRun(submitted[-1]) if is_submitted else LocalRun(folder)


def is_run_dir(folder: pathlib.Path) -> bool:
    """Whether something ran in a folder, or was submitted from it."""
    names = (paths.SUBMITTED, paths.RECORDS, paths.DONE)
    has_plan = os.path.lexists(folder / paths.PLAN)
    return (folder / paths.SUBMITTED).is_dir() or (
        has_plan and any((folder / name).is_dir() for name in names)
    )


def run_dirs(root: pathlib.Path, depth: int = DEPTH) -> Iterator[pathlib.Path]:
    """Yield the run directories in `root`, not those in hidden folders or in run directories."""
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return
    for folder in folders:
        if folder.name.startswith(".") or folder.name in SKIPPED:
            continue
        if is_run_dir(folder):
            yield folder
        elif depth > 1 and not folder.is_symlink():
            yield from run_dirs(folder, depth - 1)


def age_of(folder: pathlib.Path) -> float:
    """Return when something last began in a run directory, in seconds since 1970."""
    submitted = ledgers.ledgers(folder)
    return max(last_local_activity(folder) or 0.0, _time_of(submitted[-1]) if submitted else 0.0)


def last_local_activity(folder: pathlib.Path) -> float | None:
    """Return when a run on this machine last recorded something; None if none ever did.

    Jobs that keep stamps leave records in the run directory, too. Then only `rvrun run` tells that
    something else ran there.
    """
    times = [_session_time(folder)]
    if not any(_keeps_stamps(ledger) for ledger in ledgers.ledgers(folder)):
        times.append(newest_record(folder))
    return max((time for time in times if time is not None), default=None)


def _keeps_stamps(ledger: Ledger) -> bool:
    # Whoever needs a damaged ledger, or a runner that is not installed, reports it.
    with contextlib.suppress(RvrunError):
        return bool(DetachedRun(ledger).runner.CAPABILITIES.keeps_stamps)
    return False


def _session_time(folder: pathlib.Path) -> float | None:
    """When `rvrun run` last began on this machine; None if it never did."""
    # What is damaged is reported by what needs it.
    with contextlib.suppress(RvrunError):
        for session in read_sessions(folder)[-1:]:
            return session.began
    return None


def _time_of(ledger: Ledger) -> float:
    """When a detached run began; a damaged one counts as the last of its second."""
    try:
        return timestamp(ledger.age_key.replace("~", ".999999+00:00"))
    except ValueError:
        return float("inf")
