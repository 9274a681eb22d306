"""The code fingerprints of loaded pipelines: where their code begins, and what it reaches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rvrun import paths
from rvrun.adapters import registry as adapters
from rvrun.code.cache import Cache
from rvrun.code.fingerprint import to_text
from rvrun.code.reach import Id, Roots, reach
from rvrun.code.results import Results, cache_folder
from rvrun.code.sources import Sources
from rvrun.errors import RvrunError
from rvrun.pipelines.base import Config
from rvrun.pipelines.declare import LoadedPipeline
from rvrun.pipelines.user_files import module_file


class NotInstalled(RvrunError):
    """A package whose version counts, which is not installed."""

    name: str
    template = "`code_packages` must name installed packages, got `{name}`"
    fix = "install `{name}`, or remove it from `code_packages`"


def fingerprints(pipelines: Sequence[LoadedPipeline], packages: Sequence[str]) -> dict[str, str]:
    """Return the fingerprint of each command of each pipeline, by its path in the run directory.

    - `packages`: names of installed distributions whose version counts.

    Raises `NotInstalled`.
    """
    results = Results(cache_folder())
    versions = {name: _version(name) for name in packages}
    files: dict[str, str] = {}
    for pipeline in pipelines:
        roots = find_roots(pipeline)
        places = [module_file(sys.modules.get(name)) for name in roots.all_modules()]
        key = (pipeline.name, roots, versions, places, sys.path)
        texts = results.get(key)
        if texts is None:
            texts, used = _read_code(pipeline.name, roots, versions)
            results.put(key, used, texts)
        files.update(texts)
    return files


def _read_code(
    name: str, roots: Roots, versions: Mapping[str, str]
) -> tuple[dict[str, str], set[str]]:
    """Return the fingerprints of a pipeline, and the files and folders they were made from."""
    cache = Cache(os.getcwd(), cache_folder())
    sources = Sources(cache)
    texts = {
        paths.code(name, command): to_text(
            f"{name}/{command}", reach(sources, roots, command), versions
        )
        for command in roots.commands
    }
    cache.save()
    return texts, sources.paths


def find_roots(pipeline: LoadedPipeline) -> Roots:
    """Return where the code of a pipeline begins."""
    configs = [_id(base) for cls in _config_classes(pipeline) for base in _bases(cls)]
    modules = [_id(type(pipeline.pipeline))[0]]
    if source := pipeline.document.get("source"):
        modules.append(os.path.basename(source).removesuffix(".py"))
    return Roots(
        pipeline=tuple(map(_id, _bases(type(pipeline.pipeline)))),
        configs=tuple(dict.fromkeys(configs)),
        config=_id(type(pipeline.config)),
        modules=tuple(dict.fromkeys(modules)),
        commands=tuple(command.name for command in pipeline.declared.commands),
    )


def _bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base is not object]


def _id(cls: type) -> Id:
    return cls.__module__, cls.__qualname__


def _config_classes(pipeline: LoadedPipeline) -> list[type]:
    adapter = adapters.of_document(pipeline.document)
    if adapter is not None:
        return list(adapter.config_classes(pipeline.document))
    return list(dict.fromkeys(map(type, _configs(pipeline.config))))


def _configs(value: Any) -> Iterator[Config]:
    """Yield all configs in a config, itself first."""
    if isinstance(value, Config):
        yield value
        value = vars(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _configs(item)


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        raise NotInstalled(name) from None
