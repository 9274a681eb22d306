"""What the user wrote, loaded: a `.py` file, a module or a saved `.json` → pipelines.

import        the file or module; its `get_config(s)(runner, **args)` is called
save          each config becomes JSON values and must be the same after reading them
build         the pipeline of each config
declare       what it says of its commands, checked

Configs of other systems go through their adapter instead (see `foreign`).
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

import attrs

from rvrun.adapters import registry as foreign
from rvrun.aws import storage
from rvrun.errors import RvrunError, UnknownName, UserCodeError, check_known, describe
from rvrun.load.arguments import bind
from rvrun.model import (
    Command,
    DeclaredPipeline,
    Need,
    NeedKind,
    Resources,
    check_command_name,
    check_pipeline_name,
)
from rvrun.pipelines import serialize
from rvrun.pipelines.base import Aligned, Pipeline, PipelineConfig
from rvrun.pipelines.imports import CannotImport, import_module, import_source

T = TypeVar("T")


class CannotLoad(RvrunError):
    """A source of configs that is not what it should be."""

    def __init__(self, source: str, problem: str) -> None:
        self.source = source
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}"


class NoMethod(UnknownName):
    """A command that is no method of its pipeline's class `cls`; `known` are those that are."""

    def __init__(self, name: str, known: tuple[str, ...], cls: str, place: str) -> None:
        super().__init__("method", name, known, place)
        self.cls = cls

    def __str__(self) -> str:
        methods = ", ".join(f"`{name}`" for name in self.known) or "none"
        problem = f"`{self.cls}` has no method `{self.name}` for the command of that name"
        return f"{self.place}: {problem}{self.suggestion()}; its methods: {methods}"


@attrs.frozen(kw_only=True)
class LoadedPipeline:
    """A pipeline ready to be compiled and run.

    - `config`, `pipeline`: rvrun's, or those of another system.
    - `document`: what its saved config file holds, as JSON values.
    - `declared`: its commands as the compiler reads them.
    - `code`: the content of the loose file that its classes are in; None for a module.
    """

    config: Any
    document: dict[str, Any]
    pipeline: Any
    declared: DeclaredPipeline
    code: bytes | None = None

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def root_uri(self) -> str:
        return str(self.document["config"]["root_uri"])


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
    foreign.meet(source, verbosity)
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
        if not foreign.is_own(document):
            check_document(document, path)
    return documents


def check_document(document: object, path: str) -> None:
    """Raise `CannotLoad` unless `document` is a config as this rvrun saves it."""
    if not isinstance(document, dict) or serialize.FILE_KEY not in document:
        raise CannotLoad(path, f"is no saved config: it has no `{serialize.FILE_KEY}` version")
    version = document[serialize.FILE_KEY]
    if version != serialize.FILE_VERSION:
        known = serialize.FILE_VERSION
        raise CannotLoad(path, f"is of file version {version!r}; this rvrun reads {known}")
    source = document.get("source")
    if not isinstance(source, str | None):
        raise CannotLoad(path, f"has source {source!r}, which is no path")


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
        if not isinstance(config, PipelineConfig) and foreign.of_config(config) is None:
            problem = f"returned {config!r}, which is no rvrun.PipelineConfig"
            raise CannotLoad(source, f"`{function.__name__}` {problem}")
    return configs


def call_user_code(what: str, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """The user's `function` called; what it raises becomes the cause of a `UserCodeError`."""
    try:
        return function(*args, **kwargs)
    except RvrunError:
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{what} raised {describe(error)}") from error


def _distinguish(pipelines: list[LoadedPipeline]) -> list[LoadedPipeline]:
    """Other systems' pipelines have no names of their own, so these may have to be told apart."""
    adapters = [foreign.of_document(pipeline.document) for pipeline in pipelines]
    found = list(pipelines)
    for adapter in dict.fromkeys(filter(None, adapters)):
        indices = [index for index, other in enumerate(adapters) if other is adapter]
        named = adapter.distinguish([pipelines[index] for index in indices])
        for index, pipeline in zip(indices, named, strict=True):
            found[index] = pipeline
    return found


def _load_any(config: Any, source: str | None) -> LoadedPipeline:
    adapter = foreign.of_config(config)
    return _load(config, source) if adapter is None else adapter.load(config, source)


def _load_saved(document: dict[str, Any]) -> LoadedPipeline:
    adapter = foreign.of_document(document)
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
    check_pipeline_name(config.name, _location(type(config)))
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


def declare(pipeline: Any, name: str, config: Mapping[str, Any]) -> DeclaredPipeline:
    """What `pipeline` says of its commands, as values, checked against its class and config.

    It has `commands`, `split_commands` and `gpu_commands`; those of other systems need not have
    what else an `rvrun.Pipeline` has. `commands` may depend on the config, so `split_commands` and
    so on may speak of a command that is not among them; but it must be a method.
    """
    place = f"pipeline `{name}`"
    said = call_user_code(f"reading {place}", _Said.read, pipeline)
    if not said.commands:
        raise CannotLoad(place, f"`{type(pipeline).__name__}.commands` is empty")
    for command in said.all_named():
        _check_method(pipeline, command, place)
    for command in (*said.split_commands, *said.commands):
        _check_parameters(pipeline, command, command in said.split_commands, place)
    commands = tuple(_declare_command(pipeline, said, c, config, place) for c in said.commands)
    return DeclaredPipeline(
        name=name,
        config_digest=serialize.digest(config),
        commands=commands,
        location=_location(type(pipeline)),
    )


@attrs.frozen(kw_only=True)
class _Said:
    """A pipeline's attributes, each read once, as it may be a property."""

    commands: tuple[str, ...]
    split_commands: tuple[str, ...]
    gpu_commands: tuple[str, ...]
    needs: Mapping[str, Sequence[str]]
    config_keys: Mapping[str, Sequence[str]]
    resources: Mapping[str, Resources]

    @classmethod
    def read(cls, pipeline: Pipeline) -> _Said:
        return cls(
            commands=_names(pipeline, "commands"),
            split_commands=_names(pipeline, "split_commands"),
            gpu_commands=_names(pipeline, "gpu_commands"),
            needs=_by_command(pipeline, "needs"),
            config_keys=_by_command(pipeline, "config_keys"),
            resources=_by_command(pipeline, "resources"),
        )

    def all_named(self) -> list[str]:
        return [
            *self.commands,
            *self.split_commands,
            *self.gpu_commands,
            *self.needs,
            *self.config_keys,
            *self.resources,
        ]


def _names(pipeline: Any, attribute: str) -> tuple[str, ...]:
    said = getattr(pipeline, attribute, ())
    names = _texts(said)
    if names is None:
        raise _wrong(pipeline, attribute, f"{said!r} is no sequence of command names")
    return names


def _texts(said: object) -> tuple[str, ...] | None:
    """`said` as a tuple of texts; None where it is not that, or has no order, as a set."""
    if isinstance(said, (str, AbstractSet)) or not isinstance(said, Iterable):
        return None
    texts = tuple(said)
    return texts if all(isinstance(text, str) for text in texts) else None


def _by_command(pipeline: Any, attribute: str) -> dict[str, Any]:
    values = getattr(pipeline, attribute, {})
    if not isinstance(values, Mapping) or _texts(values) is None:
        raise _wrong(pipeline, attribute, f"{values!r} is no mapping from command names")
    for command, value in values.items():
        if attribute == "resources" and not isinstance(value, Resources):
            raise _wrong(pipeline, attribute, f"`{command}` has {value!r}, no rvrun.Resources")
        if attribute != "resources" and isinstance(value, str):
            raise _wrong(pipeline, attribute, f"`{command}` has a text; write [{value!r}]")
        if attribute != "resources" and _texts(value) is None:
            raise _wrong(pipeline, attribute, f"`{command}` has {value!r}, no sequence of names")
    return dict(values)


def _wrong(pipeline: Any, attribute: str, problem: str) -> CannotLoad:
    return CannotLoad(f"`{type(pipeline).__name__}.{attribute}`", problem)


def _check_method(pipeline: Any, command: str, place: str) -> None:
    check_command_name(command, place)
    if not callable(getattr(pipeline, command, None)) or hasattr(Pipeline, command):
        methods = tuple(
            name
            for name, value in inspect.getmembers(type(pipeline), inspect.isfunction)
            if not name.startswith("_") and not hasattr(Pipeline, name)
        )
        raise NoMethod(command, methods, type(pipeline).__name__, place)


def _check_parameters(pipeline: Any, command: str, is_split: bool, place: str) -> None:
    signature = inspect.signature(getattr(pipeline, command))
    kwargs = {"split_ind": 0, "num_splits": 1} if is_split else {}
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        wanted = "(self, split_ind, num_splits)" if is_split else "(self)"
        name = f"`{type(pipeline).__name__}.{command}{signature}`"
        raise CannotLoad(
            place, f"{name} is not to be called as {command}{wanted}: {error}"
        ) from None


def _declare_command(
    pipeline: Any, said: _Said, name: str, config: Mapping[str, Any], place: str
) -> Command:
    keys = said.config_keys.get(name)
    for key in keys or ():
        _check_config_key(config, key, f"`config_keys` of command `{name}` of {place}")
    is_split = name in said.split_commands
    return Command(
        name=name,
        is_split=is_split,
        gpu=name in said.gpu_commands,
        needs=_declare_needs(said, name, place),
        config_keys=None if keys is None else tuple(keys),
        resources=_declare_resources(pipeline, said, name),
        num_items=_count_items(pipeline, name, place) if is_split else None,
        location=_location(getattr(type(pipeline), name, None)),
    )


def _declare_resources(pipeline: Any, said: _Said, name: str) -> Resources:
    """Those of `resources`; a queue and a definition may also be attributes.

    As in Raster Vision, `job_queue` and `job_def` of the command's method go before those of the
    whole pipeline.
    """
    resources = said.resources.get(name, Resources())
    found = {}
    for attribute in ("job_queue", "job_def"):
        own = getattr(resources, attribute)
        method = getattr(getattr(pipeline, name), attribute, None)
        found[attribute] = own or method or getattr(pipeline, attribute, None)
    try:
        return attrs.evolve(resources, **found)
    except ValueError as error:
        raise _wrong(pipeline, name, str(error)) from None


def _count_items(pipeline: Any, name: str, place: str) -> int | None:
    if not hasattr(pipeline, "count_items"):
        return None
    count = call_user_code(f"`count_items` of {place}", pipeline.count_items, name)
    if not isinstance(count, int | None):
        raise _wrong(pipeline, "count_items", f"{count!r} for `{name}` is no whole number")
    return count


def _declare_needs(said: _Said, name: str, place: str) -> tuple[Need, ...] | None:
    if name not in said.needs:
        return None
    for needed in said.needs[name]:
        check_known("command", needed, said.commands, f"`needs` of command `{name}` of {place}")
    return tuple(
        Need(str(needed), NeedKind.ALIGNED if isinstance(needed, Aligned) else NeedKind.ALL)
        for needed in said.needs[name]
    )


def _check_config_key(config: Mapping[str, Any], key: str, place: str) -> None:
    value: Any = config
    for part in key.split("."):
        known = tuple(k for k in value if not k.startswith("$")) if isinstance(value, dict) else ()
        check_known("config field", part, known, place)
        value = value[part]


def _location(thing: Any) -> str:
    """`file:line` where a function or class stands, its file named without its folder."""
    try:
        path = inspect.getsourcefile(thing)
        return f"{os.path.basename(path)}:{inspect.getsourcelines(thing)[1]}" if path else ""
    except (OSError, TypeError):
        return ""
