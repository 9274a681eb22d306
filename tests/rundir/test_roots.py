"""A run directory is for one root: stamps of different roots are never mixed."""

from __future__ import annotations

import pathlib

import pytest

from rvrun.rundir.roots import OtherRoot, check_same_roots
from tests.conftest import Project

REFUSED = (
    "rvrun: run directory runs/tiny has finished targets of pipeline `tiny` for the root ra, got "
    "the root rb; choose another directory with --out runs/tiny-rb\n"
)


def config(root: str) -> dict[str, str]:
    return {"config/tiny.json": f'{{"config": {{"root_uri": "{root}"}}}}'}


def make_run_dir(folder: pathlib.Path, root: str, *stamps: str) -> None:
    for path, text in [*config(root).items(), *((f"done/tiny/{name}", "") for name in stamps)]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


@pytest.mark.parametrize("verb", [("run", "local"), ("run", "inprocess"), ("plan",)])
def test_another_root_is_refused(tiny: Project, verb: tuple[str, ...]) -> None:
    """Before anything is written, so that the first root stays up to date."""
    words = ("tiny.py", "-a", "root_uri")
    tiny.rvrun("run", "local", *words, "ra")
    assert tiny.rvrun(*verb, *words, "rb", code=2).stderr == REFUSED
    assert not (tiny.folder / "rb").exists()
    assert tiny.rvrun("render", "local", *words, "rb", code=2).stderr == REFUSED
    checked = tiny.rvrun("check", *words, "rb", code=2).stdout
    assert "fix: add --out runs/tiny-rb, or remove runs/tiny if you do not need it" in checked
    assert "0 targets ran, 4 up to date" in tiny.rvrun("run", "local", *words, "ra").stderr


def test_the_suggested_directory_works(tiny: Project) -> None:
    """Both roots stay up to date, however often they alternate."""
    words = ("run", "local", "tiny.py", "-a", "root_uri")
    for state in ("4 targets ran", "0 targets ran, 4 up to date"):
        assert state in tiny.rvrun(*words, "ra").stderr
        assert state in tiny.rvrun(*words, "rb", "--out", "runs/tiny-rb").stderr


def test_a_root_with_nothing_done_may_change(tmp_path: pathlib.Path) -> None:
    """A mistyped root costs nothing."""
    make_run_dir(tmp_path, "ra")
    (tmp_path / "done" / "tiny" / "cut.2").mkdir(parents=True)
    check_same_roots(tmp_path, config("rb"))


@pytest.mark.parametrize("new", ["out/a", "out/a/", "./out/a", "out//a"])
def test_other_spellings_are_the_same_root(tmp_path: pathlib.Path, new: str) -> None:
    make_run_dir(tmp_path, "out/a", "train")
    check_same_roots(tmp_path, config(new))


@pytest.mark.parametrize(
    ("old", "new", "suffix"),
    [
        ("a/run", "b/run", "-b"),
        ("s3://bucket/a", "s3://bucket/b c", "-b-c"),
        ("out", "/", "-2"),
        ("out", "s3://bucket/out", "-bucket"),
        ("out", "", "-2"),
    ],
)
def test_the_suggestion_names_the_root(
    tmp_path: pathlib.Path, old: str, new: str, suffix: str
) -> None:
    """By the last part that differs, without characters that a shell would interpret."""
    make_run_dir(tmp_path, old, "cut.2/0")
    with pytest.raises(OtherRoot) as caught:
        check_same_roots(tmp_path, config(new))
    assert caught.value.suggestion.endswith(f"{tmp_path.name}{suffix}")
