"""The ledger of a run: written so that nothing is lost, and found again."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import threading

import pytest

from rvrun.errors import RvrunError
from rvrun.remote import ledger as ledgers
from rvrun.remote.ledger import BadRunName, Ledger, NoRun, UnwritableLedger, find, run_name

FACTS = {"profile": None, "region": "eu-west-1"}
FILES = {"batch/1-a.json": "{}\n", "batch/uploads.json": "{}\n"}


def begun(run_dir: pathlib.Path, name: str = "tiny") -> Ledger:
    return ledgers.create(run_dir, name, "batch", FILES, FACTS)


def test_a_new_run(tmp_path: pathlib.Path) -> None:
    """Its facts, the files of its first round, and an id with its time."""
    ledger = begun(tmp_path)
    assert ledger.folder.parent == tmp_path / "submitted"
    assert (ledger.run_dir, ledger.runner, ledger.facts["region"]) == (
        tmp_path,
        "batch",
        "eu-west-1",
    )
    assert len(ledger.run_id) == len("tiny") + ledgers.ID_EXTRA
    assert ledger.run_id.startswith("tiny-20")
    assert list(ledger.rounds()) == [1]
    assert (ledger.round_folder(1) / "batch/1-a.json").read_text() == "{}\n"
    assert [path.name for path in ledger.folder.parent.iterdir()] == [ledger.run_id]


def test_events_are_kept_in_order(tmp_path: pathlib.Path) -> None:
    """Of one kind, of several, or all."""
    ledger = begun(tmp_path)
    ledger.note("intended", job="a", round=1)
    ledger.note("accepted", job="a", round=1, id="ü")
    assert [event["event"] for event in ledger.events()] == ["intended", "accepted"]
    assert [event["id"] for event in ledger.events("accepted")] == ["ü"]
    assert len(list(ledger.events("accepted", "intended"))) == 2
    assert (ledger.has("accepted"), ledger.has("ended")) == (True, False)


def test_a_line_cut_short_harms_no_other(tmp_path: pathlib.Path) -> None:
    """As after a full disk: the next event begins on a line of its own."""
    ledger = begun(tmp_path)
    ledger.note("first")
    with (ledger.folder / "events.jsonl").open("a") as file:
        file.write('{"event": "seco')
    assert [event["event"] for event in ledger.events()] == ["first"]
    ledger.note("third")
    assert [event["event"] for event in ledger.events()] == ["first", "third"]


def test_many_threads_note_concurrently(tmp_path: pathlib.Path) -> None:
    """Lines do not mix."""
    ledger = begun(tmp_path)

    def note(number: int) -> None:
        for index in range(20):
            ledger.note("accepted", job=f"{number}/{index}", padding="x" * 2000)

    threads = [threading.Thread(target=note, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs = {event["job"] for event in ledger.events("accepted")}
    assert jobs == {f"{number}/{index}" for number in range(4) for index in range(20)}


def test_files_are_on_the_disk_before_anything_is_noted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the entries of their directories, also of new ones above them."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", fsync)
    ledger = begun(tmp_path / "runs" / "tiny")
    submitted = ledger.folder.parent
    new = f"{submitted}/.{ledger.run_id}"
    files = [
        f"{new}/run.json",
        f"{new}/round-1/batch/1-a.json",
        f"{new}/round-1/batch/uploads.json",
    ]
    folders = [new, f"{new}/round-1", f"{new}/round-1/batch"]
    assert sorted(synced[:6]) == sorted([*files, *folders])
    assert synced[6:] == [str(submitted), str(submitted.parent), str(tmp_path / "runs")]
    synced.clear()
    ledger.add_round({"batch/1-b.json": "[]\n"})
    new = f"{ledger.folder}/.round-2"
    assert sorted(synced[:3]) == [new, f"{new}/batch", f"{new}/batch/1-b.json"]
    assert synced[3:] == [str(ledger.folder)]


def test_a_directory_that_may_not_be_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs can be below one, such as a shared directory of all users."""
    original = os.open

    def open_(path: str, flags: int, *more: int) -> int:
        if str(path) == str(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, flags, *more)

    monkeypatch.setattr(os, "open", open_)
    assert begun(tmp_path / "tiny").run_dir == tmp_path / "tiny"


def test_a_disk_that_fails(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not exist then."""

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UnwritableLedger, match=r"cannot write to .*: Input/output error; free"):
        begun(tmp_path)
    assert ledgers.ledgers(tmp_path) == []


def test_rounds_are_added_whole(tmp_path: pathlib.Path) -> None:
    """A round that was interrupted while it was written does not exist."""
    ledger = begun(tmp_path)
    (ledger.folder / ".round-2").mkdir()
    assert ledger.num_rounds == 1
    assert ledger.add_round({"batch/1-b.json": "[]\n"}) == 2
    assert list(ledger.rounds()) == [1, 2]
    assert [path.name for path in (ledger.folder / "round-2" / "batch").iterdir()] == ["1-b.json"]


def test_a_run_interrupted_at_its_creation_does_not_exist(tmp_path: pathlib.Path) -> None:
    """It is only a folder whose name begins with a dot."""
    begun(tmp_path).folder.rename(tmp_path / "submitted" / ".tiny-x")
    assert ledgers.ledgers(tmp_path) == []


def test_runs_within_a_second_are_in_order(tmp_path: pathlib.Path) -> None:
    """Whatever the digits at the end of their ids."""
    made = [begun(tmp_path / "runs" / f"d{number % 2}") for number in range(8)]
    assert ledgers.all_ledgers(tmp_path / "runs") == made
    assert ledgers.ledgers(tmp_path / "runs" / "d1") == made[1::2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "must be a JSON object, got \\[\\]"),
        ('{"rvrun_run": 99}', "another version"),
    ],
)
def test_a_folder_that_is_not_a_run(tmp_path: pathlib.Path, text: str | None, problem: str) -> None:
    """The message has the folder and the reason."""
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RvrunError, match=problem) as caught:
        _ = Ledger(tmp_path).facts
    assert str(tmp_path) in str(caught.value)


# Names.


@pytest.mark.parametrize(
    ("run_dir", "given", "name"),
    [
        ("runs/landcover", None, "landcover"),
        ("runs/land cover.v2", None, "land-cover-v2"),
        ("runs/_x_", None, "x"),
        (".", None, "run"),
        ("runs/ü", None, "run"),
        ("runs/landcover", "Night_1-b", "Night_1-b"),
    ],
)
def test_run_names(run_dir: str, given: str | None, name: str) -> None:
    """As given, else after the run directory, in letters that job names allow."""
    assert run_name(run_dir, given) == name


@pytest.mark.parametrize("given", ["", "-x", "_x", "a b", "ü", "a/b", "a\n"])
def test_names_that_are_not_valid(given: str) -> None:
    """They are refused, not changed."""
    with pytest.raises(BadRunName) as caught:
        run_name("runs/x", given)
    assert str(caught.value) == (
        f"run name {given!r} is not valid: use letters a-z, digits, `_` and `-`, and begin with a "
        "letter or digit"
    )


# Finding.


@pytest.fixture
def runs(in_folder: pathlib.Path) -> dict[str, Ledger]:
    """Runs in `runs`, and one elsewhere."""
    return {
        "tiny1": begun(pathlib.Path("runs/tiny")),
        "tiny2": begun(pathlib.Path("runs/tiny")),
        "big": begun(pathlib.Path("runs/big"), "big"),
        "other": begun(pathlib.Path("out/deep"), "other"),
    }


def find_run(run: str) -> Ledger:
    return find(run, pathlib.Path("runs"))


def test_runs_are_found(runs: dict[str, Ledger]) -> None:
    """By id or its beginning, as the latest, by run directory, by their own folder."""
    assert find_run(runs["tiny1"].run_id) == runs["tiny1"]
    assert find_run(runs["tiny1"].run_id[:-1]) == runs["tiny1"]
    assert find_run("bi") == runs["big"]
    assert find_run("@latest") == runs["big"]
    assert find_run("runs/tiny") == runs["tiny2"]
    assert find_run("out/deep") == runs["other"]
    assert find_run(str(runs["tiny1"].folder)) == runs["tiny1"]


def test_a_folder_with_the_name_of_a_run_does_not_hide_it(runs: dict[str, Ledger]) -> None:
    """It is a run directory only if something was submitted from it."""
    pathlib.Path("big").mkdir()
    assert find_run("big") == runs["big"]


def test_runs_that_are_not_found(runs: dict[str, Ledger]) -> None:
    """The message lists what exists instead."""
    both = f"{runs['tiny1'].run_id}, {runs['tiny2'].run_id}"
    pathlib.Path("empty").mkdir()
    wanted = {
        "tiny": f"`tiny` is ambiguous: {both}; type more of the id",
        "no": "no run `no` in the run directories in runs; the latest is "
        f"{runs['big'].run_id}; see `rvrun list`",
        "empty": "nothing was submitted from empty",
    }
    for run, text in wanted.items():
        with pytest.raises(NoRun) as caught:
            find_run(run)
        assert str(caught.value) == text


def test_no_runs_at_all(in_folder: pathlib.Path) -> None:
    """There is no latest one either."""
    with pytest.raises(NoRun) as caught:
        find_run("@latest")
    assert str(caught.value) == "nothing was submitted from the run directories in runs"
    with pytest.raises(NoRun) as caught:
        find_run("x")
    assert str(caught.value) == "no run `x` in the run directories in runs; see `rvrun list`"


def test_the_handle_of_a_run(runs: dict[str, Ledger]) -> None:
    """Its id if that finds it, else its folder, which always does."""
    assert runs["big"].handle == runs["big"].run_id
    assert runs["other"].handle == str(runs["other"].folder)
    for ledger in runs.values():
        assert find_run(ledger.handle) == ledger
        assert find_run(Ledger(ledger.folder.absolute()).handle).run_id == ledger.run_id


def test_facts_are_json(tmp_path: pathlib.Path) -> None:
    """run.json is for people, too."""
    facts = json.loads((begun(tmp_path).folder / "run.json").read_text())
    assert facts.pop("began").startswith("20")
    assert facts == {"rvrun_run": 1, "runner": "batch", "profile": None, "region": "eu-west-1"}
