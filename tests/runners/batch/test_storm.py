"""Storms: lost replies, dead processes, late listings, damaged ledgers and full disks together.

Time is scaled: a second of Batch lasts a millisecond here. STORM_RUNS sets the number of runs
of each storm, for example 200; `-s` prints what happened in them.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator

import attrs
import pytest

from rvrun.aws.client import Client
from rvrun.remote.ledger import EVENTS, Ledger
from rvrun.runners.batch.inventory import DUPLICATE_REASON, read_ids
from rvrun.runners.batch.spec_files import read_specs
from rvrun.runners.batch.submit import LISTING_DELAY, NotAllSubmitted
from rvrun.runners.batch.tracked import track_jobs
from tests.engines import faults
from tests.engines.batch import BatchEngine
from tests.runners.batch.test_submit import (
    KEYS,
    MOST_LIVES,
    READS,
    Died,
    Life,
    new_ledger,
    specs,
    submit,
    submitter,
)

RUNS = int(os.environ.get("STORM_RUNS", "2"))
#: How many seconds here a second of Batch lasts.
SCALE = 1 / 1000
DELAY = LISTING_DELAY * SCALE
Damage = Callable[[pathlib.Path, random.Random], object]


def empty(path: pathlib.Path, dice: random.Random) -> None:
    path.write_bytes(b"")


def remove(path: pathlib.Path, dice: random.Random) -> None:
    path.unlink(missing_ok=True)


def halve(path: pathlib.Path, dice: random.Random) -> None:
    """Keep the first or the second half, to the byte."""
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(dice.choice([content[:half], content[half:]]))


def garble(path: pathlib.Path, dice: random.Random) -> None:
    """Replace a line with bytes that are not UTF-8, other JSON, or an event without its facts."""
    lines = path.read_bytes().splitlines() or [b""]
    junk = [b"\xff\xfe\x00", b"[1,2]", b'{"event": "accepted"}', b'{"event": "accepted", "job": 1}']
    lines[dice.randrange(len(lines))] = dice.choice(junk)
    path.write_bytes(b"\n".join(lines) + b"\n")


def spare(path: pathlib.Path, dice: random.Random) -> None:
    """Leave the ledger as it is."""


@contextlib.contextmanager
def full_disk(free: int) -> Iterator[None]:
    """Let no file grow beyond `free` bytes: the write that reaches it is cut off (setrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@attrs.define
class Tally:
    """What happened in the runs of a storm."""

    deaths: int = 0
    stops: int = 0
    damages: int = 0
    full: int = 0
    submitted: int = 0
    duplicates: int = 0
    ended_by_look: int = 0


@attrs.frozen(kw_only=True)
class Storm:
    """One run: how it is disturbed, and by which dice."""

    engine: BatchEngine
    run: Ledger
    dice: random.Random
    damage: Damage
    disk: bool
    submitters: int
    tally: Tally

    @property
    def events(self) -> pathlib.Path:
        return self.run.folder / EVENTS

    def submit_all(self) -> None:
        """Submit until all is submitted, in as many lives as that takes."""
        for _ in range(MOST_LIVES):
            if self._live():
                return
            if self.damage is not spare and self.dice.random() < 0.5 and self.events.exists():
                self.damage(self.events, self.dice)
                self.tally.damages += 1
        raise AssertionError("never all submitted")

    def _live(self) -> bool:
        done: list[bool] = []
        lives = [
            Life(self.dice.choice([None, self.dice.randrange(1, 60)]))
            for _ in range(self.submitters)
        ]
        with self._disk():
            threads = [
                threading.Thread(target=lambda i=i: done.append(self._submit(i))) for i in lives
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return any(done)

    def _disk(self) -> contextlib.AbstractContextManager[None]:
        if not self.disk or self.dice.random() < 0.5:
            return contextlib.nullcontext()
        self.tally.full += 1
        size = self.events.stat().st_size if self.events.exists() else 0
        return full_disk(size + self.dice.randrange(800))

    def _submit(self, life: Life) -> bool:
        try:
            submit(submitter(self.engine, self.run, life, DELAY))
        except Died:
            self.tally.deaths += 1
            return False
        except NotAllSubmitted:
            self.tally.stops += 1
            return False
        return True

    def look(self, *, is_first: bool = True) -> None:
        """Look once, when all is listed, and check that each spec has exactly one job."""
        self.engine.fault = lambda operation, request, number: None
        time.sleep(self.engine.list_lag)
        before = self.count_ended()
        client = Client("batch", self.engine.client("batch"))
        tracked = track_jobs(self.run, client)
        own = [j for j in self.engine.jobs.values() if j.tags["rvrun:run"] == self.run.run_id]
        living = {j.id: j for j in own if j.head.stop != DUPLICATE_REASON}
        counts = collections.Counter(j.tags["rvrun:job"] for j in living.values())
        assert counts == dict.fromkeys(KEYS, 1)
        for job in living.values():
            assert {need["jobId"] for need in job.request.get("dependsOn", ())} <= living.keys()
        ids = {job.spec.key: job.id for job in tracked.rounds[1]}
        assert ids == {job.tags["rvrun:job"]: job.id for job in living.values()}
        assert len(tracked.warnings) == len(own) - len(living)
        assert track_jobs(self.run, client).warnings == tracked.warnings
        if not is_first:
            return
        self.tally.submitted += len(own)
        self.tally.duplicates += len(own) - len(living)
        self.tally.ended_by_look += self.count_ended() - before

    def count_ended(self) -> int:
        return sum(job.head.stop == DUPLICATE_REASON for job in self.engine.jobs.values())

    def look_after_damage(self) -> None:
        """A damaged ledger gets back what Batch knows, and nothing is submitted again."""
        if self.damage is spare:
            return
        before = self.engine.count("SubmitJob")
        self.damage(self.events, self.dice)
        self.look(is_first=False)
        ids = read_ids(self.run, 1)
        assert ids == submit(submitter(self.engine, self.run, None, DELAY))
        assert sorted(ids) == sorted(KEYS)
        assert self.engine.count("SubmitJob") == before


@pytest.mark.parametrize(
    ("lag", "damage", "disk", "submitters"),
    [
        pytest.param(3, spare, False, 1, id="3s"),
        pytest.param(10, spare, False, 1, id="10s"),
        pytest.param(60, spare, False, 1, id="60s"),
        pytest.param(200, spare, False, 1, id="200s"),
        pytest.param(10, empty, False, 1, id="emptied"),
        pytest.param(10, remove, False, 1, id="removed"),
        pytest.param(10, halve, False, 1, id="halved"),
        pytest.param(10, garble, False, 1, id="garbled"),
        pytest.param(10, spare, True, 1, id="full-disk"),
        pytest.param(10, spare, False, 2, id="two-submitters"),
        pytest.param(60, garble, True, 2, id="all"),
    ],
)
@pytest.mark.usefixtures("processes")
def test_each_spec_becomes_one_job_in_any_storm(
    lag: float, damage: Damage, disk: bool, submitters: int, tmp_path: pathlib.Path
) -> None:
    """Whatever happens, and however late Batch lists it, one job of each spec is left."""
    tally = Tally()
    files = specs()
    with BatchEngine(slots=0, list_lag=lag * SCALE) as engine:
        engine.add_queue("cpu")
        engine.add_definition("work", command=["true"])
        for seed in range(RUNS):
            submitting = faults.seeded(seed, rate=0.3, operations=("SubmitJob",))
            reading = faults.seeded(seed, rate=0.05, operations=READS)
            engine.fault = lambda *call, s=submitting, r=reading: s(*call) or r(*call)
            storm = Storm(
                engine=engine,
                run=new_ledger(tmp_path / str(seed), files),
                dice=random.Random(seed),
                damage=damage,
                disk=disk,
                submitters=submitters,
                tally=tally,
            )
            try:
                storm.submit_all()
                storm.look()
                storm.look_after_damage()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
    print(f"\n{RUNS} runs: {tally}")
    if lag * SCALE < DELAY and damage is spare:
        assert tally.duplicates == 0


def test_all_specs_are_in_the_storm(tmp_path: pathlib.Path) -> None:
    """So that one job per key means something."""
    assert sorted(spec.key for spec in read_specs(new_ledger(tmp_path), 1)) == sorted(KEYS)
