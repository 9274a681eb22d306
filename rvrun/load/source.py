"""What the user wrote, loaded: a `.py` file, a module or a saved `.json` → pipelines.

import        the file or module; its `get_config(s)(runner, **args)` is called
save          each config becomes JSON values and must be the same after reading them
build         the pipeline of each config
declare       what it says of its commands, checked

Configs of other systems go through their adapter instead (see `foreign`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import attrs

from rvrun.adapters import registry as adapters
from rvrun.aws import storage
from rvrun.load.arguments import bind
from rvrun.model import check_pipeline_name
from rvrun.pipelines import serialize
from rvrun.pipelines.base import Pipeline, PipelineConfig
from rvrun.pipelines.declare import (
    CannotLoad,
    LoadedPipeline,
    call_user_code,
    check_document,
    declare,
    location,
)
from rvrun.pipelines.imports import CannotImport, import_module, import_source


def load(
    source: str, runner: str, args: Mapping[str, str], *, verbosity: int = 0
) -> list[LoadedPipeline]:
    """The pipelines of `source`, for the runner called `runner`, with `-a` arguments `args`.

    `verbosity` is for other systems' configs.

    Raises the `RvrunError` that says what is wrong; what the user's own code raised is a
    `UserCodeError` with that as its cause.
    """
    if source.endswith(".json"):
        if args:
            raise CannotLoad(source, "a saved config takes no arguments (-a)")
        return _distinguish([_load_saved(document) for document in read_documents(source)])
    is_file = source.endswith(".py") or os.sep in source
    adapters.meet(source, verbosity)
    module = import_source(source) if is_file else _import_named(source)
    path = os.path.relpath(source).replace(os.sep, "/") if is_file else None
    configs = _get_configs(module, source, runner, args)
    return _distinguish([_load_any(config, path) for config in configs])


def read_documents(path: str) -> list[dict[str, Any]]:
    """The saved configs in the JSON file at `path`: one, or a list."""
    content = storage.read(path)
    try:
        documents = json.loads(content)
    except ValueError as error:
        raise CannotLoad(path, f"is not JSON ({error})") from None
    documents = documents if isinstance(documents, list) else [documents]
    if not documents:
        raise CannotLoad(path, "holds no config")
    for document in documents:
        if not adapters.is_own(document):
            check_document(document, path)
    return documents


def _import_named(name: str) -> Any:
    try:
        return import_module(name)
    except CannotImport as error:
        if os.path.exists(f"{name}.py"):
            raise CannotImport(name, f"{error.problem}; did you mean `{name}.py`?") from None
        raise


def _get_configs(module: Any, source: str, runner: str, args: Mapping[str, str]) -> list[Any]:
    function = getattr(module, "get_configs", None) or getattr(module, "get_config", None)
    if not callable(function):
        raise CannotLoad(source, "has neither a function `get_config` nor `get_configs`")
    place = f"`{function.__name__}` of {source}"
    values = bind(function, args, place)
    found = call_user_code(place, function, runner, **values)
    configs = list(found) if isinstance(found, (list, tuple)) else [found]
    if not configs:
        raise CannotLoad(source, f"`{function.__name__}` returned no config")
    for config in configs:
        if not isinstance(config, PipelineConfig) and adapters.of_config(config) is None:
            problem = f"returned {config!r}, which is no rvrun.PipelineConfig"
            raise CannotLoad(source, f"`{function.__name__}` {problem}")
    return configs


def _distinguish(pipelines: list[LoadedPipeline]) -> list[LoadedPipeline]:
    """Other systems' pipelines have no names of their own, so these may have to be told apart."""
    by_pipeline = [adapters.of_document(pipeline.document) for pipeline in pipelines]
    found = list(pipelines)
    for adapter in dict.fromkeys(filter(None, by_pipeline)):
        indices = [index for index, other in enumerate(by_pipeline) if other is adapter]
        named = adapter.distinguish([pipelines[index] for index in indices])
        for index, pipeline in zip(indices, named, strict=True):
            found[index] = pipeline
    return found


def _load_any(config: Any, source: str | None) -> LoadedPipeline:
    adapter = adapters.of_config(config)
    return _load(config, source) if adapter is None else adapter.load(config, source)


def _load_saved(document: dict[str, Any]) -> LoadedPipeline:
    adapter = adapters.of_document(document)
    if adapter is not None:
        return adapter.load_saved(document)
    source = document.get("source")
    if source:
        import_source(source)
    config = serialize.config_from_json(document.get("config"))
    assert isinstance(config, PipelineConfig)
    return _load(config, source)


def _load(config: PipelineConfig, source: str | None) -> LoadedPipeline:
    config = config if config.name else _named(config)
    check_pipeline_name(config.name, location(type(config)))
    values = serialize.check_round_trip(config)
    pipeline = call_user_code(f"building pipeline `{config.name}`", config.build)
    if not isinstance(pipeline, Pipeline):
        problem = f"`{type(config).__name__}.build` returned {pipeline!r}, no rvrun.Pipeline"
        raise CannotLoad(f"pipeline `{config.name}`", problem)
    return LoadedPipeline(
        config=config,
        document={serialize.FILE_KEY: serialize.FILE_VERSION, "source": source, "config": values},
        pipeline=pipeline,
        declared=declare(pipeline, config.name, values),
        code=storage.read(source) if source else None,
    )


def _named(config: PipelineConfig) -> PipelineConfig:
    name = default_name(type(config))
    return attrs.evolve(config, name=name)  # type: ignore[misc] # an attrs class, by its base


def default_name(cls: type[PipelineConfig]) -> str:
    """The name of a pipeline whose config gives none: `TinyConfig` → `tiny`."""
    name = cls.__name__
    for ending in ("PipelineConfig", "Config", "Pipeline"):
        if name.endswith(ending) and name != ending:
            name = name.removesuffix(ending)
            break
    return name.lower()
