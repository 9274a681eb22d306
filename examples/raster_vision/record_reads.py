r"""Record which fields of a config each command of Raster Vision's stock pipelines reads.

    PYTHONPATH=examples/raster_vision/plugin venv/bin/python \
        examples/raster_vision/record_reads.py tests/data/raster_vision_reads.json

Needs the environment that `compare.py` describes, with `plugin` on PYTHONPATH. Runs chip
classification, semantic segmentation (with chips, and without) and object detection on the scenes
of `compare.py`, each command in Raster Vision's own way: from the saved config. Every attribute
that is read from a part of that config is recorded by its path. `PATH.*` stands for everything
below a list or a dictionary, or below a part that is printed or dumped as a whole. Takes some
minutes.

rvrun declares what the commands depend on (`rvrun/adapters/raster_vision/stock.py`). A test
compares that declaration with the file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compare import SCENES, SIZE, make_scenes
from rastervision.core.data import (
    ChipClassificationLabelSourceConfig,
    ClassConfig,
    ClassInferenceTransformerConfig,
    DatasetConfig,
    GeoJSONVectorSourceConfig,
    ObjectDetectionLabelSourceConfig,
    RasterioSourceConfig,
    SceneConfig,
    SemanticSegmentationLabelSourceConfig,
    StatsTransformerConfig,
)
from rastervision.core.rv_pipeline import (
    ChipClassificationConfig,
    ChipOptions,
    ObjectDetectionChipOptions,
    ObjectDetectionConfig,
    ObjectDetectionPredictOptions,
    PredictOptions,
    RVPipelineConfig,
    SemanticSegmentationChipOptions,
    SemanticSegmentationConfig,
    SemanticSegmentationPredictOptions,
    WindowSamplingConfig,
)
from rastervision.core.rv_pipeline.object_detection_config import (
    ObjectDetectionWindowSamplingConfig,
)
from rastervision.pipeline import rv_config_ as rv_config
from rastervision.pipeline.config import Config, build_config, save_pipeline_config
from rastervision.pipeline.file_system import file_to_json
from rastervision.pytorch_backend import (
    PyTorchChipClassificationConfig,
    PyTorchObjectDetectionConfig,
    PyTorchSemanticSegmentationConfig,
)
from rastervision.pytorch_learner import (
    Backbone,
    ClassificationImageDataConfig,
    ClassificationModelConfig,
    ObjectDetectionImageDataConfig,
    ObjectDetectionModelConfig,
    SemanticSegmentationGeoDataConfig,
    SemanticSegmentationImageDataConfig,
    SemanticSegmentationModelConfig,
    SolverConfig,
)

#: Fields that say what a config is, not what it contains.
METADATA = ("type_hint", "model_config", "model_fields")
CHIP = SIZE // 2
SAMPLING = WindowSamplingConfig(size=CHIP)
SOLVER = SolverConfig(num_epochs=1, batch_sz=4)


class Recorder:
    """Notes what is read from the parts of one config."""

    def __init__(self, root: Config) -> None:
        self.paths: dict[int, str] = {}
        self.parts: list[Config] = []
        self.reads: set[str] = set()
        self._register(root, "")

    def _register(self, value: Any, path: str) -> None:
        if isinstance(value, Config):
            self.add(value, path)
            for name, item in _fields(value):
                self._register(item, f"{path}.{name}".lstrip("."))
        elif isinstance(value, (list, tuple)):
            for item in value:
                self._register(item, f"{path}.*")
        elif isinstance(value, dict):
            for item in value.values():
                self._register(item, f"{path}.*")

    def add(self, part: Config, path: str) -> None:
        # Kept, so that no other object gets its id.
        self.parts.append(part)
        self.paths.setdefault(id(part), path)

    def read(self, part: Config, name: str) -> None:
        path = self.paths.get(id(part))
        if path is not None and name in type(part).model_fields and name not in METADATA:
            self.reads.add(f"{path}.{name}".lstrip("."))

    def read_all(self, value: Any) -> None:
        """Note that everything below `value` is read."""
        if isinstance(value, Config) and id(value) in self.paths:
            self.reads.add(f"{self.paths[id(value)]}.**".lstrip("."))
        elif isinstance(value, Config):
            for _, item in _fields(value):
                self.read_all(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.read_all(item)
        elif isinstance(value, dict):
            for item in value.values():
                self.read_all(item)


def _fields(config: Config) -> Iterator[tuple[str, Any]]:
    yield from object.__getattribute__(config, "__dict__").items()


def install(recorder: Recorder | None) -> None:
    """Report what is read from configs to `recorder`; to none if it is None."""
    for name in ("__getattribute__", "copy", "model_dump", "model_dump_json", "__repr_args__"):
        if name in Config.__dict__ and hasattr(Config.__dict__[name], "original"):
            original = Config.__dict__[name].original
            if original is None:
                delattr(Config, name)
            else:
                setattr(Config, name, original)
    if recorder is None:
        return

    def get(self: Config, name: str) -> Any:
        recorder.read(self, name)
        return object.__getattribute__(self, name)

    def copy(self: Config) -> Any:
        other = self.model_copy()
        if id(self) in recorder.paths:
            recorder.add(other, recorder.paths[id(self)])
        return other

    _replace("__getattribute__", get)
    _replace("copy", copy)
    for name in ("model_dump", "model_dump_json", "__repr_args__"):
        _replace(name, _reads_all(getattr(Config, name), recorder))


def _reads_all(method: Any, recorder: Recorder) -> Any:
    def wrapper(self: Config, *args: Any, **kwargs: Any) -> Any:
        recorder.read_all(self)
        return method(self, *args, **kwargs)

    return wrapper


def _replace(name: str, function: Any) -> None:
    function.original = Config.__dict__.get(name)
    setattr(Config, name, function)


def scene(folder: Path, name: str, labels: Any) -> SceneConfig:
    """Return the config of one scene."""
    image = RasterioSourceConfig(
        uris=[str(folder / f"{name}.tif")],
        # Otherwise Raster Vision builds a scene to count its channels, which needs `analyze`.
        channel_order=[0, 1, 2],
        transformers=[StatsTransformerConfig()],
    )
    return SceneConfig(id=name, raster_source=image, label_source=labels(folder, name))


def pixels(folder: Path, name: str) -> Any:
    """Return the label source of semantic segmentation."""
    raster = RasterioSourceConfig(uris=[str(folder / f"{name}-labels.tif")])
    return SemanticSegmentationLabelSourceConfig(raster_source=raster)


def cells(folder: Path, name: str) -> Any:
    """Return the label source of chip classification."""
    return ChipClassificationLabelSourceConfig(
        vector_source=boxes(folder, name), background_class_id=0, infer_cells=True, cell_sz=CHIP
    )


def objects(folder: Path, name: str) -> Any:
    """Return the label source of object detection."""
    return ObjectDetectionLabelSourceConfig(vector_source=boxes(folder, name))


def boxes(folder: Path, name: str) -> GeoJSONVectorSourceConfig:
    """Return a vector source with one box, which this function writes."""
    import rasterio
    from rasterio.warp import transform_bounds
    from rasterio.windows import Window

    with rasterio.open(folder / f"{name}.tif") as image:
        bounds = image.window_bounds(Window(CHIP // 2, CHIP // 2, CHIP // 2, CHIP // 2))
        west, south, east, north = transform_bounds(image.crs, "EPSG:4326", *bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    feature = {
        "type": "Feature",
        "properties": {"class_id": 1},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    transformer = ClassInferenceTransformerConfig(default_class_id=1)
    return GeoJSONVectorSourceConfig(uris=[str(path)], transformers=[transformer])


def dataset(folder: Path, labels: Any, num_tests: int = 1) -> DatasetConfig:
    """Return the config of the scenes: two to train, two to validate, and those to test."""
    names = [name for name, _, _ in SCENES]
    scenes = [scene(folder, name, labels) for name in names[: 4 + num_tests]]
    return DatasetConfig(
        class_config=ClassConfig(names=["low", "high"], colors=["green", "orange"]),
        train_scenes=scenes[:2],
        validation_scenes=scenes[2:4],
        test_scenes=scenes[4:],
    )


def configs(folder: Path, root: Path) -> Iterator[tuple[str, RVPipelineConfig]]:
    """Yield a config of each kind of pipeline, with a name."""
    small = {"backbone": Backbone.resnet18, "pretrained": False}
    images = {"img_sz": CHIP, "num_workers": 0}
    yield (
        "chip_classification",
        ChipClassificationConfig(
            root_uri=str(root / "cc"),
            dataset=dataset(folder, cells),
            backend=PyTorchChipClassificationConfig(
                data=ClassificationImageDataConfig(**images),
                model=ClassificationModelConfig(**small),
                solver=SOLVER,
            ),
            chip_options=ChipOptions(sampling=SAMPLING),
            predict_options=PredictOptions(chip_sz=CHIP),
        ),
    )
    options = {
        "chip_options": SemanticSegmentationChipOptions(sampling=SAMPLING),
        "predict_options": SemanticSegmentationPredictOptions(chip_sz=CHIP),
    }
    model = SemanticSegmentationModelConfig(backbone=Backbone.resnet50, pretrained=False)
    yield (
        "semantic_segmentation",
        SemanticSegmentationConfig(
            root_uri=str(root / "ss"),
            dataset=dataset(folder, pixels),
            backend=PyTorchSemanticSegmentationConfig(
                data=SemanticSegmentationImageDataConfig(**images), model=model, solver=SOLVER
            ),
            **options,
        ),
    )
    scenes = dataset(folder, pixels)
    yield (
        "semantic_segmentation without chips",
        SemanticSegmentationConfig(
            root_uri=str(root / "nochip"),
            dataset=scenes,
            backend=PyTorchSemanticSegmentationConfig(
                data=SemanticSegmentationGeoDataConfig(
                    scene_dataset=scenes, sampling=SAMPLING, **images
                ),
                model=model,
                solver=SOLVER,
            ),
            **options,
        ),
    )
    yield (
        "object_detection",
        ObjectDetectionConfig(
            root_uri=str(root / "od"),
            # Raster Vision's `chip` raises a KeyError if there are scenes to test.
            dataset=dataset(folder, objects, num_tests=0),
            backend=PyTorchObjectDetectionConfig(
                data=ObjectDetectionImageDataConfig(**images),
                model=ObjectDetectionModelConfig(**small),
                solver=SOLVER,
            ),
            chip_options=ObjectDetectionChipOptions(
                sampling=ObjectDetectionWindowSamplingConfig(size=CHIP)
            ),
            predict_options=ObjectDetectionPredictOptions(chip_sz=CHIP),
        ),
    )


def record(config: RVPipelineConfig) -> dict[str, list[str]]:
    """Run each command from the saved config, and return what it read."""
    config.update()
    config.recursive_validate_config()
    save_pipeline_config(config, config.get_config_uri())
    with rv_config.get_tmp_dir() as tmp_dir:
        names = list(config.build(tmp_dir).commands)
    reads = {}
    for name in names:
        print(f"-- {name}", file=sys.stderr, flush=True)
        saved = build_config(file_to_json(config.get_config_uri()))
        with rv_config.get_tmp_dir() as tmp_dir:
            recorder = Recorder(saved)
            install(recorder)
            try:
                getattr(saved.build(tmp_dir), name)()
            finally:
                install(None)
        reads[name] = compact(recorder.reads)
    return reads


def compact(paths: set[str]) -> list[str]:
    """Return sorted paths that end at their first list, or at a part that is read as a whole."""
    ends = {path.partition(".*")[0] + ".*" * (".*" in path) for path in paths}
    whole = tuple(end.removesuffix("*") for end in ends if end.endswith("*"))
    return sorted(end for end in ends if end.endswith("*") or not end.startswith(whole))


def replace_compiled_parts() -> None:
    """Let object detection run without torchvision's compiled extension, as in `plugin`.

    Models are not exported to ONNX, which takes minutes and reads no config.
    """
    import torch
    import torchvision
    from rastervision.pytorch_learner.learner import Learner

    def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
        order = scores.argsort(descending=True)
        overlaps = torchvision.ops.box_iou(boxes[order], boxes[order]) > iou_threshold
        kept = torch.ones(len(order), dtype=torch.bool)
        for index in range(len(order)):
            if kept[index]:
                kept[index + 1 :] &= ~overlaps[index, index + 1 :]
        return order[kept]

    torchvision.ops.boxes.nms = nms
    Learner.export_to_onnx = lambda self, *args, **kwargs: None


def main() -> None:
    """Write the table as JSON to the file that the command line names."""
    replace_compiled_parts()
    rv_config.set_everett_config()
    packages = ("rastervision-core", "rastervision-pytorch-backend", "rastervision-pytorch-learner")
    with tempfile.TemporaryDirectory(prefix="rvrun-reads-") as name:
        folder = Path(name)
        make_scenes(folder / "data")
        pipelines = {}
        for label, config in configs(folder / "data", folder):
            print(f"{label}", file=sys.stderr, flush=True)
            pipelines[label] = record(config)
    table = {"versions": {p: version(p) for p in packages}, "reads": pipelines}
    Path(sys.argv[1]).write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
