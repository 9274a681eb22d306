"""Definitions as JSON: rendered by a template, parsed back, checked, and asked for. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rvrun.aws import request_check as shapes
from rvrun.render.jinja import BadTemplate, Template, render
from rvrun.runners.sagemaker import limits
from rvrun.runners.sagemaker.role import offline_arn
from rvrun.runners.sagemaker.settings import SagemakerSettings
from rvrun.runners.sagemaker.steps import Definition
from rvrun.runners.sagemaker.validate import definition_problems

TEMPLATE = "sagemaker.json.j2"
_TEMPLATE = Template("rvrun.templates", "sagemaker", TEMPLATE)


def render_definition(
    definition: Definition, settings: SagemakerSettings, templates: str | None = None
) -> dict[str, Any]:
    """The pipeline definition of `definition`, as JSON values.

    - `templates`: a folder of the user's with a `sagemaker.json.j2` of its own.
    """
    text = render(
        _TEMPLATE,
        templates,
        definition=definition,
        settings=settings,
        role=offline_arn(settings.role),
    )
    try:
        values = json.loads(text, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise BadTemplate(TEMPLATE, f"what it renders is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise BadTemplate(TEMPLATE, "what it renders is no JSON object")
    return values


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key given twice would silently lose a value."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError(f"a key is there twice: {', '.join(key for key, _ in pairs)}")
    return values


def compact(definition: Mapping[str, Any]) -> str:
    """A definition as it is submitted: its limit counts characters."""
    return json.dumps(definition, separators=(",", ":"), ensure_ascii=False)


def request(definition: Definition, settings: SagemakerSettings) -> dict[str, Any]:
    """The CreatePipeline request for `definition`, but for the definition itself and a token."""
    values: dict[str, Any] = {
        "PipelineName": definition.name,
        "PipelineDescription": f"Made by rvrun of {', '.join(definition.pipelines)}"[:3072],
        "RoleArn": offline_arn(settings.role),
    }
    if settings.parallel_steps is not None:
        values["ParallelismConfiguration"] = {"MaxParallelExecutionSteps": settings.parallel_steps}
    if settings.tags:
        values["Tags"] = [{"Key": key, "Value": value} for key, value in settings.tags.items()]
    return values


def problems(definition: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """All that SageMaker would refuse of a definition and of the request `asked` with it."""
    name = str(asked.get("PipelineName"))
    found = shapes.problems("sagemaker", "CreatePipeline", asked, without=("ClientRequestToken",))
    if len(name) > limits.PIPELINE_NAME_CHARACTERS:
        found.append(
            f"PipelineName has {len(name)} characters ({name}), more than "
            f"{limits.PIPELINE_NAME_CHARACTERS}"
        )
    return [*found, *definition_problems(definition)]
