"""Settings in layers, each over those after it:

    flags > RVRUN_* environment > rvrun.toml or [tool.rvrun] in pyproject.toml > profile > defaults

The profile is `$XDG_CONFIG_HOME/rvrun/<profile>.toml` (`~/.config/rvrun/default.toml`). Keys that
rvrun does not know are errors, wherever they stand. The only door to typed_settings.
"""

from __future__ import annotations

import os
import pathlib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import typed_settings as ts
from attrs.validators import ge, optional
from typed_settings.dict_utils import set_path
from typed_settings.types import LoadedSettings, LoaderMeta, OptionList, SettingsClass

from rvrun.errors import RvrunError, UnknownName
from rvrun.run_command import INTERNAL

ENV_PREFIX = "RVRUN_"
PROFILE = "RVRUN_PROFILE"
_at_least_one = optional(ge(1))


@attrs.frozen(kw_only=True)
class LocalSettings:
    """`[local]`: running on this machine."""

    jobs: int | None = attrs.field(
        default=None,
        validator=_at_least_one,
        metadata={"help": "targets that run at once; not set: one for each CPU"},
    )
    gpus: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"help": "GPUs to use, as CUDA_VISIBLE_DEVICES names them; not set: all found"},
    )
    gpu_slots: int | None = attrs.field(
        default=None,
        validator=_at_least_one,
        metadata={"help": "GPU targets that run at once, on all GPUs; not set: one for each GPU"},
    )
    gpu_locks: str | None = attrs.field(
        default=None,
        metadata={"help": "folder of the slots' lock files; not set: a temporary one of this user"},
    )


@attrs.frozen(kw_only=True)
class Settings:
    """All settings; a section each for what belongs together."""

    templates: str | None = attrs.field(
        default=None,
        metadata={"help": "folder of templates that replace rvrun's own of the same name"},
    )
    local: LocalSettings = LocalSettings()


class BadSetting(RvrunError):
    """A setting's value that cannot be used, or a settings file that cannot be read."""

    def __init__(self, origin: str, problem: str) -> None:
        self.origin = origin
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.origin}: {self.problem}"


@attrs.frozen
class Layer:
    """What one origin sets: dotted keys and their values."""

    origin: str
    values: Mapping[str, Any]

    def __call__(self, settings_cls: SettingsClass, options: OptionList) -> LoadedSettings:
        """A typed_settings loader."""
        nested: dict[str, Any] = {}
        for key, value in self.values.items():
            set_path(nested, key, value)
        return LoadedSettings(nested, LoaderMeta(self.origin))


@attrs.frozen(kw_only=True)
class Option:
    """One setting: what it is called where, its value and where that comes from."""

    key: str
    variable: str
    help: str
    value: Any
    origin: str


def load_settings(flags: Mapping[str, Any] | None = None, profile: str | None = None) -> Settings:
    """The settings in force. `flags` are dotted keys given on the command line; None is not given.

    Raises `UnknownName` or `BadSetting`, naming the file or variable.
    """
    return ts.load_settings(Settings, layers(flags or {}, profile))


def options(flags: Mapping[str, Any] | None = None, profile: str | None = None) -> list[Option]:
    """Every setting with its value and the origin of that, as `rvrun config` shows them."""
    found = layers(flags or {}, profile)
    settings = ts.load_settings(Settings, found)
    return [
        Option(
            key=key,
            variable=variable(key),
            help=text,
            value=_value(settings, key),
            origin=next((x.origin for x in reversed(found) if key in x.values), "default"),
        )
        for key, text, _ in _fields()
    ]


def layers(flags: Mapping[str, Any], profile: str | None) -> list[Layer]:
    """All layers that set something, the weakest first, their keys checked."""
    found = [
        *_profile_layer(profile or os.environ.get(PROFILE) or None),
        *_project_layer(),
        *_environment_layers(),
    ]
    given = {key: value for key, value in flags.items() if value is not None}
    return [*found, _layer("the command line", given)]


def _layer(origin: str, values: Mapping[str, Any]) -> Layer:
    """A layer of values as they were found, each checked and made what its setting is."""
    kinds = {key: kind for key, _, kind in _fields()}
    return Layer(origin, {key: _value_of(origin, key, kinds[key], values[key]) for key in values})


def _value_of(origin: str, key: str, kind: type, value: Any) -> Any:
    problem = f"`{key}` cannot be {value!r}: "
    if kind is int:
        if type(value) is not int or value < 1:
            raise BadSetting(origin, f"{problem}give a whole number of at least 1")
        return value
    if kind is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
            raise BadSetting(origin, f"{problem}give a list of texts")
        return tuple(str(item) for item in value)
    if not isinstance(value, str):
        raise BadSetting(origin, f"{problem}give a text")
    return value


def variable(key: str) -> str:
    """`local.gpu_slots` → `RVRUN_LOCAL_GPU_SLOTS`."""
    return ENV_PREFIX + key.upper().replace(".", "_")


def _fields() -> Iterator[tuple[str, str, type]]:
    """Each setting's dotted key, help and kind of value."""
    yield from _fields_of(Settings, "")


def _fields_of(cls: type, prefix: str) -> Iterator[tuple[str, str, type]]:
    for field in attrs.fields(attrs.resolve_types(cls)):
        if attrs.has(field.type):
            yield from _fields_of(field.type, f"{prefix}{field.name}.")
        else:
            kind = next((kind for kind in (int, tuple) if kind.__name__ in str(field.type)), str)
            yield f"{prefix}{field.name}", field.metadata["help"], kind


def _sections() -> set[str]:
    return {key.rpartition(".")[0] for key in _keys()}


def _keys() -> tuple[str, ...]:
    return tuple(key for key, _, _ in _fields())


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _profile_layer(profile: str | None) -> Iterator[Layer]:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    path = pathlib.Path(base, "rvrun", f"{profile or 'default'}.toml")
    if path.exists():
        yield _file_layer(path, _read_toml(path))
    elif profile is not None:
        raise BadSetting(f"profile `{profile}`", f"there is no file {path}")


def _project_layer() -> Iterator[Layer]:
    """`rvrun.toml`, else `pyproject.toml` if it speaks of rvrun, in the nearest folder upwards."""
    for folder in (pathlib.Path.cwd(), *pathlib.Path.cwd().parents):
        own, project = folder / "rvrun.toml", folder / "pyproject.toml"
        if own.exists():
            yield _file_layer(own, _read_toml(own))
            return
        if project.exists():
            tool = _read_toml(project).get("tool")
            section = tool.get("rvrun") if isinstance(tool, dict) else None
            if section is not None and not isinstance(section, dict):
                problem = f"`tool.rvrun` cannot be {section!r}: write a section"
                raise BadSetting(str(project), problem)
            if section is not None:
                yield _file_layer(project, section, "tool.rvrun.")
                return


def _read_toml(path: pathlib.Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadSetting(str(path), f"cannot be read: {error}") from None


def _file_layer(path: pathlib.Path, content: Mapping[str, Any], section: str = "") -> Layer:
    values = dict(_flatten(content))
    known = _keys()
    for key in values:
        if key not in known:
            raise UnknownName(
                "setting", key, known, f"{path}{f' [{section[:-1]}]' if section else ''}"
            )
    return _layer(_shown(path), values)


def _shown(path: pathlib.Path) -> str:
    """Relative where that is shorter to read."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and (value or f"{prefix}{key}" in _sections()):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _environment_layers() -> Iterator[Layer]:
    """A layer for each variable, so that an error and an origin can name it."""
    by_variable = {variable(key): (key, kind) for key, _, kind in _fields()}
    for name in sorted(os.environ):
        if not name.startswith(ENV_PREFIX) or name in (*INTERNAL, PROFILE):
            continue
        if name not in by_variable:
            raise UnknownName("environment variable", name, tuple(by_variable))
        key, kind = by_variable[name]
        yield _layer(name, {key: _read_text(os.environ[name], kind)})


def _read_text(text: str, kind: type) -> Any:
    """What a variable says, where it says something of its kind; else the text, to be refused."""
    if kind is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    whole = kind is int and text.isascii() and text.isdigit() and int(text) > 0
    return int(text) if whole else text
