from rastervision.core.rv_pipeline.rv_pipeline import RVPipeline


class SemanticSegmentation(RVPipeline):
    pass
