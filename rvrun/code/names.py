"""Find what a definition refers to: names of its module, imports, attributes, and what hides them.

A reference is a dotted chain, such as `windows.share` or `Tile`, whose first part is a name of the
module. Local variables are not references, so scopes are followed as Python does.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from rvrun.code.normalise import FUNCTIONS

BUILTINS = frozenset(dir(builtins)) | {
    "__file__",
    "__name__",
    "__doc__",
    "__package__",
    "__path__",
    "__spec__",
    "__class__",
    "__annotations__",
    "__debug__",
    "__builtins__",
    "__module__",
    "__qualname__",
}
#: Functions that reach code by names that are computed when they run.
_DYNAMIC = frozenset({"exec", "eval", "globals", "locals", "__import__"})
_ATTRIBUTES = frozenset({"getattr", "setattr", "delattr", "hasattr"})
_LAMBDAS = (*FUNCTIONS, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
#: The value of a local name: what it is bound to, as far as that is followed.
LOCAL, SELF = "", "self"


@attrs.define
class References:
    """What a definition refers to; chains are dotted.

    - `names`: chains whose first part is a name of the module.
    - `imported`: `module:attribute.rest`, for names that the definition imports itself.
    - `own`: chains after `self` or `cls`. `supers`: names after `super()`.
    - `attributes`: names that are looked up in objects whose class is unknown.
    - `imports`: modules that it imports when it runs.
    - `dynamic`: why it cannot be resolved, a phrase each. `packages`: prefixes of computed imports.
    - `patches`: chains of names of the module that it assigns attributes to.
    - `mutates`: names of the module whose value it changes in place.
    - `escapes`: whether it hands `self` on to code that may call any of its methods.
    """

    names: set[str] = attrs.field(factory=set)
    imported: set[str] = attrs.field(factory=set)
    own: set[str] = attrs.field(factory=set)
    supers: set[str] = attrs.field(factory=set)
    attributes: set[str] = attrs.field(factory=set)
    imports: set[str] = attrs.field(factory=set)
    dynamic: set[str] = attrs.field(factory=set)
    packages: set[str] = attrs.field(factory=set)
    patches: set[str] = attrs.field(factory=set)
    mutates: set[str] = attrs.field(factory=set)
    escapes: bool = False


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Return the full name of the module that a `from` statement imports from.

    - `package`: the package that relative imports start from.
    """
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    base = parts[: max(0, len(parts) - node.level + 1)]
    return ".".join([*base, *([node.module] if node.module else [])])


def import_targets(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, with its target: `module:` or `module:attribute`."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            yield bound, f"{alias.name if alias.asname else bound}:"
        return
    module = absolute(node, package)
    for alias in node.names:
        if alias.name != "*":
            yield alias.asname or alias.name, f"{module}:{alias.name}"


def imported_modules(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """Yield the modules that an import runs; of `from a import b`, also `a.b`, if it is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    module = absolute(node, package)
    yield module
    yield from (f"{module}.{alias.name}" for alias in node.names if alias.name != "*")


def is_for_type_checkers(node: ast.AST) -> bool:
    """Whether a statement is an `if TYPE_CHECKING:`."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def find_references(
    nodes: Iterable[ast.AST], package: str, members: Sequence[str] = (), *, is_method: bool = False
) -> References:
    """Return what `nodes` refer to, which are statements or expressions of one definition.

    - `package`: as in `absolute`.
    - `members`: the names that the class around them binds.
    - `is_method`: whether functions among `nodes` are methods, whose first parameter is `self`.
    """
    visitor = _Visitor(package)
    scopes: tuple[Mapping[str, str], ...] = (dict.fromkeys(members, "member"),)
    for node in nodes:
        if isinstance(node, FUNCTIONS) and is_method:
            visitor.visit_function(node, scopes, is_method=True)
        else:
            visitor.visit(node, scopes)
    return visitor.references


def _bound_names(node: ast.AST, package: str) -> dict[str, str]:
    """The names that the body of a function or class binds, with what they are bound to."""
    bound: dict[str, str] = {}
    outer: set[str] = set()
    pending = list(ast.iter_child_nodes(node))
    while pending:
        child = pending.pop()
        if isinstance(child, ast.Import | ast.ImportFrom):
            bound.update(import_targets(child, package))
            continue
        if isinstance(child, ast.Global | ast.Nonlocal):
            outer.update(child.names)
        bound.update(dict.fromkeys(_own_bindings(child), LOCAL))
        if isinstance(child, (*_LAMBDAS, ast.ClassDef)):
            continue
        if isinstance(child, _COMPREHENSIONS):
            walrus = (n for n in ast.walk(child) if isinstance(n, ast.NamedExpr))
            bound.update({n.target.id: LOCAL for n in walrus})
            continue
        pending += ast.iter_child_nodes(child)
    return {name: value for name, value in bound.items() if name not in outer}


def _own_bindings(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return [node.name]
    name = None
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        name = node.name
    elif isinstance(node, ast.MatchMapping):
        name = node.rest
    return [name] if name else []


def _parameters(arguments: ast.arguments) -> list[str]:
    plain = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    star = (arguments.vararg, arguments.kwarg)
    return [argument.arg for argument in (*plain, *star) if argument]


def _constant_string(node: ast.AST) -> str | None:
    is_string = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_string else None  # type: ignore[attr-defined]


def _prefix(node: ast.AST) -> str:
    """The constant beginning of a computed string, up to its last dot."""
    first: ast.AST | None = None
    if isinstance(node, ast.JoinedStr) and node.values:
        first = node.values[0]
    elif isinstance(node, ast.BinOp):
        first = node.left
    text = _constant_string(first) if first is not None else None
    return (text or "").rpartition(".")[0]


class _Visitor:
    """Walks a definition with the scopes around each node, innermost last."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.references = References()

    def visit(self, node: ast.AST, scopes: tuple[Mapping[str, str], ...]) -> None:
        if isinstance(node, _LAMBDAS):
            self.visit_function(node, scopes)
        elif isinstance(node, ast.ClassDef):
            self.visit_class(node, scopes)
        elif isinstance(node, _COMPREHENSIONS):
            self.visit_comprehension(node, scopes)
        elif isinstance(node, ast.Call):
            self.visit_call(node, scopes)
        elif isinstance(node, ast.Attribute):
            self.visit_attribute(node, scopes)
        elif isinstance(node, ast.Name):
            self.visit_name(node, scopes)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self.references.imports.update(imported_modules(node, self.package))
        elif isinstance(node, ast.Global):
            self.references.mutates.update(node.names)
        elif is_for_type_checkers(node):
            self.visit_all(node.orelse, scopes)  # type: ignore[attr-defined]
        else:
            self.visit_rest(node, scopes)

    def visit_rest(self, node: ast.AST, scopes: tuple[Mapping[str, str], ...]) -> None:
        is_local = isinstance(node, ast.AnnAssign) and len(scopes) > 1
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            self.note_mutation(node.value, scopes)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            function = node.value.func
            if isinstance(function, ast.Attribute):
                self.note_mutation(function.value, scopes)
        children = ast.iter_child_nodes(node)
        # Python never evaluates the annotation of a local variable.
        ignored = node.annotation if is_local else None  # type: ignore[attr-defined]
        self.visit_all([child for child in children if child is not ignored], scopes)

    def visit_all(self, nodes: Iterable[ast.AST], scopes: tuple[Mapping[str, str], ...]) -> None:
        for node in nodes:
            self.visit(node, scopes)

    def visit_function(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
        scopes: tuple[Mapping[str, str], ...],
        *,
        is_method: bool = False,
    ) -> None:
        arguments = node.args
        defaults = [default for default in arguments.kw_defaults if default]
        self.visit_all([*arguments.defaults, *defaults], scopes)
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        self.visit_all(decorators, scopes)
        if decorators:
            self.visit_all(_annotations(node), scopes)
        # The names of a class are not visible in its methods.
        inner = tuple(scope for scope in scopes if "member" not in scope.values())
        local = _bound_names(node, self.package)
        parameters = _parameters(arguments)
        body: Sequence[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else node.body
        local |= dict.fromkeys(parameters, LOCAL)
        names = {n.id for n in decorators if isinstance(n, ast.Name)}
        stored = {name for item in body for name in _stored(item)}
        has_self = is_method and parameters and "staticmethod" not in names
        if has_self and parameters[0] not in stored:
            local[parameters[0]] = SELF
        self.visit_all(body, (*inner, local))

    def visit_class(self, node: ast.ClassDef, scopes: tuple[Mapping[str, str], ...]) -> None:
        keywords = [keyword.value for keyword in node.keywords]
        self.visit_all([*node.bases, *keywords, *node.decorator_list], scopes)
        names = dict.fromkeys(_bound_names(node, self.package), LOCAL)
        for statement in node.body:
            visible = scopes if isinstance(statement, FUNCTIONS) else (*scopes, names)
            self.visit(statement, visible)

    def visit_comprehension(self, node: ast.AST, scopes: tuple[Mapping[str, str], ...]) -> None:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        names: dict[str, str] = {}
        for generator in generators:
            names |= dict.fromkeys(_stored(generator.target), LOCAL)
        # The first iterable is evaluated outside of the comprehension.
        self.visit(generators[0].iter, scopes)
        inside = (*scopes, names)
        for index, generator in enumerate(generators):
            self.visit_all([generator.target, *generator.ifs], inside)
            if index:
                self.visit(generator.iter, inside)
        rest = (n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.comprehension))
        self.visit_all(rest, inside)

    def lookup(self, name: str, scopes: tuple[Mapping[str, str], ...]) -> str | None:
        """What a local name is bound to; None for a name of the module."""
        return next((scope[name] for scope in reversed(scopes) if name in scope), None)

    def visit_name(self, node: ast.Name, scopes: tuple[Mapping[str, str], ...]) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        value = self.lookup(node.id, scopes)
        if value is None:
            if node.id in _DYNAMIC:
                self.references.dynamic.add(f"{node.id}()")
            elif node.id in _ATTRIBUTES or node.id == "vars":
                self.references.dynamic.add(f"{node.id} as a value")
            self.references.names.add(node.id)
        elif value == SELF:
            self.references.escapes = True
        elif value == "member":
            self.references.own.add(node.id)
        elif value:
            self.references.imported.add(value)

    def visit_attribute(self, node: ast.Attribute, scopes: tuple[Mapping[str, str], ...]) -> None:
        names: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            names.insert(0, base.attr)
            base = base.value
        if not isinstance(node.ctx, ast.Load):
            self.visit_store(base, names, scopes)
            return
        if "__dict__" in names or "__subclasses__" in names:
            self.references.dynamic.add(f"{'.'.join(names)}")
        if isinstance(base, ast.Name):
            self.note_chain(base, names, scopes)
        elif _is_super(base):
            self.references.supers.add(names[0])
            self.references.attributes.update(names[1:])
        elif isinstance(base, ast.Call) and self.is_type_of_self(base, scopes):
            self.references.own.add(".".join(names))
        else:
            self.visit(base, scopes)
            self.references.attributes.update(names)

    def note_chain(
        self, base: ast.Name, names: list[str], scopes: tuple[Mapping[str, str], ...]
    ) -> None:
        value = self.lookup(base.id, scopes)
        rest = ".".join(names)
        if value is None:
            self.references.names.add(f"{base.id}.{rest}")
        elif value == SELF:
            self.references.own.add(rest.removeprefix("__class__."))
        elif value == "member":
            self.references.own.add(f"{base.id}.{rest}")
        elif value:
            self.references.imported.add(f"{value}.{rest}")
        else:
            self.references.attributes.update(names)

    def visit_store(
        self, base: ast.expr, names: list[str], scopes: tuple[Mapping[str, str], ...]
    ) -> None:
        if not isinstance(base, ast.Name):
            self.visit(base, scopes)
            return
        value = self.lookup(base.id, scopes)
        chain = ".".join([base.id, *names])
        if value is None:
            self.references.patches.add(chain)
            self.references.mutates.add(base.id)
        elif value not in (LOCAL, SELF, "member"):
            self.references.patches.add(".".join([f"@{value}", *names]))
        if len(names) > 1:
            self.note_chain(base, names[:-1], scopes)

    def note_mutation(self, node: ast.expr, scopes: tuple[Mapping[str, str], ...]) -> None:
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        if isinstance(node, ast.Name) and self.lookup(node.id, scopes) is None:
            self.references.mutates.add(node.id)

    def visit_call(self, node: ast.Call, scopes: tuple[Mapping[str, str], ...]) -> None:
        function = node.func
        rest = [*node.args, *(keyword.value for keyword in node.keywords)]
        name = function.id if isinstance(function, ast.Name) else ""
        is_builtin = bool(name) and self.lookup(name, scopes) is None
        if is_builtin and name in _ATTRIBUTES and len(node.args) > 1:
            self.visit_getattr(name, node, scopes)
            return
        if is_builtin and name == "vars" and node.args:
            self.references.dynamic.add("vars()")
            self.visit_all(rest, scopes)
            return
        if is_builtin and name == "__import__" and node.args:
            self.visit_import_call(node, scopes)
            return
        if self.is_import_module(function, scopes) and node.args:
            self.visit_import_call(node, scopes)
            return
        if _is_super(node):
            return
        self.visit_all([function, *rest], scopes)

    def is_type_of_self(self, node: ast.Call, scopes: tuple[Mapping[str, str], ...]) -> bool:
        """Whether a call is `type(self)`."""
        names = [part.id for part in (node.func, *node.args) if isinstance(part, ast.Name)]
        return len(names) == 2 and names[0] == "type" and self.lookup(names[1], scopes) == SELF

    def is_import_module(self, function: ast.expr, scopes: tuple[Mapping[str, str], ...]) -> bool:
        """Whether a call is one of `import_module`, whatever it was imported from."""
        if isinstance(function, ast.Attribute):
            base = function.value
            return function.attr == "import_module" and isinstance(base, ast.Name)
        return isinstance(function, ast.Name) and function.id == "import_module"

    def visit_import_call(self, node: ast.Call, scopes: tuple[Mapping[str, str], ...]) -> None:
        self.visit_all([*node.args, *(keyword.value for keyword in node.keywords)], scopes)
        name = _constant_string(node.args[0])
        if name is not None and not name.startswith("."):
            self.references.imports.add(name)
            self.references.imported.add(f"{name}:")
            return
        self.references.dynamic.add("an import of a computed name")
        if prefix := _prefix(node.args[0]):
            self.references.packages.add(prefix)

    def visit_getattr(
        self, name: str, node: ast.Call, scopes: tuple[Mapping[str, str], ...]
    ) -> None:
        receiver, attribute, *rest = node.args
        self.visit_all(rest, scopes)
        constant = _constant_string(attribute)
        is_store = name in ("setattr", "delattr")
        if constant is not None and constant.isidentifier():
            context = ast.Store() if is_store else ast.Load()
            self.visit(ast.Attribute(value=receiver, attr=constant, ctx=context), scopes)
            return
        self.visit_all([receiver, attribute], scopes)
        is_local = isinstance(receiver, ast.Name) and self.lookup(receiver.id, scopes) == LOCAL
        if name == "getattr" or (is_store and not is_local):
            self.references.dynamic.add(f"{name} with a computed name")


def _annotations(node: ast.AST) -> list[ast.expr]:
    arguments: ast.arguments = node.args  # type: ignore[attr-defined]
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    annotations = [argument.annotation for argument in every if argument.annotation]
    returns = getattr(node, "returns", None)
    return [*annotations, *([returns] if returns else [])]


def _stored(node: ast.AST) -> set[str]:
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return {name.id for name in names if not isinstance(name.ctx, ast.Load)}


def _is_super(node: ast.AST) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    return isinstance(function, ast.Name) and function.id == "super"
