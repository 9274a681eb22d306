"""Segment small scenes into ground above and below the treeline, with Raster Vision.

This is an ordinary Raster Vision config. `compare.py` makes the scenes and runs it.
"""

from rastervision.core.data import (
    ClassConfig,
    DatasetConfig,
    RasterioSourceConfig,
    SceneConfig,
    SemanticSegmentationLabelSourceConfig,
    SemanticSegmentationLabelStoreConfig,
    StatsTransformerConfig,
)
from rastervision.core.rv_pipeline import (
    SemanticSegmentationChipOptions,
    SemanticSegmentationConfig,
    SemanticSegmentationPredictOptions,
    WindowSamplingConfig,
    WindowSamplingMethod,
)
from rastervision.pytorch_backend import PyTorchSemanticSegmentationConfig
from rastervision.pytorch_learner import (
    Backbone,
    SemanticSegmentationImageDataConfig,
    SemanticSegmentationModelConfig,
    SolverConfig,
)

TRAIN, VALID = ("a", "b", "c", "d"), ("e", "f")
SIZE = 64


def get_config(
    runner: str, root_uri: str, data_uri: str, epochs: int = 5
) -> SemanticSegmentationConfig:
    """Return the config that Raster Vision or rvrun runs."""
    classes = ClassConfig(names=["below", "above"], colors=["green", "orange"])
    dataset = DatasetConfig(
        class_config=classes,
        train_scenes=[scene(data_uri, name) for name in TRAIN],
        validation_scenes=[scene(data_uri, name) for name in VALID],
    )
    backend = PyTorchSemanticSegmentationConfig(
        data=SemanticSegmentationImageDataConfig(img_sz=SIZE, num_workers=0),
        model=SemanticSegmentationModelConfig(backbone=Backbone.resnet50, pretrained=False),
        solver=SolverConfig(lr=1e-3, num_epochs=int(epochs), batch_sz=8),
        log_tensorboard=False,
        run_tensorboard=False,
    )
    sampling = WindowSamplingConfig(
        method=WindowSamplingMethod.sliding, size=SIZE, stride=SIZE // 2
    )
    return SemanticSegmentationConfig(
        root_uri=root_uri,
        dataset=dataset,
        backend=backend,
        chip_options=SemanticSegmentationChipOptions(sampling=sampling),
        predict_options=SemanticSegmentationPredictOptions(chip_sz=SIZE),
    )


def scene(data_uri: str, name: str) -> SceneConfig:
    """Return the config of one scene: image, labels, and a label store that also saves scores."""
    image = RasterioSourceConfig(
        uris=[f"{data_uri}/{name}.tif"],
        channel_order=[0, 1, 2],
        transformers=[StatsTransformerConfig()],
    )
    labels = RasterioSourceConfig(uris=[f"{data_uri}/{name}-labels.tif"])
    return SceneConfig(
        id=name,
        raster_source=image,
        label_source=SemanticSegmentationLabelSourceConfig(raster_source=labels),
        label_store=SemanticSegmentationLabelStoreConfig(smooth_output=True),
    )
