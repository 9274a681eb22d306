"""Raster Vision's configs: check, convert to documents, read again, save at their URI."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic_core import to_json
from rastervision.pipeline import registry_ as registry
from rastervision.pipeline import rv_config_ as rv_config
from rastervision.pipeline.config import Config, build_config
from rastervision.pipeline.file_system import FileSystem, LocalFileSystem, NotReadableError
from rastervision.pipeline.file_system.utils import file_to_str, str_to_file
from rastervision.pipeline.pipeline_config import PipelineConfig

from rvrun.adapters import registry as adapters
from rvrun.errors import RvrunError
from rvrun.pipelines.imports import ROOT_FILE, user_code

#: The distributions whose plugins handle URIs, by scheme.
_PLUGINS = {"s3": "rastervision-aws-s3"}
#: Keys of a saved config that are not fields of the user's.
_METADATA = ("rv_config", "plugin_versions")


class BadConfig(RvrunError):
    """A config of Raster Vision's that cannot be saved or read again."""

    subject: str
    problem: str
    template = "{subject}: {problem}"


# To documents


def make_document(
    config: Any, source: str | None, saved: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Convert a user's config to a document, prepared as Raster Vision does before it saves one.

    - `source`: the loose file that returned it; noted in the document only if it defines classes
      of the config. Plugins do not need it.
    - `saved`: the values that the config was read from. Numbers that are equal keep their notation:
      otherwise a default of 0 for a float, which is saved as 0, would become 0.0.

    Raises `BadConfig` or `UserCodeError`.
    """
    subject = f"Raster Vision config {type(config).__name__}"
    _check(config, subject)
    with user_code(f"updating {subject}"):
        config.update()
    with user_code(f"validating {subject}"):
        config.recursive_validate_config()
    with user_code(f"saving {subject}"):
        values = _to_values(config)
    values = _keep_numbers(saved, values)
    values |= {"rv_config": None, "plugin_versions": _plugin_versions(values)}
    document = _document(values, source if source and _defines_class(source, values) else None)
    uri = str(config.get_config_uri())
    return {**document, ROOT_FILE: uri} if is_local(uri) else document


def _check(config: Any, subject: str) -> None:
    if not isinstance(config, PipelineConfig):
        raise BadConfig(subject, "is not a PipelineConfig, so it has no pipeline to run")
    if registry.configs.get(config.type_hint) is not type(config):
        decorator = f"@register_config('{type(config).__name__.lower()}')"
        raise BadConfig(
            subject, f"is not registered, so it cannot be saved; decorate it with {decorator}"
        )
    if not config.root_uri:
        raise BadConfig(subject, "has no `root_uri`, where it is saved; set one")


def wrap(values: dict[str, Any]) -> dict[str, Any]:
    """Convert a config that Raster Vision saved to a document, with the settings saved in it."""
    return {**_document(values, None), "rv_config": values.get("rv_config") or {}}


def _document(values: dict[str, Any], source: str | None) -> dict[str, Any]:
    # Not at the top: it imports attrs and cattrs, which targets do not need.
    from rvrun.pipelines.serialize import FILE_KEY, FILE_VERSION

    return {
        FILE_KEY: FILE_VERSION,
        adapters.KEY: "rastervision",
        "source": source,
        "name": _default_name(values),
        "config": values,
    }


def type_hints(values: Any) -> Iterator[str]:
    """Yield the type hints of all configs within `values`."""
    if isinstance(values, dict):
        if isinstance(values.get("type_hint"), str):
            yield values["type_hint"]
        for value in values.values():
            yield from type_hints(value)
    elif isinstance(values, list):
        for value in values:
            yield from type_hints(value)


def _plugin_versions(values: Any) -> dict[str, int]:
    """The versions of the config's own plugins, which determine later how to upgrade it.

    Raster Vision saves those of all installed plugins, which differ between machines.
    """
    plugins = {
        registry.get_plugin(ancestor)
        for hint in type_hints(values)
        for ancestor in registry.get_type_hint_lineage(hint)
    }
    versions = registry.plugin_versions
    return {plugin: versions[plugin] for plugin in sorted(plugins) if plugin in versions}


def _defines_class(source: str, values: Any) -> bool:
    """Whether the loose file `source` defines a class of the config, rather than a plugin."""
    module = os.path.basename(source).removesuffix(".py")
    return any(registry.get_config(hint).__module__ == module for hint in type_hints(values))


# Names


def _default_name(values: Mapping[str, Any]) -> str:
    """The last part of a config's type hint, `semantic_segmentation`, as a pipeline's name."""
    from rvrun.model import RESERVED

    name = _to_name(str(values["type_hint"]).rpartition(".")[2]) or "pipeline"
    return f"{name}-pipeline" if name.casefold() in RESERVED else name


def _to_name(text: str) -> str:
    """`text` without characters that a pipeline's name must not contain; possibly empty."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-").removesuffix(".json")


def distinct_names(pipelines: Sequence[tuple[str, str]]) -> list[str]:
    """Return a distinct name for each pipeline, given its name and root URI.

    Equal names get what differs in their root URIs as a suffix, else a number.
    """
    names = [name for name, _ in pipelines]
    for name in dict.fromkeys(names):
        same = [index for index, (other, _) in enumerate(pipelines) if other == name]
        if len(same) > 1:
            suffixes = _differences([pipelines[index][1] for index in same])
            for index, suffix in zip(same, suffixes, strict=True):
                names[index] = f"{name}-{suffix}"
    return names


def _differences(uris: Sequence[str]) -> list[str]:
    """What remains of URIs without the parts that all begin and end with; else numbers.

    `out/a/run`, `out/b/run` → `a`, `b`.
    """
    paths = [uri.rstrip("/").split("/") for uri in uris]
    first = _num_common(zip(*paths, strict=False))
    # What all begin with must not count again from the end.
    rests = [path[first:] for path in paths]
    last = _num_common(zip(*(reversed(rest) for rest in rests), strict=False))
    suffixes = [_to_name("-".join(rest[: len(rest) - last])) for rest in rests]
    if all(suffixes) and len({suffix.casefold() for suffix in suffixes}) == len(suffixes):
        return suffixes
    return [str(number) for number in range(1, len(uris) + 1)]


def _num_common(columns: Iterable[tuple[str, ...]]) -> int:
    """How many of `columns`, from the first, have equal parts."""
    count = 0
    for column in columns:
        if len(set(column)) > 1:
            break
        count += 1
    return count


def check_uris(configs: Sequence[tuple[str, Any]]) -> None:
    """Raise `BadConfig` if two configs, given with their names, are saved at the same URI."""
    names: dict[str, str] = {}
    for name, config in configs:
        uri = str(config.get_config_uri())
        location = os.path.realpath(uri) if is_local(uri) else uri
        if location in names:
            subject = f"two Raster Vision configs ({names[location]}, {name})"
            raise BadConfig(subject, f"are both saved at {uri}; give each its own `root_uri`")
        names[location] = name


# From documents


def read(values: Mapping[str, Any]) -> Any:
    """Return the config of saved values, upgraded if a plugin is newer than they are."""
    fields = {key: value for key, value in values.items() if key not in _METADATA}
    with user_code(f"reading a saved Raster Vision config of type `{values.get('type_hint')}`"):
        if _is_current(values):
            return build_config(fields)
        return Config.from_dict({**fields, "plugin_versions": values["plugin_versions"]})


def _is_current(values: Mapping[str, Any]) -> bool:
    """Whether saved values need no upgrade by the plugins that are installed."""
    versions = values.get("plugin_versions") or {}
    return all(registry.plugin_versions.get(name) == versions[name] for name in versions)


def config_uri(document: Mapping[str, Any]) -> str:
    """Return where Raster Vision looks for the config."""
    return str(read(document["config"]).get_config_uri())


def check_plugin(uri: str) -> None:
    """Raise `BadConfig` if no plugin handles `uri`: Raster Vision would make a folder `s3:`."""
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.isalnum() and is_local(uri):
        example = f" (pip install {_PLUGINS[scheme]})" if scheme in _PLUGINS else ""
        problem = f"no Raster Vision plugin for {scheme}:// is installed here; install one{example}"
        raise BadConfig(uri, problem)


# At its URI


def saved(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return where Raster Vision looks for the config, and the text that it saves there.

    The text includes this machine's settings and the versions of all plugins. It has the bytes of
    Raster Vision's `save_pipeline_config`, except that sets are sorted: the order of a set of
    strings differs between processes, so that the file would never be the same as before.
    """
    return _to_save(document["config"], read(document["config"]))


def save(document: Mapping[str, Any], config: Any) -> None:
    """Save the config of a document at its URI, unless it is saved there already."""
    _write(*_to_save(document["config"], config))


def _to_save(values: Mapping[str, Any], config: Any) -> tuple[str, str]:
    # Not the values of `config`: reading it again turns a default of 0 for a float into 0.0.
    current = values if _is_current(values) else _to_values(config)
    metadata = {
        "rv_config": rv_config.get_config_dict(registry.rv_config_schema),
        "plugin_versions": registry.plugin_versions,
    }
    # Pydantic's own serializer, because Python's writes some numbers in another way: 1e-05.
    text = to_json({**current, **metadata}).decode()
    return str(config.get_config_uri()), text


def _to_values(config: Any) -> dict[str, Any]:
    """The JSON values of a config, its sets sorted."""
    values: dict[str, Any] = json.loads(config.json())
    plain = config.dict()
    return _sort_sets(plain, values) if _has_sets(plain) else values


def _keep_numbers(old: Any, new: Any) -> Any:
    """`new`, with the numbers of `old` that are equal."""
    if isinstance(old, Mapping) and isinstance(new, dict):
        return {key: _keep_numbers(old.get(key), value) for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_keep_numbers(*pair) for pair in zip(old, new, strict=True)]
    if {type(old), type(new)} == {int, float} and old == new:
        return old
    return new


def _has_sets(plain: Any) -> bool:
    if isinstance(plain, Mapping):
        return any(map(_has_sets, plain.values()))
    if isinstance(plain, list | tuple):
        return any(map(_has_sets, plain))
    return isinstance(plain, AbstractSet)


def _sort_sets(plain: Any, values: Any) -> Any:
    """`values`, the JSON of `plain`, with those lists sorted that are sets in `plain`."""
    if isinstance(values, dict) and isinstance(plain, Mapping):
        parts = {str(key): part for key, part in plain.items()}
        return {key: _sort_sets(parts.get(key), value) for key, value in values.items()}
    if isinstance(values, list) and isinstance(plain, AbstractSet):
        return sorted(values, key=json.dumps)
    if isinstance(values, list) and isinstance(plain, list | tuple):
        return [_sort_sets(*pair) for pair in zip(plain, values, strict=True)]
    return values


def _write(uri: str, text: str) -> None:
    """Write a file unless it has this text.

    Atomically if it is local, as other targets may read it, or write the same, at the same time.
    """
    if _read_text(uri) == text:
        return
    if not is_local(uri):
        str_to_file(text, uri)
        return
    temporary = f"{uri}.{os.getpid()}"
    str_to_file(text, temporary)
    os.replace(temporary, uri)


def _read_text(uri: str) -> str | None:
    """The text of a file; None if it cannot be read."""
    try:
        # Not by Raster Vision if it is local: its progress bars take longer than all of this.
        if not is_local(uri):
            return str(file_to_str(uri))
        with open(uri, encoding="utf-8") as file:
            return file.read()
    except (NotReadableError, OSError, ValueError):
        return None


def is_local(uri: str) -> bool:
    """Whether Raster Vision treats `uri` as a path on this machine."""
    return FileSystem.get_file_system(uri, "w") is LocalFileSystem
