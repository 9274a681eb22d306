"""Learn from colour which ground lies above the treeline, in Rocky Mountain National Park.

    pip install -r examples/requirements.txt
    rvrun run local examples/landcover.py --splits 4 -j2
    rvrun run local examples/landcover.py --splits 4 -j2 -a compare true

The image is divided into windows. A model learns from the colours in three quarters of them, with
labels from an elevation model. The other windows are held out to evaluate it. See
`out/landcover/landcover.png` and `out/landcover/eval.json`.

Each command, and each split of a command, runs in its own process. They share only the files under
`root_uri`. Files are named by window, never by split, and models use one thread, so the bytes are
the same for any number of splits, jobs, cores and machines.

To run it on other machines, put these files and the data from `examples/data` on S3:

    -a root_uri s3://BUCKET/landcover -a image s3://BUCKET/rmnp-rgb.tif -a dem s3://BUCKET/rmnp-dem.tif
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
from contextlib import contextmanager
from itertools import pairwise
from math import ceil, cos, floor, radians
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import attrs
import numpy as np
import rasterio
from attrs.validators import deep_iterable, ge, in_
from numpy.lib.stride_tricks import sliding_window_view
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from threadpoolctl import threadpool_limits

import rvrun

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cloudpathlib import CloudPath
    from numpy.typing import NDArray
    from rasterio.io import DatasetReader

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float64]
    Stats = dict[str, list[float]]

SHIPPED = Path(__file__).parent / "data"
BELOW, ABOVE, UNKNOWN = 0, 1, 255
COLOURS = {BELOW: (62, 122, 86), ABOVE: (240, 200, 140), UNKNOWN: (128, 128, 128)}


class Scene(rvrun.Config):
    """The image and elevation model, and how they are divided into windows.

    `image` and `dem` are paths or URIs. If empty, the data in `examples/data` is used.
    """

    image: str = ""
    dem: str = ""
    #: Ground higher than this, in metres, lies above the treeline.
    treeline: float = 3400.0
    #: Approximate width and height of a window, in pixels.
    window: int = attrs.field(default=32, validator=ge(8))
    #: One of this many windows is held out, never two adjacent ones.
    held_out: int = attrs.field(default=4, validator=ge(3))
    #: Names of windows to leave out, such as `00-01`.
    skip: tuple[str, ...] = ()


class Model(rvrun.Config):
    kind: str = attrs.field(default="forest", validator=in_(("forest", "logistic")))
    #: Radii, in pixels, of the squares around a pixel whose colours are features of that pixel.
    radii: tuple[int, ...] = attrs.field(default=(2, 6), validator=deep_iterable(ge(1)))
    trees: int = attrs.field(default=30, validator=ge(1))
    depth: int = attrs.field(default=10, validator=ge(1))
    seed: int = 0


def check_reachable(config: LandcoverConfig, _: object, scene: Scene) -> None:
    """An attrs validator: the data in `examples/data` is not available on other machines."""
    missing = [name for name in ("image", "dem") if not getattr(scene, name)]
    if missing and is_remote(config.root_uri):
        raise ValueError(
            f"`root_uri` is {config.root_uri}, but the example data is only on this machine: "
            f"upload it and pass {' and '.join(f'`-a {name} URI`' for name in missing)}"
        )


class LandcoverConfig(rvrun.PipelineConfig):
    scene: Scene = attrs.field(default=Scene(), validator=check_reachable)
    model: Model = Model()

    @property
    def tiles(self) -> list[Tile]:
        with opened(self.scene) as (image, dem):
            tiles = divide(shared_area(image, dem), self.scene)
        return [tile for tile in tiles if tile.name not in self.scene.skip]

    @property
    def training_tiles(self) -> list[Tile]:
        return [tile for tile in self.tiles if not tile.held_out]

    def build(self) -> Landcover:
        return Landcover(self)


def get_configs(
    runner: str,
    *,
    root_uri: str = "out/landcover",
    image: str = "",
    dem: str = "",
    window: int = 32,
    treeline: float = 3400.0,
    skip: str = "",
    compare: bool = False,
) -> list[LandcoverConfig]:
    """Return one pipeline, or with `compare` one for each kind of model, to run in parallel.

    `skip` has the names of windows to leave out, separated by commas.
    """
    left_out = tuple(filter(None, skip.split(",")))
    scene = Scene(image=image, dem=dem, window=window, treeline=treeline, skip=left_out)
    if not compare:
        return [LandcoverConfig(name="landcover", root_uri=root_uri, scene=scene)]
    return [
        LandcoverConfig(
            name=kind,
            root_uri=f"{root_uri.rstrip('/')}/{kind}",
            scene=scene,
            model=Model(kind=kind),
        )
        for kind in ("forest", "logistic")
    ]


#: The fields that determine the windows and which of them are held out.
GRID = ("scene.image", "scene.dem", "scene.window", "scene.held_out")


class Landcover(rvrun.Pipeline):
    commands = ("analyze", "chip", "train", "predict", "eval", "bundle")
    handles_uris = True
    split_commands = ("chip", "predict")
    # `chip` and `analyze` can run in parallel, and `train` needs both. All other commands need the
    # command before them.
    needs = {"chip": (), "train": ("analyze", "chip")}
    # A new treeline does not repeat `analyze`, and a new model does not repeat `chip`. `skip` is
    # missing where it only determines which windows there are: one more repeats no other. `bundle`
    # is missing because it depends on the whole config.
    config_keys = {
        "analyze": (*GRID, "scene.skip"),
        "chip": (*GRID, "scene.treeline"),
        "train": (*GRID, "model"),
        "predict": (*GRID, "model.radii"),
        "eval": ("scene",),
    }
    config: LandcoverConfig

    @property
    def items(self) -> dict[str, str]:  # type: ignore[override] # depends on the config
        """The windows that `chip` and `predict` share out."""
        items = {"chip": "training_tiles", "predict": "tiles"}
        if is_remote(self.config.scene.image) or is_remote(self.config.scene.dem):
            # Planning must not download anything.
            return {command: rvrun.late(path) for command, path in items.items()}
        return items

    def analyze(self) -> None:
        """Measure how dark and how bright each band gets in the training windows."""
        with opened(self.config.scene) as (image, _):
            parts = [read_colours(image, tile.window) for tile in self.config.training_tiles]
        pixels = np.concatenate([colours[:, valid] for colours, valid in parts], axis=1)
        low, median, high = np.percentile(pixels, (1, 50, 99), axis=1).tolist()
        write_json(self.path("stats.json"), {"low": low, "median": median, "high": high})
        print(f"analyze: {pixels.shape[1]:,} pixels, bands from {low} to {high}")

    def chip(self, item: Tile) -> None:
        """Save a training window: three colour bands, and the truth as a fourth band."""
        with opened(self.config.scene) as (image, dem):
            colours, _ = read_colours(image, item.window)
            truth = read_truth(image, dem, item.window, self.config.scene.treeline)
        with replacing(self.path("chips", f"{item.name}.npy")) as path:
            np.save(path, np.concatenate([colours, truth[np.newaxis]]))
        print(f"chip {item.name}: {item.window.width * item.window.height:,} pixels")

    def train(self) -> None:
        tiles = self.config.training_tiles
        chips = [np.load(self.fetch("chips", f"{tile.name}.npy")) for tile in tiles]
        stats, radii = self.read_stats(), self.config.model.radii
        features = np.concatenate([describe(chip[:3], stats, radii) for chip in chips])
        truth = np.concatenate([chip[3].ravel() for chip in chips])
        valid = truth != UNKNOWN
        model = new_model(self.config.model)
        # The number of threads affects how sums are rounded, and make already uses all cores.
        with threadpool_limits(1):
            model.fit(features[valid], truth[valid])
        with replacing(self.path("model.pkl")) as path:
            path.write_bytes(pickle.dumps(model, protocol=5))
        print(f"train: {self.config.model.kind}, {features.shape[1]} features, {summary(tiles)}")

    def predict(self, items: Sequence[Tile]) -> None:
        """Write a georeferenced raster for each window, including the training windows."""
        model = pickle.loads(self.fetch("model.pkl").read_bytes())  # noqa: S301 - `train` wrote it
        stats, radii = self.read_stats(), self.config.model.radii
        with opened(self.config.scene) as (image, _), threadpool_limits(1):
            for tile in items:
                colours, valid = read_colours(image, tile.window)
                classes = model.predict(describe(colours, stats, radii)).reshape(valid.shape)
                with replacing(self.path("predict", f"{tile.name}.tif")) as path:
                    write_raster(path, np.where(valid, classes, UNKNOWN), image, tile.window)
        print(f"predict: {summary(items)}")

    def eval(self) -> None:
        """Compare prediction and truth in the held-out windows.

        The baseline always guesses the most common class of the training windows.
        """
        tables, counts = {}, np.zeros(2, int)
        with opened(self.config.scene) as (image, dem):
            for tile in self.config.tiles:
                truth = read_truth(image, dem, tile.window, self.config.scene.treeline)
                if tile.held_out:
                    tables[tile.name] = confusion(truth, self.read_prediction(tile))
                else:
                    counts += np.bincount(truth[truth != UNKNOWN], minlength=2)
        guess = int(counts.argmax())
        report = scores(sum(tables.values()), guess)
        report["windows"] = {name: scores(table, guess) for name, table in tables.items()}
        write_json(self.path("eval.json"), report)
        print(
            f"eval: accuracy {report['accuracy']:.3f}, F1 {report['f1'] or 0:.3f}, always guessing "
            f"the more common class {report['majority']:.3f}, {len(tables)} held-out windows"
        )

    def bundle(self) -> None:
        """Write the model with its config and scores to one zip file, and draw a picture."""
        config = attrs.asdict(self.config)
        del config["root_uri"]  # means nothing on the machine that uses the bundle
        write_json(self.path("config.json"), config)
        with replacing(self.path("bundle.zip")) as path, ZipFile(path, "w") as bundle:
            for name in ("config.json", "stats.json", "eval.json", "model.pkl"):
                # ZipInfo has a fixed date. With only a name, zipfile would add the current time.
                bundle.writestr(ZipInfo(name), self.fetch(name).read_bytes(), ZIP_DEFLATED)
        with replacing(self.path("landcover.png")) as path:
            write_png(path, self.draw())
        print(f"bundle: {self.path('bundle.zip')}, {self.path('landcover.png')}")

    def draw(self) -> Floats:
        """Draw image, truth and prediction side by side, held-out windows outlined in white."""
        with opened(self.config.scene) as (image, dem):
            area = shared_area(image, dem)
            truth = read_truth(image, dem, area, self.config.scene.treeline)
            size = panel_size(image, area)
            colours = image.read(window=area, out_shape=(3, *size), resampling=Resampling.cubic)
        prediction = np.full_like(truth, UNKNOWN)
        for tile in self.config.tiles:
            prediction[inside(tile.window, area)] = self.read_prediction(tile)
        light = np.moveaxis(stretch(colours, self.read_stats()), 0, -1)
        panels = [light, tint(truth, light), tint(prediction, light)]
        held_out = [tile.window for tile in self.config.tiles if tile.held_out]
        framed = [outline(panel, held_out, area) for panel in panels]
        gap = np.ones((size[0], 20, 3))
        return np.hstack([framed[0], gap, framed[1], gap, framed[2]])

    def path(self, *parts: str) -> Path | CloudPath:
        return locate(self.config.root_uri, *parts)

    def fetch(self, *parts: str) -> Path:
        return fetched(self.path(*parts))

    def read_stats(self) -> Any:
        return json.loads(self.fetch("stats.json").read_text())

    def read_prediction(self, tile: Tile) -> Any:
        with rasterio.open(self.fetch("predict", f"{tile.name}.tif")) as raster:
            return raster.read(1)


class Tile(NamedTuple):
    """One window of the image, and whether it is held out."""

    name: str
    window: Window
    held_out: bool


@contextmanager
def opened(scene: Scene) -> Iterator[tuple[DatasetReader, DatasetReader]]:
    """Open the image, and the elevation model warped to the image's grid."""
    with (
        rasterio.open(fetched(locate(scene.image or str(SHIPPED / "rmnp-rgb.tif")))) as image,
        rasterio.open(fetched(locate(scene.dem or str(SHIPPED / "rmnp-dem.tif")))) as dem,
    ):
        grid = {key: image.profile[key] for key in ("crs", "transform", "width", "height")}
        with WarpedVRT(dem, resampling=Resampling.bilinear, **grid) as warped:
            yield image, warped


def shared_area(image: DatasetReader, dem: DatasetReader) -> Window:
    """The part of the image that the elevation model covers, in whole pixels."""
    source = dem.src_dataset
    covered = image.window(*transform_bounds(source.crs, image.crs, *source.bounds))
    left, top = max(0, ceil(covered.col_off)), max(0, ceil(covered.row_off))
    right = min(image.width, floor(covered.col_off + covered.width))
    bottom = min(image.height, floor(covered.row_off + covered.height))
    return Window(left, top, right - left, bottom - top)


def divide(area: Window, scene: Scene) -> list[Tile]:
    """Divide `area` into windows that do not overlap, row by row."""
    rows = edges(area.row_off, area.height, scene.window)
    columns = edges(area.col_off, area.width, scene.window)
    return [
        Tile(
            name=f"{i:02}-{j:02}",
            window=Window(left, top, right - left, bottom - top),
            held_out=(2 * i + j) % scene.held_out == 0,
        )
        for i, (top, bottom) in enumerate(rows)
        for j, (left, right) in enumerate(columns)
    ]


def edges(start: int, length: int, size: int) -> list[tuple[int, int]]:
    """Divide `length` from `start` on into spans of nearly equal length, about `size` each."""
    count = max(1, round(length / size))
    return list(pairwise(start + length * i // count for i in range(count + 1)))


def read_colours(image: DatasetReader, window: Window) -> tuple[Bytes, NDArray[np.bool_]]:
    """Read three bands, and a mask of the pixels that have data."""
    return image.read((1, 2, 3), window=window), image.dataset_mask(window=window) > 0


def read_truth(image: DatasetReader, dem: DatasetReader, window: Window, treeline: float) -> Bytes:
    elevation = dem.read(1, window=window, masked=True)
    truth = np.where(elevation.filled(0) > treeline, ABOVE, BELOW)
    valid = ~np.ma.getmaskarray(elevation) & (image.dataset_mask(window=window) > 0)
    return np.where(valid, truth, UNKNOWN).astype(np.uint8)


def describe(colours: Bytes, stats: Stats, radii: Sequence[int]) -> NDArray[np.float32]:
    """Features, one row per pixel: its colour, and the mean and spread of the colours around it.

    They use only pixels of the window itself, so training never sees a held-out window.
    """
    bands = stretch(colours, stats)
    features = [bands, shares(bands)]
    for radius in radii:
        mean = local_mean(bands, radius)
        variance = local_mean(bands**2, radius) - mean**2
        features += [mean, shares(mean), np.sqrt(variance.clip(min=0))]
    return np.concatenate(features).reshape(-1, bands[0].size).T.astype(np.float32)


def stretch(colours: Bytes, stats: Stats) -> Floats:
    """Scale colours to 0 for the darkest and 1 for the brightest of each band."""
    low, high = (np.reshape(stats[key], (3, 1, 1)) for key in ("low", "high"))
    bands: Floats = (colours - low) / (high - low)
    return bands.clip(0, 1)


def shares(bands: Floats) -> Floats:
    """The fractions of red, green and blue in the light; close to a third each in deep shadow."""
    lifted = bands + 0.1
    light: Floats = lifted.sum(axis=0)
    return lifted / light


def local_mean(bands: Floats, radius: int) -> Floats:
    """The mean of the square around each pixel, with the image mirrored at its border."""
    padding, side = (radius, radius), 2 * radius + 1
    padded = np.pad(bands, ((0, 0), padding, padding), mode="symmetric")
    means: Floats = sliding_window_view(padded, (side, side), (1, 2)).mean(axis=(3, 4))
    return means


def new_model(model: Model) -> Any:
    # Imported only here because the import takes more than a second.
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    if model.kind == "logistic":
        return LogisticRegression(max_iter=1000, random_state=model.seed)
    return RandomForestClassifier(
        n_estimators=model.trees,
        max_depth=model.depth,
        min_samples_leaf=10,
        max_samples=0.2,
        n_jobs=1,
        random_state=model.seed,
    )


def confusion(truth: Bytes, prediction: Bytes) -> NDArray[np.intp]:
    """Count pixels: one row per true class, one column per predicted class, below before above."""
    valid = (truth != UNKNOWN) & (prediction != UNKNOWN)
    pairs = 2 * truth[valid].astype(int) + prediction[valid]
    return np.bincount(pairs, minlength=4).reshape(2, 2)


def scores(table: Any, guess: int) -> dict[str, Any]:
    """Scores of one confusion table; `majority` is the accuracy of always predicting `guess`."""
    (_, false_above), (false_below, true_above) = table.tolist()
    total = max(1, int(table.sum()))
    denominator = 2 * true_above + false_above + false_below
    return {
        "pixels": int(table.sum()),
        "accuracy": int(table.trace()) / total,
        "majority": int(table[guess].sum()) / total,
        "f1": 2 * true_above / denominator if denominator else None,
        "confusion": {"below": table[BELOW].tolist(), "above": table[ABOVE].tolist()},
    }


def summary(tiles: Sequence[Tile]) -> str:
    pixels = sum(tile.window.width * tile.window.height for tile in tiles)
    return f"{len(tiles)} windows, {pixels:,} pixels"


def panel_size(image: DatasetReader, area: Window, height: int = 560) -> tuple[int, int]:
    """Rows and columns of a panel that shows the ground in its true proportions."""
    x_size, y_size = image.res
    if image.crs.is_geographic:
        x_size *= cos(radians(image.xy(area.row_off + area.height // 2, area.col_off)[1]))
    return height, round(height * (area.width * x_size) / (area.height * y_size))


def inside(window: Window, area: Window) -> tuple[slice, slice]:
    top, left = window.row_off - area.row_off, window.col_off - area.col_off
    return slice(top, top + window.height), slice(left, left + window.width)


def tint(classes: Bytes, light: Floats) -> Floats:
    """Colour the classes, enlarge them to the size of `light`, and shade them with it."""
    height, width = light.shape[:2]
    rows = np.arange(height) * classes.shape[0] // height
    columns = np.arange(width) * classes.shape[1] // width
    colours = np.array([COLOURS.get(value, (0, 0, 0)) for value in range(256)]) / 255
    shade = 0.6 + 0.5 * light.mean(axis=2, keepdims=True)
    tinted: Floats = colours[classes[np.ix_(rows, columns)]] * shade
    return tinted.clip(0, 1)


def outline(panel: Floats, windows: Sequence[Window], area: Window) -> Floats:
    """Return `panel` with a white frame, two pixels wide, around each of `windows` in `area`."""
    framed = panel.copy()
    height, width = panel.shape[0] / area.height, panel.shape[1] / area.width
    for window in windows:
        rows, columns = inside(window, area)
        top, bottom = round(rows.start * height), round(rows.stop * height)
        left, right = round(columns.start * width), round(columns.stop * width)
        part = framed[top:bottom, left:right]
        part[:2] = part[-2:] = part[:, :2] = part[:, -2:] = 1
    return framed


def write_raster(path: Path, classes: Bytes, image: DatasetReader, window: Window) -> None:
    shape = {"width": window.width, "height": window.height, "count": 1, "dtype": "uint8"}
    georeference = {"crs": image.crs, "transform": image.window_transform(window)}
    with rasterio.open(
        path, "w", driver="GTiff", nodata=UNKNOWN, compress="deflate", **shape, **georeference
    ) as raster:
        raster.write(classes.astype(np.uint8), 1)
        raster.write_colormap(1, COLOURS)


def write_png(path: Path, picture: Floats) -> None:
    """Write colours from 0 to 1 in 16 levels, which look the same in a third of the bytes."""
    bands = np.moveaxis((picture * 15).round() * 17, -1, 0).astype(np.uint8)
    count, height, width = bands.shape
    profile = {"driver": "PNG", "count": count, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # it is only a picture
        with rasterio.open(path, "w", width=width, height=height, **profile) as png:
            png.write(bands)


def write_json(path: Path | CloudPath, content: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def is_remote(uri: str) -> bool:
    return "://" in uri


def locate(uri: str, *parts: str) -> Path | CloudPath:
    """The path below `uri`: a local path, or a cloud path for an object store."""
    if not is_remote(uri):
        return Path(uri, *parts)
    from cloudpathlib import CloudPath  # imported only here, so that local targets start faster

    return CloudPath(uri, *parts)  # type: ignore[abstract] # returns the class of the URI's scheme


def fetched(path: Path | CloudPath) -> Path:
    """Return a local file to read: `path`, or a copy downloaded once per process."""
    if isinstance(path, Path):
        return path
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return Path(path.fspath)


@contextmanager
def replacing(path: Path | CloudPath) -> Iterator[Path]:
    """Open a temporary local file that replaces `path` when it is complete."""
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        yield temporary
        os.replace(temporary, path)
    else:
        with TemporaryDirectory() as folder:
            temporary = Path(folder, path.name)
            yield temporary
            path.upload_from(temporary, force_overwrite_to_cloud=True)
        # S3 timestamps have a resolution of one second, so an older cached copy would look current.
        path.clear_cache()  # type: ignore[no-untyped-call]
