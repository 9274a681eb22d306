"""Render templates. The only module that imports Jinja."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import attrs
import jinja2

from rvrun.errors import RvrunError, describe
from rvrun.render.quote import (
    for_definition,
    for_json,
    for_recipe,
    indented_json,
    without_none,
)

#: How the names of templates end whose values are escaped for HTML.
HTML = "html.j2"


class BadTemplate(RvrunError):
    """A template that cannot be found, parsed or rendered."""

    name: str
    problem: str
    template = "template {name}: {problem}"
    fix = "correct the template {name}"


@attrs.frozen
class Template:
    """The template of a runner: file `name` in `folder` of an installed package."""

    package: str
    folder: str
    name: str


def render(template: Template, user_folder: str | None = None, **values: Any) -> str:
    """Render `template` with `values`; a file of the same name in `user_folder` replaces it.

    Raises `BadTemplate`, also for a name that the template uses and `values` does not have.
    """
    if user_folder is not None and not os.path.isdir(user_folder):
        raise BadTemplate(user_folder, "the directory does not exist")
    name = template.name
    environment = _environment(template.package, template.folder, user_folder)
    try:
        return environment.get_template(name).render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise BadTemplate(f"{error.filename or name}:{error.lineno}", str(error)) from error
    except UnicodeDecodeError as error:
        raise BadTemplate(name, f"must be UTF-8 ({error.reason} at byte {error.start})") from error
    except RvrunError:
        raise
    except jinja2.TemplateError as error:
        raise BadTemplate(name, str(error)) from error
    except Exception as error:
        # A template is the user's code: it can call methods, divide by zero, recurse.
        raise BadTemplate(name, f"rendering it raised {describe(error)}") from error


@functools.lru_cache(maxsize=8)
def _environment(package: str, folder: str, user_folder: str | None) -> jinja2.Environment:
    builtin = jinja2.PackageLoader(package, folder)
    loaders = [jinja2.FileSystemLoader(user_folder), builtin] if user_folder else [builtin]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Makefiles and JSON are not HTML.
        autoescape=jinja2.select_autoescape(enabled_extensions=(HTML,), default=False),
    )
    environment.filters["recipe"] = for_recipe
    environment.filters["definition"] = for_definition
    environment.filters["json"] = _json
    environment.filters["request"] = _request
    return environment


def _json(value: Any) -> str:
    """The filter `json`: a value as JSON on one line."""
    _check_defined(value)
    return for_json(value)


def _request(value: Any) -> str:
    """The filter `request`: a request as indented JSON, without the members that are None.

    A template can show the whole request; optional members need neither `if` nor commas.
    """
    _check_defined(value)
    return indented_json(without_none(value))


def _check_defined(value: Any) -> None:
    """Raise `jinja2.UndefinedError` if a name that the template uses is not defined.

    A filter receives such a name as an object, and StrictUndefined raises only when it is printed.
    """
    if isinstance(value, jinja2.Undefined):
        str(value)
    for item in value.values() if isinstance(value, Mapping) else ():
        _check_defined(item)
    for item in value if isinstance(value, list | tuple) else ():
        _check_defined(item)
