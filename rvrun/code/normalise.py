"""Hash code by what it does: its syntax tree without comments, layout, docstrings and line numbers.

The result does not depend on the version of Python, of which each adds fields to the tree.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable

#: Hexadecimal digits of a hash: collisions by accident are out of the question.
DIGITS = 16
#: Fields that do not change what the code does.
_IGNORED = frozenset({"kind", "type_comment", "type_ignores", "ctx"})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCALARS = (str, bytes, int, float, complex)


def digest(nodes: Iterable[ast.AST], *more: str) -> str:
    """Return the hash of syntax trees, and of the strings `more`."""
    tokens: list[str] = []
    for node in nodes:
        _write(node, tokens, in_function=False)
    return digest_text(*tokens, *more)


def digest_text(*parts: str) -> str:
    """Return the hash of strings."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def is_inert(statement: ast.AST) -> bool:
    """Whether a statement does nothing: a docstring, `...` or `pass`."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _write(value: object, tokens: list[str], *, in_function: bool) -> None:
    if isinstance(value, ast.AST):
        _write_node(value, tokens, in_function=in_function)
    elif isinstance(value, list):
        tokens.append("[")
        for item in value:
            if not is_inert(item):
                _write(item, tokens, in_function=in_function)
        tokens.append("]")
    else:
        tokens.append(f"{type(value).__name__} {value!r}")


def _write_node(node: ast.AST, tokens: list[str], *, in_function: bool) -> None:
    ignored = _IGNORED
    if isinstance(node, FUNCTIONS):
        # Decorators may read annotations, as those of `functools` and pydantic do; nothing else
        # that is common does.
        in_function = not node.decorator_list
        ignored = _IGNORED | {"returns"} if in_function else _IGNORED
    elif in_function and isinstance(node, ast.arg):
        ignored = _IGNORED | {"annotation"}
    elif in_function and isinstance(node, ast.AnnAssign) and node.value:
        node = ast.Assign(targets=[node.target], value=node.value)
    elif isinstance(node, ast.ClassDef):
        in_function = False
    tokens.append(f"({type(node).__name__}")
    for field in node._fields:
        value = getattr(node, field, None)
        # Absent in other versions of Python, so that their trees have equal hashes.
        if field in ignored or (value is None and field != "value") or value == []:
            continue
        tokens.append(field)
        _write(value, tokens, in_function=in_function)
    tokens.append(")")
