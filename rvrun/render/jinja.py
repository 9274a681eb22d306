"""The only door to Jinja: a template and values → text."""

from __future__ import annotations

import functools
import os
from typing import Any

import jinja2

from rvrun.errors import RvrunError
from rvrun.render.quote import for_json, for_recipe, for_shell


class BadTemplate(RvrunError):
    """A template of the user's that is not there, or that Jinja refuses."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"template {self.name}: {self.problem}"


def render(template: str, folder: str | None = None, **values: Any) -> str:
    """`template` (such as `Makefile.j2`) rendered with `values`.

    It is looked for in `folder`, the user's own templates, before those of the package. A name
    that the template uses and `values` lacks is an error, never an empty text.
    """
    if folder is not None and not os.path.isdir(folder):
        raise BadTemplate(folder, "there is no such folder")
    try:
        return _environment(folder).get_template(template).render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise BadTemplate(f"{error.filename or template}:{error.lineno}", str(error)) from error
    except jinja2.TemplateError as error:
        raise BadTemplate(template, str(error)) from error


@functools.lru_cache(maxsize=8)
def _environment(folder: str | None) -> jinja2.Environment:
    folders = ("local", "batch", "sagemaker")
    own = jinja2.ChoiceLoader([jinja2.PackageLoader("rvrun.templates", name) for name in folders])
    loaders = [jinja2.FileSystemLoader(folder), own] if folder else [own]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Makefiles and JSON, no HTML
    )
    environment.filters["shell"] = for_shell
    environment.filters["recipe"] = for_recipe
    environment.filters["json"] = _json
    return environment


def _json(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, with the name
    return for_json(value)
