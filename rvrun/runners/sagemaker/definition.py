"""Pipeline definitions as JSON: rendered by a template, parsed, checked; and their requests. Pure.

`sagemaker.json.j2` gets `definition` (a `SagemakerPipeline`), `settings` and `role` (an ARN).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rvrun.aws import request_check
from rvrun.inputs import CannotRead, parse_json
from rvrun.render.jinja import BadTemplate, Template, render
from rvrun.render.quote import without_none
from rvrun.runners.sagemaker import limits
from rvrun.runners.sagemaker.machine import list_tags
from rvrun.runners.sagemaker.role import offline_arn
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import SagemakerPipeline
from rvrun.runners.sagemaker.validate import validate_definition

#: JSON objects: a definition, and the parameters of a call.
Definition = Mapping[str, Any]
Request = Mapping[str, Any]

TEMPLATE = Template("rvrun.templates", "sagemaker", "sagemaker.json.j2")
MAX_DESCRIPTION = 3072


def render_definition(
    pipeline: SagemakerPipeline, settings: SagemakerSettings, templates: str | None = None
) -> Definition:
    """Return the definition of `pipeline`.

    - `templates`: a folder whose `sagemaker.json.j2` replaces rvrun's.

    Raises `BadTemplate`.
    """
    text = render(
        TEMPLATE,
        templates,
        definition=pipeline,
        settings=settings,
        role=offline_arn(settings.role),
    )
    try:
        definition = parse_json(text, TEMPLATE.name)
    except CannotRead as error:
        raise BadTemplate(TEMPLATE.name, f"must render JSON, but it {error.problem}") from None
    if not isinstance(definition, dict):
        raise BadTemplate(TEMPLATE.name, f"must render a JSON object, got {text.strip()[:40]!r}")
    return definition


def to_compact_json(definition: Definition) -> str:
    """Return a definition as it is submitted: without whitespace, as the limit is in characters."""
    return json.dumps(definition, separators=(",", ":"), ensure_ascii=False)


def create_request(pipeline: SagemakerPipeline, settings: SagemakerSettings) -> Request:
    """Return the CreatePipeline request of `pipeline`, without its definition and token."""
    description = f"Made by rvrun of {', '.join(pipeline.pipelines)}"
    request: Request = without_none(
        {
            "PipelineName": pipeline.name,
            "PipelineDescription": description[:MAX_DESCRIPTION],
            "RoleArn": offline_arn(settings.role),
            "ParallelismConfiguration": {"MaxParallelExecutionSteps": settings.parallel_steps},
            "Tags": list_tags(settings.tags) or None,
        }
    )
    return request


def find_problems(definition: Definition, request: Request) -> list[str]:
    """Return a sentence for everything that SageMaker would refuse in a definition or its request.

    - `request`: for CreatePipeline, as `create_request` returns it.
    """
    problems = request_check.problems(
        "sagemaker", "CreatePipeline", request, without=("ClientRequestToken",)
    )
    name = str(request.get("PipelineName"))
    if len(name) > limits.PIPELINE_NAME_CHARACTERS:
        problems.append(
            f"PipelineName must have at most {limits.PIPELINE_NAME_CHARACTERS} characters, got "
            f"{len(name)} ({name})"
        )
    return [*problems, *validate_definition(definition)]
