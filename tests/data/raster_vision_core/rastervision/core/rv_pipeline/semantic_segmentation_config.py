"""The config of semantic segmentation, with few of the fields below its top level."""

from __future__ import annotations

from os.path import join

from rastervision.pipeline.config import Config, register_config
from rastervision.pipeline.pipeline_config import PipelineConfig
from rastervision.pipeline.utils import split_into_groups


@register_config("dataset")
class DatasetConfig(Config):
    train_scenes: list[str] = ["a", "b"]
    validation_scenes: list[str] = []
    test_scenes: list[str] = []

    def get_split_config(self, split_ind, num_splits):
        """Share out each list for itself, as Raster Vision 0.31.1 does."""
        split = self.copy()
        for name in ("train_scenes", "validation_scenes", "test_scenes"):
            groups = split_into_groups(getattr(self, name), num_splits)
            setattr(split, name, groups[split_ind] if split_ind < len(groups) else [])
        return split


@register_config("data")
class DataConfig(Config):
    img_sz: int = 256
    num_workers: int = 0


@register_config("solver")
class SolverConfig(Config):
    num_epochs: int = 1
    batch_sz: int = 8


@register_config("backend")
class BackendConfig(Config):
    data: DataConfig = DataConfig()
    solver: SolverConfig = SolverConfig()


@register_config("predict_options")
class PredictOptions(Config):
    chip_sz: int = 300


@register_config("chip_options")
class ChipOptions(Config):
    nodata_threshold: float = 1.0


@register_config("analyzer")
class AnalyzerConfig(Config):
    pass


@register_config("evaluator")
class EvaluatorConfig(Config):
    pass


@register_config("semantic_segmentation")
class SemanticSegmentationConfig(PipelineConfig):
    dataset: DatasetConfig = DatasetConfig()
    backend: BackendConfig = BackendConfig()
    evaluators: list[EvaluatorConfig] = [EvaluatorConfig()]
    analyzers: list[AnalyzerConfig] = [AnalyzerConfig()]
    analyze_uri: str | None = None
    chip_uri: str | None = None
    train_uri: str | None = None
    predict_uri: str | None = None
    eval_uri: str | None = None
    bundle_uri: str | None = None
    source_bundle_uri: str | None = None
    chip_options: ChipOptions = ChipOptions()
    predict_options: PredictOptions = PredictOptions()

    def update(self):
        for name in ("analyze", "chip", "train", "predict", "eval", "bundle"):
            if getattr(self, f"{name}_uri") is None:
                setattr(self, f"{name}_uri", join(self.root_uri, name))

    def build(self, tmp_dir):
        from rastervision.core.rv_pipeline.semantic_segmentation import SemanticSegmentation

        return SemanticSegmentation(self, tmp_dir)
