"""What was submitted to AWS: a folder for each run, below `submitted/` of its run directory.

run.json         what the run is: its runner, when it began, whose account
round-1/…        the rendered files as they were submitted; round-2 and so on are retries
events.jsonl     a line for each intention before its call, and for what came of it after

Lines are only ever added, each by one write that is on the disk before anything else is done. So
whatever dies whenever, a call that was made has at least its intention here.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import pathlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun import paths
from rvrun.aws.client import Account, token
from rvrun.errors import RvrunError
from rvrun.rundir import records as record
from rvrun.rundir.files import write

RUN_FILE = "run.json"
EVENTS = "events.jsonl"
#: Lines that all runners have.
INTENDED, SUBMITTED, CANCELLED = "intended", "submitted", "cancelled"
LATEST = "@latest"
#: Where run directories are, unless said otherwise.
RUNS = "runs"
VERSION = 1
#: What is added to a run's name to tell it from others of the same name.
ID_EXTRA = len("-20260102-030405-abcd")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class NoRun(RvrunError):
    """A run that is not there, or a name that means several."""


class BadRunName(RvrunError):
    """A name that cannot stand in the names of jobs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return (
            f"run name {self.name!r} cannot be used: use letters a-z, digits, `_` and `-`, a "
            "letter or digit first"
        )


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
        """What to type for it in the current folder: its id, or its folder if that finds it not."""
        folder = os.path.relpath(self.folder)
        root, *rest = pathlib.PurePath(folder).parts
        return self.run_id if root == RUNS and len(rest) == 3 else folder

    @property
    def run_dir(self) -> pathlib.Path:
        return self.folder.parent.parent

    @property
    def facts(self) -> dict[str, Any]:
        """What is in run.json."""
        try:
            facts = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NoRun(
                f"{self.folder} is no run: its {RUN_FILE} cannot be read ({error})"
            ) from None
        if not isinstance(facts, dict) or facts.get("rvrun_run") != VERSION:
            raise NoRun(f"{self.folder} is a run of another version than this rvrun reads")
        return facts

    @property
    def runner(self) -> str:
        return str(self.facts["runner"])

    @property
    def account(self) -> Account:
        """Where it was submitted."""
        facts = self.facts
        return Account(profile=facts.get("profile"), region=facts.get("region"))

    def note(self, event: str, **facts: Any) -> None:
        """Add a line, on the disk when this returns."""
        line = {"event": event, "time": _now().isoformat(timespec="milliseconds"), **facts}
        with self._lock:
            record.append(str(self.folder / EVENTS), line, sync=True)

    def events(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Its lines, the oldest first; with `kinds` only these."""
        for line in record.read(str(self.folder / EVENTS)):
            if not kinds or line.get("event") in kinds:
                yield line

    def has(self, kind: str) -> bool:
        """Whether such an event was noted."""
        return any(self.events(kind))

    def round_folder(self, number: int) -> pathlib.Path:
        """Where the files of a round are; the first is 1."""
        return self.folder / f"round-{number}"

    def round_files(self, number: int) -> dict[str, str]:
        """The texts of the files of a round, by relative path."""
        folder = self.round_folder(number)
        return {
            path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
            for path in folder.rglob("*")
            if path.is_file()
        }

    @property
    def num_rounds(self) -> int:
        """How many rounds were begun: one, and one for each retry."""
        return sum(1 for _ in self.rounds())

    def rounds(self) -> Iterator[int]:
        """The numbers of the rounds."""
        number = 1
        while self.round_folder(number).is_dir():
            yield number
            number += 1

    def add_round(self, files: Mapping[str, str]) -> int:
        """Keep the files of one more round, all of them or none; its number."""
        number = self.num_rounds + 1
        new = self.folder / f".round-{number}"
        write(new, files)
        new.rename(self.round_folder(number))
        return number


def create(
    run_dir: pathlib.Path, name: str, runner: str, account: Account, files: Mapping[str, str]
) -> Ledger:
    """The ledger of a new run called `name`, with the files of its first round."""
    run_id = f"{name}-{_now():%Y%m%d-%H%M%S}-{token(4)}"
    folder = run_dir / paths.SUBMITTED / run_id
    new = folder.with_name(f".{run_id}")
    facts = {
        "rvrun_run": VERSION,
        "runner": runner,
        # So precisely that runs after each other are in order.
        "began": _now().isoformat(timespec="microseconds"),
        "profile": account.profile,
        "region": account.region_in_force,
    }
    write(new, {RUN_FILE: json.dumps(facts, indent=2) + "\n"})
    write(new / "round-1", files)
    new.rename(folder)
    return Ledger(folder)


def run_name(run_dir: str, given: str | None) -> str:
    """The name of a run: as given, else after its run directory. Raises `BadRunName`."""
    if given is not None:
        if not _NAME.fullmatch(given):
            raise BadRunName(given)
        return given
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", pathlib.PurePath(run_dir).name).strip("-_")
    return name or "run"


def ledgers(run_dir: pathlib.Path) -> list[Ledger]:
    """The runs of a run directory, the oldest first."""
    folders = (run_dir / paths.SUBMITTED).glob(f"[!.]*/{RUN_FILE}")
    return _by_age(Ledger(path.parent) for path in folders)


def last(run_dir: pathlib.Path, runner: str) -> Ledger | None:
    """The latest run of a run directory on `runner`; None where there is none."""
    found = [ledger for ledger in ledgers(run_dir) if ledger.runner == runner]
    return found[-1] if found else None


def all_ledgers(root: pathlib.Path) -> list[Ledger]:
    """The runs of all run directories in `root`, the oldest first."""
    folders = sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []
    return _by_age(ledger for folder in folders for ledger in ledgers(folder))


def _by_age(found: Iterable[Ledger]) -> list[Ledger]:
    return sorted(found, key=lambda ledger: (ledger.facts["began"], ledger.run_id))


def find(run: str, root: pathlib.Path) -> Ledger:
    """The run that `run` names: an id or the beginning of one, `@latest`, or a run directory.

    Ids are looked for in the run directories in `root`. Of a run directory it is the latest run.
    Raises `NoRun`.
    """
    path, known = pathlib.Path(run), all_ledgers(root)
    if run == LATEST:
        if not known:
            raise NoRun(f"nothing was submitted from the run directories in {root}")
        return known[-1]
    if (path / RUN_FILE).exists():
        return Ledger(path)
    if own := ledgers(path):
        return own[-1]
    matching = _named(run, known)
    if len(matching) == 1:
        return matching[0]
    if matching:
        several = ", ".join(ledger.run_id for ledger in matching)
        raise NoRun(f"`{run}` may be {several}; type more of it")
    if path.is_dir():
        raise NoRun(f"nothing was submitted from {run}")
    last = f"; the latest is {known[-1].run_id}" if known else ""
    raise NoRun(f"no run `{run}` in the run directories in {root}{last}; see `rvrun list`")


def _named(run: str, known: Sequence[Ledger]) -> list[Ledger]:
    """That of the id `run`, else those whose ids begin with it."""
    exact = [ledger for ledger in known if ledger.run_id == run]
    return exact or [ledger for ledger in known if ledger.run_id.startswith(run)]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
