"""Real pipelines write the same files on Slurm as on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys

import pytest

from tests.conftest import ROOT, Project
from tests.engines.slurm import Slurm
from tests.runners.slurm.runs import Site

PLUGINS = [ROOT / "tests/data" / name for name in ("raster_vision_local", "raster_vision")]
TILES = """
from rastervision.tiles import DatasetConfig, TilesConfig

def get_config(runner, root_uri):
    return TilesConfig(root_uri=root_uri, dataset=DatasetConfig(scenes=list("abcd")))
"""


def contents(root: pathlib.Path) -> dict[str, str]:
    """Each file below a root, with a digest of its bytes, in which the root has no name."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    texts = {path: path.read_bytes().replace(root.name.encode(), b"ROOT") for path in files}
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(text).hexdigest()
        for path, text in texts.items()
    }


def run_on_both(site: Site, config: str, *words: str) -> None:
    """Run a config on this machine and on Slurm, each to its own root and run directory."""
    for runner, root in (("local", "one"), ("slurm", "two")):
        own = ("-a", "root_uri", root, *words, "--out", f"runs/{root}", "-q")
        site.rvrun("run", runner, config, *own)
    site.until_jobs_end()
    state = site.state("runs/two")
    assert state["state"] == "succeeded", json.dumps(state)
    one, two = contents(site.folder / "one"), contents(site.folder / "two")
    assert one == two
    assert one


def test_landcover(project: Project, slurm: Slurm) -> None:
    """With packed splits."""
    project.write("rvrun.toml", "[slurm]\npack = 2\ncpus = 2\n")
    example = str(ROOT / "examples/landcover.py")
    run_on_both(Site(project, slurm), example, "-a", "window", "44", "--splits", "2")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Raster Vision 0.31 cannot be imported")
def test_raster_vision(project: Project, slurm: Slurm) -> None:
    """With a plugin of the tests; `chip` is split."""
    project.write("tiles.py", TILES)
    site = Site(project, slurm)
    site.variables["PYTHONPATH"] = os.pathsep.join(map(str, PLUGINS))
    for name in ("HOME", "TMPDIR"):
        site.variables[name] = str(project.folder)
    run_on_both(site, "tiles.py", "--splits", "3")
