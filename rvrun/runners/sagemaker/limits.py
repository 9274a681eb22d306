"""Limits of SageMaker Pipelines that its service model does not contain."""

from __future__ import annotations

import re

#: Definitions of at least as many bytes go through S3. A request may carry 1,048,576 characters,
#: but the SageMaker Python SDK, versions 2 and 3, uploads from 100 KiB on (`_create_args` in its
#: workflow/pipeline.py), so that nothing between has been seen to work.
INLINE_BYTES = 100 * 1024
#: The members that contain an image; the model accepts anything in them, but no image's URI has
#: spaces (the model's own pattern of `ContainerImage`, which other operations use).
IMAGES = {
    "Processing": ("AppSpecification", "ImageUri"),
    "Training": ("AlgorithmSpecification", "TrainingImage"),
}
IMAGE = re.compile(r"\S+")
#: Keys of tags must not begin with it, in upper or lower case (AWS General Reference, "Tagging AWS
#: resources").
RESERVED_TAG = "aws:"
#: Also of display names (`DisplayName` in AWS's JSON schema of pipeline definitions, repository
#: aws-sagemaker-mlops/sagemaker-model-building-pipeline-definition-JSON-schema).
STEP_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
#: The model allows more, but SageMaker derives the names of jobs from it.
PIPELINE_NAME_CHARACTERS = 82
#: Retry policies: Amazon SageMaker Developer Guide, "Retry Policy for Pipeline Steps".
RETRY_EXCEPTIONS = (
    "Step.SERVICE_FAULT",
    "Step.THROTTLING",
    "SageMaker.JOB_INTERNAL_ERROR",
    "SageMaker.CAPACITY_ERROR",
    "SageMaker.RESOURCE_LIMIT",
)
#: How often a policy may retry; 0 switches off what SageMaker retries by default, too.
RETRY_ATTEMPTS = 20
RETRY_INTERVAL_SECONDS = 43_200
#: The lower of the limits of that schema and of the API Reference (PipelineExecutionStep).
DESCRIPTION_CHARACTERS = 3072
#: An ISO 8601 duration of years to minutes, such as `P30D`, `30d` or `PT5H` (Amazon SageMaker
#: Developer Guide, "Caching Pipeline Steps").
DURATION = re.compile(r"P?(?=.)(\d+[YMWD])*(T(\d+[HM])+)?", re.IGNORECASE)
#: 28 days; the quota of a new account is lower.
TRAINING_SECONDS = 2_419_200
TRAINING_INSTANCES = 100
