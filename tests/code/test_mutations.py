"""Seeded edits of a real example: each makes exactly the commands stale that reach what it changes.

What a command reaches is known here from words: a definition refers to whatever it mentions.
"""

from __future__ import annotations

import ast
import io
import random
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest

from rvrun.code.reach import Roots, reach
from rvrun.code.summary import Summary, summarise
from tests.conftest import ROOT

TEXT = (ROOT / "examples" / "landcover.py").read_text(encoding="utf-8")
COMMANDS = ("analyze", "chip", "train", "predict", "eval", "bundle")
CONFIGS = ("LandcoverConfig", "Scene", "Model")
#: Edits of code, and as many of what does not count.
NUM_EDITS = 100
Definition = ast.FunctionDef | ast.Assign | ast.ClassDef


class Example:
    """The example with its text replaced."""

    def __init__(self, text: str) -> None:
        self.module = summarise("landcover", text.encode(), is_package=False)

    def summary(self, name: str) -> Summary | None:
        return self.module if name == "landcover" else None

    def submodules(self, package: str) -> Iterator[str]:
        return iter(())


def fingerprints(text: str) -> dict[str, Mapping[str, str]]:
    roots = Roots(
        pipeline=(("landcover", "Landcover"), ("rvrun.pipelines.base", "Pipeline")),
        configs=tuple(("landcover", name) for name in CONFIGS),
        config=("landcover", "LandcoverConfig"),
        modules=("landcover",),
        commands=COMMANDS,
    )
    example = Example(text)
    return {command: reach(example, roots, command).hashes for command in COMMANDS}


def definitions(tree: ast.Module) -> dict[str, Definition]:
    """Functions, methods, constants and classes other than configs and the pipeline."""
    named: dict[str, Definition] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            named[node.name] = node
        elif isinstance(node, ast.Assign):
            names = (n for target in node.targets for n in ast.walk(target))
            named |= {name.id: node for name in names if isinstance(name, ast.Name)}
        elif isinstance(node, ast.ClassDef):
            methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
            named |= {f"{node.name}.{method.name}": method for method in methods}
            if node.name not in (*CONFIGS, "Landcover"):
                named[node.name] = node
    return named


def mentions(node: Definition, names: Mapping[str, Definition]) -> set[str]:
    """The definitions that a definition mentions: `name`, `self.name` or `self.config.name`."""
    code = "\n".join(ast.unparse(part) for part in _without_docstring(node))
    methods = {name.partition(".")[2]: name for name in names if name.startswith("Landcover")}
    mentioned = re.findall(r"self\.(?:config\.)?(\w+)", code)
    own = {methods[name] for name in mentioned if name in methods}
    free = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", code))
    return own | {name for name in names if name in free}


def _without_docstring(node: Definition) -> list[ast.AST]:
    if not isinstance(node, ast.FunctionDef):
        return [node]
    has_docstring = ast.get_docstring(node) is not None
    return [*node.decorator_list, *node.args.defaults, *node.body[int(has_docstring) :]]


def reachable() -> dict[str, set[str]]:
    """The commands that reach each definition."""
    names = definitions(ast.parse(TEXT))
    reached_by: dict[str, set[str]] = {name: set() for name in names}
    for command in COMMANDS:
        pending = {f"Landcover.{command}", "LandcoverConfig.build"}
        seen: set[str] = set()
        while pending:
            name = pending.pop()
            seen.add(name)
            pending |= mentions(names[name], names) - seen
        for name in seen:
            reached_by[name].add(command)
    return reached_by


def change_code(node: Definition, chance: random.Random) -> str:
    """Change what a definition does, and return how."""
    constants = [
        n
        for n in _executed(node)
        if isinstance(n, ast.Constant) and isinstance(n.value, int | float | str)
    ]
    operators = [n for n in _executed(node) if isinstance(n, ast.BinOp)]
    choices: list[Callable[[], str]] = []
    if constants:
        choices.append(lambda: _change_constant(chance.choice(constants)))
    if operators:
        choices.append(lambda: _change_operator(chance.choice(operators)))
    if isinstance(node, ast.FunctionDef):
        choices += [lambda: _add_statement(node), lambda: _add_default(node)]
    return chance.choice(choices)()


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a definition but docstrings and annotations."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        for name, value in ast.iter_fields(current):
            if name in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
                if isinstance(child, ast.AST) and not is_docstring:
                    pending.append(child)


def _change_constant(node: ast.Constant) -> str:
    value = node.value
    assert isinstance(value, str | int | float)
    node.value = f"{value}!" if isinstance(value, str) else value + 1
    return "constant"


def _change_operator(node: ast.BinOp) -> str:
    node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    return "operator"


def _add_statement(node: ast.FunctionDef) -> str:
    node.body.append(ast.parse("print(1)").body[0])
    return "statement"


def _add_default(node: ast.FunctionDef) -> str:
    node.args.kwonlyargs.append(ast.arg(arg="more"))
    node.args.kw_defaults.append(ast.Constant(value=1))
    return "default"


def edit_code(chance: random.Random, reached_by: Mapping[str, set[str]]) -> tuple[str, str, str]:
    """Change a random definition; return the text, the definition, and how it was changed."""
    tree = ast.parse(TEXT)
    names = definitions(tree)
    name = chance.choice(sorted(name for name in names if name != "Tile"))
    kind = change_code(names[name], chance)
    return ast.unparse(ast.fix_missing_locations(tree)), name, kind


def edit_layout(chance: random.Random) -> tuple[str, str]:
    """Change only comments, docstrings or layout; return the text, and what was changed."""
    kind = chance.choice(("comment", "blank line", "docstring", "layout", "annotation"))
    lines = TEXT.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(TEXT).readline))
    ends = [token.end[0] for token in tokens if token.type == tokenize.NEWLINE]
    if kind == "comment":
        line = chance.choice(ends)
        lines[line - 1] += f"  # {chance.random()}"
    elif kind == "blank line":
        lines.insert(chance.choice(ends), "")
    elif kind == "layout":
        return ast.unparse(ast.parse(TEXT)), kind
    else:
        return _edit_function(chance, kind), kind
    return "\n".join(lines) + "\n", kind


def _edit_function(chance: random.Random, kind: str) -> str:
    tree = ast.parse(TEXT)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    plain = [n for n in functions if not n.decorator_list and n.args.args]
    if kind == "annotation":
        chance.choice(plain).args.args[-1].annotation = ast.Name(id="object")
    else:
        body = chance.choice(functions).body
        has_docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        body[: int(has_docstring)] = [ast.Expr(ast.Constant(value=str(chance.random())))]
    return ast.unparse(ast.fix_missing_locations(tree))


def test_edits_of_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Each makes exactly the commands stale that reach the changed definition."""
    chance = random.Random(14)
    before, reached_by = fingerprints(TEXT), reachable()
    counts: Counter[str] = Counter()
    for _ in range(NUM_EDITS):
        text, name, kind = edit_code(chance, reached_by)
        after = fingerprints(text)
        stale = {command for command in COMMANDS if before[command] != after[command]}
        assert stale == reached_by[name], (name, kind)
        counts[f"{kind}: {len(stale)} of {len(COMMANDS)} commands"] += 1
    _print(capsys, "edits of code", counts)
    assert {number for key in counts for number in re.findall(r"(\d) of", key)} >= {"0", "1", "6"}


def test_edits_of_what_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    """Comments, docstrings, layout and annotations make nothing stale."""
    chance = random.Random(15)
    before = fingerprints(TEXT)
    counts: Counter[str] = Counter()
    for _ in range(NUM_EDITS):
        text, kind = edit_layout(chance)
        assert fingerprints(text) == before, kind
        counts[f"{kind}: nothing stale"] += 1
    _print(capsys, "edits of comments, docstrings and layout", counts)


def _print(capsys: pytest.CaptureFixture[str], title: str, counts: Counter[str]) -> None:
    with capsys.disabled():
        print(f"\n{sum(counts.values())} {title}")
        for key, number in sorted(counts.items()):
            print(f"  {number:3}  {key}")
