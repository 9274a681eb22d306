"""Read what a config declares from its source, without running it.

Only for suggestions while a command line is typed: pressing Tab must not run the user's code, which
may import large libraries, or do anything else. What the source does not show literally is missing.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Mapping

import attrs

from rvrun.errors import RvrunError
from rvrun.pipelines.import_statements import parse


@attrs.frozen
class Outline:
    """What a source shows.

    - `commands`: those of all classes in it.
    - `parameters`: of `get_config` or `get_configs`, after the runner, each with its possible
      values; none if these are not listed.
    """

    commands: tuple[str, ...] = ()
    parameters: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)


def read_outline(source: str) -> Outline:
    """Read the outline of a `.py` or `.toml` file or a module; empty if it cannot be read."""
    if source.endswith(".toml"):
        return _read_toml(source)
    path = source if source.endswith(".py") else _find_module(source)
    tree = parse(path)
    if tree is None:
        return Outline()
    commands = (name for node in ast.walk(tree) for name in _commands(node))
    return Outline(tuple(dict.fromkeys(commands)), _parameters(tree))


def _read_toml(path: str) -> Outline:
    """The commands and the values of `[config]` of a `pipeline.toml`."""
    from rvrun.load.toml.read import read_source

    try:
        values = read_source(path).values
    except RvrunError:
        return Outline()
    parameters = {
        name: ("true", "false") if isinstance(value, bool) else ()
        for name, value in values.get("config", {}).items()
    }
    matrix = {name: tuple(map(str, list_)) for name, list_ in values.get("matrix", {}).items()}
    return Outline(tuple(values["commands"]), {**parameters, **matrix})


def _find_module(name: str) -> str:
    """The file of a module, found without importing the packages that it is in."""
    stem = name.replace(".", os.sep)
    for folder in (os.getcwd(), *sys.path):
        for ending in (".py", f"{os.sep}__init__.py"):
            path = os.path.join(folder, stem + ending)
            if os.path.isfile(path):
                return path
    return ""


def _commands(node: ast.AST) -> Iterator[str]:
    """The strings in `commands = (…)` in the body of a class."""
    for statement in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "commands" for target in targets):
            yield from _strings(value)


def _strings(node: ast.expr) -> list[str]:
    elements = node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]
    constants = (element.value for element in elements if isinstance(element, ast.Constant))
    return [value for value in constants if isinstance(value, str)]


def _parameters(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    function = functions.get("get_configs") or functions.get("get_config")
    if function is None:
        return {}
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    defaults = dict(zip(positional[first_default:], arguments.defaults, strict=True))
    defaults |= {
        argument: default
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }
    named = [*positional[1:], *arguments.kwonlyargs]
    return {a.arg: _choices(a.annotation, defaults.get(a)) for a in named}


def _choices(annotation: ast.expr | None, default: ast.expr | None) -> tuple[str, ...]:
    """The values of `bool` and of `Literal[…]`; none for other annotations."""
    is_boolean = isinstance(default, ast.Constant) and isinstance(default.value, bool)
    if is_boolean or (isinstance(annotation, ast.Name) and annotation.id == "bool"):
        return ("true", "false")
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        return tuple(_strings(annotation.slice))
    return ()
