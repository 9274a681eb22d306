"""Summarise a module: its definitions, each with a hash and what it refers to. Pure."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rvrun.code.fingerprint import MODULE
from rvrun.code.names import (
    BUILTINS,
    References,
    find_references,
    import_targets,
    imported_modules,
    is_for_type_checkers,
)
from rvrun.code.normalise import FUNCTIONS, digest, digest_text, is_inert

#: Decorators that define part of a property and belong to it.
_ACCESSORS = ("setter", "getter", "deleter")


class Kind:
    """The kinds of definitions."""

    FUNCTION = "function"
    CLASS = "class"
    VALUE = "value"
    FIELD = "field"
    MODULE = "module"


class Definition(NamedTuple):
    """A function, class, method, constant or class attribute; see `names.References`."""

    kind: str
    digest: str
    names: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    supers: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    mutates: tuple[str, ...] = ()
    escapes: bool = False
    decorators: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()


class ClassShape(NamedTuple):
    """What decides which members of a class count.

    - `bases`: as chains; empty strings for expressions.
    - `members`: the names of its methods and attributes, each a definition `Class.member`.
    - `metaclass`: the chain of its metaclass, if any.
    """

    bases: tuple[str, ...]
    members: tuple[str, ...]
    metaclass: str = ""


class Summary(NamedTuple):
    """A module, as far as it matters for what its definitions do.

    - `digest`: of the module as a whole.
    - `definitions`: by qualified name. `classes`: by name.
    - `imports`: the targets of names that are imported at the top, `module:` or `module:attribute`.
    - `stars`: modules from which everything is imported. `modules`: all that its import imports.
    - `public`: `__all__`, if it is a literal.
    - `problem`: why the module could not be parsed.
    """

    name: str
    digest: str
    definitions: dict[str, Definition]
    classes: dict[str, ClassShape]
    imports: dict[str, str]
    stars: tuple[str, ...]
    modules: tuple[str, ...]
    public: tuple[str, ...] | None
    problem: str = ""


def summarise(name: str, text: bytes, *, is_package: bool) -> Summary:
    """Summarise the source `text` of the module `name`; a source that Python refuses is opaque."""
    try:
        with warnings.catch_warnings():
            # Python warns about the code when it is imported; once is enough.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            package = name if is_package else name.rpartition(".")[0]
            return _Summariser(name, package).summarise(tree)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        # MemoryError: nested too deeply for Python's parser.
        whole = digest_text(text.decode("utf-8", "replace"))
        problem = f"it cannot be parsed: {type(error).__name__}"
        return Summary(name, whole, {}, {}, {}, (), (), None, problem)


def _freeze(
    nodes: Iterable[ast.AST], kind: str, references: References, **more: object
) -> Definition:
    values = {
        name: tuple(sorted(value)) if isinstance(value, set) else value
        for name in References.__slots__
        if name in Definition._fields
        for value in (getattr(references, name),)
    }
    return Definition(kind=kind, digest=digest(nodes), **values, **more)  # type: ignore[arg-type]


class _Summariser:
    """Collects the definitions of one module."""

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self.package = package
        self.bodies: dict[str, list[ast.AST]] = {}
        self.executed: list[ast.stmt] = []
        self.executed_names: set[str] = set()
        self.imports: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self.stars: list[str] = []
        self.modules: list[str] = []
        self.definitions: dict[str, Definition] = {}
        self.classes: dict[str, ClassShape] = {}

    def summarise(self, tree: ast.Module) -> Summary:
        for statement in tree.body:
            self.add_statement(statement)
        for name, nodes in self.bodies.items():
            self.define(name, nodes)
        for name in self.executed_names - self.definitions.keys():
            # Bound by code that runs at import: whoever uses the name depends on that code.
            self.definitions[name] = Definition(Kind.VALUE, "", names=(MODULE,))
        references = find_references(self.executed, self.package)
        self.definitions[MODULE] = _freeze(self.executed, Kind.MODULE, references)
        return Summary(
            name=self.name,
            digest=digest([tree]),
            definitions={n: self.without_builtins(d) for n, d in self.definitions.items()},
            classes=self.classes,
            imports={**self.types, **self.imports},
            stars=tuple(dict.fromkeys(self.stars)),
            modules=tuple(dict.fromkeys(self.modules)),
            public=_public(tree),
        )

    def without_builtins(self, definition: Definition) -> Definition:
        """Leave out names that can only be Python's own, which are most of all names."""
        if self.stars:
            return definition
        bound = (self.definitions, self.imports, self.types)
        names = (
            name
            for name in definition.names
            if name not in BUILTINS or any(name in names for names in bound)
        )
        return definition._replace(names=tuple(names))

    def add_statement(self, statement: ast.stmt) -> None:
        if is_inert(statement) or _is_script(statement):
            return
        if is_for_type_checkers(statement):
            self.add_types(statement)  # type: ignore[arg-type]
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            self.add_import(statement)
        elif isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            self.bodies.setdefault(statement.name, []).append(statement)
        elif names := _assigned_names(statement):
            for name in names:
                self.bodies.setdefault(name, []).append(statement)
        else:
            self.add_executed(statement)

    def add_types(self, statement: ast.If) -> None:
        """Bind the names that only type checkers see, which annotations may mention."""
        for inner in statement.orelse:
            self.add_statement(inner)
        for inner in statement.body:
            if isinstance(inner, ast.Import | ast.ImportFrom):
                self.types.update(import_targets(inner, self.package))
            else:
                names = [getattr(inner, "name", ""), *_assigned(inner)]
                self.types.update(dict.fromkeys(filter(None, names), "typing:"))

    def add_import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.modules += imported_modules(node, self.package)
        self.imports.update(import_targets(node, self.package))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            self.stars.append(next(imported_modules(node, self.package)))

    def add_executed(self, statement: ast.stmt) -> None:
        """Add a statement that runs at import; what it imports and binds is seen by all."""
        is_code = False
        for node in _outside_functions(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.add_import(node)
            elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                self.executed_names.add(node.name)
                is_code = True
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self.executed_names.add(node.id)
                is_code = True
            elif isinstance(node, ast.stmt) and not isinstance(node, ast.Try | ast.ExceptHandler):
                is_code = is_code or not is_inert(node)
        # `try: import a; except ImportError: pass` is an import, whose names are resolved.
        if is_code or not isinstance(statement, ast.Try):
            self.executed.append(statement)

    def define(self, name: str, nodes: list[ast.AST]) -> None:
        classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        if len(classes) == len(nodes) == 1:
            self.define_class(classes[0])
            return
        kind = Kind.FUNCTION if isinstance(nodes[-1], FUNCTIONS) else Kind.VALUE
        references = find_references(nodes, self.package)
        self.definitions[name] = _freeze(
            nodes, kind, references, decorators=_decorators(nodes), calls=_calls(nodes)
        )

    def define_class(self, node: ast.ClassDef) -> None:
        parts: dict[str, list[ast.stmt]] = {}
        rest: list[ast.stmt] = []
        for statement in node.body:
            if is_inert(statement) or is_for_type_checkers(statement):
                continue
            names = [statement.name] if isinstance(statement, FUNCTIONS) else _assigned(statement)
            if not names:
                rest.append(statement)
            for name in names:
                parts.setdefault(name, []).append(statement)
        members = tuple(parts)
        for name, statements in parts.items():
            self.define_member(f"{node.name}.{name}", statements, members)
            if isinstance(statements[-1], ast.AnnAssign):
                # The order of fields is the order of the parameters that create an object.
                place = [name for name, s in parts.items() if isinstance(s[-1], ast.AnnAssign)]
                self.move_field(f"{node.name}.{name}", place.index(name))
        keywords = [keyword.value for keyword in node.keywords]
        skeleton: list[ast.AST] = [*node.bases, *keywords, *node.decorator_list, *rest]
        references = find_references(skeleton, self.package, members)
        # A base is not a use of that class.
        bases = tuple(_chain(base) for base in node.bases)
        references.names -= set(bases)
        self.definitions[node.name] = _freeze(
            [*skeleton, ast.Constant(value=node.name)],
            Kind.CLASS,
            references,
            decorators=_decorators([node]),
        )
        metaclass = (_chain(k.value) for k in node.keywords if k.arg == "metaclass")
        self.classes[node.name] = ClassShape(bases, members, next(metaclass, ""))

    def define_member(self, name: str, nodes: list[ast.stmt], members: tuple[str, ...]) -> None:
        references = find_references(nodes, self.package, members, is_method=True)
        kind = Kind.VALUE
        if isinstance(nodes[-1], FUNCTIONS):
            kind = Kind.FUNCTION
        elif isinstance(nodes[-1], ast.AnnAssign):
            kind = Kind.FIELD
        self.definitions[name] = _freeze(nodes, kind, references, decorators=_decorators(nodes))
        if kind == Kind.FIELD:
            # For configs, whose defaults are in the saved config: only the type counts.
            annotation = nodes[-1].annotation  # type: ignore[attr-defined]
            references = find_references([annotation], self.package, members)
            self.definitions[f"{name}:"] = _freeze([annotation], Kind.FIELD, references)

    def move_field(self, name: str, index: int) -> None:
        field = self.definitions[name]
        self.definitions[name] = field._replace(digest=digest_text(field.digest, str(index)))


def _is_script(statement: ast.stmt) -> bool:
    """Whether a statement is `if __name__ == "__main__":`."""
    test = statement.test if isinstance(statement, ast.If) else None
    left = test.left if isinstance(test, ast.Compare) else None
    return isinstance(left, ast.Name) and left.id == "__name__"


def _assigned_names(statement: ast.stmt) -> list[str]:
    """The names that an assignment binds, if it binds nothing but names."""
    names = _assigned(statement)
    return [name for name in names if name != "__all__"] if names else []


def _assigned(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        targets = [statement.target]
    elif type(statement).__name__ == "TypeAlias":
        targets = [statement.name]  # type: ignore[attr-defined]
    else:
        return []
    names: list[str] = []
    for target in targets:
        items = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        items = [item.value if isinstance(item, ast.Starred) else item for item in items]
        if not all(isinstance(item, ast.Name) for item in items):
            return []
        names += [item.id for item in items if isinstance(item, ast.Name)]
    return names


def _outside_functions(statement: ast.stmt) -> Iterator[ast.AST]:
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            pending += ast.iter_child_nodes(node)


def _chain(node: ast.AST) -> str:
    """A dotted chain of names as a string; empty for other expressions."""
    names: list[str] = []
    if isinstance(node, ast.Subscript):
        node = node.value
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *names]) if isinstance(node, ast.Name) else ""


def _decorators(nodes: Iterable[ast.AST]) -> tuple[str, ...]:
    """The chains of decorators, without those of properties."""
    decorators = (d for node in nodes for d in getattr(node, "decorator_list", ()))
    chains = (_chain(d.func if isinstance(d, ast.Call) else d) for d in decorators)
    return tuple(dict.fromkeys(c for c in chains if c and c.rpartition(".")[2] not in _ACCESSORS))


def _calls(nodes: Iterable[ast.AST]) -> tuple[str, ...]:
    """The chains of what the values of assignments call when they are assigned."""
    assigned = [node.value for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign)]
    nodes = (node for value in assigned if value for node in ast.walk(value))
    chains = (_chain(node.func) for node in nodes if isinstance(node, ast.Call))
    return tuple(dict.fromkeys(filter(None, chains)))


def _public(tree: ast.Module) -> tuple[str, ...] | None:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in statement.targets
        ):
            try:
                return tuple(ast.literal_eval(statement.value))
            except (ValueError, TypeError):
                return None
    return None


def is_builtin(name: str) -> bool:
    """Whether a name that a module does not bind is Python's own."""
    return name in BUILTINS
