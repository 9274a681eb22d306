"""Settings that apply only to the commands that a glob matches. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from rvrun.errors import RvrunError

T = TypeVar("T", bound=attrs.AttrsInstance)


class NoMatch(RvrunError):
    """A glob of the settings that matches no command."""

    section: str
    glob: str
    names: Sequence[str]
    fix = "change or remove it"

    def __str__(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.names)
        return f'[{self.section}."{self.glob}"] matches no command; commands: {names}'


def check_globs(section: str, globs: Iterable[str], names: Sequence[str]) -> None:
    """Raise `NoMatch` for a glob that matches no name; a name is such as `tiny/chip`."""
    for glob in globs:
        if not any(matches(glob, name) for name in names):
            raise NoMatch(section, glob, names)


def matches(glob: str, name: str) -> bool:
    """Whether `glob` matches the command `tiny/chip`, by its full name or as `chip`."""
    command = name.partition("/")[2]
    return fnmatch.fnmatchcase(name, glob) or fnmatch.fnmatchcase(command, glob)


def overridden(record: T, globs: Mapping[str, attrs.AttrsInstance], name: str) -> T:
    """Return `record` with the values of all `globs` that match `name`; later globs override.

    A field that is None, or that `record` lacks, changes nothing; tables are merged.
    """
    for glob, overrides in globs.items():
        if matches(glob, name):
            record = attrs.evolve(record, **_changes(record, overrides))  # type: ignore[misc]
    return record


def _changes(record: attrs.AttrsInstance, overrides: attrs.AttrsInstance) -> dict[str, object]:
    changes: dict[str, object] = {}
    for field in attrs.fields(type(record)):
        value = getattr(overrides, field.name, None)
        if isinstance(value, dict):
            changes[field.name] = {**getattr(record, field.name), **value}
        elif value is not None:
            changes[field.name] = value
    return changes
