"""`sagemaker`: one pipeline definition, run by SageMaker Pipelines."""
