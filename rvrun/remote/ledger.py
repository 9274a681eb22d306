"""The ledger of a detached run: a folder for each run, below `submitted/` of its run directory.

run.json         its runner, when it began, and what else the runner must know of it
round-1/…        the rendered files as they were submitted; round-2 and so on are retries
events.jsonl     a line for each intention before its call, and for its outcome after

Lines are only ever added, each by one write that is on disk before anything else is done. So
whatever dies at whatever time, every call that was made has at least its intention here.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import pathlib
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.errors import Problem, RvrunError, describe
from rvrun.inputs import read_object, read_text
from rvrun.rundir import records as record
from rvrun.rundir.files import write
from rvrun.text import quoted, shorten

RUN_FILE = "run.json"
EVENTS = "events.jsonl"
#: Events that every runner notes.
INTENDED, SUBMITTED, CANCELLED = "intended", "submitted", "cancelled"
LATEST = "@latest"
#: The folder of run directories, by default.
RUNS = "runs"
VERSION = 1
#: How many characters a run's id has more than its name.
ID_EXTRA = len("-20260102-030405-abcdef01")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
#: The time in a run's id.
_TIME = re.compile(r"-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-[0-9a-f]{4,8}$")
#: What to do about a damaged run.
RESTORE = "restore it, or move the directory of that run away"


class NoRun(Problem):
    """A run that does not exist, or a name that fits several."""


class UnwritableLedger(RvrunError):
    """A ledger to which an event could not be added, for example because the disk is full."""

    path: pathlib.Path
    reason: str
    template = "cannot write to {path}: {reason}; free disk space, or make the directory writable"
    fix = "free disk space, or make the directory writable"


class DamagedRun(RvrunError):
    """A file of a ledger that rvrun did not write like this."""

    path: str
    problem: str
    template = f"{{path}}: {{problem}}; {RESTORE}"
    fix = RESTORE


class BadRunName(RvrunError):
    """A name that cannot be part of the names of jobs."""

    name: str
    template = (
        "run name {name!r} is not valid: use letters a-z, digits, `_` and `-`, and begin with a "
        "letter or digit"
    )


class _Facts(dict[str, Any]):
    """The values in a file of a ledger; a missing one raises `DamagedRun`."""

    def __init__(self, path: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise DamagedRun(self.path, f"has no `{name}`")


def _check_event(path: str, line: Mapping[str, Any]) -> None:
    for name, value in line.items():
        if isinstance(value, list) or (isinstance(value, dict) and name != "state"):
            problem = f"`{name}` of event `{line['event']}` must be a string or number"
            raise DamagedRun(path, f"{problem}, got {quoted(value)}")


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what parsing a damaged file of a run raises within into `DamagedRun`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DamagedRun(path, f"has been changed or damaged ({describe(error)})") from error


@attrs.frozen
class Ledger:
    """The ledger of one run."""

    folder: pathlib.Path
    _lock: threading.Lock = attrs.field(factory=threading.Lock, eq=False, repr=False, init=False)

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def handle(self) -> str:
        """What to type for it in the current folder: its id if that finds it, else its folder."""
        folder = os.path.relpath(self.folder)
        root, *rest = pathlib.PurePath(folder).parts
        return self.run_id if root == RUNS and len(rest) == 3 else folder

    @property
    def run_dir(self) -> pathlib.Path:
        return self.folder.parent.parent

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json says; it raises `DamagedRun` for what is missing.

        Raises `CannotRead`, `DamagedRun`, or `NoRun` if another version of rvrun wrote it.
        """
        path = str(self.folder / RUN_FILE)
        facts = _Facts(path, read_object(path, RESTORE))
        if facts.get("rvrun_run") != VERSION:
            raise NoRun(f"{self.folder} was written by another version of rvrun; use that version")
        for name in ("runner", "began"):
            if not isinstance(facts[name], str):
                raise DamagedRun(path, f"`{name}` must be a string, got {quoted(facts[name])}")
        with reading(path):
            dt.datetime.fromisoformat(facts["began"]).timestamp()
        return facts

    @property
    def runner(self) -> str:
        return str(self.facts["runner"])

    @property
    def age_key(self) -> str:
        """A key that sorts runs by when they began, also those whose run.json is damaged.

        A damaged one counts as the last of its second: `@latest` must not silently be another run.
        """
        try:
            return str(self.facts["began"])
        except RvrunError:
            began = _TIME.search(self.run_id)
            return "{}-{}-{}T{}:{}:{}~".format(*began.groups()) if began else "~"

    def note(self, event: str, **facts: Any) -> None:
        """Add an event; all of it is on disk when this returns. Raises `UnwritableLedger`.

        - `facts`: strings, numbers or None; only `state` may be an object.
        """
        line = {"event": event, "time": _now().isoformat(timespec="milliseconds"), **facts}
        path = self.folder / EVENTS
        try:
            with self._lock:
                record.append(str(path), line, sync=True)
        except OSError as error:
            raise UnwritableLedger(path, error.strerror or str(error)) from None

    def note_if_possible(self, event: str, **facts: Any) -> None:
        """Add an event that only saves work later; nothing happens if it cannot be written."""
        with contextlib.suppress(UnwritableLedger):
            self.note(event, **facts)

    def events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Yield its events, the oldest first; with `kinds` only these.

        An event raises `DamagedRun` for a fact that it lacks.
        """
        path = str(self.folder / EVENTS)
        for line in record.read(path):
            if not kinds or line["event"] in kinds:
                _check_event(path, line)
                yield _Facts(path, line)

    def intact_events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Yield its events like `events`, without those that were damaged.

        For runners whose service knows what a lost event said.
        """
        path = str(self.folder / EVENTS)
        for line in record.read(path):
            if kinds and line["event"] not in kinds:
                continue
            try:
                _check_event(path, line)
            except DamagedRun:
                continue
            yield line

    @property
    def changed_at(self) -> float:
        """When an event was added or removed last, in seconds since 1970.

        That is the change time of the inodes, which restoring or editing the file changes too. It
        can be later than the last event, but not earlier.
        """
        paths = (self.folder, self.folder / EVENTS)
        return max(path.stat().st_ctime for path in paths if path.exists())

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[int]:
        """Wait until no other process or thread submits jobs of this run, and keep others waiting.

        Yields the descriptor of the lock. A program that submits for this process may inherit it:
        others then wait for that program, too, should this process be killed.

        The lock is on the directory itself, which can be locked without writing to it. The kernel
        releases it when the process ends.
        """
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def has(self, kind: str) -> bool:
        """Whether it has an event of that kind."""
        return any(line["event"] == kind for line in record.read(str(self.folder / EVENTS)))

    def round_folder(self, number: int) -> pathlib.Path:
        """Return the folder of a round's files; the first round is 1."""
        return self.folder / f"round-{number}"

    def round_files(self, number: int) -> dict[str, str]:
        """Return the contents of a round's files, by relative path."""
        folder = self.round_folder(number)
        return {
            path.relative_to(folder).as_posix(): read_text(str(path), RESTORE)
            for path in folder.rglob("*")
            if path.is_file()
        }

    @property
    def num_rounds(self) -> int:
        """How many rounds it has: one, and one for each retry."""
        return sum(1 for _ in self.rounds())

    def rounds(self) -> Iterator[int]:
        """Yield the numbers of the rounds. Raises `DamagedRun` if there is none."""
        number = 1
        if not self.round_folder(number).is_dir():
            raise DamagedRun(str(self.folder), f"has no directory {self.round_folder(1).name}")
        while self.round_folder(number).is_dir():
            yield number
            number += 1

    def add_round(self, files: Mapping[str, str]) -> int:
        """Add a round with these files, all of them or none; return its number.

        Raises `UnusableRunDir` or `UnwritableLedger`.
        """
        number = self.num_rounds + 1
        new = self.folder / f".round-{number}"
        write(new, files)
        _publish(new, self.round_folder(number), new_parents=1)
        return number


def create(
    run_dir: pathlib.Path,
    name: str,
    runner: str,
    files: Mapping[str, str],
    facts: Mapping[str, Any],
) -> Ledger:
    """Create the ledger of a new run called `name`, with the files of its first round.

    - `facts`: what else its runner must know of the run later, as JSON values.

    Raises `UnusableRunDir` or `UnwritableLedger`.
    """
    # Services find the jobs of a run by its id, and end duplicates. Four bytes keep apart the runs
    # that many machines begin in the same second.
    run_id = f"{name}-{_now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    return restore(run_dir, run_id, runner, rounds=[files], began=_now(), facts=facts)


def restore(
    run_dir: pathlib.Path,
    run_id: str,
    runner: str,
    *,
    rounds: Sequence[Mapping[str, str]],
    began: dt.datetime,
    facts: Mapping[str, Any],
) -> Ledger:
    """Create the ledger of the run `run_id`, without events; see `create`."""
    folder = run_dir / paths.SUBMITTED / run_id
    new = folder.with_name(f".{run_id}")
    own = {
        "rvrun_run": VERSION,
        "runner": runner,
        # Precise enough to keep runs that follow each other in order.
        "began": began.isoformat(timespec="microseconds"),
    }
    write(new, {RUN_FILE: json.dumps({**own, **facts}, indent=2) + "\n"})
    for number, files in enumerate(rounds, start=1):
        write(new / f"round-{number}", files)
    # The run directory, and the directory of run directories, may be new.
    _publish(new, folder, new_parents=3)
    return Ledger(folder)


def _publish(new: pathlib.Path, folder: pathlib.Path, *, new_parents: int) -> None:
    """Rename `new` to `folder`: after a crash it is there with all its files, or not at all.

    All is on the disk when this returns: what is submitted next must not outlive its description.
    Raises `UnwritableLedger`.

    - `new_parents`: how many of the directories above may have a new entry.
    """
    try:
        record.sync_tree(str(new))
        new.rename(folder)
        for parent in folder.absolute().parents[:new_parents]:
            # A directory in which one may write, but which one may not read, cannot be synced.
            with contextlib.suppress(PermissionError):
                record.sync_folder(str(parent))
    except OSError as error:
        raise UnwritableLedger(folder, error.strerror or str(error)) from None


def run_name(run_dir: str, given: str | None) -> str:
    """Return the name of a run: as given, else after its run directory. Raises `BadRunName`."""
    if given is not None:
        if not _NAME.fullmatch(given):
            raise BadRunName(given)
        return given
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", pathlib.PurePath(run_dir).name).strip("-_")
    return name or "run"


def ledgers(run_dir: pathlib.Path) -> list[Ledger]:
    """Return the runs of a run directory, the oldest first."""
    folders = (run_dir / paths.SUBMITTED).glob("[!.]*")
    # A run.json that is a broken link is damaged, not absent.
    return _by_age(Ledger(path) for path in folders if os.path.lexists(path / RUN_FILE))


def last(run_dir: pathlib.Path, runner: str) -> Ledger | None:
    """Return the latest run of a run directory on `runner`, or None."""
    matching = [ledger for ledger in ledgers(run_dir) if ledger.runner == runner]
    return matching[-1] if matching else None


def all_ledgers(root: pathlib.Path) -> list[Ledger]:
    """Return the runs of all run directories in `root`, the oldest first."""
    folders = sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []
    return _by_age(ledger for folder in folders for ledger in ledgers(folder))


def _by_age(unsorted: Iterable[Ledger]) -> list[Ledger]:
    return sorted(unsorted, key=lambda ledger: (ledger.age_key, ledger.run_id))


def find(run: str, root: pathlib.Path) -> Ledger:
    """Find the run that `run` names: an id or its beginning, `@latest`, or a run directory.

    Ids are searched in the run directories in `root`; a run directory names its latest run.
    Raises `NoRun`.
    """
    path, runs, name = pathlib.Path(run), all_ledgers(root), shorten(run)
    if run == LATEST:
        if not runs:
            raise NoRun(f"nothing was submitted from the run directories in {root}")
        return runs[-1]
    if (path / RUN_FILE).exists():
        return Ledger(path)
    if own := ledgers(path):
        return own[-1]
    exact = [ledger for ledger in runs if ledger.run_id == run]
    matching = exact or [ledger for ledger in runs if ledger.run_id.startswith(run)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        ids = ", ".join(ledger.run_id for ledger in matching)
        raise NoRun(f"`{name}` is ambiguous: {shorten(ids)}; type more of the id")
    if path.is_dir():
        raise NoRun(f"nothing was submitted from {name}")
    latest = f"; the latest is {runs[-1].run_id}" if runs else ""
    raise NoRun(f"no run `{name}` in the run directories in {root}{latest}; see `rvrun list`")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
