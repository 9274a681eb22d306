"""A loaded pipeline, and what it declares about its commands."""

from __future__ import annotations

import inspect
import linecache
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import attrs

from rvrun.errors import RvrunError, UnknownName, check_known
from rvrun.item_list import ItemList
from rvrun.model import (
    EACH,
    MAX_SPLITS,
    Command,
    DeclaredPipeline,
    Need,
    NeedKind,
    Resources,
    check_command_name,
)
from rvrun.patterns import item_path
from rvrun.pipelines import serialize
from rvrun.pipelines.base import Aligned, Late, Pipeline
from rvrun.pipelines.imports import ROOT_FILE, user_code
from rvrun.pipelines.items import saved_items
from rvrun.pipelines.placeholders import names_items, resolve
from rvrun.text import quoted, shorten


class CannotLoad(RvrunError):
    """A config or pipeline that cannot be loaded."""

    source: str
    problem: str
    template = "{source}: {problem}"


class BadDeclaration(RvrunError):
    """An attribute of a pipeline that is not what it must be.

    - `attribute`: `Tiny.needs`. `rule`: completes "must be ...".
    """

    attribute: str
    rule: str
    value: object
    template = "`{attribute}` must be {rule}, got {value!r}"
    fix = "change `{attribute}` to {rule}"


class NoMethod(UnknownName):
    """A command without a method of its name in its pipeline's class; `names` are the methods."""

    class_name: str = ""
    attribute: str = "commands"

    def __str__(self) -> str:
        name = shorten(self.name)
        problem = f"`{self.class_name}` has no method `{name}`, which `{self.attribute}` names"
        return f"{self.place}: {problem}{self.suggestion('its methods')}"

    def how_to_fix(self) -> str:
        method = f"add a method `{shorten(self.name)}` to `{self.class_name}`"
        return f"{method}, or correct `{self.attribute}`"


@attrs.frozen(kw_only=True)
class LoadedPipeline:
    """A pipeline ready to be compiled and run.

    - `config`, `pipeline`: rvrun's, or those of another system.
    - `document`: the JSON values of its saved config file.
    - `declared`: its commands as the compiler reads them.
    - `code`: the content of the loose file that defines its classes; None if a module does.
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

    @property
    def root_file(self) -> str | None:
        """A file below the root, without which nothing is done; None if there is none to see."""
        return self.document.get(ROOT_FILE)


def check_document(document: object, path: str) -> None:
    """Raise `CannotLoad` unless `document` is a saved config of this version of rvrun."""
    if not isinstance(document, dict) or serialize.FILE_KEY not in document:
        raise CannotLoad(path, f"is not a saved config: it has no `{serialize.FILE_KEY}` version")
    version = document[serialize.FILE_KEY]
    if version != serialize.FILE_VERSION:
        problem = f"`{serialize.FILE_KEY}` must be {serialize.FILE_VERSION}, got {quoted(version)}"
        raise CannotLoad(path, problem)
    source = document.get("source")
    if not isinstance(source, str | None):
        raise CannotLoad(path, f"`source` must be a path or null, got {source!r}")


def declare(
    pipeline: Any,
    name: str,
    config: Mapping[str, Any],
    config_keys: Mapping[str, tuple[str, ...]] | None = None,
) -> DeclaredPipeline:
    """Return what `pipeline` declares about its commands, checked against its class and config.

    - `pipeline`: rvrun's, or another system's that has at least `commands`, `split_commands` and
      `gpu_commands`.
    - `config`: its saved config.
    - `config_keys`: those of commands for which `pipeline` declares none.

    `commands` may depend on the config, so other attributes may name commands that are not in it,
    but every command must be a method. Raises `CannotLoad`, `BadDeclaration`, `BadName`,
    `NoMethod`, `UnknownName` or `UserCodeError`.
    """
    owner = f"pipeline `{name}`"
    with user_code(f"reading {owner}"):
        declarations = Declarations.read(pipeline, config_keys or {})
    if not declarations.commands:
        raise CannotLoad(owner, f"`{type(pipeline).__name__}.commands` is empty")
    for command, attribute in declarations.all_commands().items():
        _check_method(pipeline, command, attribute, owner)
    for command in (*declarations.split_commands, *declarations.commands):
        is_split = command in declarations.split_commands
        if not (is_split and command in declarations.items):
            _check_parameters(pipeline, command, owner, is_split=is_split)
    return DeclaredPipeline(
        name=name,
        config_digest=serialize.digest(config),
        commands=tuple(
            _declare_command(pipeline, declarations, command, config, owner)
            for command in declarations.commands
        ),
        location=location(type(pipeline)),
    )


@attrs.frozen(kw_only=True)
class Declarations:
    """The attributes of a pipeline, with the types that they must have."""

    commands: tuple[str, ...]
    split_commands: tuple[str, ...]
    gpu_commands: tuple[str, ...]
    needs: Mapping[str, tuple[str, ...]]
    config_keys: Mapping[str, tuple[str, ...]]
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    resources: Mapping[str, Resources]
    splits: Mapping[str, Any]
    items: Mapping[str, str]

    @classmethod
    def read(cls, pipeline: Any, config_keys: Mapping[str, tuple[str, ...]]) -> Declarations:
        """Read each attribute once, as it may be a property. Raises `BadDeclaration`."""
        return cls(
            commands=_read_names(pipeline, "commands"),
            split_commands=_read_names(pipeline, "split_commands"),
            gpu_commands=_read_names(pipeline, "gpu_commands"),
            needs=_read_lists(pipeline, "needs"),
            config_keys={**config_keys, **_read_lists(pipeline, "config_keys")},
            inputs=_read_lists(pipeline, "inputs"),
            outputs=_read_lists(pipeline, "outputs"),
            resources=_read_resources(pipeline),
            splits=_read_splits(pipeline),
            items=_read_items(pipeline),
        )

    def all_commands(self) -> dict[str, str]:
        """Return every command, with the first attribute that names it as its own."""
        attributes: dict[str, str] = {}
        for field in attrs.fields(Declarations):
            for command in getattr(self, field.name):
                attributes.setdefault(command, field.name)
        return attributes


def _read_names(pipeline: Any, attribute: str) -> tuple[str, ...]:
    value = getattr(pipeline, attribute, ())
    return _check_names(f"{type(pipeline).__name__}.{attribute}", value)


def _check_names(attribute: str, value: object) -> tuple[str, ...]:
    """`value` as a tuple of strings. A set is refused, as its order differs between processes."""
    if isinstance(value, Iterable) and not isinstance(value, (str, AbstractSet)):
        names = tuple(value)
        if all(isinstance(name, str) for name in names):
            return names
    example = f" such as [{value!r}]" if isinstance(value, str) else ""
    raise BadDeclaration(attribute, f"a list of names{example}", value)


def _read_mapping(pipeline: Any, attribute: str) -> dict[str, Any]:
    value = getattr(pipeline, attribute, {})
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        name = f"{type(pipeline).__name__}.{attribute}"
        raise BadDeclaration(name, "a dictionary with command names as keys", value)
    return dict(value)


def _read_lists(pipeline: Any, attribute: str) -> dict[str, tuple[str, ...]]:
    name = f"{type(pipeline).__name__}.{attribute}"
    mapping = _read_mapping(pipeline, attribute)
    return {c: _check_names(f"{name}[{c!r}]", value) for c, value in mapping.items()}


def _read_resources(pipeline: Any) -> dict[str, Resources]:
    mapping = _read_mapping(pipeline, "resources")
    for command, value in mapping.items():
        if not isinstance(value, Resources):
            name = f"{type(pipeline).__name__}.resources[{command!r}]"
            raise BadDeclaration(name, "an rvrun.Resources", value)
    return mapping


def _read_splits(pipeline: Any) -> dict[str, Any]:
    mapping = _read_mapping(pipeline, "splits")
    split_commands = _read_names(pipeline, "split_commands")
    for command, value in mapping.items():
        name = f"{type(pipeline).__name__}.splits[{command!r}]"
        is_number = type(value) is int and 1 <= value <= MAX_SPLITS
        if not is_number and value != EACH:
            rule = f"an integer between 1 and {MAX_SPLITS:,}, or `{EACH}`"
            raise BadDeclaration(name, rule, value)
        check_known("split command", command, split_commands, name)
    return mapping


def _read_items(pipeline: Any) -> dict[str, str]:
    mapping = _read_mapping(pipeline, "items")
    for command, path in mapping.items():
        if not isinstance(path, str) or not path:
            name = f"{type(pipeline).__name__}.items[{command!r}]"
            raise BadDeclaration(name, 'the path of a list in the config, such as "scenes"', path)
    return mapping


def _check_method(pipeline: Any, command: str, attribute: str, owner: str) -> None:
    check_command_name(command, owner)
    if not callable(getattr(pipeline, command, None)) or hasattr(Pipeline, command):
        methods = tuple(
            name
            for name, value in inspect.getmembers(type(pipeline), inspect.isfunction)
            if not name.startswith("_") and not hasattr(Pipeline, name)
        )
        cls = type(pipeline).__name__
        raise NoMethod("method", command, methods, owner, class_name=cls, attribute=attribute)


def _check_parameters(pipeline: Any, command: str, owner: str, *, is_split: bool) -> None:
    signature = inspect.signature(getattr(pipeline, command))
    arguments = {"split_ind": 0, "num_splits": 1} if is_split else {}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        method = f"`{type(pipeline).__name__}.{command}{signature}`"
        parameters = f"({', '.join(arguments)})" if is_split else "a call without arguments"
        problem = f"{method} must accept {parameters}: {error}"
        if is_split and not signature.parameters.keys().isdisjoint(("item", "items")):
            problem += "; declare in `items` what it shares out"
        raise CannotLoad(owner, problem) from None


def _declare_command(
    pipeline: Any, declarations: Declarations, name: str, config: Mapping[str, Any], owner: str
) -> Command:
    keys = declarations.config_keys.get(name)
    for key in keys or ():
        _check_config_key(config, key, f"`config_keys` of command `{name}` of {owner}")
    is_split = name in declarations.split_commands
    place = f"command `{name}` of {owner}"
    items = None
    if name in declarations.items:
        from rvrun.pipelines.declare_items import check_call, declare_items

        field = declarations.items[name]
        check_call(pipeline, name, is_split=is_split)
        if not isinstance(field, Late):
            items = declare_items(pipeline, name, field, config, owner)
    values = _item_values(declarations.items.get(name), config)
    declared = (declarations.inputs.get(name, ()), declarations.outputs.get(name, ()))
    inputs, item_inputs, outputs = _declare_paths(
        declared, config, place, is_split=is_split, items=values
    )
    return Command(
        name=name,
        is_split=is_split,
        gpu=name in declarations.gpu_commands,
        needs=_declare_needs(declarations, name, owner),
        config_keys=keys,
        inputs=inputs,
        item_inputs=item_inputs,
        outputs=outputs,
        resources=_declare_resources(pipeline, declarations, name),
        has_code=getattr(pipeline, "has_code", True),
        num_splits=declarations.splits.get(name, 1),
        items=items and items[0],
        item_list=items and items[1],
        num_items=_num_items(pipeline, name, owner, items and items[1]) if is_split else None,
        item_paths=tuple(item_path(t, v) for t in item_inputs for v in values or ()),
        location=location(getattr(type(pipeline), name, None)),
    )


#: Inputs that all items share, inputs of single items, and outputs, as in `model.Stage`.
Paths = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def read_paths(pipeline: Any, command: str, config: Mapping[str, Any]) -> Paths:
    """Return the inputs and outputs that `pipeline` declares.

    - `config`: its saved config.

    Raises `BadDeclaration`, `BadPath` or `UnknownName`.
    """
    declared = tuple(
        _read_lists(pipeline, attribute).get(command, ()) for attribute in ("inputs", "outputs")
    )
    return _declare_paths(
        declared,
        config,
        f"command `{command}` of pipeline `{type(pipeline).__name__}`",
        is_split=command in pipeline.split_commands,
        items=_item_values(getattr(pipeline, "items", {}).get(command), config),
    )


def _declare_paths(
    declared: Sequence[Sequence[str]],
    config: Mapping[str, Any],
    place: str,
    *,
    is_split: bool,
    items: list[Any] | str | None,
) -> Paths:
    """Return the paths of declared inputs and outputs.

    - `items`: as `resolve` takes them.
    """
    inputs, outputs = declared
    of_items = [text for text in inputs if items is not None and names_items(text)]
    of_all = [text for text in inputs if text not in of_items]
    return (
        _resolve_all(of_all, config, f"`inputs` of {place}"),
        _resolve_all(of_items, config, f"`inputs` of {place}", items=items),
        _resolve_all(
            outputs, config, f"`outputs` of {place}", is_output=True, is_split=is_split, items=items
        ),
    )


def _item_values(field: str | None, config: Mapping[str, Any]) -> list[Any] | str | None:
    """Return the saved values of a command's items, or why there are none; None without items."""
    if field is None or isinstance(field, Late):
        return None
    values = saved_items(config, field)
    return f"`{field}` is not a field of the config but a property" if values is None else values


def _resolve_all(
    templates: Iterable[str],
    config: Mapping[str, Any],
    place: str,
    *,
    is_output: bool = False,
    is_split: bool = False,
    items: list[Any] | str | None = None,
) -> tuple[str, ...]:
    """Return the paths and globs that declared inputs or outputs stand for, each once."""
    resolved = (
        resolve(template, config, place, is_output=is_output, is_split=is_split, items=items)
        for template in templates
    )
    return tuple(dict.fromkeys(path for paths in resolved for path in paths))


def _declare_resources(pipeline: Any, declarations: Declarations, name: str) -> Resources:
    """The command's `resources`, completed by the attributes `job_queue` and `job_def`.

    As in Raster Vision, attributes of the command's method override those of the pipeline.
    """
    resources = declarations.resources.get(name, Resources())
    method = getattr(pipeline, name)
    values = {
        attribute: getattr(resources, attribute)
        or getattr(method, attribute, None)
        or getattr(pipeline, attribute, None)
        for attribute in ("job_queue", "job_def")
    }
    try:
        return attrs.evolve(resources, **values)
    except ValueError as error:
        raise CannotLoad(f"`{type(pipeline).__name__}.{name}`", str(error)) from None


def _num_items(pipeline: Any, name: str, owner: str, items: ItemList | None) -> int | None:
    return _count_items(pipeline, name, owner) if items is None else len(items)


def _count_items(pipeline: Any, name: str, owner: str) -> int | None:
    if not hasattr(pipeline, "count_items"):
        return None
    with user_code(f"`count_items` of {owner}"):
        count = pipeline.count_items(name)
    if not isinstance(count, int | None):
        call = f"{type(pipeline).__name__}.count_items({name!r})"
        raise BadDeclaration(call, "an integer or None", count)
    return count


def _declare_needs(declarations: Declarations, name: str, owner: str) -> tuple[Need, ...] | None:
    if name not in declarations.needs:
        return None
    needs = declarations.needs[name]
    for command in needs:
        attribute = f"`needs` of command `{name}` of {owner}"
        check_known("command", command, declarations.commands, attribute)
    return tuple(
        Need(str(command), NeedKind.ALIGNED if isinstance(command, Aligned) else NeedKind.ALL)
        for command in needs
    )


def _check_config_key(config: Mapping[str, Any], key: str, owner: str) -> None:
    value: Any = config
    for part in key.split("."):
        names = tuple(k for k in value if not k.startswith("$")) if isinstance(value, dict) else ()
        check_known("config field", part, names, owner)
        value = value[part]


def location(definition: object) -> str:
    """Return `file:line` of a class or function, the file without its folder; empty if unknown."""
    try:
        path = inspect.getsourcefile(definition)  # type: ignore[arg-type]
    except TypeError:
        return ""
    line = _line(definition, path) if path else None
    return f"{os.path.basename(path)}:{line}" if path and line else ""


def _line(definition: Any, path: str) -> int | None:
    # Not inspect.getsourcelines: it parses the file, for each definition again.
    if not isinstance(definition, type):
        code = getattr(inspect.unwrap(definition), "__code__", None)
        return code.co_firstlineno if code else None
    statement = re.compile(rf"\s*class\s+{definition.__name__}\b")
    lines = enumerate(linecache.getlines(path), 1)
    return next((number for number, text in lines if statement.match(text)), None)
