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
from tests.conftest import ROOT, Project, clean_environment
from tests.engines.batch import BatchEngine
from tests.engines.moto import Moto

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of `language` in a Markdown text."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """The README from a heading to the next one."""
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def commands(block: str) -> list[str]:
    """The command lines of a block, without those that install."""
    return [line for line in block.splitlines() if "pip install" not in line]


def shown_after(text: str) -> list[tuple[list[str], str]]:
    """The blocks of commands in a text, each with the output that is shown after it, if any."""
    fences = re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    pairs = zip(fences, [*fences[1:], ("", "")], strict=True)
    return [
        (commands(block), output if kind == "text" else "")
        for (language, block), (kind, output) in pairs
        if language == "sh"
    ]


def read_png(path: pathlib.Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as png:
            return png.read()


@pytest.fixture
def checkout(project: Project) -> Project:
    """The examples, where a checkout has them."""
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    return project


def test_the_first_minute(checkout: Project) -> None:
    """Each command prints what is shown after it, and the first thing to see is a greeting."""
    parts = shown_after(section("The first minute"))
    assert [lines[0] for lines, _ in parts] == [
        "rvrun run local examples/hello.py --splits 2",
        "rvrun plan examples/hello.py --splits 4",
    ]
    for lines, output in parts:
        for line in lines:
            done = checkout.run(*line.split())
        assert done.stdout == output
    assert parts[0][1].startswith("Hello, Ada!\n")
    assert blocks(README, "python")[0] == (ROOT / "examples/hello.py").read_text(encoding="utf-8")


@pytest.mark.xdist_group("landcover")
def test_a_real_example(checkout: Project) -> None:
    """The landcover example runs as typed, and its figures and table are those shown."""
    parts = shown_after(section("A real example"))
    (run,), (plan,), (explain,), (compare,) = (lines for lines, _ in parts)
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
    assert checkout.run(*plan.split()).stdout == parts[1][1]
    drawn = [
        read_png(folder / "landcover.png")
        for folder in (ROOT / "docs", checkout.folder / "out/landcover")
    ]
    assert drawn[0].shape == drawn[1].shape
    assert np.abs(drawn[0].astype(int) - drawn[1]).mean() < 3
    explained = checkout.run(*explain.split()).stdout
    # The same as `plan` says.
    assert explained.startswith("landcover/chip would run (4 of 4 targets): config changed: scene")
    assert "MiB at its peak" in explained
    as_it_is = checkout.rvrun("explain", "landcover/chip").stdout
    assert as_it_is.startswith("landcover/chip is up to date\n")
    dry = checkout.run(*compare.split(), "--dry-run").stdout
    assert "24 would run" in dry


@pytest.mark.xdist_group("landcover")
def test_one_more_item(checkout: Project) -> None:
    """The plan is the one shown, and make agrees that only one split would run."""
    (((run, plan), output),) = shown_after(section("One more item"))
    checkout.run(*run.split())
    assert checkout.run(*plan.split()).stdout == output
    shown = checkout.run("make", "-n", "-C", "runs/chips").stdout
    assert shown.count("run_command") == 1
    checkout.run("make", "-C", "runs/chips")
    assert "all up to date" in checkout.run(*plan.split()).stdout


def test_hello(checkout: Project) -> None:
    """What is typed with the Makefile of the smallest example, and in CI."""
    for heading in ("The Makefile", "Plans in CI"):
        for lines, _ in shown_after(section(heading)):
            for line in lines:
                checkout.run(*line.split())
    words = ("plan", "examples/hello.py", "--splits", "4", "--check", "plans/hello")
    shown = blocks(section("Plans in CI"), "text")[0]
    assert checkout.rvrun(*words, code=1).stdout == shown
    # As the README says, of what runs in one process.
    done = checkout.rvrun("run", "inprocess", "examples/hello.py", "join", "-B")
    assert done.stdout.startswith("Hello, Ada!\n")


def test_hello_on_s3(checkout: Project, moto: Moto) -> None:
    """With the replacement that the README names, its commands read and write S3."""
    moto.bucket()
    text = checkout.read("examples/hello.py")
    text = text.replace("pathlib.Path(", "AnyPath(").replace(
        "import pathlib", "from cloudpathlib import AnyPath"
    )
    # Runners on this machine refuse a URI otherwise.
    text = text.replace("    commands =", "    handles_uris = True\n    commands =")
    checkout.write("examples/hello.py", text)
    words = ("run", "inprocess", "examples/hello.py", "-a", "root_uri", "s3://bucket/hello")
    assert checkout.rvrun(*words, code=0, **moto.variables).stdout.startswith("Hello, Ada!\n")


def test_programs_instead_of_python(project: Project) -> None:
    """The pipeline is run with stand-ins for GDAL's programs; one more tile is one more call."""
    (text,) = blocks(section("Programs instead of Python"), "toml")
    project.write("pipeline.toml", text)
    for program in ("gdal_translate", "gdalbuildvrt"):
        code = '#!/bin/sh\necho "$0 $*" >> calls; for last; do :; done; echo > "$last"\n'
        project.write(f"bin/{program}", code).chmod(0o755)
    path = f"{project.folder}/bin:{clean_environment()['PATH']}"
    for name in ("a", "b c"):
        project.write(f"tiles/{name}.tif", "")
    # The stand-in writes its last argument; gdalbuildvrt's first one is what it writes.
    project.write("out/all.vrt", "")
    project.rvrun("run", "local", PATH=path)
    assert "gdal_translate -outsize 50% 0 tiles/b c.tif out/b c.tif" in project.read("calls")
    project.write("tiles/d.tif", "")
    assert "1 of 3 items" in project.rvrun("plan").stdout
    project.rvrun("run", "local", PATH=path)
    assert project.read("calls").count("gdal_translate") == 3
    assert project.read("calls").count("gdalbuildvrt") == 2


def test_one_page_says_how_to_install_rvrun() -> None:
    """So that there is one place to change when it is published."""
    folders = (".ci", ".github", "benchmarks", "docs", "examples", "rvrun", "templates")
    paths = [path for path in ROOT.glob("*") if path.suffix in (".md", ".toml", "")]
    paths += [path for folder in folders for path in (ROOT / folder).rglob("*")]
    naming = [
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.is_file() and re.search(rb"pip3? install (-\S+ )*[\"']?rvrun", path.read_bytes())
    ]
    assert naming == ["docs/install.md"]


def test_on_aws(checkout: Project, moto: Moto) -> None:
    """The commands for AWS Batch do what is typed, and the spec shown is the one rendered."""
    moto.bucket()
    (settings,) = blocks(section("On AWS"), "toml")
    (spec,) = blocks(README, "json")
    (block,) = [block for block in blocks(README, "sh") if "batch" in block]
    checkout.write("rvrun.toml", settings)
    with BatchEngine(slots=0) as engine:
        engine.add_queue("rvrun-cpu")
        engine.add_definition("rvrun-cpu")
        for line in commands(block):
            checkout.run(*line.split(), code=0, **{**moto.variables, **engine.variables})
        assert set(engine.statuses().values()) == {"FAILED"}
    assert checkout.read("runs/aws/batch/1-hello-greet.json").startswith(spec)


def test_the_makefile_shown_is_the_one_rendered(checkout: Project) -> None:
    """The part of a Makefile in the README is what rvrun writes for its example."""
    checkout.rvrun("render", "local", "examples/hello.py", "--splits", "4")
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
