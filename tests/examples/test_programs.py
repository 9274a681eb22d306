"""The examples and the guide of pipelines of programs, with real programs where these exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys

import pytest

from tests.conftest import ROOT, Project

GUIDE = (ROOT / "docs/programs.md").read_text(encoding="utf-8")


@pytest.fixture
def checkout(project: Project) -> Project:
    shutil.copytree(ROOT / "examples", project.folder / "examples")
    return project


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


def test_the_first_minute_of_the_guide(project: Project) -> None:
    for line in blocks("sh")[0].splitlines():
        done = project.run(*line.split())
    assert done.stdout.startswith("Hello, Ada!\n")


def test_the_six_programs_of_the_guide(project: Project) -> None:
    """The plans are what the guide shows; one more item runs alone."""
    text = blocks("toml")[0]
    assert text.count("\nrun = ") == 6
    project.write("pipeline.toml", text)
    first, second = blocks("text")
    assert project.rvrun("plan").stdout == first
    project.rvrun("run", "local")
    assert project.rvrun("plan", "-a", "quality", "70").stdout == second
    assert project.read("out/beach.jpg") == "quality 85\n800ximage of a beach\n"
    assert project.read("out/count.txt").strip() == "6"
    project.write("pipeline.toml", text.replace('"forest"]', '"forest", "lake"]'))
    assert project.rvrun("plan").stdout.count("1 of 4 items") == 2
    project.rvrun("run", "local")
    assert project.read("out/count.txt").strip() == "8"


def test_examples_of_items_in_the_guide() -> None:
    """All lines that assign `items` in the guide are those that the keys accept."""
    import tomllib

    from rvrun.load.toml.keys import COMMAND

    lines = re.findall(r"^items = .*$", blocks("toml")[1], flags=re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        table = {"run": "x", **tomllib.loads(line)}
        assert not list(COMMAND.faults(table, ("commands", "a")))


def test_tiles(checkout: Project) -> None:
    """Six tiles with `rio`; one more tile is cut and scaled alone."""
    pytest.importorskip("rasterio")
    config = "examples/tiles/pipeline.toml"
    checkout.rvrun("run", "local", config)
    assert len(list(checkout.folder.glob("out/tiles/*.scaled.tif"))) == 6
    done = checkout.run("rio", "info", "--shape", "out/tiles/all.tif")
    height, width = map(int, done.stdout.split())
    assert (186 <= height <= 189, 242 <= width <= 245) == (True, True)
    with (checkout.folder / "examples/tiles/tiles.csv").open("a") as file:
        file.write("c,-105.9 40.2 -105.8 40.3\n")
    assert checkout.rvrun("plan", config).stdout.count("1 of 7 items") == 2


def test_treeline(checkout: Project) -> None:
    """Six programs; only what depends on the treeline runs again for another."""
    pytest.importorskip("rasterio")
    checkout.rvrun("run", "local", "examples/treeline.toml")
    least, most, share, _ = map(float, checkout.read("out/treeline/share.txt").split())
    assert (least, most) == (0.0, 1.0)
    assert 0.16 < share < 0.17
    shown = checkout.rvrun("plan", "examples/treeline.toml", "-a", "treeline", "3400").stdout
    stale = [line.split()[0] for line in shown.splitlines()[2:] if " run " in line]
    assert stale == [f"treeline/{name}" for name in ("mask", "shapes", "share", "bundle")]


def shim(project: Project, path: str, text: str) -> None:
    project.write(path, f"#!{sys.executable}\n{text}").chmod(0o755)


#: Stands for `samtools`, `bcftools` and others: prints or writes what it is called with.
TOOL = """
import sys
words = sys.argv[1:]
if words[0] == "index":
    open(words[1] + ".bai", "w").close()
text = " ".join(words) + "\\n" + ("" if sys.stdin.isatty() else sys.stdin.read())
open(words[words.index("-o") + 1], "w").write(text) if "-o" in words else print(text)
"""


def test_snakemakes_tutorial(checkout: Project) -> None:
    """Stand-ins for its programs, which are large."""
    for name in ("bwa", "samtools", "bcftools"):
        shim(checkout, f"bin/{name}", TOOL)
    for path in ("data/genome.fa", "data/samples/A.fastq", "data/samples/B.fastq"):
        checkout.write(path, "")
    checkout.write("scripts/plot-quals.py", "import sys; open(sys.argv[2], 'w').write('plot')")
    path = f"{checkout.folder}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    checkout.rvrun("run", "local", "examples/compared/snakemake.toml", PATH=path)
    assert checkout.read("out/variants/quals.svg") == "plot"
    assert "mem data/genome.fa data/samples/B.fastq" in checkout.read("out/variants/B.bam")
    checkout.write("data/samples/B.fastq", "more")
    plan = checkout.rvrun("plan", "examples/compared/snakemake.toml", PATH=path).stdout
    assert re.search(r"variants/map .* 1 of 2 items  +input changed: data/samples/B.fastq\n", plan)
    assert len(re.findall(r" 1 of 2 items  +after ", plan)) == 2


def test_dvcs_stages(checkout: Project) -> None:
    code = "import os, sys; os.makedirs(sys.argv[-1], exist_ok=True)"
    checkout.write("src/prepare.py", "import os; os.makedirs('data/prepared')")
    checkout.write("src/featurization.py", code)
    checkout.write("src/train.py", "import sys; open(sys.argv[-1], 'w').close()")
    checkout.write("data/data.xml", "")
    checkout.write("params.yaml", "")
    plan = json.loads(checkout.rvrun("plan", "examples/compared/dvc.toml", "--json").stdout)
    needs = [[need["command"] for need in s["needs"]] for s in plan["pipelines"][0]["stages"]]
    assert needs == [[], ["prepare"], ["featurize"]]
    checkout.rvrun("run", "local", "examples/compared/dvc.toml")
    assert (checkout.folder / "model.pkl").exists()


@pytest.mark.parametrize(("name", "lines"), [("dvc", 14), ("snakemake", 30)])
def test_line_counts(name: str, lines: int) -> None:
    """The guide states how long the files are."""
    text = (ROOT / f"examples/compared/{name}.toml").read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) and not line.startswith("#") for line in text) == lines
    assert f"| {lines} |" in GUIDE
