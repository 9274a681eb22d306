"""Find which definitions of the user's own code a command can reach, and by which way.

It starts at the command's method, as a worker does: the pipeline is built by its config, and its
modules are imported. Each definition that is reached adds those that it refers to.

- `self.x` in the pipeline is the first `x` of its classes. Any other `object.x` is the `x` of every
  class that was reached, because the class of the object is unknown.
- What cannot be resolved makes the module that it is in count as a whole.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import attrs

from rvrun.code.fingerprint import MODULE
from rvrun.code.normalise import digest, digest_text
from rvrun.code.summary import ClassShape, Definition, Kind, Summary, is_builtin

#: A class or another definition: its module, and its name in it.
Id = tuple[str, str]
#: The name of a module as a whole.
WHOLE = "*"
#: Bases that call no method of a subclass by a name that the user's code does not mention.
_INERT_MODULES = frozenset({"rvrun", "typing", "abc", "enum", "builtins", "typing_extensions"})
_INERT = frozenset({("rastervision.pipeline.pipeline", "Pipeline")})
#: The hash of a module that runs nothing when it is imported.
_EMPTY = digest([])


class Modules(Protocol):
    """The user's modules."""

    def summary(self, name: str) -> Summary | None:
        """Return the summary of a module of the user's; None for any other."""

    def submodules(self, package: str) -> Iterator[str]:
        """Yield the names of the modules directly in a package."""


@attrs.frozen(kw_only=True)
class Roots:
    """Where the code of a pipeline begins.

    - `pipeline`: its class and that class's bases, in the order in which Python looks methods up.
    - `configs`: the classes of its configs with their bases. `config`: the one that builds it.
    - `modules`: what each target imports. `commands`: all commands of the pipeline.
    """

    pipeline: tuple[Id, ...]
    configs: tuple[Id, ...] = ()
    config: Id | None = None
    modules: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    def all_modules(self) -> tuple[str, ...]:
        """Return the modules in which the code begins, each once."""
        names = (name for name, _ in (*self.pipeline, *self.configs))
        return tuple(dict.fromkeys((*names, *self.modules)))


@attrs.frozen(kw_only=True)
class Reached:
    """What a command reaches.

    - `hashes`: of each definition, by its dotted name. `callers`: which definition led to it.
    - `reasons`: why a module counts as a whole, by its name.
    """

    hashes: dict[str, str]
    callers: dict[str, str]
    reasons: dict[str, str]


def reach(modules: Modules, roots: Roots, command: str) -> Reached:
    """Return what `command` reaches, from `roots`."""
    search = _Search(modules, roots)
    search.start(command)
    return search.finish()


def dotted(item: Id) -> str:
    """Return the name of a definition: `windows.share`."""
    return f"{item[0]}.{item[1]}"


class _Search:
    """A breadth-first search, so that the ways to definitions are short."""

    def __init__(self, modules: Modules, roots: Roots) -> None:
        self.modules = modules
        self.roots = roots
        self.pipeline = dict.fromkeys(roots.pipeline)
        self.configs = frozenset(roots.configs)
        self.callers: dict[Id, Id | None] = {}
        self.queue: deque[Id] = deque()
        self.wanted: dict[str, Id] = {}
        self.live: dict[Id, Id | None] = {}
        self.open: set[Id] = set()
        self.imported: set[str] = set()
        self.whole: dict[str, str] = {}
        self.externals: dict[Id, set[str]] = {}
        self.has_wildcard = False

    # What is reached

    def start(self, command: str) -> None:
        """Reach what a target runs: imports, the config's `build`, `__init__`, and the method."""
        method = self.find_in_pipeline(command)
        if method is not None:
            self.reach(method, None)
        for name in self.roots.all_modules():
            self.import_module(name, method)
        if method is None:
            owners = [name for name, _ in self.roots.pipeline if self.modules.summary(name)]
            for name in owners[:1]:
                self.reach_whole(name, f"`{command}` is not defined in a class of it", None)
        self.reach_objects(method)
        while self.queue:
            self.follow(self.queue.popleft())

    def reach_objects(self, method: Id | None) -> None:
        """Reach what creates the objects that each target has: its configs and its pipeline."""
        for owner in self.pipeline:
            self.reach_class(owner, method, is_live=False)
        for name in self.dunders():
            self.reach_in_pipeline(name, method)
        if self.has_foreign_base(self.roots.pipeline):
            self.reach_hooks(method)
        for config in self.roots.configs:
            self.reach_class(config, method, is_live=True)
        if self.roots.config is not None:
            self.reach_member(self.roots.config, "build", method)

    def reach(self, item: Id, caller: Id | None) -> None:
        if item not in self.callers:
            self.callers[item] = caller
            self.queue.append(item)

    def reach_whole(self, name: str, reason: str, caller: Id | None) -> None:
        """Let a module count as a whole, with all that any of its definitions refers to."""
        summary = self.modules.summary(name)
        if summary is None or name in self.whole:
            return
        self.whole[name] = reason
        self.callers.setdefault((name, WHOLE), caller)
        self.import_module(name, (name, WHOLE))
        for shape in summary.classes:
            self.reach_class((name, shape), (name, WHOLE), is_live=True)
        for definition in summary.definitions:
            if not definition.endswith(":"):
                self.reach((name, definition), (name, WHOLE))

    def follow(self, item: Id) -> None:
        """Reach what a definition refers to."""
        definition = self.definition(item)
        for name in definition.imports:
            self.import_module(name, item)
        for chain in definition.names:
            self.resolve(item[0], chain.split("."), item)
        for target in definition.imported:
            self.resolve_target(target, item)
        for chain in definition.own:
            self.resolve_own(item, chain.split("."))
        for name in definition.supers:
            self.resolve_super(item, name)
        for name in definition.attributes:
            self.want(name, item)
        if definition.escapes and self.owner(item) in self.pipeline:
            for owner in self.pipeline:
                self.reach_class(owner, item, is_live=True)
        self.fall_back(item, definition)

    def fall_back(self, item: Id, definition: Definition) -> None:
        """Let modules count as a whole where the code cannot be resolved."""
        for reason in definition.dynamic:
            self.reach_whole(item[0], f"{reason} in `{dotted(item)}`", item)
            self.open_all(item)
        for package in definition.packages:
            for name in self.modules.submodules(package):
                self.reach_whole(name, f"an import of a computed name in `{dotted(item)}`", item)
        for chain in definition.patches:
            for patched in self.patched_modules(item[0], chain):
                reason = f"`{dotted(item)}` assigns to `{chain.lstrip('@')}`"
                self.reach_whole(patched, reason, item)

    def open_all(self, item: Id) -> None:
        """Let every method of every class count, since any name may be looked up."""
        if not self.has_wildcard:
            self.has_wildcard = True
            for owner in list(self.live):
                self.reach_members(owner, lambda _: True, item)
        if self.owner(item) in self.pipeline:
            self.reach_hooks(item)

    # Modules

    def import_module(self, name: str, caller: Id | None) -> None:
        """Reach what importing a module runs: it, its packages, and all that they import."""
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            self.import_one(".".join(parts[:end]), caller)

    def import_one(self, name: str, caller: Id | None) -> None:
        summary = None if name in self.imported else self.modules.summary(name)
        if summary is None:
            return
        self.imported.add(name)
        item = (name, MODULE)
        if summary.problem:
            self.whole[name] = summary.problem
            self.callers.setdefault((name, WHOLE), caller)
            return
        self.reach(item, caller)
        for other in summary.modules:
            self.import_module(other, item)
        for qualname, definition in summary.definitions.items():
            if self.runs_at_import(summary, qualname, definition):
                self.reach((name, qualname), item)
                if qualname in summary.classes:
                    self.reach_class((name, qualname), item, is_live=True)
                    self.reach_members((name, qualname), lambda _: True, item)

    def runs_at_import(self, summary: Summary, qualname: str, definition: Definition) -> bool:
        """Whether importing a definition changes something that other code sees."""
        if any(self.mutates(summary.name, chain) for chain in definition.decorators):
            return True
        if any(self.mutates(summary.name, chain) for chain in definition.calls):
            return True
        return qualname in summary.classes and self.is_noticed((summary.name, qualname))

    def mutates(self, module: str, chain: str) -> bool:
        """Whether calling a chain may change a value of a module, such as a registry."""
        parts = chain.split(".")
        match = self.find(module, parts)
        if match is None:
            return False
        item, rest = match
        definition = self.definition(item)
        if definition.kind == Kind.VALUE:
            return bool(rest) and "." not in item[1]
        if definition.kind != Kind.FUNCTION:
            return False
        names = (self.find(item[0], [name]) for name in definition.mutates)
        return any(n is not None and self.definition(n[0]).kind == Kind.VALUE for n in names)

    def is_noticed(self, owner: Id) -> bool:
        """Whether a base or metaclass of the user's learns of a new subclass."""
        for base in self.bases(owner):
            shape = self.shape(base)
            if shape is None:
                continue
            if "__init_subclass__" in shape.members and base != owner:
                return base not in self.pipeline
            if shape.metaclass and self.find(base[0], shape.metaclass.split(".")):
                return True
        return False

    # Names

    def find(
        self, module: str, parts: list[str], seen: frozenset[Id] = frozenset()
    ) -> tuple[Id, list[str]] | None:
        """Return the definition that a chain leads to, and the rest of it; None if it is not one.

        The definition is a module's own code (`MODULE`) if the chain ends at a module.

        - `seen`: what led here, because imports may form circles.
        """
        summary = self.modules.summary(module)
        name, rest = parts[0], parts[1:]
        if summary is None or (module, name) in seen:
            return None
        if name in summary.definitions:
            return (module, name), rest
        seen |= {(module, name)}
        if name in summary.imports:
            target, _, attribute = summary.imports[name].partition(":")
            return self.find_in(target, [*([attribute] if attribute else []), *rest], seen)
        for star in summary.stars:
            if self.is_public(star, name) and (match := self.find_in(star, parts, seen)):
                return match
        return None

    def find_in(
        self, module: str, parts: list[str], seen: frozenset[Id] = frozenset()
    ) -> tuple[Id, list[str]] | None:
        """Like `find`, where the chain may also lead through submodules."""
        summary = self.modules.summary(module)
        if not parts:
            return ((module, MODULE), []) if summary else None
        if summary and (match := self.find(module, parts, seen)):
            return match
        submodule = f"{module}.{parts[0]}"
        # A namespace package has no summary, but may have submodules.
        if summary and self.modules.summary(submodule) is None:
            return None
        return self.find_in(submodule, parts[1:], seen)

    def is_public(self, module: str, name: str) -> bool:
        """Whether `from module import *` may bind a name."""
        summary = self.modules.summary(module)
        if summary is None or summary.public is None:
            return not name.startswith("_")
        return name in summary.public

    def resolve(self, module: str, parts: list[str], caller: Id) -> None:
        """Reach what a chain of names of a module refers to."""
        summary = self.modules.summary(module)
        if summary is None:
            return
        name = parts[0]
        if name in summary.definitions:
            self.reach_found((module, name), parts[1:], caller)
        elif name in summary.imports:
            chain = ".".join([summary.imports[name], *parts[1:]])
            self.resolve_target(chain, caller)
        elif match := self.find(module, parts):
            self.reach_found(*match, caller)
        elif not is_builtin(name):
            if self.definition((module, "__getattr__")).digest:
                self.reach((module, "__getattr__"), caller)
            stars = [star for star in summary.stars if self.modules.summary(star) is None]
            more = f"; it may come from {', '.join(stars)}" if stars else ""
            self.reach_whole(module, f"`{name}` is not defined in it{more}", caller)
        else:
            for attribute in parts[1:]:
                self.want(attribute, caller)

    def resolve_target(self, target: str, caller: Id) -> None:
        """Reach what an imported name refers to: `module:attribute.rest`."""
        module, _, chain = target.partition(":")
        rest = [part for part in chain.split(".") if part]
        match = self.find_in(module, rest)
        if match is not None:
            self.import_module(match[0][0], caller)
            self.reach_found(*match, caller)
        elif self.modules.summary(module) is not None:
            if self.definition((module, "__getattr__")).digest:
                self.reach((module, "__getattr__"), caller)
            self.reach_whole(module, f"`{'.'.join(rest)}` is not defined in it", caller)
        else:
            self.externals.setdefault(caller, set()).add(target)
            for name in rest[1:]:
                self.want(name, caller)

    def reach_found(self, item: Id, rest: list[str], caller: Id) -> None:
        module, name = item
        if name == MODULE:
            if not rest:
                # A module as a value: whoever gets it may look up any name.
                self.reach_whole(module, f"`{dotted(caller)}` uses it as a value", caller)
                return
            self.resolve(module, rest, caller)
        elif self.shape(item) is not None:
            # `Land(self)` in `build`, or `Land.SIZE`, do not let other code have the object.
            is_own = item in self.pipeline and (rest or self.owner(caller) in self.configs)
            self.reach_class(item, caller, is_live=not is_own)
            if rest:
                self.reach_member(item, rest[0], caller)
                rest = rest[1:]
        else:
            self.reach(item, caller)
        if name != MODULE:
            for attribute in rest:
                self.want(attribute, caller)

    def patched_modules(self, module: str, chain: str) -> list[str]:
        """The user's modules in which an assignment to `chain` changes what a name means."""
        parts = chain.lstrip("@").split(".")
        match = None
        if chain.startswith("@"):
            target, *rest = parts
            name, _, attribute = target.partition(":")
            names = [*([attribute] if attribute else []), *rest[:-1]]
            match = self.find_in(name, names)
        elif len(parts) > 1:
            match = self.find(module, parts[:-1])
        if match is None:
            return []
        item, rest = match
        is_code = item[1] == MODULE or self.definition(item).kind in (Kind.CLASS, Kind.FUNCTION)
        return [item[0]] if is_code and not rest else []

    # Classes

    def reach_class(self, owner: Id, caller: Id | None, *, is_live: bool) -> None:
        """Reach a class.

        - `is_live`: whether objects of it may be where their class is not known.
        """
        shape = self.shape(owner)
        if shape is None:
            return
        self.reach(owner, caller)
        if owner in self.live or not is_live:
            return
        self.live[owner] = caller
        # A class through which a command is reached is not why its bases are.
        for base in self.bases(owner)[1:]:
            self.reach_class(base, owner, is_live=True)
        is_foreign = self.has_foreign_base(self.bases(owner))
        for name in shape.members:
            definition = self.definition((owner[0], f"{owner[1]}.{name}"))
            if self.counts_always(owner, name, definition, is_foreign=is_foreign):
                self.reach((owner[0], f"{owner[1]}.{name}"), owner)
            elif name in self.wanted or self.has_wildcard:
                self.reach_member_of(owner, name, self.wanted.get(name, owner))

    def counts_always(
        self, owner: Id, name: str, definition: Definition, *, is_foreign: bool
    ) -> bool:
        """Whether a member counts even if nothing that is reached mentions its name."""
        if owner in self.configs:
            # Their values, and so the defaults, are in the saved config.
            return definition.kind == Kind.FUNCTION and (_is_dunder(name) or is_foreign)
        if owner in self.pipeline:
            return definition.kind == Kind.FUNCTION and _is_dunder(name)
        shape = self.shape(owner)
        # Such as `@field.validator`, which registers a method with a field.
        is_registered = shape and any(
            chain.partition(".")[0] in shape.members for chain in definition.decorators
        )
        is_field = definition.kind == Kind.FIELD or (
            definition.kind == Kind.VALUE and self.reads_values(owner)
        )
        return _is_dunder(name) or is_foreign or is_field or bool(is_registered)

    def reads_values(self, owner: Id) -> bool:
        """Whether the attributes of a class mean something to its decorator, metaclass or base."""
        shape = self.shape(owner)
        is_read = self.definition(owner).decorators or (shape and shape.metaclass)
        return bool(is_read) or any(module == "enum" for module, _ in self.bases(owner))

    def reach_member_of(self, owner: Id, name: str, caller: Id | None) -> None:
        """Reach the member `name` that a class itself has."""
        qualname = f"{owner[1]}.{name}"
        definition = self.definition((owner[0], qualname))
        if owner in self.configs and definition.kind == Kind.FIELD:
            qualname += ":"
        if definition.digest:
            self.reach((owner[0], qualname), caller)

    def reach_member(self, owner: Id, name: str, caller: Id | None) -> None:
        """Reach a member of a class, wherever in its bases it is."""
        for base in self.bases(owner):
            shape = self.shape(base)
            if shape is not None and name in shape.members:
                self.reach_member_of(base, name, caller)
                return

    def reach_members(self, owner: Id, is_wanted: Callable[[str], bool], caller: Id | None) -> None:
        shape = self.shape(owner)
        for name in shape.members if shape else ():
            if is_wanted(name):
                self.reach_member_of(owner, name, caller)

    def reach_hooks(self, caller: Id | None) -> None:
        """Reach all methods of the pipeline but its commands: code of others may call them."""
        for owner in self.pipeline:
            self.reach_members(owner, functools.partial(self.is_hook, owner), caller)

    def is_hook(self, owner: Id, name: str) -> bool:
        definition = self.definition((owner[0], f"{owner[1]}.{name}"))
        return definition.kind == Kind.FUNCTION and name not in self.roots.commands

    def resolve_own(self, item: Id, parts: list[str]) -> None:
        """Reach what `self.x` refers to in a method."""
        owner = self.owner(item)
        name, rest = parts[0], parts[1:]
        if owner in self.pipeline:
            self.reach_in_pipeline(name, item)
        elif owner is not None:
            self.reach_member(owner, name, item)
        if owner not in self.pipeline or owner in self.live:
            self.want(name, item)
        for attribute in rest:
            self.want(attribute, item)

    def resolve_super(self, item: Id, name: str) -> None:
        owner = self.owner(item)
        if owner is None:
            return
        order = self.roots.pipeline if owner in self.pipeline else self.bases(owner)
        later = order[list(order).index(owner) + 1 :]
        for base in later:
            shape = self.shape(base)
            if shape is not None and name in shape.members:
                self.reach_member_of(base, name, item)
                return

    def find_in_pipeline(self, name: str) -> Id | None:
        """The definition of the pipeline's attribute `name`."""
        for owner in self.pipeline:
            shape = self.shape(owner)
            if shape is not None and name in shape.members:
                return owner[0], f"{owner[1]}.{name}"
        return None

    def reach_in_pipeline(self, name: str, caller: Id | None) -> bool:
        match = self.find_in_pipeline(name)
        if match is not None:
            self.reach(match, caller)
        return match is not None

    def dunders(self) -> list[str]:
        """The special methods of the pipeline, which are called without being named."""
        shapes = (self.shape(owner) for owner in self.pipeline)
        names = dict.fromkeys(name for shape in shapes if shape for name in shape.members)
        return [name for name in names if _is_dunder(name)]

    def want(self, name: str, caller: Id | None) -> None:
        """Reach the members called `name` of all classes that are or will be reached."""
        if name in self.wanted or caller is None:
            return
        self.wanted[name] = caller
        for owner in list(self.live):
            shape = self.shape(owner)
            if shape is not None and name in shape.members:
                self.reach_member_of(owner, name, caller)

    def bases(self, owner: Id) -> tuple[Id, ...]:
        """A class and its bases, depth first; those that are not the user's as far as known."""
        result: dict[Id, None] = {}
        pending = [owner]
        while pending:
            current = pending.pop(0)
            if current in result:
                continue
            result[current] = None
            shape = self.shape(current)
            bases = [self.base(current[0], chain) for chain in shape.bases] if shape else []
            pending = [*(base for base in bases if base != ("builtins", "object")), *pending]
        return tuple(result)

    def base(self, module: str, chain: str) -> Id:
        if not chain:
            return "", ""
        parts = chain.split(".")
        if match := self.find(module, parts):
            return match[0]
        summary = self.modules.summary(module)
        target = summary.imports.get(parts[0]) if summary else None
        if target is None:
            return ("builtins", chain) if is_builtin(parts[0]) else ("", chain)
        name, _, attribute = target.partition(":")
        names = [*([attribute] if attribute else []), *parts[1:]]
        return ".".join([name, *names[:-1]]), names[-1]

    def has_foreign_base(self, bases: Sequence[Id]) -> bool:
        """Whether a class has a base whose code may call methods of the class by their names."""
        return any(
            self.modules.summary(module) is None
            and module.partition(".")[0] not in _INERT_MODULES
            and (module, name) not in _INERT
            for module, name in bases
        )

    # Facts

    def shape(self, owner: Id) -> ClassShape | None:
        summary = self.modules.summary(owner[0])
        return summary.classes.get(owner[1]) if summary else None

    def owner(self, item: Id) -> Id | None:
        """The class that a member belongs to."""
        name, _, _ = item[1].partition(".")
        owner = (item[0], name)
        return owner if self.shape(owner) is not None else None

    def definition(self, item: Id) -> Definition:
        summary = self.modules.summary(item[0])
        match = summary.definitions.get(item[1]) if summary else None
        return match or Definition(Kind.VALUE, "")

    # The result

    def finish(self) -> Reached:
        hashes, callers = {}, {}
        for item, caller in self.callers.items():
            own = self.own_digest(item)
            if own:
                externals = sorted(self.externals.get(item, ()))
                name = self.shown(item)
                hashes[name] = digest_text(own, *externals) if externals else own
                shown = self.shown(caller) if caller else ""
                callers[name] = "" if shown == name else shown
        return Reached(hashes=hashes, callers=callers, reasons=self.whole)

    def own_digest(self, item: Id) -> str:
        """The hash of what an item itself does; empty if it has no line of its own."""
        summary = self.modules.summary(item[0])
        if summary is None:
            return ""
        if item[0] in self.whole:
            return summary.digest if item[1] == WHOLE else ""
        own = self.definition(item).digest
        return "" if item[1] == MODULE and own == _EMPTY else own

    def shown(self, item: Id) -> str:
        """The name of an item in the fingerprint."""
        return dotted((item[0], WHOLE) if item[0] in self.whole else item).removesuffix(":")


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
