"""Limits of SageMaker Pipelines that its service model does not contain."""

from __future__ import annotations

import re

#: Definitions with more characters must be in S3.
INLINE_CHARACTERS = 1_048_576
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
RETRY_ATTEMPTS = 20
RETRY_INTERVAL_SECONDS = 43_200
#: An ISO 8601 duration of years to minutes, such as `P30D`, `30d` or `PT5H` (Amazon SageMaker
#: Developer Guide, "Caching Pipeline Steps").
DURATION = re.compile(r"P?(?=.)(\d+[YMWD])*(T(\d+[HM])+)?", re.IGNORECASE)
#: 28 days; the quota of a new account is lower.
TRAINING_SECONDS = 2_419_200
TRAINING_INSTANCES = 100
