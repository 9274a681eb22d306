"""Convert configs to JSON values and back. The only module that imports cattrs.

A saved config names its class and the version of the class's fields; `Config.upgrade` converts
older versions.

    {"$type": "landcover:Landcover", "$version": 2, "root_uri": "out", "model": {"$type": …}}
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, cast

import attrs
import cattrs
from cattrs.preconf.json import make_converter

from rvrun.errors import RvrunError, closest, describe
from rvrun.inputs import CannotRead, is_unicode, parse_json
from rvrun.pipelines.base import Config, PipelineConfig
from rvrun.pipelines.imports import TYPE, VERSION, SavedConfigError, config_class, user_code
from rvrun.text import quoted, shorten

#: The version of the file that holds a config, as `config_version` is that of a class.
FILE_VERSION = 1
FILE_KEY = "rvrun_config"


#: What converting a config to JSON, or back, raises for values that JSON cannot represent.
_UNSAVEABLE = (TypeError, ValueError, RecursionError, cattrs.StructureHandlerNotFoundError)


class _NotAConfig(ValueError):
    """A value that should be a config. A ValueError, so that cattrs collects it."""


class BadConfig(SavedConfigError):
    """Config values that do not fit their class, with all of their problems."""

    subject: str
    problems: Sequence[str]

    def describe(self) -> str:
        return f"{self.subject}: {'; '.join(self.problems)}"


def type_name(cls: type[Config]) -> str:
    """Return the name of `cls` in saved configs: `module:Class`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def config_to_json(config: Config) -> dict[str, Any]:
    """Convert `config` to JSON values."""
    return cast(dict[str, Any], _converter.unstructure(config))


def value_to_json(value: object) -> Any:
    """Convert any value that a config may have to JSON values. Raises TypeError or ValueError."""
    # cattrs leaves the parts of a named tuple as they are if their types are strings.
    if isinstance(value, list | tuple):
        return [value_to_json(part) for part in value]
    return _converter.unstructure(value)


def config_from_json(values: object, base: type[Config] = PipelineConfig) -> Config:
    """Convert JSON values to the config that they describe, a `base` or a subclass of it.

    Raises `BadConfig` naming each field that does not fit, `NoConfigClass` if the type is not a
    suitable class, `UserCodeError` if an `upgrade` raises.
    """
    try:
        return _converter.structure(values, base)
    except cattrs.BaseValidationError as error:
        problems = _problems(error)
    except _NotAConfig as error:
        problems = [str(error)]
    except RecursionError:
        problems = ["it nests configs too deeply"]
    raise BadConfig(f"saved config {_named_type(values)}", problems)


def digest(values: object) -> str:
    """Return `sha256:` and the hex digest of JSON values, regardless of the order of keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def check_round_trip(config: PipelineConfig) -> dict[str, Any]:
    """Convert `config` to JSON values from which an equal config can be read.

    Raises `BadConfig` if there are no such values.
    """
    subject = f"config class {type(config).__name__}"
    try:
        values = config_to_json(config)
        copy = config_from_json(_through_json(values, subject), type(config))
    except BadConfig as error:
        raise BadConfig(subject, error.problems) from error
    except CannotRead as error:
        raise BadConfig(subject, [f"{_field_to_blame(config)}{error.problem}"]) from None
    except _UNSAVEABLE as error:
        problem = f"cannot be saved as JSON: {describe(error).partition(': ')[2]}"
        raise BadConfig(subject, [f"{_field_to_blame(config)}{problem}"]) from error
    if copy != config:
        both = f"{quoted(config)} becomes {quoted(copy)}"
        raise BadConfig(subject, [f"does not survive a JSON round trip: {both}"])
    return values


def _through_json(values: Any, subject: str) -> Any:
    """JSON values as they are read back from a file, in which they are one level deeper."""
    text = json.dumps({"config": values}, ensure_ascii=False)
    if not is_unicode(text):
        raise CannotRead(subject, "must be a valid string, without surrogates")
    return parse_json(text, subject)["config"]


def _field_to_blame(config: Config) -> str:
    """``field `x` ``, if one field of `config` by itself cannot be saved and read; else empty."""
    cls = type(config)
    for field in attrs.fields(attrs.resolve_types(cls)):
        try:
            value = getattr(config, field.name)
            values = _converter.unstructure(value, unstructure_as=field.type)
            _converter.structure(_through_json(values, field.name), field.type)
        except (CannotRead, *_UNSAVEABLE):
            return f"field `{field.name}` "
        except cattrs.BaseValidationError:
            return f"field `{field.name}` "
    return ""


def _named_type(values: object) -> str:
    if not isinstance(values, dict):
        return quoted(values)
    return f"of type `{shorten(str(values.get(TYPE)))}`"


def _problems(error: cattrs.BaseValidationError) -> list[str]:
    lines = cattrs.transform_error(error, format_exception=_describe)
    # The message about a missing field names it, so its path need not end in the name again.
    lines = [re.sub(r"(field `(\w+)` is missing @ \$.*)\.\2$", r"\1", line) for line in lines]
    return [line.removesuffix(" @ $").replace(" @ $.", " at ") for line in lines]


def _describe(error: BaseException, type_: type | None) -> str:
    if isinstance(error, KeyError):
        return f"field `{shorten(str(error.args[0]))}` is missing"
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        names = [field.name for field in attrs.fields(error.cl)]
        return ", ".join(_unknown_field(name, names) for name in sorted(error.extra_fields))
    return str(error) if isinstance(error, RvrunError) else describe(error).partition(": ")[2]


def _unknown_field(name: str, names: Sequence[str]) -> str:
    near = closest(name, names)
    return f"unknown field `{shorten(name)}`" + (f" (did you mean `{near}`?)" if near else "")


def _is_config(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, Config)


def _is_config_union(cls: object) -> bool:
    if typing.get_origin(cls) not in (typing.Union, types.UnionType):
        return False
    members = [member for member in typing.get_args(cls) if member is not types.NoneType]
    return len(members) > 1 and all(_is_config(member) for member in members)


def _unstructure_config(config: Config) -> dict[str, Any]:
    cls = type(config)
    values: dict[str, Any] = {TYPE: type_name(cls), VERSION: cls.config_version}
    for field in attrs.fields(attrs.resolve_types(cls)):
        value = getattr(config, field.name)
        values[field.name] = _converter.unstructure(value, unstructure_as=field.type)
    return values


def _structure_config(values: object, base: type[Config]) -> Config:
    if not isinstance(values, dict):
        raise _NotAConfig(f"{quoted(values)} is not a config of type {base.__name__}")
    cls = config_class(values.get(TYPE, type_name(base)), base)
    fields = _upgraded(cls, values)
    attrs.resolve_types(cls)
    structure = cattrs.gen.make_dict_structure_fn(
        cls, _converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )
    return structure(fields, cls)


def _upgraded(cls: type[Config], values: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in values.items() if name not in (TYPE, VERSION)}
    saved = values.get(VERSION, cls.config_version)
    if type(saved) is not int or not 1 <= saved <= cls.config_version:
        problem = f"`{VERSION}` must be between 1 and {cls.config_version}, got {quoted(saved)}"
        raise BadConfig(f"saved config of type `{type_name(cls)}`", [problem])
    for version in range(saved, cls.config_version):
        with user_code(f"`{cls.__name__}.upgrade` from version {version}"):
            fields = cls.upgrade(fields, version)
    return fields


def _structure_union(values: object, union: Any) -> Config | None:
    members = typing.get_args(union)
    if values is None and types.NoneType in members:
        return None
    name = values.get(TYPE) if isinstance(values, dict) else None
    for member in members:
        if name == type_name(member):
            return _structure_config(values, member)
    cls = config_class(name, Config)
    for member in members:
        if member is not types.NoneType and issubclass(cls, member):
            return _structure_config(values, member)
    raise ValueError(f"type `{name}` is not one of {union}")


#: How messages call JSON values of each type.
_PRIMITIVES = {str: "a string", int: "an integer", float: "a number", bool: "a boolean"}


def _structure_primitive(value: object, expected: type) -> object:
    """Check a value without coercion: cattrs would read "false" as True. An int is a float, too."""
    if type(value) is not expected and (expected, type(value)) != (float, int):
        raise ValueError(f"{quoted(value)} is not {_PRIMITIVES[expected]}")
    return expected(value)


def _unstructure_set(values: Iterable[Any]) -> list[Any]:
    """A sorted list, as the order of a set differs between processes."""
    return sorted((_converter.unstructure(value) for value in values), key=json.dumps)


def _is_list(type_: object) -> bool:
    return typing.get_origin(type_) is list


def _is_homogeneous_tuple(type_: object) -> bool:
    return typing.get_origin(type_) is tuple and typing.get_args(type_)[1:] == (...,)


def _refusing_strings(factory: Any) -> Any:
    """Like `factory`, but refuse strings, which cattrs would split into characters."""

    def make(type_: Any, converter: cattrs.BaseConverter) -> Any:
        structure = factory(type_, converter)

        def checked(value: object, cls: Any) -> Any:
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"{quoted(value)} is not a list")  # noqa: TRY004 - cattrs collects it
            return structure(value, cls)

        return checked

    return make


def _make_converter() -> cattrs.Converter:
    converter = make_converter()
    for primitive in _PRIMITIVES:
        converter.register_structure_hook(primitive, _structure_primitive)
    for is_kind, factory in (
        (_is_list, cattrs.cols.list_structure_factory),
        (_is_homogeneous_tuple, cattrs.cols.homogenous_tuple_structure_factory),
    ):
        converter.register_structure_hook_factory(is_kind, _refusing_strings(factory))
    converter.register_unstructure_hook(float, float)
    converter.register_unstructure_hook_func(cattrs.cols.is_any_set, _unstructure_set)
    converter.register_unstructure_hook(pathlib.PurePath, str)
    converter.register_structure_hook(pathlib.PurePath, lambda value, cls: cls(value))
    converter.register_structure_hook_func(_is_config, _structure_config)
    converter.register_unstructure_hook_func(_is_config, _unstructure_config)
    converter.register_structure_hook_func(_is_config_union, _structure_union)
    return converter


_converter = _make_converter()
