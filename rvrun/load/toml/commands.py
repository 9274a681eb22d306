"""The commands of a `pipeline.toml`: their placeholders, checked, and their parts in a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from rvrun.load.toml.items import fields_of
from rvrun.load.toml.kinds import Path
from rvrun.load.toml.places import locating
from rvrun.load.toml.read import Source
from rvrun.model import EACH
from rvrun.programs import template
from rvrun.programs.code import check_script, check_words
from rvrun.programs.script import compile_script
from rvrun.programs.template import (
    CONFIG,
    ITEM,
    ITEMS,
    ITEMS_FILE,
    OF_ALL_ITEMS,
    BadTemplate,
)
from rvrun.text import quoted

#: Parts of a command that say how it is planned, and not what it does.
PLANNED = ("splits", "gpu", "resources", "timeout", "retries", "inputs", "outputs")
#: Placeholders of split commands.
SPLIT = ("split", "splits")


@attrs.frozen
class Context:
    """What the placeholders of a pipeline's commands stand for.

    - `values`: the values of placeholders that all commands have. `items`: by command.
    """

    source: Source
    config: Mapping[str, Any]
    values: Mapping[str, str]
    items: Mapping[str, Sequence[Any]]

    def table(self, command: str) -> dict[str, Any]:
        """Return the table of a command in the file."""
        table: dict[str, Any] = self.source.values["commands"][command]
        return table

    def is_split(self, command: str) -> bool:
        """Whether a command can be split: it has items, or says so."""
        table = self.table(command)
        if "items" in table or "splits" in table:
            return True
        return any(name in SPLIT for _, text in run_texts(table) for name in _names(text))


def run_texts(table: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Return the strings of `run`, each with its path in the command."""
    run = table["run"]
    if isinstance(run, str):
        return [(("run",), run)]
    return [(("run", index), word) for index, word in enumerate(run)]


def _names(text: str) -> list[str]:
    try:
        return template.placeholders(text)
    except BadTemplate:
        # Whoever checks the text reports it.
        return []


def declare(context: Context, command: str) -> dict[str, Any]:
    """Return what a command runs, as its config has it. Raises `BadFile`."""
    table = context.table(command)
    for path, text in _texts(context, command):
        with locating(context.source, path):
            _check_text(context, command, text)
            if "run" not in path:
                _check_single(path, text)
            if path[-1:] == ("cwd",) and "://" in text:
                raise BadTemplate(
                    f"must be a directory of the machine, got {quoted(text)}; remove it"
                )
    _check_options(context, command)
    _check_use_of_items(context, command)
    _check_run(context, command)
    variables = {**context.source.values.get("env", {}), **table.get("env", {})}
    declaration: dict[str, Any] = {"run": table["run"]}
    if variables:
        declaration["env"] = {name: template.to_text(v) for name, v in variables.items()}
    return declaration | {key: table[key] for key in ("cwd", "container") if key in table}


def _texts(context: Context, command: str) -> Iterator[tuple[Path, str]]:
    """Yield all strings with placeholders, with their paths in the file."""
    table = context.table(command)
    place = ("commands", command)
    yield from (((*place, *path), text) for path, text in run_texts(table))
    for owner, variables in (
        ((), context.source.values.get("env", {})),
        (place, table.get("env", {})),
    ):
        for name, value in variables.items():
            if isinstance(value, str):
                yield (*owner, "env", name), value
    if "cwd" in table:
        yield (*place, "cwd"), table["cwd"]


def _check_options(context: Context, command: str) -> None:
    """Refuse placeholders in the options of a container, which may have other braces."""
    container = context.table(command).get("container", {})
    options = container.get("options", ()) if isinstance(container, dict) else ()
    names = known_names(context, command)
    for index, text in enumerate(options):
        if used := [name for name in names if f"{{{name}}}" in text]:
            with locating(context.source, ("commands", command, "container", "options", index)):
                problem = f"must not have `{{{used[0]}}}`, as options have no placeholders"
                raise BadTemplate(f"{problem}; write the value itself")


def _check_single(path: Path, text: str) -> None:
    """Refuse several items where there is one value: in variables, and as a directory."""
    refused = OF_ALL_ITEMS if path[-1] == "cwd" else (ITEMS,)
    if several := [name for name in _names(text) if name in refused]:
        remedy = "write `{item}` or another directory"
        if path[-1] != "cwd":
            remedy = f"write `{{{ITEMS_FILE}}}`, or move it to `run`"
        raise BadTemplate(f"must not have `{{{several[0]}}}`; {remedy}")


def known_names(context: Context, command: str) -> list[str]:
    """Return the placeholders that a command may use."""
    names = list(context.values)
    if context.is_split(command):
        names += SPLIT
    if command in context.items:
        names += [ITEM, *OF_ALL_ITEMS]
    return names


def _check_text(context: Context, command: str, text: str) -> None:
    items = context.items.get(command)
    for name in template.placeholders(text):
        if name.startswith(CONFIG):
            _check_scalar(context, name)
        if items is None and (name.partition(".")[0] == ITEM or name in OF_ALL_ITEMS):
            raise BadTemplate(f'has `{{{name}}}`, which requires `items`; add `items = ["a", "b"]`')
    fields = fields_of(items) if items else None
    if items and fields is not None:
        _check_fields(text, items, fields)
    template.check(text, known_names(context, command), fields)


def _check_fields(text: str, items: Sequence[Any], fields: Sequence[str]) -> None:
    """Check the placeholders of items that are tables; `fields`: what all of them have."""
    for name in template.placeholders(text):
        item, _, field = name.partition(".")
        if name == ITEM:
            column = f"{{item.{fields[0]}}}" if fields else "{items_file}"
            problem = "has `{item}`, but the items are tables"
            raise BadTemplate(f"{problem}; write, for example, `{column}`")
        if item == ITEM and field not in fields and any(field in table for table in items):
            lacking = next(number for number, table in enumerate(items, 1) if field not in table)
            problem = f"has `{{{name}}}`, but item {lacking} does not have `{field}`"
            raise BadTemplate(f"{problem}; add it there, or write another placeholder")


def _check_scalar(context: Context, name: str) -> None:
    value: Any = context.config
    for key in name.removeprefix(CONFIG).split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "a table"
        raise BadTemplate(f"has `{{{name}}}`, which is {kind}; name a string, number or boolean")


def _check_use_of_items(context: Context, command: str) -> None:
    """Check that `run` uses the items in one way, and that these can be used in that way."""
    source, path = context.source, ("commands", command, "run")
    names = [name for _, text in _texts(context, command) for name in _names(text)]
    single = [name for name in names if name.partition(".")[0] == ITEM]
    several = [name for name in names if name in OF_ALL_ITEMS]
    if command not in context.items:
        return
    with locating(source, path):
        if single and several:
            both = f"`{{{single[0]}}}` and `{{{several[0]}}}`"
            raise BadTemplate(f"must have the items one by one or together, got {both}; keep one")
        if len(set(several)) > 1:
            both = " and ".join(f"`{{{name}}}`" for name in dict.fromkeys(several))
            raise BadTemplate(f"must have the items in one form, got {both}; keep one")
        if not single and not several:
            raise BadTemplate(
                "must mention the items; add `{item}` or `{items...}`, or remove `items`"
            )
    for name in several:
        _check_items(context, command, name)


def _check_items(context: Context, command: str, name: str) -> None:
    """Check that all items together can be passed on as the placeholder `name` does."""
    items = context.items[command]
    with locating(context.source, ("commands", command, "run")):
        if name == ITEMS and fields_of(items) is not None:
            raise BadTemplate(f"has `{{{ITEMS}}}`, but the items are tables; use `{{items_file}}`")
        broken = next((i for i in items if isinstance(i, str) and "\n" in i), None)
        if name == ITEMS_FILE and broken is not None:
            problem = f"has `{{{ITEMS_FILE}}}`, but an item has a line break, {quoted(broken)}"
            raise BadTemplate(f"{problem}; use `{{items_file0}}`, whose items end with a NUL")


def _check_run(context: Context, command: str) -> None:
    run = context.table(command)["run"]
    if isinstance(run, str):
        with locating(context.source, ("commands", command, "run")):
            check_script(compile_script(run).uses)
        return
    for index, word in enumerate(run):
        with locating(context.source, ("commands", command, "run", index)):
            if not word and index == 0:
                raise BadTemplate('must name a program, got ""; write, for example, "gdalinfo"')
            if ITEMS in _names(word) and word != f"{{{ITEMS}}}":
                raise BadTemplate(f"must have `{{{ITEMS}}}` as a word of its own; remove the rest")
            check_words(run[: index + 1])


def plan(context: Context, command: str) -> dict[str, Any]:
    """Return how a command is planned, without its needs, as its config has it."""
    table = context.table(command)
    options = {key: table[key] for key in PLANNED if key in table}
    if options.get("splits") == EACH and command not in context.items:
        problem = f'`splits` of `{command}` must be a number without `items`, got "{EACH}"'
        path = ("commands", command, "splits")
        context.source.fail(path, problem, "add `items`, or write a number")
    _check_timeout(context, command)
    if context.is_split(command):
        options.setdefault("splits", 1)
    for key in ("inputs", "outputs"):
        for index, text in enumerate(options.get(key, ())):
            with locating(context.source, ("commands", command, key, index)):
                _check_file(context, command, text, is_output=key == "outputs")
    return options


def _check_timeout(context: Context, command: str) -> None:
    """Refuse a time limit of the program that is longer than that of its target."""
    table = context.table(command)
    limit = table.get("resources", {}).get("timeout_seconds")
    if limit is not None and table.get("timeout", 0) >= limit:
        rule = f"must be less than `timeout_seconds` in its `resources` ({limit:,} s)"
        problem = f"`timeout` of `{command}` {rule}, which ends all runs of a split together"
        path = ("commands", command, "timeout")
        context.source.fail(path, f"{problem}, got {table['timeout']}", "lower it, or remove one")


def _check_file(context: Context, command: str, text: str, *, is_output: bool) -> None:
    """Check the placeholders of an input or output: splits are only in outputs."""
    names = template.placeholders(text)
    own = [name for name in names if name in SPLIT or name.partition(".")[0] == ITEM]
    if together := [name for name in names if name in OF_ALL_ITEMS]:
        raise BadTemplate(f"must not have `{{{together[0]}}}`; write `{{item}}`, or a glob")
    split = [name for name in own if name in SPLIT]
    if split and not is_output:
        raise BadTemplate(f"must not have `{{{split[0]}}}`, as all splits share them; write a glob")
    if command in context.items and split:
        problem = f"must not have `{{{split[0]}}}`, as the command has items"
        raise BadTemplate(f"{problem}; write `{{item}}`")
    _check_text(context, command, text)
