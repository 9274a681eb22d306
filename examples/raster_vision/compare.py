r"""The real thing: a pipeline of Raster Vision's, with PyTorch, through its runner and rvrun's.

    export TMPDIR=$PWD/tmp && mkdir -p $TMPDIR       # several GB go through it
    python -m venv venv
    venv/bin/pip install torch==2.13.0               # that for CPUs
    venv/bin/pip install --no-deps torchvision==0.28.0
    venv/bin/pip install onnxscript rastervision-{pipeline,core}==0.31.1 \
        rastervision-{pytorch-learner,pytorch-backend}==0.31.1 rvrun
    venv/bin/python examples/raster_vision/compare.py [FOLDER]

Makes six small scenes of the shipped images, then runs `segmentation.py` through
`rastervision run inprocess`, `rastervision run local` and `rvrun run local --splits 2`, and
compares the first with the last:

- chips: the same images;
- training: each trains a model of its own, which does not come out the same twice; their scores
  are shown;
- all after that, exactly: Raster Vision predicts and evaluates once more with rvrun's model. After
  so little training all may be of one class, so scores are compared too, which must not be all one.

Last it sees that nothing is left to do, and chips again with other splits, to see that no chip is
there twice. Prints Markdown; exit code 1 where anything differs. Takes some minutes and 2 GB of
memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
SCRIPTS = Path(sys.executable).parent
#: Windows of the shipped image, where heights are known too: name, column, row.
SCENES = (
    ("a", 100, 56),
    ("b", 228, 56),
    ("c", 100, 184),
    ("d", 228, 184),
    ("e", 164, 120),
    ("f", 236, 240),
)
SIZE = 128
TREELINE = 3450
#: So many different scores are no accident.
MANY = 1000


def make_scenes(folder: Path) -> None:
    """Write each scene's image, and its labels: 1 above the treeline, else 0."""
    folder.mkdir(parents=True)
    with rasterio.open(DATA / "rmnp-rgb.tif") as image, rasterio.open(DATA / "rmnp-dem.tif") as dem:
        grid = {"crs": image.crs, "transform": image.transform}
        with WarpedVRT(
            dem, width=image.width, height=image.height, resampling=Resampling.bilinear, **grid
        ) as heights:
            for name, column, row in SCENES:
                window = Window(column, row, SIZE, SIZE)
                transform = image.window_transform(window)
                profile = {
                    "driver": "GTiff",
                    "width": SIZE,
                    "height": SIZE,
                    "dtype": "uint8",
                    "crs": image.crs,
                    "transform": transform,
                }
                rgb = image.read([1, 2, 3], window=window)
                above = heights.read([1], window=window) > TREELINE
                _write(folder / f"{name}.tif", rgb, profile)
                _write(folder / f"{name}-labels.tif", above.astype(np.uint8), profile)


def _write(path: Path, bands: np.ndarray, profile: dict[str, Any]) -> None:
    with rasterio.open(path, "w", count=len(bands), **profile) as file:
        file.write(bands)


def run(folder: Path, *words: str) -> tuple[float, float]:
    """Run a command there; its wall and CPU seconds."""
    plugin = HERE / "plugin"
    environment = os.environ | {
        # Threads that wait for each other on a shared machine would be all that is measured.
        "OMP_NUM_THREADS": "1",
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{plugin}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep),
    }
    before, start = _cpu(), time.perf_counter()
    print("$", *words, file=sys.stderr, flush=True)
    subprocess.run(words, cwd=folder, env=environment, check=True, stdout=sys.stderr)
    return time.perf_counter() - start, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def chips(root: Path) -> Counter[str]:
    """How often each chip is there, by its kind and content."""
    found: Counter[str] = Counter()
    for path in (root / "chip").glob("*.zip"):
        with zipfile.ZipFile(path) as file:
            for name in file.namelist():
                kind = name.rpartition("/")[0]
                found[f"{kind} {hashlib.sha256(file.read(name)).hexdigest()}"] += 1
    return found


def evaluation(root: Path) -> dict[str, Any]:
    """What `eval` found, of the validation scenes."""
    found: dict[str, Any] = json.loads((root / "eval/validation_scenes/eval.json").read_text())
    return found


def f1(root: Path) -> float:
    """The mean F1 score over the scenes."""
    return float(evaluation(root)["overall"][-1]["metrics"]["f1"])


def predictions(root: Path) -> dict[str, str]:
    """A digest of each file of predictions."""
    folder = root / "predict"
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def num_scores(root: Path) -> int:
    """How many different scores were predicted: few would make it easy to predict the same."""
    found: set[float] = set()
    for path in (root / "predict").rglob("scores.tif"):
        with rasterio.open(path) as file:
            found |= set(np.unique(file.read()).tolist())
    return len(found)


def main() -> int:
    """Run all, compare, print; the exit code."""
    base = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="rvrun-rv-"))
    folder = base.absolute()
    make_scenes(folder / "data")
    config = os.path.relpath(HERE / "segmentation.py", folder)
    given = ("-a", "data_uri", "data", "-a", "root_uri")
    theirs, ours, again = folder / "theirs", folder / "ours", folder / "again"
    split = ("--splits", "2")
    took = {
        "rastervision run inprocess": run(
            folder, "rastervision", "run", "inprocess", config, *given, "theirs"
        ),
        "rastervision run local --splits 2": run(
            folder, "rastervision", "run", "local", config, *given, "local", *split
        ),
        "rvrun run local --splits 2 -j2": run(
            folder, "rvrun", "run", "local", config, *given, "ours", *split, "-j2"
        ),
    }
    is_done = has_nothing_to_do(folder, config, *given, "ours", *split)
    shutil.copytree(ours, again, ignore=shutil.ignore_patterns("predict", "eval", "bundle"))
    last = ("predict", "eval", "bundle")
    run(folder, "rastervision", "run", "inprocess", config, *last, *given, "again")
    same = {
        "chips": chips(theirs) == chips(ours),
        "predictions": predictions(again) == predictions(ours) and num_scores(ours) > MANY,
        "evaluation": evaluation(again) == evaluation(ours),
        "a plan made again": is_done,
    }
    scores = {"Raster Vision": f1(theirs), "rvrun": f1(ours)}
    before = chips(ours)
    run(folder, "rvrun", "run", "local", config, "chip", *given, "ours", "--splits", "3", "-j2")
    same["chips cut again"] = chips(ours) == before
    report(took, same, scores, sum(before.values()))
    return 0 if all(same.values()) else 1


def has_nothing_to_do(folder: Path, *words: str) -> bool:
    """Whether make finds all up to date once the same was rendered by another process."""
    run(folder, "rvrun", "render", "local", *words)
    asked = ["make", "-q", "-C", "runs/segmentation"]
    return subprocess.run(asked, cwd=folder, check=False).returncode == 0


def report(
    took: dict[str, tuple[float, float]],
    same: dict[str, bool],
    scores: dict[str, float],
    num_chips: int,
) -> None:
    """Print what was found."""
    print("| command | wall | CPU |\n| --- | ---: | ---: |")
    for name, (wall, cpu) in took.items():
        print(f"| {name} | {wall:.0f} s | {cpu:.0f} s |")
    print("\n| compared | |\n| --- | --- |")
    for name, is_same in same.items():
        print(f"| {name} | {'the same' if is_same else 'DIFFERENT'} |")
    listed = ", ".join(f"{score:.3f} ({name})" for name, score in scores.items())
    print(f"\n{num_chips} files of chips; F1 of separately trained models: {listed}")


if __name__ == "__main__":
    sys.exit(main())
