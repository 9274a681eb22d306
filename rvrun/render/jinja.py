"""The only door to Jinja: a template and values → text."""

from __future__ import annotations

import functools
import os
from typing import Any

import attrs
import jinja2

from rvrun.errors import RvrunError
from rvrun.render.quote import for_json, for_recipe


class BadTemplate(RvrunError):
    """A user's template that does not exist, or that Jinja refuses."""

    name: str
    problem: str
    template = "template {name}: {problem}"


@attrs.frozen
class Template:
    """A template of rvrun's or a runner's: `name` in `folder` of an installed package."""

    package: str
    folder: str
    name: str


def render(template: Template, user_folder: str | None = None, **values: Any) -> str:
    """Render `template` with `values`.

    A file of the same name in `user_folder` replaces the template. A name that the template uses
    and `values` lacks is an error, never an empty string.

    Raises `BadTemplate`.
    """
    if user_folder is not None and not os.path.isdir(user_folder):
        raise BadTemplate(user_folder, "there is no such folder")
    name = template.name
    environment = _environment(template.package, template.folder, user_folder)
    try:
        return environment.get_template(name).render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise BadTemplate(f"{error.filename or name}:{error.lineno}", str(error)) from error
    except jinja2.TemplateError as error:
        raise BadTemplate(name, str(error)) from error


@functools.lru_cache(maxsize=8)
def _environment(package: str, folder: str, user_folder: str | None) -> jinja2.Environment:
    own = jinja2.PackageLoader(package, folder)
    loaders = [jinja2.FileSystemLoader(user_folder), own] if user_folder else [own]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Makefiles and JSON, not HTML
    )
    environment.filters["recipe"] = for_recipe
    environment.filters["json"] = _json
    return environment


def _json(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises, with the name
    return for_json(value)
