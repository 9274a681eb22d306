"""The fingerprint of a command's code: a line per definition that it reaches, as text. Pure.

`windows.share  8c2f0a51d3b7e964  land.Land.chip`: the name of a definition, the hash of what it
does, and the definition that refers to it. Only names and hashes count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvrun.code.reach import Reached

#: The version of the rules by which code is found. Fingerprints of others cannot be compared.
VERSION = 1
#: The definition that stands for what a module does when it is imported.
MODULE: Final = "<module>"
_MARK = "# Code fingerprint, version "
_HEADER = """\
{mark}{version}: the code that {command} reaches.
# A line is the name of a definition, a hash of what it does, and the definition that refers to it.
"""
#: How many changed definitions are named in one line.
NUM_CHANGES = 3


@attrs.frozen(kw_only=True)
class Code:
    """A fingerprint as read from its text.

    - `hashes`: by the name of a definition. `callers`: which definition refers to it.
    """

    hashes: Mapping[str, str]
    callers: Mapping[str, str]

    def way(self, name: str) -> str:
        """Return the way from the command to a definition: `Land.chip → windows.share`."""
        names = [name]
        while (caller := self.callers.get(names[0])) and caller not in names:
            names.insert(0, caller)
        return " → ".join(_short(item, names[0]) for item in names)


def to_text(command: str, reached: Reached, versions: Mapping[str, str]) -> str:
    """Format a fingerprint.

    - `command`: for the heading, `landcover/chip`.
    - `versions`: of installed packages that count, by name.
    """
    lines = [_HEADER.format(mark=_MARK, version=VERSION, command=command)]
    lines += [
        f"# {module}.* counts as a whole: {reason}\n"
        for module, reason in sorted(reached.reasons.items())
    ]
    items = [
        f"{'  '.join(filter(None, (name, value, reached.callers.get(name))))}\n"
        for name, value in reached.hashes.items()
    ]
    items += [f"{name}=={version}\n" for name, version in versions.items()]
    return "".join([*lines, *sorted(items)])


def from_text(text: str) -> Code:
    """Parse a fingerprint; lines that it cannot have are ignored."""
    hashes, callers = {}, {}
    for line in text.splitlines():
        name, value, *rest = [*line.split("  "), "", ""]
        if line.startswith("#") or not name:
            continue
        package, is_version, version = name.partition("==")
        hashes[package if is_version else name] = version if is_version else value
        callers[name] = rest[0]
    return Code(hashes=hashes, callers=callers)


def is_comparable(text: str) -> bool:
    """Whether a fingerprint was made by the rules of this version."""
    return text.startswith(f"{_MARK}{VERSION}:")


def is_same(old: str, new: str) -> bool:
    """Whether two fingerprints have the same names and hashes, whatever their comments say."""
    if old == new:
        return is_comparable(old)
    return is_comparable(old) and from_text(old).hashes == from_text(new).hashes


def changes(old: str, new: str) -> list[str]:
    """Return the way to each definition that differs between two fingerprints, shortest first."""
    return list(changed_definitions(old, new).values())


def changed_definitions(old: str, new: str) -> dict[str, str]:
    """Return each definition that differs between two fingerprints, and the way to it.

    Those with short ways come first. A definition that is only in one of them is left out if
    another one changed: it is there, or not any more, because of that.
    """
    before, after = from_text(old), from_text(new)
    names = {**after.hashes, **before.hashes}
    changed = [n for n in names if before.hashes.get(n) != after.hashes.get(n)]
    both = [name for name in changed if name in before.hashes and name in after.hashes]
    shown = both or changed
    ways = {name: (after if name in after.hashes else before).way(name) for name in shown}
    return dict(sorted(ways.items(), key=lambda item: (item[1].count("→"), item[1])))


def name_changes(reason: str, ways: list[str]) -> str:
    """Return `code changed: Land.chip → windows.share and 2 more`."""
    if not ways:
        return reason
    more = f" and {len(ways) - NUM_CHANGES} more" if len(ways) > NUM_CHANGES else ""
    return f"{reason}: {', '.join(ways[:NUM_CHANGES])}{more}"


def _short(name: str, command: str) -> str:
    """A name as shown in a way: without the command's own module, and imports in words."""
    module = command.rpartition(".")[0].rpartition(".")[0]
    if name.endswith(f".{MODULE}"):
        return f"import of {name.removesuffix(f'.{MODULE}')}"
    return name.removeprefix(f"{module}.") if module else name
