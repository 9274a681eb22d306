"""Where settings come from: Raster Vision's files, a profile, the project's file, variables.

Each source yields layers of values that are validated one by one, so that an error and `rvrun
config` name the file or variable. Keys that rvrun does not know are errors in every source.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from rvrun import plugins
from rvrun.adapters.raster_vision import settings as raster_vision
from rvrun.environment import INTERNAL, PASSED_ON
from rvrun.errors import UnknownName
from rvrun.inputs import check_utf8, read_toml
from rvrun.settings.files import (
    PROFILE,
    PROJECT_FILE,
    PYPROJECT_FILE,
    profile_file,
    project_folders,
)
from rvrun.settings.schema import ENV_PREFIX, Field, all_fields, variable
from rvrun.settings.values import BadSetting, parse, validate
from rvrun.text import quoted, shorten


@attrs.frozen
class Layer:
    """The values that one origin sets, by dotted key."""

    origin: str
    values: Mapping[str, Any]


def validated(origin: str, values: Mapping[str, Any]) -> Layer:
    """Return a layer of raw values, each validated. Raises `BadSetting` or `UnknownName`."""
    if not values:
        # Only who sets something pays for loading all runners' settings.
        return Layer(origin, {})
    fields = _fields_by_key()
    return Layer(
        origin, {key: validate(origin, fields[key], value) for key, value in values.items()}
    )


def _fields_by_key() -> dict[str, Field]:
    return {field.key: field for field in all_fields()}


def raster_vision_layers(profile: str | None) -> Iterator[Layer]:
    """Yield Raster Vision's own settings, if it is installed."""
    if not raster_vision.may_have_settings(plugins.own_names(), profile):
        # Only who sets something pays for loading all runners' settings.
        return
    fields = _fields_by_key()
    keys = {key.upper().replace(".", "_"): key for key in fields if fields[key].raster_vision}
    for origin, texts in raster_vision.layers(keys, profile):
        yield validated(origin, {key: parse(text, fields[key]) for key, text in texts.items()})


def profile_names() -> list[str]:
    """List the profiles that there are, rvrun's and, if it is installed, Raster Vision's."""
    folder = pathlib.Path(profile_file(None)).parent
    names = {path.stem for path in folder.glob("*.toml")}
    return sorted(names.union(raster_vision.profile_names()))


def profile_layer(profile: str | None) -> Iterator[Layer]:
    """Yield the settings of a profile; without a name those of `default`, if it exists."""
    path = pathlib.Path(profile_file(profile))
    if path.exists():
        yield _file_layer(path, read_toml(str(path)))
    elif profile is not None and not raster_vision.has_profile(profile):
        paths = [shorten(str(file)) for file in (path, *raster_vision.profile_file(profile))]
        fix = f"write that file, or omit --profile and {PROFILE}"
        problem = f"there is no file {' or '.join(paths)}"
        raise BadSetting(f"profile `{shorten(profile)}`", problem, fix)


def project_layer() -> Iterator[Layer]:
    """Yield the project's settings, from the nearest folder upwards that has any.

    They are in `rvrun.toml`, else in `[tool.rvrun]` of `pyproject.toml`.
    """
    for folder in map(pathlib.Path, project_folders()):
        own, project = folder / PROJECT_FILE, folder / PYPROJECT_FILE
        # A link that leads nowhere is a mistake to report, not a file to skip.
        if os.path.lexists(own):
            yield _file_layer(own, read_toml(str(own)))
            return
        if os.path.lexists(project) and (section := _tool_section(project)) is not None:
            yield _file_layer(project, section, "tool.rvrun")
            return


def _tool_section(project: pathlib.Path) -> dict[str, Any] | None:
    tool = read_toml(str(project)).get("tool")
    section = tool.get("rvrun") if isinstance(tool, dict) else None
    if section is not None and not isinstance(section, dict):
        raise BadSetting(str(project), f"`tool.rvrun` must be a table, got {quoted(section)}")
    return section


def project_folder() -> str:
    """Return the project's directory: that of its settings, else the current one."""
    layer = next(project_layer(), None)
    return os.getcwd() if layer is None else os.path.dirname(os.path.abspath(layer.origin))


def project_file() -> str:
    """Return the file of the project's settings, or the name for a new one if there is none."""
    return next((layer.origin for layer in project_layer()), f"{PROJECT_FILE} (not there yet)")


def environment_layers() -> Iterator[Layer]:
    """Yield a layer for each `RVRUN_*` variable that is a setting."""
    names = [name for name in sorted(os.environ) if name.startswith(ENV_PREFIX)]
    names = [name for name in names if name not in (*INTERNAL, *PASSED_ON, PROFILE)]
    if not names:
        return
    fields = {variable(field.key): field for field in all_fields() if field.record is None}
    for name in names:
        if name not in fields:
            nearby = _nearby(name.removeprefix(ENV_PREFIX), tuple(fields), "_")
            raise UnknownName("environment variable", name, tuple(fields), nearby=nearby)
        check_utf8(f"the value of {name}", os.environ[name])
        field = fields[name]
        yield validated(name, {field.key: parse(os.environ[name], field)})


def _file_layer(path: pathlib.Path, content: Mapping[str, Any], section: str = "") -> Layer:
    keys = tuple(_fields_by_key())
    values = dict(_flatten(content, keys))
    for key in values:
        if key not in keys:
            place = f"{path} [{section}]" if section else str(path)
            raise UnknownName("setting", key, keys, place, _nearby(key, keys, "."))
    relative = os.path.relpath(path)
    # Relative to the current folder where that is shorter to read.
    return validated(str(path) if relative.startswith("..") else relative, values)


def _nearby(name: str, names: tuple[str, ...], separator: str) -> tuple[str, ...]:
    """The names in the section of `name`, or all sections if there is no such section."""
    section = name.split(separator, maxsplit=1)[0] + separator
    inside = tuple(n for n in names if n.removeprefix(ENV_PREFIX).startswith(section))
    return inside or tuple(dict.fromkeys(name.split(".")[0] for name in names))


def _flatten(
    content: Mapping[str, Any], keys: tuple[str, ...], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a table that is a setting's value is not taken apart."""
    sections = {key.rpartition(".")[0] for key in keys}
    for key, value in content.items():
        full = f"{prefix}{key}"
        if full not in keys and isinstance(value, dict) and (value or full in sections):
            yield from _flatten(value, keys, f"{full}.")
        else:
            yield full, value
