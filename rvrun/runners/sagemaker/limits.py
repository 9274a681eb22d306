"""What SageMaker Pipelines allows and its service model does not say."""

from __future__ import annotations

import re

#: A definition of more characters than this has to lie in S3.
INLINE_CHARACTERS = 1_048_576
STEP_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
#: The model takes more, but names of jobs are made from it.
PIPELINE_NAME_CHARACTERS = 82
RETRY_EXCEPTIONS = (
    "Step.SERVICE_FAULT",
    "Step.THROTTLING",
    "SageMaker.JOB_INTERNAL_ERROR",
    "SageMaker.CAPACITY_ERROR",
    "SageMaker.RESOURCE_LIMIT",
)
RETRY_ATTEMPTS = 20
RETRY_INTERVAL_SECONDS = 43_200
#: An ISO 8601 duration of years to minutes, as `P30D` or `30d`, `PT5H`.
DURATION = re.compile(r"P?(?=.)(\d+[YMWD])*(T(\d+[HM])+)?", re.IGNORECASE)
#: 28 days; accounts begin with less.
TRAINING_SECONDS = 2_419_200
TRAINING_INSTANCES = 100
