"""What MkDocs cannot do by itself: the generated references, and pages from outside of `docs/`.

- A line `<!-- generated: NAME -->` of a page is replaced by what its function in `GENERATED` gives.
- The Markdown files of the repository's root in `ROOT_PAGES` become pages.
- Relative links are written for GitHub. Those that leave `docs/` lead to the page of that file, or
  to the file in the repository.
"""

from __future__ import annotations

import pathlib
import posixpath
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

import attrs
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent
#: Pages of the site by the file in the repository's root that they show.
ROOT_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "DESIGN.md": "design.md",
    "SECURITY.md": "security.md",
}
BRANCH = "main"


# MkDocs's hooks


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root."""
    for name, page in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated, and lead links that leave the site to where they go."""
    of_root = {page: name for name, page in ROOT_PAGES.items()}
    path = of_root.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if page.file.src_uri in of_root:
        page.edit_url = f"{config.repo_url}/blob/{BRANCH}/{path}"
    markdown = re.sub(
        r"^<!-- generated: (.+) -->$",
        lambda match: GENERATED[match[1]](),
        markdown,
        flags=re.MULTILINE,
    )
    return re.sub(
        r"(\]\()(?!https?:|mailto:|#)([^)\s]+)",
        lambda match: match[1] + link_on_site(match[2], path, str(config.repo_url)),
        markdown,
    )


def link_on_site(link: str, source: str, repository: str) -> str:
    """`link` of the file at `source`, a path in the repository, as the site has it."""
    target, hash_sign, anchor = link.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in ROOT_PAGES:
        return ROOT_PAGES[path] + hash_sign + anchor
    if path.startswith("docs/"):
        return path.removeprefix("docs/") + hash_sign + anchor
    if not (ROOT / path).exists():
        return link  # which the strict build refuses
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository}/{kind}/{BRANCH}/{path}{hash_sign}{anchor}"


# The command line


@attrs.frozen(kw_only=True)
class Verb:
    """A command of the command line: its panel in `--help`, and its arguments and options."""

    name: str
    panel: str
    help: str
    usage: str
    parameters: tuple[tuple[str, str], ...]


def read_command_line() -> list[Verb]:
    """Read rvrun itself (the first one) and its verbs from the command-line library.

    This is all that knows how the command line is made.
    """
    from rvrun.cli.app import VERBS, command

    group: Any = command()
    sections = {verb: section for section, verbs in VERBS.items() for verb in verbs}
    context = group.make_context("rvrun", [], resilient_parsing=True)
    verbs = [_read_verb("rvrun", group, context, "")]
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        own = verb.make_context(name, [], parent=context, resilient_parsing=True)
        verbs.append(_read_verb(name, verb, own, sections[name]))
    return verbs


def _read_verb(name: str, command: Any, context: Any, panel: str) -> Verb:
    parameters = (parameter.get_help_record(context) for parameter in command.get_params(context))
    return Verb(
        name=name,
        panel=panel,
        help=command.help or "",
        usage=command.get_usage(context).removeprefix("Usage: "),
        parameters=tuple(_clean(*record) for record in parameters if record is not None),
    )


def _clean(names: str, text: str) -> tuple[str, str]:
    """A parameter without its type, which its name implies, and with its default in plain words."""
    names = re.sub(r" <[^>]+>$", "", names)
    text = text.replace("\\[", "[").replace("  [required]", "")
    return names, re.sub(r" *\[default: \(?(.*?)\)?\]$", r" *Default: \1.*", text)


def write_command_line() -> str:
    """The reference of the command line, a section a verb."""
    program, *verbs = read_command_line()
    lines = ["## Before the verb", "", *_parameters(program)]
    panels = dict.fromkeys(verb.panel for verb in verbs)
    for panel in panels:
        lines += ["", f"## {panel}", ""] if panel else [""]
        for verb in (verb for verb in verbs if verb.panel == panel):
            lines += [f"### `rvrun {verb.name}`", "", "```text", *_wrap(verb.usage), "```", ""]
            lines += [*verb.help.splitlines(), "", *_parameters(verb)]
    return "\n".join(lines)


def _wrap(usage: str) -> list[str]:
    return " ".join(usage.split()).splitlines()


def _parameters(verb: Verb) -> Iterator[str]:
    for names, text in verb.parameters:
        if names != "-h, --help":
            yield from (f"`{names}`", "", f":   {text}", "")


# The settings


@attrs.frozen(kw_only=True)
class Setting:
    key: str
    type: str
    default: str
    variable: str
    help: str


@attrs.frozen(kw_only=True)
class Section:
    """A table of `rvrun.toml`; its name is empty for what stands before the first table."""

    name: str
    help: str
    settings: tuple[Setting, ...]


def read_settings() -> list[Section]:
    """Read the sections of the settings, and after each the records of its tables of tables.

    This is all that knows how settings are declared.
    """
    from rvrun.settings.layers import OWN_SECTIONS
    from rvrun.settings.schema import Settings, fields_of, runner_sections, variable

    classes = {"": Settings, **OWN_SECTIONS, **runner_sections()}
    sections = []
    for name, cls in classes.items():
        own = [f for f in fields_of(cls) if "." not in f.key and f.key != "runners"]
        prefix = f"{name}." if name else ""
        settings = tuple(_read_setting(field, cls, variable(prefix + field.key)) for field in own)
        sections.append(Section(name=name, help=_explain(cls), settings=settings))
        for field in own:
            if field.record is not None:
                entries = tuple(_read_setting(f, field.record, "") for f in fields_of(field.record))
                sections.append(
                    Section(
                        name=f"{prefix}{field.key}.GLOB",
                        help=_explain(field.record),
                        settings=entries,
                    )
                )
    return sections


def _read_setting(field: Any, cls: type, variable: str) -> Setting:
    default = attrs.fields_dict(cls)[field.key].default
    return Setting(
        key=field.key,
        type=_type(field.type, field.least, field.most),
        default="" if isinstance(default, attrs.Factory) else _toml(default),
        variable="" if field.record is not None else variable,
        help=field.help,
    )


def _explain(cls: type) -> str:
    """The docstring of a class of settings, without the name of the section at its beginning."""
    text = " ".join((cls.__doc__ or "").split())
    text = re.sub(r"^`\[[^`]*\]`: ", "", text)
    return text[:1].upper() + text[1:]


def _type(type_: Any, least: int, most: int | None) -> str:
    members = [member for member in typing.get_args(type_) if member is not types.NoneType]
    if typing.get_origin(type_) is Literal:
        return "one of " + ", ".join(f"`{_toml(member)}`" for member in typing.get_args(type_))
    containers = {dict: "table", tuple: "list of strings"}
    if typing.get_origin(type_) in containers:
        return containers[typing.get_origin(type_)]
    if isinstance(type_, types.UnionType) or typing.get_origin(type_) is typing.Union:
        return _type(members[0], least, most)
    if type_ is int:
        return f"integer from {least:,} to {most:,}" if most is not None else f"integer ≥ {least:,}"
    return {bool: "boolean", str: "string", float: f"number ≥ {least:,}"}[type_]


def _toml(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def write_settings() -> str:
    """The reference of the settings, a section a table of `rvrun.toml`."""
    lines = []
    for section in read_settings():
        lines += ["", f"## `[{section.name}]`" if section.name else "## Top level", ""]
        lines += [section.help if section.name else "", ""]
        for setting in section.settings:
            default = f" · default `{setting.default}`" if setting.default else ""
            variable = f" · `{setting.variable}`" if setting.variable else ""
            text = setting.help[:1].upper() + setting.help[1:]
            lines += [f"`{setting.key}`", "", f":   {text}.", ""]
            lines += [f"    {setting.type}{default}{variable}", "    {.facts}", ""]
    return "\n".join(lines)


# The first example


def write_hello() -> str:
    """The README's smallest pipeline, so that there is one of it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(r"^```python\n(.*?^```)$", readme, flags=re.MULTILINE | re.DOTALL)
    assert match, "README.md has no Python example"
    return f'```python title="hello.py"\n{match[1]}'


GENERATED: dict[str, Callable[[], str]] = {
    "command line": write_command_line,
    "hello.py": write_hello,
    "settings": write_settings,
}
