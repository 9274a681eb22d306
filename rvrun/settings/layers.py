"""Settings in layers, each of which overrides those after it.

    flags > RVRUN_* environment > rvrun.toml or [tool.rvrun] in pyproject.toml > profile
    > Raster Vision's own settings > defaults

The profile is `$XDG_CONFIG_HOME/rvrun/<profile>.toml` (`~/.config/rvrun/default.toml`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs

from rvrun.settings import sources
from rvrun.settings.files import PROFILE
from rvrun.settings.schema import (
    AwsSettings,
    Field,
    PriceSettings,
    Settings,
    all_fields,
    fields_of,
    runner_sections,
    variable,
)
from rvrun.settings.sources import Layer
from rvrun.settings.values import spell

T = TypeVar("T", bound=attrs.AttrsInstance)

COMMAND_LINE = "the command line"
#: The classes of rvrun's own sections, by name.
OWN_SECTIONS = {"aws": AwsSettings, "prices": PriceSettings}


@attrs.frozen(kw_only=True)
class Option:
    """One setting: its names, its value in force and where that comes from.

    - `variable`: its environment variable; empty for tables of tables, which have none.
    """

    key: str
    variable: str
    help: str
    value: Any
    origin: str
    secret: bool = False

    @property
    def shown(self) -> str:
        """The value as its environment variable spells it, without values that may be secrets."""
        return spell(self.value, secret=self.secret)


def load_settings(flags: Mapping[str, Any] | None = None, profile: str | None = None) -> Settings:
    """Load the settings in force.

    - `flags`: values given on the command line, by dotted key; None for flags not given.

    Raises `UnknownName` or `BadSetting`, which name the file or variable.
    """
    stack = layers(flags or {}, profile)
    if not any(layer.values for layer in stack):
        # All sections have their defaults, which `Settings.of` makes without loading the runners.
        return Settings()
    return _settings(stack)


def trusted_folder(settings: Settings) -> str | None:
    """Return the directory to which `imports` restricts a config's code; None if it does not."""
    return sources.project_folder() if settings.imports == "project" else None


def options(flags: Mapping[str, Any] | None = None, profile: str | None = None) -> list[Option]:
    """List every setting with its value and origin, as `rvrun config` shows them."""
    stack = layers(flags or {}, profile)
    settings = _settings(stack)
    return [
        Option(
            key=field.key,
            variable="" if field.record else variable(field.key),
            help=field.help,
            value=_value(settings, field.key),
            origin=_origin(stack, field) or "default",
            secret=field.secret,
        )
        for field in all_fields()
    ]


def layers(flags: Mapping[str, Any], profile: str | None) -> list[Layer]:
    """Return all layers that set something, the weakest first.

    A layer that sets a part of a table also holds what weaker layers set of it.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    stack = [
        *sources.raster_vision_layers(profile),
        *sources.profile_layer(profile or os.environ.get(PROFILE) or None),
        *sources.project_layer(),
        *sources.environment_layers(),
        sources.validated(COMMAND_LINE, given),
    ]
    merged: dict[str, Any] = {}
    whole = []
    for layer in stack:
        values = {key: _merge(merged.get(key), value) for key, value in layer.values.items()}
        merged.update(values)
        whole.append(Layer(layer.origin, values))
    return whole


def _merge(weak: Any, strong: Any) -> Any:
    if not isinstance(weak, dict) or not isinstance(strong, dict):
        return strong
    return {**weak, **{key: _merge(weak.get(key), value) for key, value in strong.items()}}


def _origin(stack: Sequence[Layer], field: Field) -> str:
    """The strongest layer that sets a setting; of a table, which layers add to, all of them."""
    origins = [layer.origin for layer in reversed(stack) if field.key in layer.values]
    return ", ".join(origins if field.is_table else origins[:1])


def _settings(stack: Sequence[Layer]) -> Settings:
    values: dict[str, Any] = {}
    for layer in stack:
        values.update(layer.values)
    runners = {name: _section(cls, f"{name}.", values) for name, cls in runner_sections().items()}
    sections: dict[str, Any] = {
        name: _section(cls, f"{name}.", values) for name, cls in OWN_SECTIONS.items()
    }
    plain = {f.key: values[f.key] for f in fields_of(Settings) if f.key in values}
    own = {k: v for k, v in plain.items() if "." not in k}
    return Settings(**own, **sections, runners=runners)


def _section(cls: type[T], prefix: str, values: Mapping[str, Any]) -> T:
    """The section of that class from validated values; tables become instances of their class."""
    own = {}
    for field in fields_of(cls, prefix):
        if field.key in values:
            value = values[field.key]
            if (record := field.record) is not None:
                value = {name: record(**items) for name, items in value.items()}
            own[field.key.removeprefix(prefix)] = value
    return cls(**own)


def _value(settings: Settings, key: str) -> Any:
    section, _, name = key.rpartition(".")
    if not section:
        return getattr(settings, name)
    cls = runner_sections().get(section)
    return getattr(settings.of(cls) if cls else getattr(settings, section), name)
