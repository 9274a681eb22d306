r"""Run a Raster Vision pipeline with PyTorch through Raster Vision and rvrun, and compare both.

    export TMPDIR=$PWD/tmp && mkdir -p $TMPDIR       # needs several GB
    python -m venv venv
    venv/bin/pip install torch==2.13.0               # the CPU build
    venv/bin/pip install --no-deps torchvision==0.28.0
    venv/bin/pip install onnxscript rastervision-{pipeline,core}==0.31.1 \
        rastervision-{pytorch-learner,pytorch-backend}==0.31.1 rvrun
    venv/bin/python examples/raster_vision/compare.py [FOLDER]

Makes six small scenes from the images in `examples/data`, then runs `segmentation.py` through
`rastervision run inprocess`, `rastervision run local` and `rvrun run local --splits 2`. It compares
the first run with the last:

- Chips must be the same images.
- Training is not deterministic, so each run trains its own model. The scores of both are printed.
- Predictions and evaluation must be identical, when Raster Vision repeats them with rvrun's model.
  After so little training all pixels could belong to one class. Therefore the scores are compared
  too, and there must be many different ones.

Finally it checks that a second plan has nothing to do, and that `chip` with another number of
splits leaves no duplicate chips. Prints Markdown. The exit code is 1 if anything differs. Takes
several minutes and 2 GB of memory.
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
#: Windows of the image that the elevation model covers: name, column, row.
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
#: With more different scores than this, equal predictions are not a coincidence.
MANY = 1000


def make_scenes(folder: Path) -> None:
    """Write the image and labels of each scene: 1 above the treeline, otherwise 0."""
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
    """Run a command in `folder` and return its wall and CPU seconds."""
    plugin = HERE / "plugin"
    environment = os.environ | {
        # More threads than free cores would mostly wait for each other and distort the times.
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
    """Count the copies of each chip, by kind and digest."""
    counts: Counter[str] = Counter()
    for path in (root / "chip").glob("*.zip"):
        with zipfile.ZipFile(path) as file:
            for name in file.namelist():
                kind = name.rpartition("/")[0]
                counts[f"{kind} {hashlib.sha256(file.read(name)).hexdigest()}"] += 1
    return counts


def evaluation(root: Path) -> dict[str, Any]:
    """Read what `eval` wrote about the validation scenes."""
    scores: dict[str, Any] = json.loads((root / "eval/validation_scenes/eval.json").read_text())
    return scores


def f1(root: Path) -> float:
    """Mean F1 score over the validation scenes."""
    return float(evaluation(root)["overall"][-1]["metrics"]["f1"])


def predictions(root: Path) -> dict[str, str]:
    """Digest of each prediction file, by relative path."""
    folder = root / "predict"
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def num_scores(root: Path) -> int:
    """Count the different predicted scores. With few, equal predictions would mean little."""
    scores: set[float] = set()
    for path in (root / "predict").rglob("scores.tif"):
        with rasterio.open(path) as file:
            scores |= set(np.unique(file.read()).tolist())
    return len(scores)


def main() -> int:
    """Run both tools, compare and print the results, and return the exit code."""
    base = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="rvrun-rv-"))
    folder = base.absolute()
    make_scenes(folder / "data")
    config = os.path.relpath(HERE / "segmentation.py", folder)
    arguments = ("-a", "data_uri", "data", "-a", "root_uri")
    theirs, ours, again = folder / "theirs", folder / "ours", folder / "again"
    split = ("--splits", "2")
    durations = {
        "rastervision run inprocess": run(
            folder, "rastervision", "run", "inprocess", config, *arguments, "theirs"
        ),
        "rastervision run local --splits 2": run(
            folder, "rastervision", "run", "local", config, *arguments, "local", *split
        ),
        "rvrun run local --splits 2 -j2": run(
            folder, "rvrun", "run", "local", config, *arguments, "ours", *split, "-j2"
        ),
    }
    is_up_to_date = has_nothing_to_do(folder, config, *arguments, "ours", *split)
    shutil.copytree(ours, again, ignore=shutil.ignore_patterns("predict", "eval", "bundle"))
    last = ("predict", "eval", "bundle")
    run(folder, "rastervision", "run", "inprocess", config, *last, *arguments, "again")
    same = {
        "chips": chips(theirs) == chips(ours),
        "predictions": predictions(again) == predictions(ours) and num_scores(ours) > MANY,
        "evaluation": evaluation(again) == evaluation(ours),
        "a second plan": is_up_to_date,
    }
    scores = {"Raster Vision": f1(theirs), "rvrun": f1(ours)}
    before = chips(ours)
    run(folder, "rvrun", "run", "local", config, "chip", *arguments, "ours", "--splits", "3", "-j2")
    same["chips with three splits"] = chips(ours) == before
    report(durations, same, scores, sum(before.values()))
    return 0 if all(same.values()) else 1


def has_nothing_to_do(folder: Path, *words: str) -> bool:
    """Whether everything is up to date after another process renders the same plan."""
    run(folder, "rvrun", "render", "local", *words)
    make = ["make", "-q", "-C", "runs/segmentation"]
    return subprocess.run(make, cwd=folder, check=False).returncode == 0


def report(
    durations: dict[str, tuple[float, float]],
    same: dict[str, bool],
    scores: dict[str, float],
    num_chips: int,
) -> None:
    """Print the results as Markdown."""
    print("| command | wall | CPU |\n| --- | ---: | ---: |")
    for name, (wall, cpu) in durations.items():
        print(f"| {name} | {wall:.0f} s | {cpu:.0f} s |")
    print("\n| compared | |\n| --- | --- |")
    for name, is_same in same.items():
        print(f"| {name} | {'the same' if is_same else 'DIFFERENT'} |")
    listed = ", ".join(f"{score:.3f} ({name})" for name, score in scores.items())
    print(f"\n{num_chips} files of chips; F1 of separately trained models: {listed}")


if __name__ == "__main__":
    sys.exit(main())
