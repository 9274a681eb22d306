"""The README and the docs do what they say: their examples are run, their figures compared."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import warnings
from typing import Any

import numpy as np
import pytest
import rasterio

from rvrun.load.source import load
from tests.conftest import ROOT, Project
from tests.engines.batch import BatchEngine
from tests.engines.moto import Moto

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of `language` in a Markdown text."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """The command lines of a block, the installation taken off, tools as they are here."""
    lines = []
    for line in block.splitlines():
        last = line.rpartition("&& ")[2] if "venv" in line else line
        lines.append(last.replace(".venv/bin/", ""))
    return lines


def read_png(path: pathlib.Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as png:
            return png.read()


@pytest.fixture
def checkout(project: Project) -> Project:
    """The examples in a folder of their own, and hello.py as the README has it."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    project.write("hello.py", blocks(README, "python")[0])
    return project


@pytest.mark.xdist_group("landcover")
def test_the_first_minute(checkout: Project) -> None:
    """The landcover example runs as typed, and its figures and table are those shown."""
    run, plan, explain, compare = (
        line for block in blocks(README, "sh")[:4] for line in commands(block)
    )
    assert run == "rvrun run local examples/landcover.py --splits 4"
    assert "done in" in checkout.run(*run.split()).stderr
    scores = json.loads(checkout.read("out/landcover/eval.json"))
    shown = re.search(r"\*\*(\S+) %\*\* .*? \(F1 (\S+)\).*? for (\S+) %", README, re.DOTALL)
    assert shown
    accuracy, f1, majority = map(float, shown.groups())
    # Other versions of scikit-learn may draw other trees.
    assert 100 * scores["accuracy"] == pytest.approx(accuracy, abs=1)
    assert scores["f1"] == pytest.approx(f1, abs=0.02)
    assert 100 * scores["majority"] == pytest.approx(majority, abs=0.1)
    assert checkout.run(*plan.split()).stdout == blocks(README, "text")[0]
    drawn = [
        read_png(folder / "landcover.png")
        for folder in (ROOT / "docs", checkout.folder / "out/landcover")
    ]
    assert drawn[0].shape == drawn[1].shape
    assert np.abs(drawn[0].astype(int) - drawn[1]).mean() < 3
    assert "landcover/train is up to date" in checkout.run(*explain.split()).stdout
    dry = checkout.run(*compare.split(), "--dry-run").stdout
    assert "24 would run" in dry


def test_hello(checkout: Project) -> None:
    """The smallest example, and what is typed with it."""
    for block in blocks(README, "sh")[4:7]:
        for line in commands(block):
            checkout.run(*line.split())
    words = ("plan", "hello.py", "--splits", "4", "--check", "plans/hello")
    assert checkout.rvrun(*words, code=1).stdout == blocks(README, "text")[1]
    assert checkout.read("runs/hello/logs/hello/join.log").splitlines() == [
        "Hello, Ada!",
        "Hello, Grace!",
        "Hello, Edsger!",
        "Hello, Barbara!",
    ]


def test_on_aws(checkout: Project, moto: Moto) -> None:
    """The commands for AWS Batch do what is typed, and the spec shown is the one rendered."""
    moto.bucket()
    (settings,) = blocks(README, "toml")
    (spec,) = blocks(README, "json")
    (block,) = [block for block in blocks(README, "sh") if "batch" in block]
    checkout.write("rvrun.toml", settings)
    with BatchEngine(slots=0) as engine:
        engine.add_queue("rvrun-cpu")
        engine.add_definition("rvrun-cpu")
        for line in commands(block):
            checkout.run(*line.split(), code=0, **{**moto.variables, **engine.variables})
        assert set(engine.statuses().values()) == {"FAILED"}
    assert checkout.read("runs/hello/batch/1-hello-greet.json").startswith(spec)


def test_the_makefile_shown_is_the_one_rendered(checkout: Project) -> None:
    """The part of a Makefile in the README is what rvrun writes for its example."""
    checkout.rvrun("render", "local", "hello.py", "--splits", "4")
    rendered = checkout.read("runs/hello/Makefile")
    (shown,) = blocks(README, "make")
    for paragraph in shown.split("\n\n"):
        assert paragraph in rendered


def test_ci_runs_the_readmes_test_command() -> None:
    """The command for developers is the one that CI runs."""
    (command,) = blocks(README, "sh")[-1].splitlines()
    assert command.endswith("-m pytest")
    assert command in (ROOT / ".ci" / "run").read_text()


def test_links_lead_somewhere() -> None:
    """Every relative link of the README and the docs is to a file that is there."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "DESIGN.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_guides_pipeline_runs(project: Project) -> None:
    """The pipeline of docs/pipelines.md compiles with its needs, and runs."""
    guide = (ROOT / "docs/pipelines.md").read_text(encoding="utf-8")
    project.write("land.py", blocks(guide, "python")[0])
    shown = project.rvrun("plan", "land.py", "--splits", "4").stdout
    assert "train, chip (aligned)" in shown
    project.rvrun("run", "local", "land.py", "--splits", "4", RVRUN_LOCAL_GPU_SLOTS="4")
    assert project.read("runs/land/logs/land/predict.4/3.log") == "predict scene-3.tif\n"
    again = project.rvrun("plan", "land.py", "--splits", "4", "-a", "lr", "0.1").stdout
    assert [line.split("  ")[-1].strip() for line in again.splitlines()[2:-1]] == [
        "up to date",
        "config changed: model.lr",
        "after train",
        "after predict",
        "after train",
    ]


def test_the_guides_upgrade_lifts_an_old_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config saved by the guide's first `Scene` is read by its second."""
    guide = (ROOT / "docs/pipelines.md").read_text(encoding="utf-8")
    first, second = blocks(guide, "python")
    project.write("scenes1.py", first)
    project.rvrun("render", "local", "scenes1.py", "--out", "old")
    scene = second.split("\n\n\n")[1]
    old = first[first.index("class Scene") : first.index("class Model")]
    project.write(
        "scenes1.py", first.replace(old, f"{scene}\n\n").replace("scene.image", "scene.path")
    )
    project.rvrun("run", "local", "old/config/land.json")
    assert "chip scene-0.tif" in project.read("old/logs/land/chip.1/0.log")
    monkeypatch.chdir(project.folder)
    assert load("old/config/land.json", "local", {})[0].config.scenes[0].path == "scene-0.tif"
