"""Completion in a shell, as real bash asks for it."""

from __future__ import annotations

import json
import shlex

import pytest

from rvrun.load.outline import Outline, read_outline
from tests.conftest import ROOT, Project

LOUD = """
import sys
from typing import Literal

print("ran")
print("ran", file=sys.stderr)
open("ran", "w").close()


def get_config(runner, model: Literal["forest", "logistic"], fast=False, *, deep: bool, n: int = 1):
    raise RuntimeError


class Own:
    commands: tuple[str, ...] = ("fetch", "train")


class Other(Own):
    commands = ["fetch", "bundle"]
"""


def complete(project: Project, line: str, **env: str) -> list[str]:
    """What bash offers for the last word of `line`, which may be empty."""
    words = line.split(" ")
    quoted = " ".join(map(shlex.quote, words))
    script = (
        "source <(rvrun completion bash) && "
        f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1} && _rvrun_completion rvrun && "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = project.run("bash", "-c", script, code=0, **env)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rvrun pl", "plan"),
        ("rvrun run lo", "local"),
        ("rvrun run ", "batch inprocess local sagemaker slurm"),
        ("rvrun plan tiny.py ", "cut count sum show"),
        ("rvrun run local tiny.py cut s", "sum show"),
        ("rvrun run local tiny.py --splits 4 -k cut c", "count"),
        ("rvrun plan tiny.py -a ", "root_uri top"),
        ("rvrun plan tiny.py -a top 5 --arg r", "root_uri"),
        ("rvrun plan tiny.py -a top ", ""),
        ("rvrun plan tiny.py --runner b", "batch"),
        ("rvrun check --runner sage", "sagemaker"),
        ("rvrun plan loud.py ", "fetch train bundle"),
        ("rvrun plan loud ", "fetch train bundle"),
        ("rvrun plan loud.py -a ", "model fast deep n"),
        ("rvrun plan loud.py -a model l", "logistic"),
        ("rvrun plan loud.py -a fast ", "true false"),
        ("rvrun plan loud.py -a deep t", "true"),
        ("rvrun plan nowhere.py ", ""),
        ("rvrun plan broken.py -a ", ""),
        ("rvrun --version pl", "plan"),
        ("rvrun completion ", "bash zsh fish"),
        ("rvrun graph tiny.py -f ", "mermaid dot svg"),
        ("rvrun plan tiny.py --js", "--json"),
    ],
)
def test_bash_completes(tiny: Project, line: str, words: str) -> None:
    """Verbs, runners, commands and arguments, without running the config; errors are silent."""
    tiny.write("loud.py", LOUD)
    tiny.write("broken.py", "def get_config(")
    assert complete(tiny, line) == words.split()
    assert not (tiny.folder / "ran").exists()


def test_bash_completes_what_was_planned(tiny: Project) -> None:
    """Targets of saved plans, splits of a stage once it is named; commands that only a plan has."""
    tiny.rvrun("render", "local", "tiny.py", "--splits", "3")
    assert complete(tiny, "rvrun explain tiny/c") == ["tiny/cut", "tiny/count"]
    assert complete(tiny, "rvrun explain tiny/cut/") == ["tiny/cut/0", "tiny/cut/1", "tiny/cut/2"]
    assert complete(tiny, "rvrun explain tiny/cut tiny.py -a t") == ["top"]
    tiny.write("tiny.py", "from elsewhere import get_config\n")
    assert complete(tiny, "rvrun plan tiny.py s") == ["sum", "show"]
    assert complete(tiny, "rvrun run local runs/tiny/config/tiny.json s") == ["sum", "show"]


def test_bash_completes_runs(tiny: Project) -> None:
    """The ids of runs, the latest first, and the targets of the run that is named."""
    tiny.rvrun("render", "local", "tiny.py", "--splits", "2", "--out", "runs/aws")
    for day in ("02", "03"):
        facts = {"rvrun_run": 1, "runner": "batch", "began": f"2026-01-{day}T00:00:00+00:00"}
        tiny.write(f"runs/aws/submitted/aws-202601{day}-x/run.json", json.dumps(facts))
    runs = ["@latest", "aws-20260103-x", "aws-20260102-x"]
    for verb in ("logs", "cancel", "retry", "status"):
        assert complete(tiny, f"rvrun {verb} ") == runs
    assert complete(tiny, "rvrun logs @l") == ["@latest"]
    assert complete(tiny, "rvrun logs @latest tiny/s") == ["tiny/sum", "tiny/show"]
    assert complete(tiny, "rvrun logs aws-20260102-x tiny/cut/1") == ["tiny/cut/1"]
    assert complete(tiny, "rvrun logs no-run t") == []


def test_bash_completes_profiles(tiny: Project) -> None:
    """The files of the user's settings."""
    tiny.write("home/rvrun/cluster.toml", "")
    tiny.write("home/rvrun/default.toml", "")
    home = str(tiny.folder / "home")
    for line in ("rvrun -p ", "rvrun plan tiny.py --profile "):
        assert complete(tiny, line, XDG_CONFIG_HOME=home) == ["cluster", "default"]


def test_bash_keeps_the_latest_run_in_one_word(project: Project) -> None:
    """Bash would take `@latest` for two words."""
    script = 'source <(rvrun completion bash); printf "%s" "$COMP_WORDBREAKS"'
    assert "@" not in project.run("bash", "-ic", script).stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(tiny: Project, shell: str) -> None:
    """Their scripts ask the same program."""
    assert "rvrun" in tiny.rvrun("completion", shell).stdout
    env = {"_RVRUN_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = tiny.rvrun(code=0, **env, _TYPER_COMPLETE_ARGS="rvrun plan tiny.py -a t")
    assert "top" in done.stdout


def test_the_outlines_of_the_examples() -> None:
    """What the source shows is what the pipelines declare."""
    outline = read_outline(str(ROOT / "examples/landcover.py"))
    assert outline.commands == ("analyze", "chip", "train", "predict", "eval", "bundle")
    assert outline.parameters["compare"] == ("true", "false")
    assert read_outline("no.such.module") == Outline()
