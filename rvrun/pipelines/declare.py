"""A pipeline as loaded, and what it declares of its commands."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

import attrs

from rvrun.errors import RvrunError, UnknownName, UserCodeError, check_known, describe
from rvrun.model import Command, DeclaredPipeline, Need, NeedKind, Resources, check_command_name
from rvrun.pipelines import serialize
from rvrun.pipelines.base import Aligned, Pipeline

T = TypeVar("T")


class CannotLoad(RvrunError):
    """A source of configs that is not what it should be."""

    def __init__(self, source: str, problem: str) -> None:
        self.source = source
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}"


class NoMethod(UnknownName):
    """A command without a method of its name on its pipeline's class; `names` are the methods."""

    cls: str = ""

    def __str__(self) -> str:
        methods = ", ".join(f"`{name}`" for name in self.names) or "none"
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


def call_user_code(what: str, function: Callable[..., T], /, *args: object, **kwargs: object) -> T:
    """The user's `function` called; what it raises becomes the cause of a `UserCodeError`."""
    try:
        return function(*args, **kwargs)
    except RvrunError:
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{what} raised {describe(error)}") from error


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
        location=location(type(pipeline)),
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
        raise NoMethod("method", command, methods, place, cls=type(pipeline).__name__)


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
        location=location(getattr(type(pipeline), name, None)),
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


def location(thing: Any) -> str:
    """`file:line` where a function or class stands, its file named without its folder."""
    try:
        path = inspect.getsourcefile(thing)
        return f"{os.path.basename(path)}:{inspect.getsourcelines(thing)[1]}" if path else ""
    except (OSError, TypeError):
        return ""
