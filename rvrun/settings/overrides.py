"""Settings for the commands that a glob matches. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from rvrun.errors import RvrunError

T = TypeVar("T", bound=attrs.AttrsInstance)


class NoMatch(RvrunError):
    """A glob of the settings that no command matches."""

    def __init__(self, section: str, glob: str, known: Sequence[str]) -> None:
        self.section = section
        self.glob = glob
        self.known = known

    def __str__(self) -> str:
        known = ", ".join(f"`{name}`" for name in self.known)
        return f'[{self.section}."{self.glob}"] matches no command; commands: {known}'


def check_globs(section: str, globs: Iterable[str], names: Sequence[str]) -> None:
    """Raise `NoMatch` for a glob that matches none of `names`, each such as `tiny/chip`."""
    for glob in globs:
        if not any(matches(glob, name) for name in names):
            raise NoMatch(section, glob, names)


def matches(glob: str, name: str) -> bool:
    """Whether `glob` matches the command `tiny/chip`, by that or by `chip` alone."""
    command = name.partition("/")[2]
    return fnmatch.fnmatchcase(name, glob) or fnmatch.fnmatchcase(command, glob)


def overridden(record: T, globs: Mapping[str, attrs.AttrsInstance], name: str) -> T:
    """`record` with what those of `globs` say that match `name`, the later over the earlier.

    A field of theirs that is None, or that `record` lacks, says nothing; tables are merged.
    """
    for glob, more in globs.items():
        if matches(glob, name):
            record = attrs.evolve(record, **_said(record, more))  # type: ignore[misc]
    return record


def _said(record: attrs.AttrsInstance, more: attrs.AttrsInstance) -> dict[str, object]:
    said: dict[str, object] = {}
    for field in attrs.fields(type(record)):
        value = getattr(more, field.name, None)
        if isinstance(value, dict):
            said[field.name] = {**getattr(record, field.name), **value}
        elif value is not None:
            said[field.name] = value
    return said
