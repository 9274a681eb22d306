"""`rvrun.shell`: how programs end, where they print, and what scripts get."""

from __future__ import annotations

import os
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rvrun
from rvrun.programs.process import NOT_FOUND, TIMED_OUT
from tests.conftest import Project

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.fixture
def folder(in_folder: pathlib.Path, processes: None) -> pathlib.Path:
    return in_folder


@settings(max_examples=40)
@given(values=st.lists(TEXT, min_size=1, max_size=4))
def test_values_of_scripts_arrive_as_they_are(folder: pathlib.Path, values: list[str]) -> None:
    names = {f"v{i}": value for i, value in enumerate(values)}
    words = " ".join(f"{{{name}}} \"<{{{name}}}>\" '<{{{name}}}>'" for name in names)
    rvrun.shell(f"printf '%s\\0' {words} > {{target}}", target=folder / "x y", **names)  # type: ignore[arg-type]
    got = (folder / "x y").read_bytes().decode().split("\0")[:-1]
    assert got == [word for v in values for word in (v, f"<{v}>", f"<{v}>")]


def test_a_script_without_values_has_its_own_braces(folder: pathlib.Path) -> None:
    rvrun.shell("X=1; { echo ${X}; } > out")
    assert (folder / "out").read_text() == "1\n"


def test_an_argv_sees_no_shell(folder: pathlib.Path) -> None:
    rvrun.shell(["touch", "$(a); b", pathlib.Path("c d")])
    assert sorted(os.listdir(folder)) == ["$(a); b", "c d"]


def test_environment_and_directory(folder: pathlib.Path) -> None:
    (folder / "sub").mkdir()
    rvrun.shell('echo "$X" > out', env={"X": "a b"}, cwd="sub")
    assert (folder / "sub/out").read_text() == "a b\n"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["false"], 1, "`false` ended with exit code 1"),
        ("exit 7", 7, "`sh -c 'exit 7'` ended with exit code 7"),
        ("kill -KILL $$", 137, "`sh -c 'kill -KILL $$'` was killed by SIGKILL"),
        (
            ["no-such"],
            NOT_FOUND,
            "`no-such` cannot run: `no-such` is not on the PATH; install it, or correct its name",
        ),
        (
            ["./no-such"],
            NOT_FOUND,
            "`./no-such` cannot run: there is no program `./no-such`; install it, or correct its "
            "name",
        ),
    ],
)
def test_failures(folder: pathlib.Path, command: str | list[str], code: int, message: str) -> None:
    with pytest.raises(rvrun.ProgramFailed) as caught:
        rvrun.shell(command)
    assert (caught.value.exit_code, str(caught.value)) == (code, message)


def test_a_directory_that_does_not_exist(folder: pathlib.Path) -> None:
    with pytest.raises(rvrun.ProgramFailed, match="there is no directory sub; create it"):
        rvrun.shell(["true"], cwd="sub")


def test_a_file_that_is_not_a_program(folder: pathlib.Path) -> None:
    (folder / "x").write_text("nothing")
    (folder / "x").chmod(0o755)
    with pytest.raises(rvrun.ProgramFailed, match="begin it with a line such as `#!/bin/sh`"):
        rvrun.shell(["./x"])


def test_too_many_arguments(folder: pathlib.Path) -> None:
    with pytest.raises(rvrun.ProgramFailed, match="its arguments are too long"):
        rvrun.shell(["true", *["x" * 1000] * 10_000])


@pytest.mark.parametrize("command", [["false", *["x"] * 5000], f"false {'x ' * 5000}"])
def test_a_long_command_line_is_shortened(folder: pathlib.Path, command: str | list[str]) -> None:
    with pytest.raises(
        rvrun.ProgramFailed, match=r"x ?… \(10,0.. characters\)` ended with"
    ) as caught:
        rvrun.shell(command)
    assert len(str(caught.value)) < 1100


def test_timeout_ends_all_that_was_started(folder: pathlib.Path) -> None:
    pid = folder / "pid"
    pid.touch()
    for seconds in (0.5, 5.0, 50.0):
        with pytest.raises(rvrun.ProgramFailed) as caught:
            rvrun.shell("sleep 600 & echo $! > pid; wait", timeout=seconds)
        assert caught.value.exit_code == TIMED_OUT
        # On a busy machine, it may have ended before it started anything.
        if pid.read_text():
            break
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ("command", "values", "problem"),
    [
        ([], {}, "shell() requires a program, got an empty list"),
        ("echo {x}", {"y": 1}, "shell() requires a value for `{x}`, got y"),
        (["echo"], {"x": 1}, "shell() accepts values only for a script, got x"),
        (
            "echo {x}",
            {"x": [1]},
            "shell() requires a string, a number or a path for `{x}`, got [1]",
        ),
        (
            "echo {x}",
            {"x": None},
            "shell() requires a string, a number or a path for `{x}`, got None",
        ),
        (
            "echo `echo {x}`",
            {"x": 1},
            "the script of shell() must not have `{x}` inside of backticks; write $(…) instead of "
            "backticks",
        ),
        (
            "bash -c 'echo {x}'",
            {"x": 1},
            "the script of shell() must not have `{x}` in the program of `bash -c`, where a value "
            "would become code; pass it as an argument: bash -c '… \"$1\" …' sh {x}",
        ),
        ("{x", {"x": 1}, "the script of shell() has a single `{`; write `{{`"),
    ],
)
def test_wrong_calls(
    in_folder: pathlib.Path, command: str | list[str], values: dict[str, object], problem: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        rvrun.shell(command, **values)  # type: ignore[arg-type]
    assert str(caught.value) == problem


PIPELINE = """
import rvrun
class ShConfig(rvrun.PipelineConfig):
    def build(self):
        return Sh(self)
class Sh(rvrun.Pipeline):
    commands = ("fail",)
    def fail(self):
        rvrun.shell("echo out; echo err >&2; exit 5")
def get_config(runner):
    return ShConfig(root_uri="out")
"""


def test_in_a_target(project: Project) -> None:
    """The output is in the target's log, and the exit code is the target's; no traceback."""
    project.write("sh.py", PIPELINE)
    done = project.rvrun("run", "local", "sh.py", code=1)
    assert "sh/fail failed (exit 5)" in done.stderr
    log = project.read("runs/sh/logs/sh/fail.log")
    message = "rvrun: `sh -c 'echo out; echo err >&2; exit 5'` ended with exit code 5"
    assert log == f"out\nerr\n{message}\n"
