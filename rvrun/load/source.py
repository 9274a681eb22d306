"""Load a user's source into declared pipelines: a `.py`, `.toml` or `.json` file, or a module.

import        the file or module, and call its `get_config(s)(runner, **arguments)`
save          convert each config to JSON values, which must give the same config again
build         the pipeline of each config
declare       read what the pipeline declares about its commands, and check it

Configs of other systems go through their adapters instead; see `adapters.registry`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from rvrun.adapters import registry as adapters
from rvrun.aws import storage
from rvrun.errors import RvrunError
from rvrun.inputs import parse_json
from rvrun.load.arguments import bind
from rvrun.model import check_pipeline_name
from rvrun.pipelines import serialize
from rvrun.pipelines.base import Pipeline, PipelineConfig
from rvrun.pipelines.declare import CannotLoad, LoadedPipeline, check_document, declare, location
from rvrun.pipelines.imports import (
    CannotImport,
    InvalidField,
    import_module,
    import_saved_source,
    import_source,
    naming,
    user_code,
)
from rvrun.text import quoted


class NoArguments(RvrunError):
    """`-a` arguments for a config that is already saved."""

    path: str
    template = "{path}: a saved config accepts no -a arguments"
    fix = "remove the -a arguments"


class NoRoot(RvrunError):
    """A pipeline whose files would be scattered in the current directory."""

    name: str
    template = (
        "`root_uri` of pipeline `{name}` must name a directory, got an empty string; name one, or "
        "`.` for the current directory"
    )
    fix = "name a directory, or `.` for the current one"


def load(
    source: str, runner: str, args: Mapping[str, str], *, verbosity: int = 0
) -> list[LoadedPipeline]:
    """Load the pipelines of `source` for the runner called `runner`.

    - `args`: the `-a` arguments, as typed.
    - `verbosity`: only for configs of other systems.

    Raises `UserCodeError` if the user's own code raises; its cause is their exception. Any other
    `RvrunError` describes what is wrong with the source.
    """
    if source.endswith(".json"):
        if args:
            raise NoArguments(source)
        return _distinguish([_load_saved(document, source) for document in read_documents(source)])
    if source.endswith(".toml"):
        from rvrun.load.toml.build import load_toml

        return [_load(config, None) for config in load_toml(source, args)]
    is_file = source.endswith(".py") or os.sep in source
    path = os.path.relpath(source).replace(os.sep, "/") if is_file else None
    with adapters.set_up_for(source, verbosity):
        module = import_source(source) if is_file else _import_named(source)
        configs = _get_configs(module, source, runner, args)
    return _distinguish([_load_any(config, path) for config in configs])


def read_documents(path: str) -> list[dict[str, Any]]:
    """Read the saved configs in the JSON file at `path`: one, or a list of them."""
    documents = parse_json(storage.read(path), path)
    documents = documents if isinstance(documents, list) else [documents]
    if not documents:
        raise CannotLoad(path, "contains no config")
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
        if os.path.exists("pipeline.toml"):
            hint = f"did you mean `pipeline.toml {name}`?"
            raise CannotImport(name, f"{error.problem}; {hint}") from None
        raise


def _get_configs(module: Any, source: str, runner: str, args: Mapping[str, str]) -> list[Any]:
    function = _config_function(module, source)
    label = f"`{function.__name__}` of {source}"
    arguments = bind(function, args, label)
    try:
        with user_code(label):
            result = function(runner, **arguments)
    except InvalidField as error:
        # The field often has the name of the argument that set it.
        if error.field in args:
            error.remedy = f"change -a {error.field}"
        raise
    configs = list(result) if isinstance(result, (list, tuple)) else [result]
    if not configs:
        raise CannotLoad(source, f"`{function.__name__}` returned no config")
    for config in configs:
        if not isinstance(config, PipelineConfig) and adapters.of_config(config) is None:
            problem = f"must return an rvrun.PipelineConfig or a list of them, got {quoted(config)}"
            raise CannotLoad(source, f"`{function.__name__}` {problem}")
    return configs


def _config_function(module: Any, source: str) -> Callable[..., Any]:
    function = getattr(module, "get_configs", None) or getattr(module, "get_config", None)
    if not callable(function):
        raise CannotLoad(source, "must define a function `get_config` or `get_configs`")
    return function  # type: ignore[no-any-return]


def _distinguish(pipelines: list[LoadedPipeline]) -> list[LoadedPipeline]:
    """Let adapters rename pipelines of other systems, which do not name their pipelines."""
    by_pipeline = [adapters.of_document(pipeline.document) for pipeline in pipelines]
    renamed = list(pipelines)
    for adapter in dict.fromkeys(filter(None, by_pipeline)):
        indices = [index for index, other in enumerate(by_pipeline) if other is adapter]
        distinct = adapter.distinguish([pipelines[index] for index in indices])
        for index, pipeline in zip(indices, distinct, strict=True):
            renamed[index] = pipeline
    return renamed


def _load_any(config: Any, source: str | None) -> LoadedPipeline:
    adapter = adapters.of_config(config)
    return _load(config, source) if adapter is None else adapter.load(config, source)


def _load_saved(document: dict[str, Any], path: str) -> LoadedPipeline:
    adapter = adapters.of_document(document)
    if adapter is not None:
        return adapter.load_saved(document)
    source = document.get("source")
    if source:
        import_saved_source(source, path)
    with naming(path):
        config = serialize.config_from_json(document.get("config"))
    assert isinstance(config, PipelineConfig)
    return _load(config, source)


def _load(config: PipelineConfig, source: str | None) -> LoadedPipeline:
    if not config.name:
        # An attrs class, by its base, which mypy cannot see.
        config = attrs.evolve(config, name=default_name(type(config)))  # type: ignore[misc]
    check_pipeline_name(config.name, location(type(config)))
    if not config.root_uri:
        raise NoRoot(config.name)
    values = serialize.check_round_trip(config)
    with user_code(f"building pipeline `{config.name}`"):
        pipeline: object = config.build()
    if not isinstance(pipeline, Pipeline):
        build = f"`{type(config).__name__}.build`"
        problem = f"{build} must return an rvrun.Pipeline, got {quoted(pipeline)}"
        raise CannotLoad(f"pipeline `{config.name}`", problem)
    return LoadedPipeline(
        config=config,
        document={serialize.FILE_KEY: serialize.FILE_VERSION, "source": source, "config": values},
        pipeline=pipeline,
        declared=declare(pipeline, config.name, values),
        code=storage.read(source) if source else None,
    )


def default_name(cls: type[PipelineConfig]) -> str:
    """Return the name of a pipeline whose config has none: `TinyConfig` → `tiny`."""
    name = cls.__name__
    for ending in ("PipelineConfig", "Config", "Pipeline"):
        if name.endswith(ending) and name != ending:
            name = name.removesuffix(ending)
            break
    return name.lower()
