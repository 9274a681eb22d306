"""Find the import statements in a file's source, without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence

#: The full name of a module, and the names that are imported from it: attributes or submodules.
Import = tuple[str, tuple[str, ...]]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Nodes that may contain statements. Expressions, which are most of a tree, cannot.
_BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)


def parse(path: str) -> ast.Module | None:
    """Parse the file at `path`; None if it cannot be read or parsed."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            # Python warns about the code when it is imported; once is enough.
            warnings.simplefilter("ignore")
            return ast.parse(file.read())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        # MemoryError: nested too deeply for Python's parser.
        return None


def find_imports(path: str, package: str, *, only_in_functions: bool) -> list[Import]:
    """List what the file at `path` imports when it runs, in order; nothing if it cannot be parsed.

    - `package`: the package that its relative imports start from; empty if it is in no package.
    - `only_in_functions`: leave out what the import of the file itself imports.

    Imports for type checkers only, and those of a file that is run as a script, are left out.
    """
    tree = parse(path)
    nodes = _import_nodes(tree, only_in_functions=only_in_functions) if tree else ()
    return list(dict.fromkeys(item for node in nodes for item in _names(node, package)))


def _import_nodes(
    tree: ast.Module, *, only_in_functions: bool
) -> Iterator[ast.Import | ast.ImportFrom]:
    # Not recursive, because a tree may be deeper than Python's stack.
    pending: list[tuple[ast.AST, bool]] = [(tree, not only_in_functions)]
    while pending:
        node, counts = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom) and counts:
            yield node
        counts = counts or isinstance(node, _FUNCTIONS)
        pending += [(child, counts) for child in reversed(_blocks(node))]


def _blocks(node: ast.AST) -> Sequence[ast.AST]:
    """The statements directly in `node` that can run."""
    if isinstance(node, ast.If) and _is_never_true(node.test):
        return node.orelse
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, _BLOCKS)]


def _is_never_true(test: ast.expr) -> bool:
    """Whether `test` is `TYPE_CHECKING`, or compares `__name__`, as a script does."""
    if isinstance(test, ast.Compare):
        return isinstance(test.left, ast.Name) and test.left.id == "__name__"
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _names(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, ()) for alias in node.names)
        return
    attributes = tuple(alias.name for alias in node.names if alias.name != "*")
    if not node.level:
        yield node.module or "", attributes
        return
    parts = package.split(".") if package else []
    if node.level <= len(parts):
        base = parts[: len(parts) - node.level + 1]
        yield ".".join([*base, *([node.module] if node.module else [])]), attributes
