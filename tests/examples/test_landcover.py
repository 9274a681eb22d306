"""The landcover example, run command by command in this process, on its real data.

With its files on S3, a real server on the loopback, it is run as typed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import attrs
import boto3
import cloudpathlib
import numpy as np
import pytest
import rasterio
from moto.server import ThreadedMotoServer
from rasterio.errors import NotGeoreferencedWarning
from threadpoolctl import threadpool_limits

from rvrun.errors import UserCodeError
from rvrun.load.source import load
from rvrun.pipelines.base import Late
from rvrun.worker.target import call_split
from tests.conftest import Project
from tests.engines.batch import BatchEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [
    pytest.mark.xdist_group("landcover"),  # so that what `done` ran is run once
    # It is rasterio that multiplies transforms the old way.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location("landcover", EXAMPLES / "landcover.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where attrs looks up the types of fields
    spec.loader.exec_module(module)
    return module


landcover = load_example()


def small_config(root: Path | str, kind: str = "forest", **scene: Any) -> Any:
    """Larger windows and a smaller forest than the defaults, for speed."""
    return landcover.LandcoverConfig(
        root_uri=str(root),
        name="small",
        scene=landcover.Scene(**{"window": 44, **scene}),
        model=landcover.Model(kind=kind, radii=(2, 5), trees=4, depth=7),
    )


def run(
    config: Any, num_splits: int = 1, commands: Sequence[str] = landcover.Landcover.commands
) -> None:
    pipeline = config.build()
    for command in commands:
        if command in pipeline.split_commands:
            for split_ind in range(num_splits):
                call_split(pipeline, getattr(pipeline, command), command, split_ind, num_splits)
        else:
            getattr(pipeline, command)()


def digests(root: Path) -> dict[str, str]:
    """Each file below `root` with a digest of its bytes."""
    files = sorted(path for path in Path(root).rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def copy_config(done: Any, root: Path) -> Any:
    """What `done` left, copied to `root`, and a config that continues there."""
    shutil.copytree(done.root_uri, root)
    return small_config(root, done.model.kind)


@pytest.fixture(scope="module", params=["forest", "logistic"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The config of a pipeline that ran to its end, unsplit; tests must not change its files."""
    config = small_config(tmp_path_factory.mktemp(request.param) / "out", request.param)
    run(config)
    return config


@pytest.fixture(scope="module")
def tiles() -> Any:
    return small_config("unused").tiles


def test_accuracy_beats_guessing(done: Any) -> None:
    """On held-out windows the model is far better than always guessing the commoner class."""
    report = json.loads(Path(done.root_uri, "eval.json").read_text())

    assert report["accuracy"] > report["majority"] + 0.15
    assert report["f1"] > 0.8


def test_eval_counts_held_out_windows_only(done: Any, tiles: list[Any]) -> None:
    """The report names each held-out window, and their tables add up to the whole."""
    report = json.loads(Path(done.root_uri, "eval.json").read_text())
    windows = report["windows"]
    tables = [[w["confusion"]["below"], w["confusion"]["above"]] for w in windows.values()]

    assert [tile.name for tile in tiles if tile.held_out] == list(windows)
    assert report["confusion"]["below"] == np.sum(tables, axis=0)[0].tolist()
    assert report["confusion"]["above"] == np.sum(tables, axis=0)[1].tolist()
    assert report["pixels"] == np.sum(tables)


@pytest.mark.parametrize("num_splits", [3, 7])
def test_splits_leave_the_same_bytes(done: Any, num_splits: int, tmp_path: Path) -> None:
    """Every file, the bundle included, is the same whatever the number of splits."""
    run(small_config(tmp_path / "out", done.model.kind), num_splits)

    assert digests(done.root_uri) == digests(tmp_path / "out")


def test_running_again_changes_nothing(done: Any, tmp_path: Path) -> None:
    """Commands and splits run a second time overwrite what they wrote, and add nothing."""
    config = copy_config(done, tmp_path / "out")

    run(config, num_splits=3, commands=("chip", "train", "predict"))

    assert digests(done.root_uri) == digests(config.root_uri)


def test_what_a_crash_left_is_replaced(done: Any, tmp_path: Path) -> None:
    """Half a file, left by a process that was killed, is gone after the next run."""
    config = copy_config(done, tmp_path / "out")
    for name in ("chips/.00-01.npy", "predict/.00-01.tif", ".model.pkl", ".bundle.zip"):
        Path(config.root_uri, name).write_bytes(b"half")

    run(config, commands=("chip", "train", "predict", "bundle"))

    assert digests(done.root_uri) == digests(config.root_uri)


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """A file takes the old one's place only when it is whole."""
    path = tmp_path / "file"
    path.write_text("old")

    def fail_halfway() -> None:
        with landcover.replacing(path) as temporary:
            temporary.write_text("ne")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_halfway()

    assert path.read_text() == "old"


def test_threads_leave_the_same_bytes(done: Any, tmp_path: Path) -> None:
    """A model does not depend on how many threads the machine allows."""
    config = copy_config(done, tmp_path / "out")

    for threads in (1, 2):
        with threadpool_limits(threads):
            run(config, commands=("train", "predict"))

        assert digests(done.root_uri) == digests(config.root_uri)


def test_empty_share_is_not_an_error(done: Any, tmp_path: Path) -> None:
    """With more splits than windows the last split does nothing."""
    config = copy_config(done, tmp_path / "out")
    pipeline = config.build()

    for command in pipeline.split_commands:
        call_split(pipeline, getattr(pipeline, command), command, 998, 999)

    assert digests(done.root_uri) == digests(config.root_uri)


@pytest.mark.parametrize("window", [20, 44, 64])
def test_windows_neither_overlap_nor_leave_gaps(window: int) -> None:
    """Each pixel of the area lies in one window, so training and held-out ones are disjoint."""
    config = small_config("unused", window=window)
    with landcover.opened(config.scene) as (image, dem):
        area = landcover.shared_area(image, dem)
    count = np.zeros((area.height, area.width), int)

    for tile in config.tiles:
        count[landcover.inside(tile.window, area)] += 1

    assert (count == 1).all()


@pytest.mark.parametrize("held_out", [3, 4, 5])
def test_held_out_windows_have_no_side_in_common(held_out: int) -> None:
    """Held-out windows are spread, and about as many as was asked for."""
    tiles = small_config("unused", window=20, held_out=held_out).tiles
    places = {tuple(map(int, tile.name.split("-"))) for tile in tiles if tile.held_out}

    assert not {(row + 1, column) for row, column in places} & places
    assert not {(row, column + 1) for row, column in places} & places
    assert 1 / held_out == pytest.approx(len(places) / len(tiles), abs=0.05)


def test_only_training_windows_become_chips(done: Any, tiles: list[Any]) -> None:
    """No chip shows a held-out window."""
    chips = {path.stem for path in Path(done.root_uri, "chips").iterdir()}

    assert {tile.name for tile in tiles if not tile.held_out} == chips


def test_items_are_counted(done: Any) -> None:
    """There is an item for each file that the splits write together."""
    pipeline = done.build()
    folders = {"chip": "chips", "predict": "predict"}
    expected = {
        command: len(list(Path(done.root_uri, folders[command]).iterdir()))
        if command in folders
        else None
        for command in pipeline.commands
    }

    assert expected == {command: count_items(pipeline, command) for command in pipeline.commands}


def count_items(pipeline: Any, command: str) -> int | None:
    field = pipeline.items.get(command)
    is_known = field is not None and not isinstance(field, Late)
    return len(getattr(pipeline.config, field)) if is_known else None


def test_training_does_not_see_held_out_windows(tmp_path: Path, tiles: list[Any]) -> None:
    """The model stays the same when all held-out windows of the image are painted over."""
    painted = tmp_path / "painted.tif"
    shutil.copy(EXAMPLES / "data" / "rmnp-rgb.tif", painted)
    with rasterio.open(painted, "r+") as image:
        for tile in tiles:
            if tile.held_out:
                shape = (3, tile.window.height, tile.window.width)
                image.write(np.full(shape, 7, np.uint8), window=tile.window)
    commands = ("analyze", "chip", "train")

    run(small_config(tmp_path / "true"), commands=commands)
    run(small_config(tmp_path / "painted", image=str(painted)), commands=commands)

    assert digests(tmp_path / "true") == digests(tmp_path / "painted")


def test_rasters_lie_where_their_windows_do(done: Any, tiles: list[Any]) -> None:
    """Each prediction has the place, the size and the grid of its window of the image."""
    with rasterio.open(EXAMPLES / "data" / "rmnp-rgb.tif") as image:
        for tile in tiles:
            with rasterio.open(Path(done.root_uri, "predict", f"{tile.name}.tif")) as raster:
                assert image.crs == raster.crs
                assert image.window_transform(tile.window) == raster.transform
                assert image.window_bounds(tile.window) == pytest.approx(tuple(raster.bounds))
                assert (tile.window.height, tile.window.width) == raster.shape
                assert {0, 1, 255} >= set(np.unique(raster.read(1)))


def test_truth_is_what_the_elevation_says(tiles: list[Any]) -> None:
    """Above the treeline is where the elevation model, seen at pixel centres, is higher."""
    scene = landcover.Scene()
    window = tiles[12].window
    with landcover.opened(scene) as (image, dem):
        truth = landcover.read_truth(image, dem, window, scene.treeline)
        rows, columns = np.indices(truth.shape)
        places = image.xy(rows.ravel() + window.row_off, columns.ravel() + window.col_off)
    with rasterio.open(EXAMPLES / "data" / "rmnp-dem.tif") as elevation:
        nearest = np.array([value for (value,) in elevation.sample(zip(*places, strict=True))])

    # Between the cells of the coarser elevation model the truth is interpolated.
    assert ((nearest > scene.treeline) == truth.ravel()).mean() > 0.9
    assert {0, 1} == set(np.unique(truth))


def test_local_mean_is_the_mean_around_each_pixel() -> None:
    """In the middle it is the plain mean of the square; at the border the image is mirrored."""
    bands = np.arange(3 * 6 * 5, dtype=float).reshape(3, 6, 5)

    means = landcover.local_mean(bands, 1)

    assert bands[1, 1:4, 2:5].mean() == means[1, 2, 3]
    assert bands[0, [0, 0, 1]][:, [0, 0, 1]].mean() == means[0, 0, 0]


def test_scores_of_a_known_table() -> None:
    """Accuracy, baseline and F1 follow from the counts; F1 is null where nothing is above."""
    report = landcover.scores(np.array([[6, 1], [1, 2]]), guess=0)
    del report["confusion"]

    assert report == {"pixels": 10, "accuracy": 0.8, "majority": 0.7, "f1": 4 / 6}
    assert landcover.scores(np.array([[5, 0], [0, 0]]), guess=0)["f1"] is None


def test_bundle_holds_a_model_that_predicts(done: Any) -> None:
    """The zip has the model, its config and its figures, and nothing of this machine."""
    with ZipFile(Path(done.root_uri, "bundle.zip")) as bundle:
        names = bundle.namelist()
        config = json.loads(bundle.read("config.json"))
        model = pickle.load(io.BytesIO(bundle.read("model.pkl")))

    assert names == ["config.json", "stats.json", "eval.json", "model.pkl"]
    assert list(config) == ["name", "scene", "model"]
    assert done.model.kind == config["model"]["kind"]
    assert model.predict(np.zeros((2, 24), np.float32)).shape == (2,)


def test_picture_has_three_panels(done: Any) -> None:
    """The picture is wide enough to look at, and small enough for a README."""
    path = Path(done.root_uri, "landcover.png")
    with pytest.warns(NotGeoreferencedWarning):
        picture = rasterio.open(path)

    with picture:
        assert picture.count == 3
        assert 1200 < picture.width < 1600
    assert path.stat().st_size < 400_000


def test_compare_makes_two_experiments() -> None:
    """`-a compare true` gives one pipeline for each kind of model, which share no folder."""
    (alone,) = landcover.get_configs("local")
    forest, logistic = landcover.get_configs("local", root_uri="out", compare=True)

    assert (alone.name, alone.root_uri) == ("landcover", "out/landcover")
    assert (forest.name, forest.root_uri) == ("forest", "out/forest")
    assert forest.model.kind == "forest"
    assert (logistic.name, logistic.root_uri) == ("logistic", "out/logistic")
    assert logistic.model.kind == "logistic"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("Scene", "window", 4),
        ("Scene", "held_out", 2),
        ("Model", "kind", "oracle"),
        ("Model", "radii", (2, 0)),
        ("Model", "trees", 0),
    ],
)
def test_values_out_of_range_are_refused(kind: str, field: str, value: object) -> None:
    """A config with a value that makes no sense cannot be made, and the field is named."""
    with pytest.raises(ValueError, match=field):
        getattr(landcover, kind)(**{field: value})


IMAGERY = {"image": "s3://lake/data/rmnp-rgb.tif", "dem": "s3://lake/data/rmnp-dem.tif"}


@attrs.frozen
class Bucket:
    """The bucket `lake` of an S3 server, and the environment in which it is found."""

    objects: Any
    env: dict[str, str]

    def read(self, prefix: str) -> dict[str, bytes]:
        """What each object holds, by the rest of its key."""
        objects = self.objects.filter(Prefix=prefix)
        return {o.key.removeprefix(prefix): o.get()["Body"].read() for o in objects}


@pytest.fixture(scope="module")
def bucket(processes: None) -> Iterator[Bucket]:
    """A bucket with the shipped imagery."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    env = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        lake = boto3.resource("s3").create_bucket(Bucket="lake")
    for uri in IMAGERY.values():
        key = uri.removeprefix("s3://lake/")
        lake.upload_file(str(EXAMPLES / key), key)
    yield Bucket(lake.objects, env)
    server.stop()


@pytest.fixture
def reached(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The bucket, reached from this process too, with no copies at the beginning."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    cloudpathlib.S3Client().set_as_default_client()
    return bucket


@pytest.fixture(scope="module")
def local_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run leaves whose files and imagery are in local folders, by path."""
    return files_of_run(tmp_path_factory.mktemp("local"))


def files_of_run(root: Path) -> dict[str, bytes]:
    """Run the example in this process; return the files that it writes below `root`, by path."""
    (config,) = landcover.get_configs("local", root_uri=str(root), window=LARGE)
    run(config)
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


#: A width of windows that makes few of them.
LARGE = 90


def without_imagery(files: dict[str, bytes]) -> dict[str, Any]:
    """`files` with the config and the bundle opened, without the source of the imagery."""
    config = json.loads(files["config.json"])
    for name in IMAGERY:
        del config["scene"][name]
    with ZipFile(io.BytesIO(files["bundle.zip"])) as bundle:
        parts = {name: bundle.read(name) for name in bundle.namelist()}
    assert parts.pop("config.json") == files["config.json"]
    return {**files, "config.json": config, "bundle.zip": parts}


def test_on_s3_the_bytes_are_the_same(
    bucket: Bucket, local_files: dict[str, bytes], project: Project
) -> None:
    """With root and imagery on S3, read by the loose file alone, each file is as in a local run."""
    shutil.copy(EXAMPLES / "landcover.py", project.folder)
    args = {"root_uri": "s3://lake/inprocess", "window": str(LARGE), **IMAGERY}
    words = [word for name, value in args.items() for word in ("-a", name, value)]

    project.rvrun("run", "inprocess", "landcover.py", "--splits", "3", *words, code=0, **bucket.env)

    files = bucket.read("inprocess/")
    assert without_imagery(local_files) == without_imagery(files)
    assert {"landcover.py", "runs"} == {path.name for path in project.folder.iterdir()}


def test_on_aws_batch_the_bytes_are_the_same(
    bucket: Bucket, local_files: dict[str, bytes], project: Project
) -> None:
    """Whole, through an engine that runs what was submitted, each job in an empty folder."""
    shutil.copy(EXAMPLES / "landcover.py", project.folder)
    project.write("rvrun.toml", '[batch]\ncpu_job_queue = "cpu"\ncpu_job_def = "work"\n')
    args = {"root_uri": "s3://lake/batch", "window": str(LARGE), **IMAGERY}
    words = [word for name, value in args.items() for word in ("-a", name, value)]

    with BatchEngine() as engine:
        engine.environment = {**bucket.env, **engine.variables}
        engine.add_queue("cpu")
        engine.add_definition("work")
        command = ("run", "batch", "landcover.py", "--splits", "predict=3", *words)
        project.rvrun(*command, code=0, **engine.environment)
        engine.wait(timeout=600)
        statuses = engine.statuses()

    assert len(statuses) == 6
    assert set(statuses.values()) == {"SUCCEEDED"}
    files = bucket.read("batch/")
    shipped = {key for key in files if key.startswith("rvrun/")}
    assert len(shipped) == 2
    made = {key: content for key, content in files.items() if key not in shipped}
    assert without_imagery(local_files) == without_imagery(made)


def test_imagery_on_s3_serves_a_local_root(reached: Bucket, tmp_path: Path) -> None:
    """Only what is remote is fetched: the same windows are cut into local files."""
    config = small_config(tmp_path / "out", **IMAGERY)

    run(config, commands=["chip"])

    assert len(small_config("unused").training_tiles) == len(digests(tmp_path / "out"))


def test_plans_download_nothing() -> None:
    """Items in remote imagery are not counted, so it need not be reached to make a plan."""
    pipeline = small_config("s3://nowhere/out", **IMAGERY).build()

    assert [count_items(pipeline, command) for command in pipeline.commands] == [None] * 6


def test_what_is_on_s3_is_replaced_immediately(reached: Bucket) -> None:
    """A file written again within a second is not read from the copy of the old one."""
    path = landcover.locate("s3://lake/twice/", "file.json")

    for value in ("old", "new"):
        landcover.write_json(path, value)
        assert landcover.fetched(path).read_text() == f'"{value}"\n'

    assert reached.read("twice/") == {"file.json": b'"new"\n'}


def test_a_failure_leaves_the_old_object(reached: Bucket) -> None:
    """Nothing is uploaded from a command that failed while it wrote."""
    path = landcover.locate("s3://lake/failure", "file.json")
    landcover.write_json(path, "old")

    with pytest.raises(TypeError, match="not JSON serializable"):
        landcover.write_json(path, object())

    assert reached.read("failure/") == {"file.json": b'"old"\n'}


def test_a_missing_object_is_named(reached: Bucket) -> None:
    """A missing image is reported by its URI, not by the path of its local copy."""
    scene = landcover.Scene(**{**IMAGERY, "image": "s3://lake/data/typo.tif"})

    with pytest.raises(FileNotFoundError, match=r"^s3://lake/data/typo\.tif does not exist$"):
        len(small_config("unused", **attrs.asdict(scene)).tiles)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({}, "`-a image URI` and `-a dem URI`"),
        ({"image": IMAGERY["image"]}, "`-a dem URI`"),
        ({"dem": IMAGERY["dem"], "compare": "true"}, "`-a image URI`"),
    ],
)
def test_a_remote_root_wants_reachable_imagery(args: dict[str, str], wanted: str) -> None:
    """Other machines do not have the shipped imagery; the error says what to pass instead."""
    with pytest.raises(UserCodeError) as caught:
        load(str(EXAMPLES / "landcover.py"), "local", {"root_uri": "s3://lake/out", **args})

    assert "`root_uri` is s3://lake/out" in str(caught.value)
    assert str(caught.value).endswith(f": upload it and pass {wanted}")


@pytest.mark.usefixtures("processes")
def test_local_targets_do_not_wait_for_cloudpathlib() -> None:
    """With local files the library for remote ones is not imported."""
    code = (
        "import runpy, sys; names = runpy.run_path('landcover.py');"
        "print(names['locate']('out', 'x'), 'cloudpathlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=True
    )
    assert done.stdout == "out/x False\n"
